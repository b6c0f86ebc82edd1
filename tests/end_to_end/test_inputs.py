"""Inputs from other branches and commits, quiet ones, references and empty files, in a real repository."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import Project, small_project


def stage(name: str, script: str, *inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-e"], "stdin": [script]},
        "input": {"cross": [{"pfs": one} for one in inputs]},
    }


def test_a_branch_is_followed_and_a_commit_stays(tmp_path: Path) -> None:
    pinned = {"repo": "raw", "name": "old", "glob": "/", "commit": "v1"}
    project = small_project(
        tmp_path / "project",
        {
            "stages": [
                stage("merged", 'cat pfs/raw/* pfs/old/* > pfs/out/all; echo "$raw_COMMIT" > pfs/out/commit',
                      {"repo": "raw", "glob": "/", "branch": "staging"}, pinned)
            ]
        },
    )  # fmt: skip
    project.write("raw/a", "1\n")
    project.commit("data")
    assert "there is no commit 'v1' here; git fetch --tags" in project.ml("status").stdout
    project.git("tag", "v1")
    assert "there is no branch 'staging' here" in project.ml("status").stdout
    project.git("switch", "-qc", "staging")
    project.git("rm", "-q", "pipeline.json")
    project.write("raw/a", "2\n")
    project.commit("new data, no pipeline")
    staged = project.git("rev-parse", "HEAD")
    assert project.git("show", "main:merged/all") == "2\n1"
    assert project.git("show", "main:merged/commit") == staged
    record = json.loads(project.git("show", "main:.gitml/records/merged.json"))
    assert {part["name"]: part["commit"] for part in record["inputs"]} == {
        "old": project.git("rev-parse", "v1"),
        "raw": staged,
    }
    tip = project.git("rev-parse", "main")
    project.write("other", "")
    project.commit("nothing that is read")
    assert project.git("rev-parse", "main") == tip
    project.git("switch", "-q", "main")
    assert "merged: fresh" in project.ml("run").stdout


@pytest.mark.parametrize(
    "pipeline", ['{"stages": ["specs/*"]}', '{"stages": [{"file": "specs/one"}]}', "stages: [specs/*]\n"]
)
def test_who_reads_a_branch_may_stand_in_any_file(tmp_path: Path, pipeline: str) -> None:
    project = small_project(tmp_path / "project", {"stages": []})
    project.write("raw/a", "1\n")
    project.commit("data")
    project.git("branch", "staging")
    one = stage("one", "cat pfs/raw/* > pfs/out/all", {"repo": "raw", "glob": "/", "branch": "staging"})
    project.write("specs/one", json.dumps(one))
    project.write("pipeline.json", pipeline)
    project.commit("stage")
    assert project.read("one/all") == "1\n"
    project.git("switch", "-q", "staging")
    project.write("raw/a", "2\n")
    project.commit("new data")
    assert project.git("show", "main:one/all") == "2"


def test_quiet_referenced_and_empty_inputs(tmp_path: Path) -> None:
    script = (
        "cat pfs/data/* pfs/quiet/* pfs/reference/* > pfs/out/seen; "
        "for f in pfs/big/*; do test ! -s $f; ln -s ../big/${f##*/} pfs/out/; done"
    )
    project = small_project(
        tmp_path / "project",
        {
            "stages": [
                stage("sorted", script, {"repo": "data", "glob": "/"},
                      {"repo": "quiet", "glob": "/", "propagationSpec": {"never": True}},
                      {"repo": "reference", "glob": "/", "reference": True, "lazy": True},
                      {"repo": "big", "glob": "/", "emptyFiles": True})
            ]
        },
    )  # fmt: skip
    for name in ("data", "quiet", "reference", "big"):
        project.write(f"{name}/{name}-file", f"{name} 1\n")
    project.commit("data")
    assert (project.path / "sorted/big-file").read_text() == "big 1\n"
    for name in ("quiet", "reference"):
        project.write(f"{name}/{name}-file", f"{name} 2\n")
    project.commit("what runs nothing")
    seen = project.path / "sorted/seen"
    assert seen.read_text() == "data 1\nquiet 1\nreference 1\n"
    assert "sorted" not in project.git("log", "-1", "--format=%s")
    project.write("big/big-file", "big 2\n")
    project.commit("what counts though no task sees it")
    assert (project.path / "sorted/big-file").read_text() == "big 2\n"
    assert seen.read_text() == "data 1\nquiet 2\nreference 2\n"


def test_a_trigger_waits_for_commits_that_touch_its_input(tmp_path: Path) -> None:
    slow = {"repo": "slow", "glob": "/", "trigger": {"commits": 2}}
    project = small_project(
        tmp_path / "project",
        {
            "stages": [
                stage("copied", "cat pfs/data/* > pfs/out/all", {"repo": "data", "glob": "/"}),
                stage("seen", "cat pfs/slow/* pfs/copied/* > pfs/out/all", slow, {"repo": "copied", "glob": "/"}),
                stage("after", "cat pfs/copied/* > pfs/out/all",
                      {"repo": "copied", "glob": "/", "trigger": {"commits": 2}}),
            ]
        },
    )  # fmt: skip
    project.write("data/a", "d1\n")
    project.write("slow/a", "s1\n")
    project.commit("first")
    expected = [
        ("slow/a", "s2\n", "s1\nd1\n", "d1\n"),  # one commit is not enough
        ("data/a", "d2\n", "s1\nd2\n", "d1\n"),  # another input: the slow one stays
        ("other", "", "s1\nd2\n", "d1\n"),  # touches nothing
        ("slow/a", "s3\n", "s3\nd2\n", "d1\n"),  # the second
        ("data/a", "d3\n", "s3\nd3\n", "d3\n"),  # the second result of the stage before
    ]
    for path, text, seen, after in expected:
        project.write(path, text)
        project.commit(f"{path} {text}")
        assert (project.read("seen/all"), project.read("after/all")) == (seen, after)
    assert set(project.states().values()) == {"fresh"}
    project.git("clone", "-q", str(project.path), str(tmp_path / "clone"))
    assert set(Project(tmp_path / "clone").states().values()) == {"fresh"}
