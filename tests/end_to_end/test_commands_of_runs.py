"""The commands around runs: which stages and datums, stop and resume, retry, restore, publish."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from gitml.errors import ExitCode
from tests.end_to_end.project import TWO_STAGES, Project


@pytest.fixture
def project(first_results: Project) -> Project:
    """Two quick stages, first results committed; hooks start nothing."""
    first_results.git("config", "ml.auto", "false")
    first_results.git("config", "ml.sandbox", "none")
    return first_results


def change(project: Project, **files: str) -> None:
    for name, content in files.items():
        project.write(name.replace("__", "/").replace("_", "."), content)
    project.commit("change", wait=False)


def test_which_stages_and_datums(project: Project) -> None:
    change(project, training__b_csv="3\n", input__x_csv="new\n")
    # a stage by itself, on what stands there: the old model
    assert "inference: fresh (1 datum run, 1 from cache)" in project.ml("run", "inference", "--single").stdout
    assert project.read("inference/x.csv") == "new\n2\n"
    assert project.states() == {"model": "stale", "inference": "stale"}
    # one datum goes into the cache and nowhere else
    head = project.head()
    assert "would run 1 of 1 datums" in project.ml("run", "model", "--dry-run").stdout
    project.ml("run", "--until", "model")
    assert project.head() != head
    assert project.states() == {"model": "fresh", "inference": "stale"}
    head = project.head()
    said = project.ml("run", "inference", "--datum", "input/x*").stdout
    assert "1 of 2 datums asked for, kept in the cache" in said
    assert project.head() == head
    assert "would run 1 of 2 datums" in project.ml("run", "-n").stdout
    for more in ((), ("-n",), ("--json",)):
        none = project.ml("run", "inference", "--datum", "nothing", *more, check=False)
        assert none.returncode == 128
        assert "error: --datum means no datum of inference\nhint: git ml ls datums inference" in none.stderr
    assert "would run 1 of 2" in project.ml("run", "--datum", "nothing", "--datum", "input/y*", "-n").stdout
    assert "inference: fresh (1 datum run, 1 from cache)" in project.ml("run", "model", "--downstream").stdout
    # a datum of a stage that has nothing to do is one
    assert "model: fresh" in project.ml("run", "--datum", "input/x*").stdout
    assert project.ml("run", "--datum", "nothing", check=False).returncode == 128
    refused = project.ml("run", "--downstream", check=False)
    assert "needs the stages that it is about" in refused.stderr
    assert project.ml("run", "--until", "nothing", check=False).returncode == 128


def test_a_failure_elsewhere_is_not_that_of_the_stages_that_were_asked_for(project: Project) -> None:
    change(project, predict_sh="echo no >&2; exit 3\n")
    assert project.ml("run", check=False).returncode == 2
    done = project.ml("run", "model")
    assert done.stdout == "  model: fresh (1 from cache)\nnothing to commit\n"
    assert "inference" not in done.stderr
    assert [stage["name"] for stage in project.json("run", "model")["stages"]] == ["model"]
    assert project.ml("run", "--until", "model").returncode == 0
    assert project.ml("run", "model", "--downstream", check=False).returncode == 2


def test_what_comes_out_as_it_was_is_not_committed_again(project: Project) -> None:
    tip, before = project.head(), project.executions()
    done = project.ml("run", "--force", "model")
    assert done.stdout == "  model: fresh (1 datum run)\nnothing to commit\n"
    assert project.executions() == before + 1
    assert project.head() == tip


def test_status_says_that_results_wait_for_their_moment(project: Project) -> None:
    change(project, training__more_csv="7\n")
    lock = project.path / ".git" / "index.lock"
    lock.touch()
    run = subprocess.Popen(
        ["git", "ml", "run"], cwd=project.path, env=project.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    project.until(lambda: "commits it as soon as nothing is in the way" in project.stage("model")["reason"])
    lock.unlink()
    assert "results committed as" in run.communicate(timeout=60)[0]
    assert set(project.states().values()) == {"fresh"}


def test_fail_fast_and_retry(project: Project) -> None:
    broken = Path(project.path.parent, "broken")
    broken.touch()
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"][1]["datum_tries"] = 1
    project.write("pipeline.json", json.dumps(pipeline))
    project.write("predict.sh", f"if test -e '{broken}'; then exit 3; fi\n" + project.read("predict.sh"))
    project.commit("breaks", wait=False)
    before = project.executions()
    assert project.ml("run", "--fail-fast", check=False).returncode == 2
    assert project.executions() == before + 1
    assert project.states()["inference"] == "failed"
    assert project.ml("run", "-j", "1", check=False).returncode == 2
    assert project.executions() == before + 2  # the task that failed before counts once, under its key
    assert project.ml("retry", "model", check=False).stderr.startswith("error: 'model' did not fail, it is fresh")
    assert project.ml("retry", check=False).returncode == 2
    broken.unlink()
    said = project.ml("retry", "--failed")
    assert "inference: fresh (2 datums run" in said.stdout
    assert project.states()["inference"] == "fresh"
    assert "no stage has failed" in project.ml("retry").stderr


def test_retry_runs_recovered_datums_again(project: Project) -> None:
    broken = Path(project.path.parent, "broken")
    broken.touch()
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"][1]["datum_tries"] = 1
    pipeline["stages"][1]["transform"]["err_cmd"] = ["true"]
    project.write("pipeline.json", json.dumps(pipeline))
    project.write("predict.sh", f"if test -e '{broken}'; then exit 3; fi\n" + project.read("predict.sh"))
    project.commit("breaks", wait=False)
    assert "2 recovered" in project.ml("run").stdout
    assert not (project.path / "inference").exists()
    broken.unlink()
    assert project.ml("retry", "inference", "--failed", check=False).returncode == 128
    assert "inference: fresh (2 datums run" in project.ml("retry", "inference").stdout
    assert project.read("inference/y.csv") == "y\n2\n"
    assert project.is_clean()


def test_a_program_that_is_missing_is_told_although_the_error_command_recovers(project: Project) -> None:
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"][1]["transform"] = {"cmd": ["no-such-program"], "err_cmd": ["true"]}
    project.write("pipeline.json", json.dumps(pipeline))
    project.commit("breaks", wait=False)
    said = project.ml("run")
    assert "2 recovered" in said.stdout
    told = "inference: datums are recovered, but command 'no-such-program' is not found; git ml retry inference"
    assert said.stderr.count(told) == 1
    assert not (project.path / "inference").exists()


def test_stop_from_another_terminal_and_resume(project: Project) -> None:
    gate = project.path.parent / "gate"
    project.write("predict.sh", f"grep -q x pfs/input/* || while [ ! -e '{gate}' ]; do sleep 0.05; done\n"
                  + project.read("predict.sh"))  # fmt: skip
    project.commit("slow", wait=False)
    assert "no run is under way" in project.ml("stop").stderr
    assert "no run was stopped or killed" in project.ml("resume").stderr
    run = subprocess.Popen(
        ["git", "ml", "run", "inference"], cwd=project.path, env=project.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    project.until(
        lambda: project.stage("inference")["datums"]["done"] == 1 and project.states()["inference"] == "running"
    )
    assert project.ml("resume", check=False).returncode == 4
    said = project.ml("stop")
    assert "stopped, finished datums are kept" in said.stderr
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, out + err
    assert project.stage("inference")["datums"]["done"] == 1
    gate.touch()
    project.git("switch", "-q", "-c", "elsewhere", "HEAD")
    assert "inference: fresh (1 datum run, 1 from cache)" in project.ml("resume").stdout
    assert project.git("log", "-1", "--format=%s", "main") == "gitml: update inference"
    assert project.git("log", "-1", "--format=%s", "elsewhere") == "slow"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_the_whole_group_of_a_run_is_a_stop(project: Project, number: signal.Signals) -> None:
    # as `timeout` and Ctrl-C do: git, git-ml and the git that reads objects for it all get the signal
    project.write("train.sh", "sleep 600\n")
    project.git("commit", "-q", "-a", "-m", "slow")
    run = subprocess.Popen(
        ["git", "ml", "run"], cwd=project.path, env=project.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    project.until(lambda: project.states()["model"] == "running")
    os.killpg(run.pid, number)
    said = "".join(run.communicate(timeout=60))
    assert "stopped; git ml resume goes on" in said
    assert "error" not in said
    assert project.json("ls", "runs")["runs"][0]["status"] == "stopped"
    assert project.states() == {"model": "stale", "inference": "stale"}


def test_an_error_of_a_run_in_the_foreground_is_remembered_until_it_goes_on(project: Project) -> None:
    project.write("training/more.csv", "7\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "more")
    project.git("config", "ml.executor", "nosuch")
    assert "unknown executor" in project.ml("run", check=False).stderr
    assert "the last run ended with an error: unknown executor 'nosuch'" in project.stage("model")["reason"]
    assert project.states()["model"] == "stale"
    project.git("config", "--unset", "ml.executor")
    assert "model: fresh (1 datum run)" in project.ml("resume").stdout


def test_who_stops_a_run_that_is_publishing_hears_that_it_was_too_late(project: Project) -> None:
    at, go = project.path.parent / "at", project.path.parent / "go"
    project.write("training/more.csv", "7\n")
    project.git("add", "-A")
    project.run("git", "commit", "-q", "-m", "more", extra={"GITML": "0"})
    hook = project.path / ".git" / "hooks" / "reference-transaction"
    hook.write_text(
        f"#!/bin/sh\n[ $1 = prepared ] && grep -q refs/heads/ || exit 0\n: > '{at}'\n"
        f"until [ -e '{go}' ]; do sleep 0.05; done\n"
    )
    hook.chmod(0o755)
    here: dict[str, Any] = {"cwd": project.path, "env": project.environment(), "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(["git", "ml", "run"], stdout=subprocess.PIPE, **here)
    project.until(at.exists)
    stopping = subprocess.Popen(["git", "ml", "stop"], **here)
    time.sleep(1)  # should it take longer to start, it finds no run, which is as true
    go.touch()
    out, err = run.communicate(timeout=120)
    said = stopping.communicate(timeout=120)[1]
    assert "results committed" in out + err
    assert "too late to stop it" in said or "no run is under way" in said
    assert set(project.states().values()) == {"fresh"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not here")
def test_output_that_nobody_can_take_is_one_message(project: Project) -> None:
    for command in (["status"], ["ls", "datums", "inference"], ["status", "--json"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                ["git", "ml", *command], cwd=project.path, env=project.environment(), stdout=full,
                stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == ExitCode.FATAL, done
        assert done.stderr.startswith("error: no space left on device\nhint: "), done
        assert done.stderr.count("\n") == 2, done


def test_restore_of_an_edited_and_a_missing_output(project: Project) -> None:
    project.write("model/model.txt", "by hand\n")
    project.commit("edit", wait=False)
    project.ml("run")
    assert project.states() == {"model": "edited", "inference": "fresh"}
    assert project.read("inference/x.csv") == "x\nby hand\n"
    head = project.head()
    assert "model: edited (1 from cache, would be restored from the cache)" in project.ml("restore", "-n").stdout
    assert project.head() == head
    before = project.executions()
    assert "model: fresh" in project.ml("restore", "model").stdout
    assert project.read("model/model.txt") == "1\n2\n"
    assert project.states() == {"model": "fresh", "inference": "missing"}
    project.ml("restore")
    assert project.states() == {"model": "fresh", "inference": "fresh"}
    assert project.executions() == before
    assert project.is_clean()
    change(project, training__b_csv="3\n")
    assert project.ml("restore", "model", check=False).returncode == 1


def test_publish_of_what_was_parked(project: Project) -> None:
    change(project, training__b_csv="3\n")
    (project.path / ".git" / "index.lock").touch()
    project.git("config", "ml.publishWait", "0")
    said = project.ml("run")
    assert "not committed yet: the index is locked" in said.stderr
    refused = project.ml("publish", "--json", check=False)
    assert refused.returncode == 4
    assert json.loads(refused.stdout)["branches"][0]["parked"] == "the index is locked"
    (project.path / ".git" / "index.lock").unlink()
    project.git("checkout", "-q", "--detach")
    before = project.executions()
    assert "results committed as" in project.ml("publish").stdout
    assert project.executions() == before
    assert project.git("log", "-1", "--format=%s", "main") == "gitml: restore model, inference"
    refused = project.ml("publish", check=False)
    assert "HEAD is detached" in refused.stderr


def test_accept_of_an_edited_output(project: Project) -> None:
    project.write("model/model.txt", "by hand\n")
    refused = project.ml("accept", "model", check=False)
    assert "'model' is fresh" in refused.stderr
    assert "git commit first" in refused.stderr
    assert "changes to 'model/model.txt' count once" in project.ml("accept").stderr
    assert "not committed, so it does not count yet: 'model/model.txt'" in project.ml("status").stdout
    project.commit("edit", wait=False)
    project.ml("run")
    assert project.states()["model"] == "edited"
    project.git("config", "user.name", "Grace")
    done = project.json("accept", "--reason", "better than the trained one")
    assert done["stages"] == ["model"]
    assert done["commit"] == project.head()
    assert project.git("log", "-1", "--format=%an %cn %s%n%b").splitlines() == [
        "Grace Grace gitml: accept model",
        "better than the trained one",
    ]
    assert project.states() == {"model": "fresh", "inference": "fresh"}
    assert json.loads(project.read(".gitml/records/model.json"))["accepted"] == {
        "reason": "better than the trained one"
    }
    assert "accepted" in project.ml("show", "model/model.txt").stdout
    assert "better than the trained one" in project.ml("why", "model").stdout
    assert project.ml("verify").returncode == 0
    assert "no output was edited" in project.ml("accept").stderr
    # other data: an ordinary result takes its place, with an ordinary record
    change(project, training__b_csv="3\n")
    project.ml("run")
    assert "accepted" not in project.read(".gitml/records/model.json")
    assert project.is_clean()


def test_hold_and_unhold(project: Project) -> None:
    assert "would end at once" in project.ml("hold", "model", "--until", "2020-01-31", check=False).stderr
    refused = project.ml("hold", "model", "--until", "tomorrow", check=False)
    assert "'tomorrow' is no day" in refused.stderr
    project.ml("hold", "model", "--until", "2099-12-31", "--reason", "freeze")
    assert project.stage("model")["reason"] == "on hold until 2099-12-31: freeze"
    assert (
        "they are on hold already" in project.ml("hold", "model", "--until", "2099-12-31", "--reason", "freeze").stderr
    )
    change(project, training__b_csv="3\n", input__x_csv="new\n")
    said = project.ml("run", "model").stdout
    assert "model: held" in said
    project.ml("run", "model", "--force")
    project.ml("run")
    assert project.states() == {"model": "held", "inference": "fresh"}
    assert project.read("model/model.txt") == "1\n2\n"
    assert project.read("inference/x.csv") == "new\n2\n"
    assert "git ml run" in project.ml("unhold").stderr
    assert project.states() == {"model": "stale", "inference": "stale"}
    project.ml("run")
    assert "hold" not in project.read(".gitml/records/model.json")
    assert project.read("model/model.txt") == "1\n2\n3\n"
    project.ml("hold", "model", "--until", "change")
    change(project, training__b_csv="4\n")
    assert project.states()["model"] == "stale"
    assert project.is_clean()


def test_undo_reverts_the_last_result_and_unhold_brings_it_back(project: Project) -> None:
    change(project, training__b_csv="3\n")
    project.ml("run")
    assert project.read("model/model.txt") == "1\n2\n3\n"
    assert "taken off" in project.ml("undo", "--reset").stdout
    assert project.subjects()[0] == "change"
    assert project.states() == {"model": "missing", "inference": "stale"}
    before = project.executions()
    project.ml("run")
    assert project.executions() == before
    assert "reverted: " in project.ml("undo").stdout
    assert project.states() == {"model": "held", "inference": "fresh"}
    assert project.ml("undo", "--reset", check=False).stderr.startswith("error: ")
    assert "model: fresh" in project.ml("unhold", "model").stdout
    assert project.read("model/model.txt") == "1\n2\n3\n"
    assert project.is_clean()
    # what is left to undo is the restored result, then the first one
    project.ml("undo")
    assert project.read("model/model.txt") == "1\n2\n"


def test_lists_of_runs_stages_datums_and_outputs(project: Project) -> None:
    project.write("input/z.csv", "z\n")
    project.write("runs/notes.txt", "n\n")
    project.commit("more", wait=False)
    listed = project.json("ls", "datums", "inference")
    assert [(each["label"], each["state"]) for each in listed["datums"]] == [
        ("input/x.csv × model", "known"), ("input/y.csv × model", "known"), ("input/z.csv × model", "to-run"),
    ]  # fmt: skip
    first = listed["datums"][0]
    assert first["inputs"][0] == {"name": "input", "path": "input/x.csv", "oid": project.head("HEAD:input/x.csv")}
    assert first["id"][:12] in project.ml("ls", "datums", "inference").stdout
    limited = project.ml("ls", "datums", "inference", "--limit", "1")
    assert limited.stdout.count("\n") == 1
    assert "and 2 more" in limited.stderr
    assert "input/z.csv" in project.ml("ls", "datums", "inference", "--state", "to-run").stdout
    assert project.json("ls", "datums", "inference", "--state", "failed")["datums"] == []
    assert project.json("ls", "datums", "inference", "--rev", "HEAD~1")["total"] == 2
    project.write("training/b.csv", "3\n")
    project.commit("data", wait=False)
    assert "waits for 'model'; these are the datums of what stands there now" in (
        project.ml("ls", "datums", "inference").stderr
    )
    stages = project.json("ls", "stages")["stages"]
    assert [(each["name"], each["state"], each["datums"]) for each in stages] == [
        ("model", "stale", 1), ("inference", "stale", 0),
    ]  # fmt: skip
    assert "inference" not in project.ml("ls", "stages", "--state", "fresh").stdout
    outputs = {each["path"]: each for each in project.json("ls", "outputs")["outputs"]}
    assert (outputs["model"]["files"], outputs["model"]["size"]) == (2, 4 + len('{"rows": 2}\n'))
    assert outputs["model"]["tree"] == project.head("HEAD:model")
    (run,) = project.json("ls", "runs")["runs"]
    assert (run["status"], run["tasks"], run["source"]) == ("published", 3, project.head("HEAD~3"))
    said = project.ml("ls", "runs")
    assert run["run"] in said.stdout
    assert "git ml ls ./runs" in said.stderr
    for reached in (("./runs",), ("--", "runs")):
        assert project.ml("ls", *reached).stdout == ""  # no large files there
    assert "needs one stage" in project.ml("ls", "datums", check=False).stderr
    assert "is no state of datums" in project.ml("ls", "datums", "model", "--state", "x", check=False).stderr


def test_a_command_is_told_and_its_failure_is_only_noted(project: Project) -> None:
    told = project.path.parent / "told"
    project.git("config", "ml.notify", f"cat >> '{told}'; exit 7")
    change(project, training__b_csv="3\n")
    done = project.ml("run")
    assert "note: the command of ml.notify failed: it ended with exit status 7" in done.stderr
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert lines[0]["status"] == "running"
    assert (lines[-1]["status"], lines[-1]["published"]) == ("published", project.head())


def test_another_parameter_in_the_cache_and_on_a_branch(project: Project) -> None:
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"][0]["params"] = ["params.yaml:rows"]
    project.write("pipeline.json", json.dumps(pipeline))
    project.write("params.yaml", "rows: 1 # how many\nother: 2\n")
    rows = "$(sed -n 's/rows: *//p' params.yaml)"
    project.write("train.sh", f'head -n {rows} pfs/training/a.csv > pfs/out/model.txt\n'
                  f'printf \'{{"rows": %d}}\\n\' {rows} > pfs/out/metrics.json\n')  # fmt: skip
    project.commit("rows", wait=False)
    project.ml("run")
    head = project.head()
    said = project.ml("run", "-S", "params.yaml:rows=2").stdout
    assert "model  rows  1  →  2" in said
    assert "nothing is committed" in said
    assert project.head() == head
    assert project.is_clean()
    assert project.read("params.yaml").startswith("rows: 1")
    before = project.executions()
    project.ml("run", "-S", "params.yaml:rows=2", "--branch", "two")
    assert project.executions() == before
    assert project.git("show", "two:params.yaml") == "rows: 2 # how many\nother: 2"
    assert project.git("show", "two:model/metrics.json") == '{"rows": 2}'
    assert project.git("log", "--format=%s", "two").splitlines()[:2] == [
        "gitml: restore model, inference", "try params.yaml:rows=2",
    ]  # fmt: skip
    assert project.head() == head
    refused = project.ml("run", "-S", "params.yaml:rows=2", "--branch", "two", check=False)
    assert "there is a branch 'two'" in refused.stderr
    assert "there is no file 'nothing.yaml'" in project.ml("run", "-S", "nothing.yaml:a=1", check=False).stderr
