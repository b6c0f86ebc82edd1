"""What becomes of specifications of Pachyderm."""

import json
from typing import Any

import pytest

from gitml.pipeline.foreign.findings import Imported, Kind, Present
from gitml.pipeline.foreign.pachyderm import import_pachyderm
from gitml.pipeline.foreign.standins import stand_in
from gitml.pipeline.spec import SpecError, load_pipeline
from tests.pipeline.test_spec import tree_with

FILES = frozenset({"old/images/a.png", "images/a.png", "models/edges.py", "old/src/main.py", "training/x.csv"})


def spec(name: str, **more: Any) -> dict[str, Any]:
    return {"pipeline": {"name": name}, "transform": {"cmd": ["true"]}, **more}


def taken(*specs: dict[str, Any], file: str = "old/p.json", files: frozenset[str] = FILES, **there: Any) -> Imported:
    text = "\n".join(json.dumps(each) for each in specs)
    return import_pachyderm({file: text.encode()}, Present(files=files, **there))


def said(result: Imported, kind: Kind) -> dict[str, str]:
    return {each.where.removeprefix("old/p.json: "): each.what for each in result.findings if each.kind is kind}


def test_a_specification_of_2_is_listed_as_it_is() -> None:
    result = taken(
        spec(
            "edges",
            input={"pfs": {"repo": "images", "glob": "/*", "repoType": "user", "s3": False}},
            podPatch="[]",
            autoscaling=True,
            datumTries=2,
        )
    )
    assert result.entries == ["old/p.json"]
    assert [(each.name, each.converted) for each in result.stages] == [("edges", False)]
    assert said(result, Kind.IGNORED) == {
        "podPatch": "there are no pods",
        "autoscaling": "there are no pods to scale",
    }
    assert not said(result, Kind.TODO)
    assert not result.refused


def test_data_may_stand_in_the_project_or_without_one() -> None:
    def reads(repo: str) -> dict[str, Any]:
        return {
            "pipeline": {"name": "edges", "project": {"name": "video"}},
            "transform": {"cmd": ["true"]},
            "input": {"pfs": {"repo": repo, "glob": "/"}},
        }

    files = FILES | {"video/frames/1.png"}
    assert not said(taken(reads("images"), files=files), Kind.TODO)
    assert not said(taken(reads("frames"), files=files), Kind.TODO)
    assert list(said(taken(reads("sounds"), files=files), Kind.TODO)) == ["input.pfs.repo"]


def test_every_field_of_1_is_written_anew_and_the_result_loads() -> None:
    result = taken(
        spec(
            "first",
            transform={
                "cmd": ["sh", "/pfs/source/run.sh"],
                "build": {"path": "src", "language": "go"},
                "overwrite": True,
            },
            input={
                "cross": [
                    {"atom": {"repo": "images", "glob": "/*", "from_commit": "a"}},
                    {"git": {"url": "https://h/training.git"}},
                ]
            },
            parallelismSpec={"strategy": "COEFFICIENT", "coefficient": 2.0},
            resource_spec={"memory": "1G", "cpu": 2, "gpu": 1},
            chunk_spec={"number": 5},
            no_skip=True,
            enable_stats=True,
            standby=True,
            cache_size="1G",
        ),
        spec(
            "second",
            inputs=[
                {"repo": {"name": "first"}, "method": "reduce"},
                {"repo": {"name": "images"}, "method": {"partition": "REPO"}},
            ],
            parallelism="4",
            incremental=True,
            output={"URL": "s3://bucket/results"},
        ),
        spec("third", inputs=[{"repo": {"name": "second"}, "glob": "/a*", "name": "s", "lazy": True}]),
    )
    first, second, third = result.entries
    assert first == {
        "pipeline": {"name": "first"},
        "transform": {"cmd": ["sh", "/code/run.sh"], "working_dir": "/code"},
        "input": {"cross": [{"pfs": {"repo": "images", "glob": "/*"}}, {"pfs": {"repo": "training", "glob": "/"}}]},
        "parallelism_spec": {"constant": 1},
        "code": {"/code": "old/src"},
        "reprocess_spec": "every_job",
        "resource_requests": {"cpu": 2, "memory": "1G"},
        "resource_limits": {"gpu": {"number": 1}},
        "datum_set_spec": {"number": 5},
    }
    assert isinstance(second, dict)
    assert isinstance(third, dict)
    assert second["input"] == {
        "cross": [{"pfs": {"repo": "first", "glob": "/*"}}, {"pfs": {"repo": "images", "glob": "/"}}]
    }
    assert second["parallelism_spec"] == {"constant": 4}
    assert second["egress"] == {"URL": "s3://bucket/results"}
    assert "output" not in second
    assert third["input"] == {"pfs": {"repo": "second", "name": "s", "lazy": True, "glob": "/a*"}}
    todo = said(result, Kind.TODO)
    assert list(todo) == ["documents[0].transform.build", "documents[1].incremental"]
    left_out = said(result, Kind.IGNORED)
    assert {"documents[0].enable_stats", "documents[0].standby", "documents[0].cache_size"} < left_out.keys()
    text = json.dumps({"stages": result.entries})
    pipeline = load_pipeline(tree_with(dict.fromkeys(FILES, "") | {"pipeline.json": text}))
    assert pipeline is not None
    assert [stage.name for stage in pipeline.stages] == ["first", "second", "third"]


def test_blocks_of_files_and_former_outputs_are_left_to_a_person() -> None:
    result = taken(
        spec("a", inputs=[{"repo": {"name": "images"}, "method": "map"}], transform={"cmd": ["cat", "/pfs/prev/x"]})
    )
    assert list(said(result, Kind.TODO)) == ["inputs[0].method", "transform"]


def test_an_error_costs_its_stage_and_a_listed_file() -> None:
    bad, good = spec("bad", transform={"cmd": ["x"], "stdn": ["y"]}), spec("good")
    assert taken(bad).entries == []
    listed = taken(good, bad)
    assert listed.refused
    assert listed.entries == []
    assert list(said(listed, Kind.REFUSED)) == ["documents[1].transform.stdn", "old/p.json"]
    converted = taken(good | {"enable_stats": True}, bad)
    assert converted.refused
    assert [entry["pipeline"]["name"] for entry in converted.entries if isinstance(entry, dict)] == ["good"]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"service": {"internal_port": 80}}, "service"),
        ({"input": {"pfs": {"repo": "images", "glob": "/", "s3": True}}}, "input.pfs.s3"),
        ({"egress": {"sqlDatabase": {"url": "postgres://h/db"}}}, "egress.sqlDatabase"),
    ],
)
def test_what_cannot_be_done_costs_its_stage_only(more: dict[str, Any], where: str) -> None:
    bad, good = spec("bad", **more), spec("good", input={"pfs": {"repo": "bad", "glob": "/"}})
    listed = taken(bad, good)
    assert listed.entries == ["old/p.json"]
    assert [each.name for each in listed.stages] == ["good"]
    assert said(listed, Kind.REFUSED).keys() == {f"documents[0].{where}", "documents[0]"}
    assert not said(listed, Kind.TODO), "the file stays as it is, so 'bad' is read where it would be"
    text = json.dumps({"stages": listed.entries})
    files = dict.fromkeys(FILES, "") | {"pipeline.json": text, "old/p.json": f"{json.dumps(bad)}\n{json.dumps(good)}"}
    pipeline = load_pipeline(tree_with(files))
    assert pipeline is not None
    assert ([each.name for each in pipeline.stages], [each.name for each in pipeline.left_out]) == (["good"], ["bad"])
    assert taken(bad).entries == ["old/p.json"]

    converted = taken(bad | {"enable_stats": True}, good)
    assert [entry["pipeline"]["name"] for entry in converted.entries if isinstance(entry, dict)] == ["good"]
    assert list(said(converted, Kind.REFUSED)) == [f"documents[0].{where}"]
    assert list(said(converted, Kind.TODO)) == ["documents[1].input.pfs.repo"]


def test_what_is_there_already() -> None:
    assert said(taken(spec("a"), stages={"a": "a"}), Kind.REFUSED) == {
        "old/p.json": "there is a stage called 'a' already"
    }
    assert taken(spec("a"), spec("a")).entries == []
    again = taken(spec("a"), listed=frozenset({"old/p.json"}))
    assert (again.entries, again.refused) == ([], False)
    assert list(said(taken(spec("a", input={"pfs": {"repo": "nothing", "glob": "/"}})), Kind.TODO)) == [
        "input.pfs.repo"
    ]
    project = spec("a") | {"pipeline": {"name": "a", "project": {"name": "p"}}}
    inside = taken(project, spec("b", input={"pfs": {"repo": "a", "project": "p", "glob": "/"}}))
    assert ([each.name for each in inside.stages], said(inside, Kind.TODO)) == (["p/a", "b"], {})
    upstream = taken(spec("a", input={"pfs": {"repo": "b", "glob": "/"}}), spec("b"))
    assert not said(upstream, Kind.TODO)


@pytest.mark.parametrize("text", ["[]", "7", '{"transform": {}}', '{"pipeline": {}}', '{"pipeline": "x"}', "{"])
def test_no_specification(text: str) -> None:
    with pytest.raises(SpecError):
        import_pachyderm({"x.json": text.encode()}, Present(files=frozenset()))


@pytest.mark.parametrize(
    ("cmd", "files", "entry"),
    [
        (["python3", "/edges.py"], {"old/edges.py"}, {"code": {"/edges.py": "old/edges.py"}}),
        (["python3", "/code/a/edges.py"], {"old/src/a/edges.py"}, {"code": {"/code": "old/src"}}),
        (["python3", "/code/edges.py"], {"edges.py"}, {"code": {"/code/edges.py": "edges.py"}}),
        (["python3", "edges.py"], {"old/src/edges.py"}, {"code": {"/code": "old/src"}, "working_dir": "/code"}),
        (
            ["sh", "-c", "python3 /code/x.py /pfs/x.py; /usr/bin/env"],
            {"old/x.py", "y/x.py"},
            {"code": {"/code": "old"}},
        ),
        (["sh", "-c", "cat /pfs/in/* > /pfs/out/x; ls /tmp"], {"old/x"}, {}),
        (["/app/run"], {"old/x"}, {"code": {"/app/run": "TODO"}}),
        # two that fit equally well, and one of another project
        (["python3", "/code/x.py"], {"a/x.py", "b/x.py"}, {"code": {"/code/x.py": "TODO"}}),
        (["python3", "/code/x.py"], {"a/x.py", "b/c/x.py"}, {"code": {"/code/x.py": "TODO"}}),
        (["python3", "/code/x.py", "/code/lib/y.py"], {"old/x.py", "old/lib/y.py"}, {"code": {"/code": "old"}}),
    ],
)
def test_what_stands_for_an_image(cmd: list[str], files: set[str], entry: dict[str, Any]) -> None:
    result = taken(spec("a", transform={"cmd": cmd, "image": "x:1"}), files=frozenset(files))
    assert result.images == {"x:1": entry}
    assert said(result, Kind.TODO).keys() == {"images: x:1"}
    assert taken(spec("a", transform={"cmd": cmd, "image": "x:1"}), images=frozenset({"x:1"})).images == {}


def test_of_several_directories_the_one_called_like_the_image_stands_for_it() -> None:
    files = frozenset({"ml/train-lda/train.py", "ml/train-svm/train.py", "ml/infer/infer.py"})
    transform = {"cmd": ["python3", "/code/train.py"]}
    for image, directory in (("acme/ml-train:svm", "ml/train-svm"), ("acme/ml:py-lda-3", "ml/train-lda")):
        assert stand_in([transform], "ml/train.json", files, image).as_entry() == {"code": {"/code": directory}}
    for image in ("acme/ml-train:3", "acme/lda-and-svm", ""):
        assert stand_in([transform], "ml/train.json", files, image).unknown == ["/code/train.py"]


def test_secrets_are_no_part_of_the_image() -> None:
    script = ["chmod 600 /secrets/db/pass; /opt/load.sh /secrets/db/pass < /pfs/in/x", "cat /secrets/dbx"]
    for key in ("mount_path", "mountPath"):
        transform = {"cmd": ["sh"], "stdin": script, "secrets": [{"name": "db", key: "/secrets/db/"}, {"name": "x"}]}
        found = stand_in([transform], "load.json", frozenset({"opt/load.sh"}))
        assert (found.code, found.unknown) == ({"/opt": "opt"}, ["/secrets/dbx"])


def test_a_common_name_in_another_project_is_no_guess() -> None:
    files = frozenset({"ml/other/train.py", "far/train.py"})
    transform = {"cmd": ["python3", "/code/train.py"]}
    assert stand_in([transform], "ml/neon/train.json", files).as_entry() == {"code": {"/code/train.py": "TODO"}}
    assert stand_in([transform], "ml/other/train.json", files).as_entry() == {"code": {"/code": "ml/other"}}
    assert stand_in([transform], "specs/train.json", files - {"far/train.py"}).as_entry() == {
        "code": {"/code": "ml/other"}
    }
