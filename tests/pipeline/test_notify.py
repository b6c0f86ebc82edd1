"""The command that is told about changes: what it gets, and that it cannot break anything."""

import json
import time
from pathlib import Path

from gitml.git.repository import Repository
from gitml.pipeline.lease import RunState, StageProgress
from gitml.pipeline.notify import Notifier
from tests.conftest import run_git


def state(status: str, stage: str, done: int = 0) -> RunState:
    return RunState(
        run="r1", branch="refs/heads/main", tip="0" * 40, pid=1, host="h", boot="b", started=1.0, status=status,
        stages={"model": StageProgress(stage, total=3, done=done)},
    )  # fmt: skip


def test_each_change_of_state_is_one_call_in_order(repo: Path) -> None:
    run_git(repo, "config", "ml.notify", "sleep 0.05; cat >> told")
    with Notifier(Repository.discover(repo)) as notifier:
        notifier.tell(state("running", "waiting"))
        notifier.tell(state("running", "running"))
        notifier.tell(state("running", "running", done=1))  # a datum is no change of state
        notifier.tell(state("published", "fresh", done=3))
    told = [json.loads(line) for line in (repo / "told").read_text().splitlines()]
    assert [(each["status"], each["stages"][0]["state"]) for each in told] == [
        ("running", "waiting"), ("running", "running"), ("published", "fresh"),
    ]  # fmt: skip
    assert (told[0]["schema"], told[0]["branch"]) == ("gitml/watch/1", "refs/heads/main")
    assert notifier.problem == ""


def test_a_failure_is_noted_and_what_hangs_is_ended_with_all_it_started(repo: Path) -> None:
    run_git(repo, "config", "ml.notify", "exit 3")
    with Notifier(Repository.discover(repo)) as failing:
        failing.tell(state("running", "running"))
    assert failing.problem == "it ended with exit status 3"
    run_git(repo, "config", "ml.notify", "(sleep 1; touch late) & sleep 60")
    began = time.monotonic()
    with Notifier(Repository.discover(repo), timeout=0.2) as hanging:
        hanging.tell(state("running", "running"))
        while not hanging.problem:
            time.sleep(0.02)
    assert hanging.problem == "it was ended after 0.2 s"
    while time.monotonic() < began + 1.2:
        time.sleep(0.05)
    assert not (repo / "late").exists()


def test_without_a_command_nothing_is_started(repo: Path) -> None:
    with Notifier(Repository.discover(repo)) as notifier:
        notifier.tell(state("running", "running"))
    assert notifier.problem == ""
