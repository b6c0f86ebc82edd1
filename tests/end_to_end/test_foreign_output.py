"""A stage that is called like a directory of the user's: a run computes its result and leaves the directory alone."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.project import TWO_STAGES, Project, prepared, small_project
from tests.end_to_end.test_situations import Gate

TOLD = "'model' holds files that no run made"


@prepared
def project(tmp_path: Path) -> Project:
    """Files of the user's in `model`, and then a pipeline whose first stage is called so."""
    made = small_project(tmp_path / "project", {"stages": []})
    made.write("model/model.txt", "by hand\n")
    made.write("model/notes.md", "mine\n")
    made.commit("by hand")
    made.write("pipeline.json", json.dumps(TWO_STAGES))
    made.commit("a pipeline")
    return made


def test_they_stay_and_are_read_until_somebody_decides(project: Project) -> None:
    assert project.states() == {"model": "edited", "inference": "fresh"}
    assert project.stage("model")["reason"] == TOLD
    assert project.read("model/notes.md") == "mine\n"
    assert project.read("inference/x.csv") == "x\nby hand\n", "later stages use what stands there"
    changed = project.git("show", "--format=", "--name-only", "HEAD").splitlines()
    assert changed == [".gitml/records/inference.json", "inference/x.csv", "inference/y.csv"]
    runs = project.executions()
    assert f"model: edited (1 from cache, {TOLD})" in project.ml("run").stdout
    assert (project.executions(), project.is_clean()) == (runs, True)

    project.ml("restore", "model")
    assert project.read("model/model.txt") == "1\n2\n"
    assert not (project.path / "model" / "notes.md").exists()
    assert project.git("show", "HEAD~1:model/notes.md") == "mine"
    project.ml("run")
    assert project.states() == dict.fromkeys(("model", "inference"), "fresh")
    assert (project.read("inference/x.csv"), project.executions()) == ("x\n2\n", runs + 2)


def test_they_are_accepted_as_the_result(project: Project) -> None:
    project.ml("accept", "model", "--reason", "trained elsewhere")
    assert project.states() == dict.fromkeys(("model", "inference"), "fresh")
    assert project.read("model/notes.md") == "mine\n"
    project.write("training/b.csv", "3\n")
    project.commit("other inputs end it")
    assert project.read("model/model.txt") == "1\n2\n3\n"
    assert project.states() == dict.fromkeys(("model", "inference"), "fresh")


def test_other_inputs_do_not_put_a_result_over_them(project: Project) -> None:
    project.write("training/b.csv", "3\n")
    project.commit("more data", wait=False)
    assert f"model: {TOLD}; git ml restore model puts its result there" in project.wait().stderr
    assert project.read("model/model.txt") == "by hand\n"
    project.ml("run", "--force", "model")
    assert project.read("model/model.txt") == "1\n2\n3\n", "asked for by name"


def test_a_commit_during_the_run_changes_nothing_of_that(project: Project) -> None:
    gate = Gate(project)
    project.write("input/x.csv", "other\n")  # so that there is something to publish, on another tip by then
    project.commit("slow", wait=False)
    gate.until_running()
    project.write("notes.txt", "went on\n")
    project.commit("meanwhile", wait=False)
    gate.open()
    project.wait()
    assert project.states() == {"model": "edited", "inference": "fresh"}
    assert project.read("model/model.txt") == "by hand\n"


@pytest.mark.parametrize("how", ["move the files", "set the output"])
def test_the_result_is_there_once_there_is_a_place_for_it(project: Project, how: str) -> None:
    runs = project.executions()
    if how == "move the files":
        project.git("mv", "model", "old")
    else:
        moved = json.loads(json.dumps(TWO_STAGES))
        moved["stages"][0]["output"] = "trained"
        project.write("pipeline.json", json.dumps(moved))
    project.commit(how)
    assert project.states() == dict.fromkeys(("model", "inference"), "fresh")
    assert project.read("model/model.txt" if how == "move the files" else "trained/model.txt") == "1\n2\n"
    assert project.read("old/notes.md" if how == "move the files" else "model/notes.md") == "mine\n"
    assert project.executions() == runs + 2, "only the stage behind it ran"


MAKES: dict[str, dict[str, str]] = {
    "what a run gives": {"model/model.txt": "1\n2\n", "model/metrics.json": '{"rows": 2}\n'},
    "nothing but what keeps it": {"model/.gitkeep": "", "model/.gitignore": "*.tmp\n"},
}


@pytest.mark.parametrize("what", MAKES)
def test_there_is_nothing_to_decide_where_nothing_is_lost(tmp_path: Path, what: str) -> None:
    project = small_project(tmp_path / "project")
    for name, content in MAKES[what].items():
        project.write(name, content)
    project.commit("first")
    assert project.states() == dict.fromkeys(("model", "inference"), "fresh")
    assert sorted(path.name for path in (project.path / "model").iterdir()) == ["metrics.json", "model.txt"]


def test_a_stage_with_another_name_finds_results_not_files_of_the_user(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    project.commit("first")
    renamed = json.loads(json.dumps(TWO_STAGES).replace('"name": "model"', '"name": "trained"'))
    renamed["stages"][0]["output"] = "model"
    project.write("pipeline.json", json.dumps(renamed))
    project.write("train.sh", project.read("train.sh").replace("sort", "sort -r"))
    project.git("update-ref", "-d", "refs/ml/runs")
    project.commit("another name")
    assert project.states() == dict.fromkeys(("trained", "inference"), "fresh")
    assert project.read("model/model.txt") == "2\n1\n"
