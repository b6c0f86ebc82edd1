"""What people do in the very moment in which results come onto their branch, before index and worktree have them."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.project import Project


class Moment:
    """The branch of a project names its new results; the one who publishes them goes on when told to."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._go = project.path.parent / "go"
        at = project.path.parent / "at"
        project.git("config", "ml.auto", "false")
        project.write("training/more.csv", "7\n")
        project.commit("more", wait=False)
        hook = project.path / ".git" / "hooks" / "reference-transaction"
        # only for the one that publishes: what people do goes on
        hook.write_text(
            f"#!/bin/sh\n[ $1 = committed ] && [ -n \"$GITML_ACTIVE\" ] && grep -q refs/heads/ || exit 0\n: > '{at}'\n"
            f"until [ -e '{self._go}' ]; do sleep 0.02; done\n"
        )
        hook.chmod(0o755)
        self.run = self.start("ml", "run")
        project.until(at.exists)
        assert project.subjects()[0] == "gitml: update model, inference"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A git that goes on by itself."""
        return subprocess.Popen(
            ["git", *arguments], cwd=self.project.path, env=self.project.environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def end(self) -> str:
        """Let it go on, and wait until it has ended."""
        self._go.touch()
        return self.run.communicate(timeout=120)[0]


@pytest.fixture
def moment(project: Project) -> Iterator[Moment]:
    made = Moment(project)
    yield made
    made.end()


def test_row_01_a_commit_waits_for_the_files_of_results_that_are_below_it(moment: Moment) -> None:
    project = moment.project
    project.write("notes", "n\n")
    project.git("add", "notes")
    commit = moment.start("commit", "-q", "-m", "notes")
    with pytest.raises(subprocess.TimeoutExpired):
        commit.wait(1)
    moment.end()
    said = commit.communicate(timeout=60)[0]
    assert commit.returncode == 0, said
    assert project.git("show", "--format=", "--name-only", "HEAD") == "notes"
    assert project.read("model/model.txt") == "1\n2\n7\n"
    assert set(project.states().values()) == {"fresh"}
    assert project.is_clean()


def test_row_01_a_commit_that_cannot_wait_is_refused(moment: Moment) -> None:
    project = moment.project
    project.write("train.sh", project.read("train.sh") + "\n")
    said = project.run("git", "commit", "-q", "-a", "-m", "all", check=False)
    assert said.returncode == 1
    assert said.stderr == "gitml: results are being committed at this moment\ngitml: hint: commit once more\n"
    moment.end()
    project.git("commit", "-q", "-a", "-m", "all")
    assert project.git("show", "--format=", "--name-only", "HEAD") == "train.sh"


def test_row_28_a_commit_brings_the_files_that_a_killed_publisher_did_not(moment: Moment) -> None:
    project = moment.project
    pid = int(Path(f"/proc/{moment.run.pid}/task/{moment.run.pid}/children").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    moment.run.wait()
    project.write("train.sh", project.read("train.sh") + "\n")
    said = project.run("git", "commit", "-q", "-a", "-m", "all", check=False)
    assert said.returncode == 1
    assert said.stderr.endswith("killed half way\ngitml: hint: git ml publish, then commit again\n")
    project.git("restore", "train.sh")
    project.write("notes", "n\n")
    project.git("add", "notes")
    project.git("commit", "-q", "-m", "notes")
    assert project.git("show", "--format=", "--name-only", "HEAD") == "notes"
    assert project.read("model/model.txt") == "1\n2\n7\n"
    assert project.is_clean()


@pytest.mark.parametrize("command", [["reset", "-q", "--hard", "HEAD~2"], ["switch", "-q", "-c", "other", "HEAD~2"]])
def test_who_goes_elsewhere_does_not_find_results_there(moment: Moment, command: list[str]) -> None:
    project = moment.project
    project.git(*command)
    moment.end()
    assert project.subjects()[0] == "gitml: update model, inference"
    assert project.read("model/model.txt") == "1\n2\n"
    assert project.is_clean()
    assert set(project.states().values()) == {"fresh"}
