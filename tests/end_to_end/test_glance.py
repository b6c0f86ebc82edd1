"""`git ml status` and `git ml run` say without an evaluation what they say with one, or leave it to that."""

import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gitml.cli.glance import glance
from tests.end_to_end.project import TWO_STAGES, Project, small_project

COMMANDS = (["status"], ["status", "--json"], ["status", "--exit-code"], ["run"])


@contextmanager
def inside(where: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(where)
    try:
        yield
    finally:
        os.chdir(before)


def note(project: Project) -> Path:
    return Path(project.git("rev-parse", "--absolute-git-dir")) / "ml/settled"


def said(project: Project, *command: str) -> tuple[int, str, str]:
    done = project.ml(*command, check=False)
    return done.returncode, done.stdout, done.stderr


def state(project: Project) -> dict[str, Any]:
    """What the latest run left, without what differs from one to the next."""
    ours = Path(project.git("rev-parse", "--path-format=absolute", "--git-common-dir")) / "ml"
    found: dict[str, Any] = json.loads((ours / "runs" / (ours / "latest").read_text() / "state.json").read_bytes())
    return {name: value for name, value in found.items() if name not in ("pid", "started", "updated")}


def is_quick(project: Project, *command: str) -> bool:
    with inside(project.path):
        return glance(command) == 0


@pytest.fixture
def settled(project: Project) -> Project:
    assert set(project.states().values()) == {"fresh"}
    assert note(project).exists()
    return project


def nothing(_: Project) -> None:
    pass


def unrelated(project: Project) -> None:
    project.write("notes", "of no stage\n")
    project.commit(wait=False, GITML="0")


def detached(project: Project) -> None:
    project.git("checkout", "-q", "--detach")


def edits(project: Project) -> None:
    project.write("training/a.csv", "changed\n")
    project.write("pipeline.json", project.read("pipeline.json") + "\n")
    project.write("train.sh", project.read("train.sh") + "# changed\n")
    project.write("notes", "new\n")


def staged(project: Project) -> None:
    project.git("rm", "-q", "--cached", "input/x.csv")


def not_set_up(project: Project) -> None:
    project.ml("uninstall")


def without_run_cache(project: Project) -> None:
    project.git("update-ref", "-d", "refs/ml/runs")


def in_the_middle_of_a_merge(project: Project) -> None:
    project.git("branch", "side", "HEAD~1")
    project.git("merge", "-q", "--no-commit", "--no-ff", "side", check=False)


def with_colour(project: Project) -> None:
    project.git("config", "color.ui", "always")


@pytest.mark.parametrize(
    "situation",
    [nothing, unrelated, detached, edits, staged, not_set_up, without_run_cache, in_the_middle_of_a_merge, with_colour],
)
def test_what_is_said_is_what_an_evaluation_says(
    settled: Project, situation: Callable[[Project], None], capfd: pytest.CaptureFixture[str]
) -> None:
    situation(settled)
    for command in COMMANDS:
        note(settled).unlink()
        long = said(settled, *command)
        left = state(settled)
        settled.ml("status")
        assert note(settled).exists()
        capfd.readouterr()
        with inside(settled.path):
            code = glance(command)
        assert (code, *capfd.readouterr()) == long
        assert state(settled) == left
        assert said(settled, *command) == long


def test_notes_on_the_pipeline_are_said_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stage = {**TWO_STAGES["stages"][0], "resource_requests": {"memory": "1G", "cpu": 1}, "salt": "a"}
    project = small_project(tmp_path / "project", {"stages": [stage]})
    project.commit("first")
    project.ml("status")
    for command in (["status"], ["run"]):
        capfd.readouterr()
        assert is_quick(project, *command)
        heard = capfd.readouterr()
        note(project).unlink()
        assert said(project, *command) == (0, *heard)
        project.ml("status")


def test_a_linked_worktree_has_a_note_of_its_own(settled: Project, tmp_path: Path) -> None:
    settled.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    linked = Project(tmp_path / "linked")
    assert not is_quick(linked, "status")
    linked.ml("status")
    assert is_quick(linked, "status")
    linked.write("input/x.csv", "changed\n")
    linked.git("commit", "-q", "-a", "-m", "change", GITML="0")
    assert not is_quick(linked, "status")
    assert is_quick(settled, "status"), "the other branch stands where it stood"


def test_below_the_top_it_says_the_same(settled: Project) -> None:
    below = Project(settled.path / "training")
    assert is_quick(below, "status")
    assert said(below, "status") == said(settled, "status")


def hold(project: Project, until: str) -> None:
    """The output of the first stage on hold until a day, as somebody may have written it."""
    place = ".gitml/records/model.json"
    record = json.loads(project.read(place))
    project.ml("hold", "model", "--until", "2099-12-31")
    held = json.loads(project.read(place))
    assert held != record
    project.write(place, project.read(place).replace("2099-12-31", until))


CHANGES: dict[str, Callable[[Project], object]] = {
    "an input changes": lambda p: p.write("training/a.csv", "3\n"),
    "an output is edited": lambda p: p.write("model/model.txt", "mine\n"),
    "a record is gone": lambda p: p.git("rm", "-q", ".gitml/records/model.json"),
    "the pipeline changes": lambda p: p.write("pipeline.json", p.read("pipeline.json") + "\n"),
    "the pipeline is gone": lambda p: p.git("rm", "-q", "pipeline.json"),
    "a result is rolled back": lambda p: p.git("revert", "--no-edit", "HEAD", GITML="0"),
    "an output is held": lambda p: hold(p, "2099-12-31"),
    "a hold ended before the commit": lambda p: hold(p, "2001-01-01"),
    "a commit before everything": lambda p: p.git("checkout", "-q", "--orphan", "new"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_commits_that_change_what_is_read_are_evaluated(settled: Project, change: str) -> None:
    CHANGES[change](settled)
    if change != "a commit before everything":
        settled.git("add", "-A")
        settled.git("commit", "-q", "--allow-empty", "-m", "change", GITML="0")
    for command in COMMANDS:
        assert not is_quick(settled, *command)
    settled.ml("status", check=False)
    if change != "the pipeline changes":
        assert not is_quick(settled, "status"), "an evaluation that found something else leaves no note"


@pytest.mark.parametrize(
    "field", [{"branch": "main"}, {"trigger": {"commits": 2}}, {"trigger": {"cron_spec": "@daily"}}]
)
def test_what_does_not_follow_from_the_tree_is_evaluated(tmp_path: Path, field: dict[str, object]) -> None:
    stage = json.loads(json.dumps(TWO_STAGES["stages"][0]))
    stage["input"]["pfs"] |= field
    project = small_project(tmp_path / "project", {"stages": [stage]})
    project.commit("first")
    assert project.states() == {"model": "fresh"}
    for command in COMMANDS:
        assert not is_quick(project, *command)


def touched(name: str) -> Callable[[Project], None]:
    def touch(project: Project) -> None:
        place = project.path / ".git/ml" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()

    return touch


def lost(project: Project) -> None:
    ours = project.path / ".git/ml"
    place = ours / "runs" / (ours / "latest").read_text() / "state.json"
    place.write_text(place.read_text().replace('"status": "published"', '"status": "running"'))
    assert '"status": "running"' in place.read_text()


WAITING: dict[str, Callable[[Project], object]] = {
    "a branch is to be looked at": touched("requests/refs%2Fheads%2Fmain"),
    "results wait to be published": touched("parked/refs%2Fheads%2Fmain"),
    "a publication was killed": touched("publishing.json"),
    "a run was killed at work": touched("runs/0123456789ab/work"),
    "a run was killed": lost,
    "a run has stored what nothing covers": lambda p: p.git("update-ref", "refs/ml/staged/run-0123456789ab", "HEAD"),
    "somebody wants to be told": lambda p: p.git("config", "ml.notify", "true"),
}


@pytest.mark.parametrize("situation", WAITING)
def test_where_something_waits_it_is_the_runner_who_runs(settled: Project, situation: str) -> None:
    assert is_quick(settled, "run")
    settled.ml("run")
    latest = settled.path / ".git/ml/latest"
    if situation == "a run was killed":
        note(settled).unlink()
        place = settled.path / ".git/ml/runs" / latest.read_text() / "state.json"
        place.write_text(place.read_text().replace('"status": "nothing"', '"status": "published"'))
        settled.ml("status")
    WAITING[situation](settled)
    latest.rename(latest.with_name("latest.before"))
    latest.with_name("latest").write_text(latest.with_name("latest.before").read_text())
    seen = latest.stat().st_ino
    assert not is_quick(settled, "run")
    assert latest.stat().st_ino == seen, "nothing was done"
    assert is_quick(settled, "status"), "the states are the same"


def test_while_another_run_is_under_way_it_waits(settled: Project) -> None:
    with (settled.path / ".git/ml/runner.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not is_quick(settled, "run")
        assert is_quick(settled, "status")
    assert is_quick(settled, "run")


def test_old_runs_go(settled: Project) -> None:
    runs = settled.path / ".git/ml/runs"
    for number in range(30):
        (runs / f"{number:012d}" / "log").mkdir(parents=True)
        os.utime(runs / f"{number:012d}", (number, number))
    assert is_quick(settled, "run")
    assert len(list(runs.iterdir())) == 20


def test_options_are_for_the_command(settled: Project) -> None:
    for command in (
        ["status", "--rev", "HEAD~1"],
        ["status", "-h"],
        ["run", "--force"],
        ["run", "model"],
        ["run", "-n"],
    ):
        with inside(settled.path):
            assert glance(command) is None


def test_a_damaged_note_is_ignored(settled: Project) -> None:
    whole = note(settled).read_bytes()
    head, answer, paths = whole.split(b"\n", 2)
    for line in (b"", b"{", b"{}", answer.replace(b'"stages": [[', b'"stages": [['[:-1] + b"1,"), b"[1]", b"\xff"):
        note(settled).write_bytes(b"\n".join([head, line, paths]))
        with inside(settled.path):
            assert glance(["status"]) is None
            assert glance(["run"]) is None
    note(settled).write_bytes(whole)
    assert is_quick(settled, "status")


def test_whoever_reads_no_further_is_no_failure(settled: Project) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            ["git", "ml", "status"], cwd=settled.path, env=settled.environment(), stdout=writer, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
