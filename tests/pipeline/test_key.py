import hashlib
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitml.pipeline.code import CodeFile
from gitml.pipeline.datum import Datum, DatumInput
from gitml.pipeline.key import canonical, command_digest, spec_fields, stage_key, task_key, task_keys
from gitml.pipeline.params import Params
from gitml.pipeline.spec.model import Leakage, Metric, Plot, Predictions, Stage, Transform
from gitml.record import replace
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, Entry

MakeStage = Callable[..., Stage]

ONE = Entry(MODE_FILE, MemoryOdb().write("blob", b"1"))
TWO = Entry(MODE_FILE, MemoryOdb().write("blob", b"2"))
CODE = (CodeFile("train.py", b"train.py", ONE),)
PARAMS = Params({"p.yaml": {"a": 1}}, {})
DATUM = Datum((DatumInput("in", b"data", b"x.csv", ONE),))


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    return make_stage("s", ["python", "train.py"], env=(("A", "1"),))


def test_the_pre_images(stage: Stage) -> None:
    spec = {"cmd": ["python", "train.py"], "env": {"A": "1"}}
    code = [["train.py", "100644", ONE.oid.hex()]]
    task = {"code": code, "inputs": [["in", "x.csv", "100644", ONE.oid.hex()]], "params": PARAMS.value, "spec": spec}
    key = task_key(stage, CODE, PARAMS, DATUM)
    assert key == hashlib.sha256(b"gitml/task/1\n" + canonical(task)).hexdigest()
    expected = hashlib.sha256(b"gitml/stage/1\n" + canonical({"stage": "s", "tasks": [key]})).hexdigest()
    assert stage_key(stage, [key]) == expected
    command = {"code": code, "environment": [["uv.lock", "100644", TWO.oid.hex()]], "spec": spec}
    expected = hashlib.sha256(b"gitml/command/2\n" + canonical(command)).hexdigest()
    assert command_digest(stage, CODE, [(b"uv.lock", TWO)]) == expected


def test_many_keys_are_the_single_ones(stage: Stage) -> None:
    other = Datum(())
    assert task_keys(stage, CODE, PARAMS, [DATUM, other]) == [
        task_key(stage, CODE, PARAMS, DATUM),
        task_key(stage, CODE, PARAMS, other),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"cmd": ("python", "train.py", "-v")},
        {"stdin": ("x",)},
        {"err_cmd": ("x",)},
        {"err_stdin": ("x",)},
        {"env": (("A", "2"),)},
        {"accept_return_code": (3,)},
        {"working_dir": "src"},
        {"image": "python:3.11"},
    ],
)
def test_what_can_change_a_result_changes_the_key(stage: Stage, change: dict[str, object]) -> None:
    changed = replace(stage, transform=replace(stage.transform, **change))  # type: ignore[arg-type]
    assert task_key(changed, CODE, PARAMS, DATUM) != task_key(stage, CODE, PARAMS, DATUM)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "t"},
        {"description": "d"},
        {"output": b"elsewhere"},
        {"metrics": (Metric(path="m.json"),)},
        {"predictions": (Predictions(path="p.csv", id="id", prediction="p"),)},
        {"plots": (Plot(path="p.csv", y=("a",)),)},
        {"leakage": (Leakage(train=b"a.csv", test=b"b.csv"),)},
        {"parallelism": 8},
        {"datum_tries": 1},
        {"datum_timeout": 1.0},
        {"where": "other.json"},
    ],
)
def test_what_cannot_change_a_result_is_not_in_the_key(stage: Stage, change: dict[str, object]) -> None:
    changed = replace(stage, **change)  # type: ignore[arg-type]
    assert task_key(changed, CODE, PARAMS, DATUM) == task_key(stage, CODE, PARAMS, DATUM)


def test_salt_forces_a_run_but_is_the_same_command(stage: Stage) -> None:
    salted = replace(stage, salt="again")
    assert task_key(salted, CODE, PARAMS, DATUM) != task_key(stage, CODE, PARAMS, DATUM)
    assert command_digest(salted, CODE, ()) == command_digest(stage, CODE, ())


def test_inputs_code_and_params_are_in_the_key(stage: Stage) -> None:
    keys = {
        task_key(stage, CODE, PARAMS, DATUM),
        task_key(stage, (CodeFile("train.py", b"train.py", TWO),), PARAMS, DATUM),
        task_key(stage, (CodeFile("train.py", b"train.py", Entry(MODE_EXECUTABLE, ONE.oid)),), PARAMS, DATUM),
        task_key(stage, (CodeFile("run.py", b"train.py", ONE),), PARAMS, DATUM),
        task_key(stage, CODE, Params({"p.yaml": {"a": 2}}, {}), DATUM),
        task_key(stage, CODE, PARAMS, Datum((DatumInput("in", b"data", b"x.csv", TWO),))),
        task_key(stage, CODE, PARAMS, Datum((DatumInput("in", b"data", b"y.csv", ONE),))),
        task_key(stage, CODE, PARAMS, Datum((DatumInput("on", b"data", b"x.csv", ONE),))),
    }
    assert len(keys) == 8


def test_where_things_stand_in_the_repository_is_not_in_the_key(stage: Stage) -> None:
    moved = task_key(
        stage,
        (CodeFile("train.py", b"moved/train.py", ONE),),
        PARAMS,
        Datum((DatumInput("in", b"moved", b"x.csv", ONE),)),
    )
    assert moved == task_key(stage, CODE, PARAMS, DATUM)


def test_the_origin_of_an_input_is_in_the_key_where_it_is_told(stage: Stage) -> None:
    told = Datum((DATUM.inputs[0]._replace(origin=b"dev:d\xff"),))
    found = ["in", "x.csv", "100644", ONE.oid.hex(), {"origin": "dev:d\udcff"}]
    code = [["train.py", "100644", ONE.oid.hex()]]
    task = {"code": code, "inputs": [found], "params": PARAMS.value, "spec": spec_fields(stage)}
    assert task_key(stage, CODE, PARAMS, told) == hashlib.sha256(b"gitml/task/1\n" + canonical(task)).hexdigest()


def test_the_stage_name_and_the_order_of_tasks_are_in_the_stage_key(stage: Stage) -> None:
    assert stage_key(stage, ["a"]) != stage_key(replace(stage, name="t"), ["a"])
    assert stage_key(stage, ["a", "b"]) != stage_key(stage, ["b", "a"])


def test_defaults_are_left_out() -> None:
    stage = Stage(name="s", transform=Transform(cmd=("x",)), input=None, output=b"s")
    assert spec_fields(stage) == {"cmd": ["x"]}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_VALUES)
def test_canonical_json_is_json_in_ascii(value: object) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text
    assert text.isascii()


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.integers(), max_size=6))
def test_canonical_json_ignores_the_order_of_members(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_canonical_json_refuses_what_json_lacks() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))
