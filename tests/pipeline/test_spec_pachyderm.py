"""What protobuf and Pachyderm accept in a specification beyond the plain spelling, and what becomes of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gitml.pipeline.datum import datums
from gitml.pipeline.environment import task_environment
from gitml.pipeline.spec import Pipeline, SpecError, load_pipeline
from gitml.pipeline.spec.load import effective_specification
from gitml.pipeline.standin import stand_in
from gitml.record import replace
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_FILE, Entry, Snapshot, edit_tree, empty_tree

DATA = {"images/a.png": "1", "images/b.png": "2", "video/frames/f": "3", "train.py": "", "pictures/c.png": "4"}


def tree_with(contents: Mapping[str, str]) -> Snapshot:
    odb = MemoryOdb()
    entries = {path.encode(): Entry(MODE_FILE, odb.write("blob", text.encode())) for path, text in contents.items()}
    return Snapshot(odb, edit_tree(odb, odb, empty_tree(odb.format), entries))


def load(*stages: dict[str, Any], **around: Any) -> tuple[Pipeline, Snapshot]:
    snapshot = tree_with({**DATA, "pipeline.json": json.dumps({"stages": list(stages), **around})})
    pipeline = load_pipeline(snapshot)
    assert pipeline is not None
    return pipeline, snapshot


def stage(name: str, source: dict[str, Any], project: str | None = None, **fields: Any) -> dict[str, Any]:
    pipeline: dict[str, Any] = {"name": name}
    if project is not None:
        pipeline["project"] = {"name": project}
    return {"pipeline": pipeline, "transform": {"cmd": ["a"]}, "input": source, **fields}


def reads(repo: str, **fields: Any) -> dict[str, Any]:
    return {"pfs": {"repo": repo, "glob": "/*", **fields}}


def paths(pipeline: Pipeline, name: str) -> list[tuple[str, bytes, str | None]]:
    return [(leaf.name, leaf.path, leaf.upstream) for leaf in pipeline.stage(name).inputs]


def test_a_project_is_a_directory() -> None:
    pipeline, snapshot = load(
        stage("edges", reads("frames"), "video"),
        stage("montage", {"cross": [reads("edges"), reads("images", project="default")]}, "video"),
        stage("edges", reads("edges", project="video"), "default"),
        stage("count", {"cross": [reads("edges", name="mine"), reads("edges", project="default")]}, "video"),
    )
    assert [(each.name, each.output) for each in pipeline.stages] == [
        ("video/edges", b"video/edges"),
        ("video/montage", b"video/montage"),
        ("edges", b"edges"),
        ("video/count", b"video/count"),
    ]
    assert paths(pipeline, "video/edges") == [("frames", b"video/frames", None)]
    assert paths(pipeline, "video/montage") == [
        ("edges", b"video/edges", "video/edges"),
        ("images", b"images", None),
    ]
    assert paths(pipeline, "edges") == [("edges", b"video/edges", "video/edges")]
    assert paths(pipeline, "video/count") == [("edges", b"edges", "edges"), ("mine", b"video/edges", "video/edges")]

    def named(name: str) -> tuple[str, str]:
        found = pipeline.stage(name)
        datum = datums(pipeline.stage("video/edges"), snapshot)[0]
        variables = task_environment(found, datum, environ={}, datum_id="", job_id="")
        return variables["PPS_PROJECT_NAME"], variables["PPS_PIPELINE_NAME"]

    assert named("video/montage") == ("video", "montage")
    assert named("edges") == ("default", "edges")


def test_data_need_not_move_for_a_project_that_only_the_stage_names() -> None:
    pipeline, _ = load(stage("edges", reads("images"), "video"), stage("more", reads("edges"), "video"))
    assert paths(pipeline, "video/edges") == [("images", b"images", None)]
    assert paths(pipeline, "video/more") == [("edges", b"video/edges", "video/edges")]
    assert pipeline.notices == ()


def test_a_project_that_only_pachctl_was_told_is_no_hindrance() -> None:
    pipeline, _ = load(
        stage("cron", reads("images", project="a")),
        stage("edges", {"cross": [reads("cron", project="b"), reads("frames", project="video")]}),
    )
    assert paths(pipeline, "cron") == [("images", b"images", None)]
    assert paths(pipeline, "edges") == [("cron", b"cron", "cron"), ("frames", b"video/frames", None)]
    assert [notice.partition(" (")[0] for notice in pipeline.notices] == [
        "project 'a' has no 'images': the one without project is read",
        "project 'b' has no 'cron': the one without project is read",
    ]


def test_results_of_a_branch_are_those_that_are_made_here() -> None:
    pipeline, _ = load(
        stage("edges", reads("images"), output_branch="dev"),
        stage("same", reads("edges", branch="dev")),
        stage("later", {"cross": [reads("edges"), reads("images")]}),
        stage("part", reads("edges/a", trigger={"branch": "dev", "size": "1K"})),
        stage("other", reads("edges", branch="release")),
        stage("usual", reads("same", branch="master"), outputBranch="master"),
    )
    found = {
        each.name: [(leaf.path, leaf.upstream, leaf.branch, leaf.never) for leaf in each.inputs]
        for each in pipeline.stages
    }
    assert found == {
        "edges": [(b"images", None, "", False)],
        "same": [(b"edges", "edges", "", False)],
        "later": [(b"edges", "edges", "", True), (b"images", None, "", False)],
        "part": [(b"edges/a", "edges", "", False)],
        "other": [(b"edges", None, "release", False)],
        "usual": [(b"same", "same", "", False)],
    }
    assert [notice.partition(" (")[0] for notice in pipeline.notices] == [
        "results of stage 'edges' are on 'dev', and 'master' of them is read: a change of them alone runs nothing,"
        " 'git ml run --force later' does"
    ]


def test_a_branch_of_results_has_a_name_that_git_takes() -> None:
    with pytest.raises(SpecError, match="'a b' is not the name of a branch"):
        load(stage("edges", reads("images"), output_branch="a b"))


def test_results_stay_clear_of_what_a_pipeline_is_called_after() -> None:
    files = {
        "edges/pipeline.yaml": json.dumps(
            stage("edges", reads("images"), transform={"image": "acme/edges", "cmd": ["a"]})
        ),
        "edges/src/a.py": "",
        "count/run.sh": "",
        "sum/run.sh": "",
    }
    stages = [
        "edges/pipeline.yaml",
        stage("count", reads("edges"), transform={"image": "acme/count", "cmd": ["/run.sh"]}),
        stage("sum", reads("count"), output="sums"),
        stage("other", reads("edges")),
    ]
    images = {"acme/edges": {"code": {"/src": "edges/src"}}, "acme/count": {"code": [{"/": "count"}]}}
    images |= {"acme/sum": {"code": {"/sum": "sum"}}, "acme/all": {"code": ["."]}, "acme/none": {}}
    snapshot = tree_with({**DATA, **files, "pipeline.json": json.dumps({"stages": stages, "images": images})})
    pipeline = load_pipeline(snapshot)
    assert pipeline is not None
    assert {each.name: each.output for each in pipeline.stages} == {
        "edges": b"edges-results", "count": b"count-results", "sum": b"sums", "other": b"other",
    }  # fmt: skip
    assert paths(pipeline, "count") == [("edges", b"edges-results", "edges")]
    assert pipeline.notices == (
        "results of stage 'edges' are in 'edges-results', since 'edges/pipeline.yaml' is none of them"
        " (edges/pipeline.yaml: pipeline.name)",
        "results of stage 'count' are in 'count-results', since 'count' is none of them"
        " (pipeline.json: stages[1].pipeline.name)",
    )
    assert effective_specification(snapshot, "edges")["output"] == "edges-results"


def test_results_that_are_put_beside_may_still_be_in_the_way() -> None:
    with pytest.raises(SpecError, match="'a-results' is also the output of stage"):
        load(stage("a", reads("images")), stage("a-results", reads("images")), images={"x": {"code": {"/a": "a"}}})


def test_defaults_may_name_the_project() -> None:
    pipeline, _ = load(
        stage("edges", reads("frames")), defaults={"pipeline": {"name": "x", "project": {"name": "video"}}}
    )
    assert [each.name for each in pipeline.stages] == ["video/edges"]


def test_ticks_lie_in_the_project() -> None:
    pipeline, _ = load(
        stage("daily", {"cron": {"name": "tick", "spec": "@daily"}}, "video"),
        stage("other", {"cron": {"name": "tick", "spec": "@daily", "project": "default", "repo": "t"}}, "video"),
    )
    assert paths(pipeline, "video/daily") == [("tick", b"video/daily_tick", None)]
    assert paths(pipeline, "video/other") == [("tick", b"t", None)]


def test_numbers_and_enums_are_read_as_protobuf_reads_them() -> None:
    pipeline, _ = load(
        {
            **stage("a", {"$schema": "x", **reads("images")}),
            "datumTries": 5.0,
            "parallelismSpec": {"constant": "2", "$schema": "y"},
            "resourceRequests": {"cpu": "0.5"},
            "tolerations": [{"key": "k", "operator": 1, "effect": "NO_EXECUTE"}],
            "update": True,
            "dryRun": False,
        }
    )
    found = pipeline.stage("a")
    assert (found.datum_tries, found.parallelism, found.requests.cpu) == (5, 2, 0.5)
    assert [notice.split()[0] for notice in pipeline.notices] == ["'tolerations'", "'update'"]


def test_a_join_without_keys_matches_everything_and_says_so() -> None:
    pipeline, snapshot = load(
        stage("all", {"join": [reads("images"), reads("pictures")]}),
        stage("one", {"join": [reads("images", joinOn="x")]}),
        stage("group", {"group": [reads("images")]}),
    )
    labels = {
        name: [datum.label for datum in datums(pipeline.stage(name), snapshot)] for name in ("all", "one", "group")
    }
    assert labels == {
        "all": ["images/a.png × pictures/c.png", "images/b.png × pictures/c.png"],
        "one": ["images/a.png", "images/b.png"],
        "group": ["images/a.png × images/b.png"],
    }
    assert pipeline.notices == (
        "input 'images' has no 'join_on', so that each of its files matches (pipeline.json: stages[0])",
        "input 'pictures' has no 'join_on', so that each of its files matches (pipeline.json: stages[0])",
        "input 'images' has no 'group_by', so that each of its files matches (pipeline.json: stages[2])",
    )


def test_a_directory_may_be_laid_over_the_root() -> None:
    around = {"i:1": {"code": {"/": "image"}}}
    text = {
        "stages": [{**stage("a", reads("images")), "transform": {"image": "i:1", "cmd": ["python3", "/edges.py"]}}],
        "images": around,
    }
    more = dict.fromkeys(("image/edges.py", "image/lib2/x.py", "image/usr/local/bin/app", "image/etc/a/b"), "")
    pipeline = load_pipeline(tree_with({**DATA, **more, "pipeline.json": json.dumps(text)}))
    assert pipeline is not None
    mounts = pipeline.stage("a").code
    assert mounts is not None
    assert sorted((each.target, each.source) for each in mounts) == [
        ("/edges.py", b"image/edges.py"),
        ("/etc/a/b", b"image/etc/a/b"),
        ("/lib2", b"image/lib2"),
        ("/usr/local/bin/app", b"image/usr/local/bin/app"),
    ]
    with pytest.raises(SpecError, match="code cannot be mounted at '/pfs'"):
        load_pipeline(tree_with({**DATA, **more, "image/pfs/x": "", "pipeline.json": json.dumps(text)}))


@pytest.mark.parametrize(
    ("name", "there", "found"),
    [
        ("/usr/local/bin/python", {"python", "python3"}, ["python", "x"]),
        ("/usr/local/bin/python", {"python3"}, ["python3", "x"]),
        ("python3.7", {"python3"}, ["python3", "x"]),
        ("/bin/ash", {"busybox", "bash", "sh"}, ["busybox", "ash", "x"]),
        ("ash", {"bash", "sh"}, ["bash", "x"]),
        ("/opt/app", {"sh"}, None),
        ("app", {"sh"}, None),
        ("/", {"sh"}, None),
    ],
)
def test_programs_that_stand_for_those_of_an_image(name: str, there: set[str], found: list[str] | None) -> None:
    assert stand_in([name, "x"], there.__contains__) == found


def test_the_effective_specification_has_all_layers_and_reads_as_the_same_stage() -> None:
    text = {
        "defaults": {
            "datumTries": 5,
            "transform": {"env": {"A": "1", "B": "2"}, "err_cmd": ["e"], "workingDir": "w"},
            "resource_limits": {"memory": "1G"},
            "metadata": {"labels": {"team": "x"}},
            "job_timeout": "1h30m",
            "salt": "s",
        },
        "stages": [
            {
                "pipeline": {"name": "one", "project": {"name": "video"}},
                "transform": {"cmd": ["a"], "env": {"A": None, "C": "3"}, "errCmd": None},
                "input": {
                    "cross": [
                        {"pfs": {"repo": "frames", "glob": "*/"}},
                        {"union": [reads("images", name="i", branch="dev"), {"cron": {"name": "t", "spec": "@daily"}}]},
                    ]
                },
                "resourceLimits": {"cpu": 2, "memory": None},
                "jobTimeout": None,
                "datum_timeout": "1.5s",
                "tolerations": [{"operator": 2, "toleration_seconds": "7"}],
                "metrics": ["m.json", {"path": "n.json", "name": "a", "gate": {"min": 0.5}}],
                "code": [{"/lib": "images"}, "train.py"],
                "salt": "",
            }
        ],
    }
    snapshot = tree_with({**DATA, "pipeline.json": json.dumps(text)})
    found = effective_specification(snapshot, "video/one")
    assert found == {
        "pipeline": {"name": "one", "project": {"name": "video"}},
        "transform": {"cmd": ["a"], "env": {"B": "2", "C": "3"}, "working_dir": "w"},
        "input": {
            "cross": [
                {"pfs": {"repo": "frames", "name": "frames", "glob": "/*", "branch": "master"}},
                {
                    "union": [
                        {"pfs": {"repo": "images", "name": "i", "glob": "/*", "branch": "dev"}},
                        {"cron": {"name": "t", "spec": "@daily", "repo": "one_t"}},
                    ]
                },
            ]
        },
        "parallelism_spec": {"constant": 1},
        "datum_tries": 5,
        "datum_timeout": "1.5s",
        "salt": "",
        "output": "video/one",
        "code": [{"/lib": "images"}, "train.py"],
        "metrics": ["m.json", {"path": "n.json", "name": "a", "gate": {"min": 0.5}}],
        "output_branch": "master",
        "reprocess_spec": "until_success",
        "resource_limits": {"cpu": 2.0},
        "tolerations": [{"operator": "EQUAL", "toleration_seconds": 7}],
        "metadata": {"labels": {"team": "x"}},
    }
    pipelines = [load_pipeline(tree_with({**DATA, "pipeline.json": json.dumps(each)})) for each in (text, found)]
    one, again = (pipeline.stage("video/one") for pipeline in pipelines if pipeline is not None)
    assert replace(again, where=one.where) == one
    with pytest.raises(KeyError):
        effective_specification(snapshot, "one")


def test_a_default_is_taken_out_by_null_and_the_built_in_one_comes_back() -> None:
    around = {"datum_tries": 9, "parallelism_spec": {"constant": 4}, "input": {"pfs": {"glob": "/"}}}
    pipeline, _ = load(
        {
            "pipeline": {"name": "a"},
            "transform": {"cmd": ["a"]},
            "datum_tries": None,
            "input": {"pfs": {"repo": "images"}},
        },
        {"pipeline": {"name": "b"}, "transform": {"cmd": ["a"]}, "parallelism_spec": None, "input": None},
        defaults=around,
    )
    a, b = pipeline.stage("a"), pipeline.stage("b")
    assert (a.datum_tries, a.parallelism, a.inputs[0].glob) == (3, 4, "/")
    assert (b.datum_tries, b.parallelism, b.input) == (9, 1, None)


@pytest.mark.parametrize(
    "text",
    [
        '{"pipeline": {}, "pipeline": {"name": "a"}, "transform": {"cmd": ["a"], "env": {"A": "1", "A": "2"}}}',
        "pipeline: {name: b}\npipeline: {name: a}\ntransform:\n  cmd: [a]\n  env: {A: '1', A: '2'}\n",
    ],
)
def test_of_a_key_that_stands_twice_the_last_one_counts(text: str) -> None:
    pipeline = load_pipeline(tree_with({"pipeline.json": text}))
    assert pipeline is not None
    assert [(each.name, each.transform.env) for each in pipeline.stages] == [("a", (("A", "2"),))]
    assert pipeline.notices == (
        "'pipeline' is given twice, and the last one counts (pipeline.json)",
        "'A' is given twice, and the last one counts (pipeline.json: transform.env)",
    )
