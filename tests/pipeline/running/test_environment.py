from collections.abc import Callable

import pytest

from gitml.oid import Oid
from gitml.pipeline.datum import Datum, DatumInput
from gitml.pipeline.environment import inherited_environment, task_environment
from gitml.pipeline.spec.model import Stage
from gitml.store.tree import MODE_FILE, Entry

ENTRY = Entry(MODE_FILE, Oid(bytes(20)))


def test_only_listed_variables_are_inherited() -> None:
    environ = {
        "PATH": "/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2", "SSL_CERT_FILE": "/c",
        "HOME": "/home/ada", "USER": "ada", "PYTHONPATH": "/x", "AWS_SECRET_ACCESS_KEY": "s", "GIT_DIR": ".git",
        "NVIDIA_API_KEY": "s", "LC_TOKEN": "s", "SSL_CERT_PASSWORD": "s",
    }  # fmt: skip
    assert inherited_environment(environ) == {name: environ[name] for name in list(environ)[:8]}


def test_there_is_always_a_search_path() -> None:
    assert inherited_environment({})["PATH"]


def test_a_datum_is_described_as_in_pachyderm(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("model", env=(("ALPHA", "1"),))
    datum = Datum(
        (
            DatumInput("data", b"data", b"a/\xff.txt", ENTRY),
            DatumInput("whole", b"training", b"", ENTRY),
        )
    )
    result = task_environment(stage, datum, environ={}, datum_id="d1", job_id="j1", commits={"data": "c1"})
    assert {name: value for name, value in result.items() if name != "PATH"} == {
        "PYTHONDONTWRITEBYTECODE": "1",
        "ALPHA": "1",
        "data": "/pfs/data/a/\udcff.txt",
        "data_COMMIT": "c1",
        "whole": "/pfs/whole",
        "PACH_JOB_ID": "j1",
        "PACH_OUTPUT_COMMIT_ID": "j1",
        "PACH_DATUM_ID": "d1",
        "PPS_PIPELINE_NAME": "model",
        "PPS_PROJECT_NAME": "default",
    }


def test_of_several_files_of_one_input_the_last_one_is_told_and_of_absent_inputs_nothing(
    make_stage: Callable[..., Stage],
) -> None:
    files = [DatumInput("a", b"a", path, ENTRY, group_by="x") for path in (b"1", b"2")]
    kept = DatumInput("b", b"b", b"3", ENTRY, join_on="", outer_join=True)
    result = task_environment(make_stage("s"), Datum((*files, kept)), environ={}, datum_id="d", job_id="j")
    told = {name: value for name, value in result.items() if "a" in name.split("_") or "b" in name.split("_")}
    assert told == {
        "a": "/pfs/a/2",
        "b": "/pfs/b/3",
        "PACH_DATUM_a_GROUP_BY": "x",
        "PACH_DATUM_b_JOIN_ON": "",
    }


@pytest.mark.parametrize("name", ["PATH", "HOME", "with=sign"])
def test_an_input_cannot_take_a_name_that_commands_need(name: str, make_stage: Callable[..., Stage]) -> None:
    datum = Datum((DatumInput(name, b"x", b"", ENTRY),))
    result = task_environment(make_stage("s"), datum, environ={"PATH": "/bin"}, datum_id="d", job_id="j")
    assert result["PATH"] == "/bin"
    assert f"/pfs/{name}" not in result.values()


def test_a_specification_may_set_the_search_path(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("s", env=(("PATH", "/opt/bin"),))
    datum = Datum((DatumInput("PATH", b"x", b"", ENTRY),))
    assert task_environment(stage, datum, environ={}, datum_id="d", job_id="j")["PATH"] == "/opt/bin"
