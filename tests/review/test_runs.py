"""`git ml show RUN` and `git ml show REV`."""

import json
from pathlib import Path

from tests.end_to_end.project import Project, prepared, small_project


@prepared
def project(tmp_path: Path) -> Project:
    project = small_project(tmp_path / "project")
    project.commit("first")
    project.write("input/z.csv", "z\n")
    project.commit("second")
    return project


def run_id(project: Project) -> str:
    return project.git("log", "-1", "--format=%(trailers:key=Gitml-Run,valueonly)").strip()


def test_a_run_by_its_id_its_result_and_its_source(project: Project) -> None:
    [run] = json.loads(project.ml("show", "--json", run_id(project)).stdout)["runs"]
    assert run["results"] == [project.head()]
    assert run["source"] == project.head("HEAD~1")
    assert run["record"]["status"] == "published"
    assert [(task["stage"], task["datum"], task["state"]) for task in run["tasks"]] == [
        ("inference", "input/z.csv × model", "success")
    ]
    said = project.ml("show", run_id(project)).stdout
    assert said.splitlines()[0] == f"run {run_id(project)}  published"
    assert "input/z.csv × model" in said
    assert project.ml("show", "HEAD").stdout == project.ml("show", "HEAD~1").stdout == said


def test_a_path_goes_before_a_commit_of_the_same_name(project: Project) -> None:
    project.git("branch", "model")
    assert project.ml("show", "model").stdout.startswith("model  made by stage 'model'")
    assert project.ml("show", "refs/heads/model").stdout.startswith("run ")


def test_a_result_of_a_stage_that_is_not_fresh_says_so(project: Project) -> None:
    assert project.json("show", "model")["state"] == {"state": "fresh", "reason": ""}
    assert "what follows is of" not in project.ml("show", "model").stdout
    project.git("config", "ml.auto", "off")
    project.write("training/more.csv", "7\n")
    project.commit("more rows", wait=False)
    state = project.json("show", "model")["state"]
    assert state["state"] == "stale"
    assert "training" in state["reason"]
    said = project.ml("show", "model").stdout.splitlines()[1]
    assert said == f"  the stage is stale: {state['reason']}; what follows is of the result that stands here"


def test_a_clone_without_runs_knows_what_history_says(project: Project, tmp_path: Path) -> None:
    project.git("clone", "-q", str(project.path), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    [run] = json.loads(clone.ml("show", "--json", run_id(project)).stdout)["runs"]
    assert (run["record"], run["tasks"]) == (None, [])
    assert run["source"] == project.head("HEAD~1")
    assert "not in this clone" in clone.ml("show", "HEAD").stdout


def test_a_commit_without_results_says_so(project: Project) -> None:
    project.git("commit", "-q", "--allow-empty", "-m", "nothing new")
    done = project.ml("show", "HEAD", check=False)
    assert done.returncode == 128
    assert "no result in the history of HEAD was made from" in done.stderr
    forged = project.git(
        "commit-tree", "-p", "HEAD", "-m", "x\n\nGitml-Run: ../../etc\nGitml-Source: --all", "HEAD^{tree}"
    )
    done = project.ml("show", forged, check=False)
    assert done.returncode == 128
    assert "no result in the history of HEAD was made from" in done.stderr
