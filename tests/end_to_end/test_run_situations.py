"""Situations about runs and what they leave in history: variables of hooks, kills, large and unsteady outputs."""

import json
from pathlib import Path

from tests.end_to_end.project import TWO_STAGES, Project


def test_row_25_variables_that_git_gives_hooks_lead_nobody_astray(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    outside = Project(elsewhere)
    outside.git("init", "-q")
    outside.git("commit", "-q", "--allow-empty", "-m", "other repository")
    at = outside.head()
    project.write("train.sh", "env | grep ^GIT_ > pfs/out/variables || true\n" + project.read("train.sh"))
    project.write("staged.txt", "s\n")
    project.git("add", "staged.txt")
    # git hands all of these on to the hook; the index is one that only this commit uses
    names = {"GIT_DIR": str(project.path / ".git"), "GIT_WORK_TREE": str(project.path)}
    names["GIT_INDEX_FILE"] = str(tmp_path / "index")
    for command in (["read-tree", "HEAD"], ["add", "train.sh"], ["commit", "-q", "-m", "only the script"]):
        outside.run("git", *command, extra=names)
    project.wait()
    assert project.subjects()[:2] == ["gitml: update model, inference", "only the script"]
    assert project.read("model/variables") == ""
    assert project.git("show", "--format=", "--name-only", "HEAD^") == "train.sh"
    # the user's own index is as it was, but for the results
    assert project.git("diff", "--cached", "--name-only").split() == ["staged.txt", "train.sh"]
    assert project.git("diff", "--name-only") == "train.sh"
    assert outside.head() == at
    assert outside.is_clean()


def test_row_28_a_killed_runner_is_lost_and_finished_datums_are_kept(project: Project) -> None:
    gate = project.path.parent / "gate"
    project.git("config", "ml.sandbox", "none")  # the gate is a file outside the workspace
    wait = f"grep -q x pfs/input/* || while [ ! -e '{gate}' ]; do sleep 0.05; done\n"
    project.write("predict.sh", wait + project.read("predict.sh"))
    before = project.executions()
    project.commit("slow", wait=False)
    project.until(lambda: project.executions() == before + 1)  # one is recorded, the other one waits
    tip = project.head()
    project.kill_runner()
    assert project.stage("inference")["state"] == "lost"
    assert project.stage("inference")["datums"] == {"total": 2, "done": 1, "failed": 0}
    assert project.wait().returncode == 4
    assert project.head() == tip
    gate.touch()
    assert "inference: fresh (1 datum run, 1 from cache)" in project.ml("resume").stdout
    assert project.executions() == before + 2
    assert set(project.states().values()) == {"fresh"}
    assert project.is_clean()


def test_row_30_a_large_output_is_a_pointer_in_history(project: Project) -> None:
    project.write("train.sh", project.read("train.sh") + "head -c 3000000 /dev/zero > pfs/out/weights.bin\n")
    project.commit("large")
    assert "git ml track 'model/**'" in project.ml("run", "--force", "model").stderr
    project.ml("track", "model/**")
    project.write("train.sh", project.read("train.sh") + "echo more >> pfs/out/weights.bin\n")
    project.commit("tracked")
    assert set(project.states().values()) == {"fresh"}
    assert project.git("cat-file", "blob", "HEAD:model/weights.bin").startswith("gitml pointer 1\n")
    assert project.git("cat-file", "-t", "HEAD:model/model.txt") == "blob"
    assert (project.path / "model/weights.bin").read_bytes() == bytes(3_000_000) + b"more\n"
    assert project.is_clean()


def test_row_32_a_stage_that_is_never_the_same_runs_once(project: Project) -> None:
    project.write("train.sh", project.read("train.sh") + "od -An -N8 -tx8 /dev/urandom > pfs/out/model.txt\n")
    project.commit("unsteady")
    first, before = project.read("model/model.txt"), project.executions()
    project.git("commit", "-q", "--allow-empty", "-m", "nothing")
    project.wait()
    project.ml("run")
    assert (project.read("model/model.txt"), project.executions()) == (first, before)
    project.write("training/a.csv", "9\n")
    project.commit("other data")
    project.git("revert", "--no-edit", "HEAD~1")
    project.wait()
    assert project.read("model/model.txt") == first, "its one result, from the cache"
    executed = project.executions()
    project.ml("run", "--force", "model")
    assert project.read("model/model.txt") != first
    assert project.executions() > executed


def test_row_33_results_are_told_from_what_people_did(project: Project) -> None:
    model, inference = TWO_STAGES["stages"]
    stages = [model, inference, {**model, "pipeline": {"name": "second"}}]
    project.write("pipeline.json", json.dumps({"stages": stages}))
    project.commit("one more stage")
    project.write("training/b.csv", "3\n")
    project.commit("more data")
    # one commit for all stages of a run, and git itself can leave these out
    assert project.subjects() == [
        "gitml: update model, inference, second", "more data", "gitml: restore second", "one more stage",
        "gitml: update model, inference", "first",
    ]  # fmt: skip
    people = project.git("log", "--format=%s", "--invert-grep", "--grep=^Gitml-Run").splitlines()
    assert people == ["more data", "one more stage", "first"]


def test_a_branch_that_is_deleted_while_it_runs_is_no_error(project: Project) -> None:
    gate = project.path.parent / "gate"
    project.git("config", "ml.sandbox", "none")  # the gate is a file outside the workspace
    project.git("switch", "-q", "-c", "short")
    project.write("train.sh", f"while [ ! -e '{gate}' ]; do sleep 0.05; done\n" + project.read("train.sh"))
    project.commit("slow", wait=False)
    project.until(lambda: project.states()["model"] == "running")
    project.git("switch", "-q", "-")
    project.write("training/more.csv", "7\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "here", GITML="0")
    assert project.states()["model"] == "stale", "what runs elsewhere does not bring this branch up to date"
    project.git("branch", "-q", "-D", "short")
    gate.touch()
    project.wait()
    run = project.json("ls", "runs")["runs"][0]
    assert (run["status"], run["branch"], run["tasks"]) == ("nothing", "refs/heads/short", 1)
    assert project.json("watch")["message"] == "'short' was deleted; results are in the run cache"


def test_a_run_that_was_killed_is_lost_also_when_others_came_after_it(project: Project) -> None:
    gate = project.path.parent / "gate"
    project.git("config", "ml.sandbox", "none")
    wait = f"grep -q x pfs/input/* || while [ ! -e '{gate}' ]; do sleep 0.05; done\n"
    project.write("predict.sh", wait + project.read("predict.sh"))
    before = project.executions()
    project.commit("slow", wait=False)
    project.until(lambda: project.executions() == before + 1)
    project.kill_runner()
    gate.touch()
    project.write("input/z.csv", "z\n")
    project.commit("another")
    assert [run["status"] for run in project.json("ls", "runs")["runs"]] == ["published", "lost", "published"]
