"""Looking on: watch, status --watch and logs -f, through a pipe and in a terminal."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitml.cli.watch import duration, progress_text
from gitml.pipeline.lease import StageProgress
from tests.end_to_end.project import Project, small_project
from tests.end_to_end.test_terminal import Terminal


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (StageProgress("waiting"), ""),
        (StageProgress("running", total=10, since=100.0), "0/10 datums"),
        (StageProgress("running", total=10, done=2, cached=3, failed=1, since=100.0),
         "6/10 datums, 2 done, 3 from cache, 1 failed, 18.0/min, 13 s left"),
        (StageProgress("running", total=1000, done=100, since=100.0),
         "100/1000 datums, 100 done, 10.0/s, 1 min 30 s left"),
        (StageProgress("fresh", total=3, done=1, cached=2), "3 datums, 1 done, 2 from cache"),
        (StageProgress("failed", total=3, failed=1, reason="datum 'x': no"), "3 datums, 1 failed, datum 'x': no"),
    ],
)  # fmt: skip
def test_progress_in_words(progress: StageProgress, expected: str) -> None:
    assert progress_text(progress, 110.0) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59, "59 s"), (90, "1 min 30 s"), (600, "10 min"), (3700, "1 h 1 min"), (90000, "25 h 0 min")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[Project, Path]]:
    """A run in the background whose first stage waits for a gate."""
    project = small_project(tmp_path / "project")
    gate = tmp_path / "gate"
    project.git("config", "ml.sandbox", "none")
    wait = f"echo begun; while [ ! -e '{gate}' ]; do sleep 0.05; done; printf ended\n"
    project.write("train.sh", wait + project.read("train.sh"))
    project.commit("first", wait=False)
    project.until(lambda: project.states()["model"] == "running")
    yield project, gate
    gate.touch()
    project.wait()


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["git", "ml", *arguments], cwd=project.path, env=project.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_through_a_pipe(project: tuple[Project, Path]) -> None:
    repo, gate = project
    watching, as_json, status = start(repo, "watch"), start(repo, "watch", "--json"), start(repo, "status", "--watch")
    following = start(repo, "logs", "-f", "model")
    for process in (watching, as_json, status, following):
        assert process.stdout is not None
        first = process.stdout.readline()
        while process is following and "begun" not in first:
            assert first.startswith("model · training │ --- attempt 1"), first
            first = process.stdout.readline()
        if process is as_json:
            assert json.loads(first)["stages"][0]["name"] == "model"
        elif process is not following:
            assert first == "model running 0/1 datum\n"
    gate.touch()
    said = watching.communicate(timeout=60)
    assert "model fresh 1 datum, 1 done\n" in said[0]
    assert "inference fresh 2 datums, 2 done\n" in said[0]
    assert "results committed as" in said[1]
    assert json.loads(as_json.communicate(timeout=60)[0].splitlines()[-1])["status"] == "published"
    assert following.communicate(timeout=60)[0] == "model · training │ ended\n"
    assert status.stdout is not None
    while status.stdout.readline() != "inference fresh 2 datums\n":
        pass
    # git passes Ctrl-C on in a terminal; here only its child gets it
    os.kill(int(Path(f"/proc/{status.pid}/task/{status.pid}/children").read_text().split()[0]), signal.SIGINT)
    status.communicate(timeout=60)
    assert "results committed" in repo.ml("watch").stderr
    assert repo.ml("logs", "-f").stderr.endswith("no run is under way\n")
    assert repo.ml("logs", "-f", "--failed", check=False).returncode == 128


def test_in_a_terminal_it_is_drawn_in_place(project: tuple[Project, Path]) -> None:
    repo, gate = project
    terminal = Terminal(repo, "git", "ml", "watch")
    terminal.read_until("running  model      0/1 datum")
    gate.touch()
    said = terminal.end()
    assert "\x1b[3A\r\x1b[J" in said
    assert "fresh  inference  2 datums, 2 done" in said
