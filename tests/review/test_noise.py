"""Metrics that have an error of their own: diff, log and rollback judge alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import Project


def pipeline(**rule: Any) -> str:
    return json.dumps(
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "-c", "cp pfs/made/* pfs/out/"]},
            "input": {"pfs": {"repo": "made", "glob": "/"}},
            "metrics": [{"path": "m.json", "name": "cv.accuracy", "goal": "max", **rule}],
        }
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", pipeline(noise="cv.error"))
    for tag, accuracy in (("one", 0.91), ("two", 0.904), ("three", 0.88)):
        project.write("made/m.json", json.dumps({"cv": {"accuracy": accuracy, "error": 0.005}}))
        project.git("add", "-A")
        project.git("commit", "-q", "-m", tag)
        project.ml("run")
        project.git("tag", tag)
    return project


def test_what_is_chance_is_not_worse(project: Project) -> None:
    def row(revisions: str, *more: str) -> str:
        said = project.ml("diff", revisions, "--only", "metrics", *more).stdout
        return next(line for line in said.splitlines() if "cv.accuracy" in line)

    assert row("one..two").endswith("same, within noise ± 0.0141421")
    assert "1 unchanged · " in project.ml("diff", "one..two", "--stat").stdout
    assert row("two..three").endswith("worse, noise ± 0.0141421")
    assert row("one..two", "--tolerance", "0.001").endswith("-0.006 (-0.659 %)  worse")
    (found,) = project.json("diff", "one..two")["metrics"]
    assert (found["name"], found["verdict"], round(found["noise"], 6)) == ("cv.accuracy", "same", 0.014142)

    said = project.ml("log", "cv.accuracy").stdout
    assert ["▼ worse" in line for line in said.splitlines()[2:]] == [True, False, False]
    assert "cv.error" not in said
    assert "to revert for metric model:cv.accuracy" in project.ml("rollback", "cv.accuracy", "--dry-run").stdout
    project.git("reset", "-q", "--hard", "two")
    refused = project.ml("rollback", "cv.accuracy", "--dry-run", check=False)
    assert "'cv.accuracy' of 'model' is not worse than before: it is 0.904" in refused.stderr


def test_it_says_how_results_are_read_and_computes_nothing(project: Project) -> None:
    project.write("pipeline.json", pipeline())
    project.git("commit", "-q", "-am", "no noise")
    assert set(project.states().values()) == {"fresh"}
    # each side has the error that it declares
    assert round(project.json("diff", "two..HEAD")["metrics"][0]["noise"], 6) == 0.01
    project.write("pipeline.json", pipeline(noise="not.there"))
    project.git("commit", "-q", "-am", "a name that no file has")
    assert project.json("diff", "HEAD~1..HEAD")["metrics"][0]["noise"] is None
