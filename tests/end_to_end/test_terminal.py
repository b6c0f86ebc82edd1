"""Commands in a real terminal: a commit attaches to the run, and Ctrl-C only detaches; what takes long says how far."""

import hashlib
import os
import pty
import re
import select
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run_git
from tests.end_to_end.project import Project, small_project


class Terminal:
    """A command in a terminal of its own, of which it has control as in a shell."""

    def __init__(self, project: Project, *command: str, columns: int = 80) -> None:
        environment = project.environment(TERM="xterm")
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            termios.tcsetwinsize(0, (24, columns))
            os.chdir(project.path)
            os.execvpe(command[0], list(command), environment)
        self.text = ""

    def read_until(self, wanted: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while wanted not in self.text:
            assert time.monotonic() < end, f"no {wanted!r} in {self.text!r}"
            assert self._read(1.0), f"ended without {wanted!r}: {self.text!r}"

    def press(self, key: bytes) -> None:
        os.write(self._descriptor, key)

    def end(self) -> str:
        while self._read(120):
            pass
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        return self.text

    def close(self) -> None:
        """Close the window, while the command runs; come back when it has ended."""
        os.close(self._descriptor)
        os.waitpid(self.pid, 0)

    def _read(self, seconds: float) -> bool:
        """Read what is there; False at the end."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # how Linux says that nobody has the other side open
            return False
        self.text += data.decode()
        return bool(data)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[Project, Path]]:
    """A project whose training waits for a gate, ready to commit; the gate is open at the end."""
    project = small_project(tmp_path / "project")
    gate = tmp_path / "gate"
    project.git("config", "ml.sandbox", "none")
    project.write("train.sh", f"while [ ! -e '{gate}' ]; do sleep 0.05; done\n" + project.read("train.sh"))
    project.git("add", "-A")
    yield project, gate
    gate.touch()
    project.wait()


def test_a_commit_shows_the_run_until_its_results_are_committed(project: tuple[Project, Path]) -> None:
    repo, gate = project
    terminal = Terminal(repo, "git", "commit", "-q", "-m", "first")
    terminal.read_until("model  0/1 datum")
    gate.touch()
    said = terminal.end()
    assert "model  1 datum run" in said
    assert "inference  2 datums run" in said
    assert f"results committed as {repo.head()[:10]}" in said
    assert repo.subjects() == ["gitml: update model, inference", "first"]
    assert repo.is_clean()


def test_ctrl_c_detaches_and_the_run_goes_on(project: tuple[Project, Path]) -> None:
    repo, gate = project
    # in a shell, as a user has it: git dies of Ctrl-C too, and only the shell keeps the terminal open
    terminal = Terminal(repo, "sh", "-c", "trap : INT; git commit -q -m first; read answer")
    terminal.read_until("model  0/1 datum")
    terminal.press(b"\x03")
    terminal.read_until("detached, the run goes on")
    terminal.press(b"\n")
    said = terminal.end()
    assert "Traceback" not in said
    assert repo.subjects() == ["first"]
    assert repo.states()["model"] == "running"
    gate.touch()
    repo.wait()
    assert set(repo.states().values()) == {"fresh"}


def test_who_closes_the_terminal_stops_a_run_in_the_foreground(project: tuple[Project, Path]) -> None:
    repo, gate = project
    repo.run("git", "commit", "-q", "-m", "first", extra={"GITML": "0"})
    terminal = Terminal(repo, "git", "ml", "run")
    terminal.read_until("model  0/1 datum")
    terminal.close()
    repo.until(lambda: repo.json("ls", "runs")["runs"][0]["status"] != "running")
    assert repo.json("ls", "runs")["runs"][0]["status"] == "stopped"
    gate.touch()
    assert "model: fresh (1 datum run)" in repo.ml("resume").stdout


def test_the_line_of_a_run_is_never_broken_by_the_terminal(project: tuple[Project, Path]) -> None:
    repo, gate = project
    repo.run("git", "commit", "-q", "-m", "first", extra={"GITML": "0"})
    terminal = Terminal(repo, "git", "ml", "run", columns=12)
    terminal.read_until("model  0/")
    gate.touch()
    said = terminal.end()
    drawn = [line for line in re.split(r"\r\x1b\[K|\r?\n", said) if "0/" in line]
    assert drawn, said
    assert {re.sub(r"\x1b\[\d*m", "", line) for line in drawn} == {"● model  0/"}


LONG_AT_ONCE = """
import gitml.meter

gitml.meter._QUIET = 0.0
"""
"""What Python runs at its start in every process of ours: a meter that draws at once, not after a second."""


def _in_which_all_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(LONG_AT_ONCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    run_git(tmp_path, "init", "-q", "--bare", "server.git")
    run_git(tmp_path, "init", "-q", "work")
    work = Project(tmp_path / "work")
    work.ml("install")
    work.git("remote", "add", "origin", f"file://{tmp_path}/server.git")
    work.write(".gitattributes", "data/** filter=ml -text\n")
    return work


@pytest.mark.parametrize("in_terminal", [True, False])
def test_what_takes_long_says_how_far_it_is_in_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_terminal: bool
) -> None:
    work = _in_which_all_takes_long(tmp_path, monkeypatch)

    def shows(wanted: str, *command: str) -> None:
        if in_terminal:
            said = Terminal(work, *command).end()
            assert re.search(wanted, said), said
            assert "Traceback" not in said
        else:
            assert re.sub(r"[^\r\x1b%]", "", work.run(*command).stderr) == ""

    for name, *command in (("a", "git", "add", "-A"), ("b", "git", "ml", "add", "-A")):
        work.write(f"data/{name}", hashlib.shake_128(name.encode()).digest(300_000))
        shows("reading: " if name == "a" else "adding: ", *command)
    work.git("commit", "-q", "-m", "c")
    (work.path / "data/a").unlink()
    work.git("checkout", "--", "data/a", GITML_SKIP_SMUDGE="1")
    shows("filling in: ", "git", "ml", "checkout")
    shows("checking: ", "git", "ml", "fsck", "--deep")
    push = ("git", "push", "origin", "HEAD")
    # of the data, and then git's own
    shows(r"(?s)Writing objects: 100%.*done.*Writing objects: 100%", *push)


@pytest.mark.parametrize("told", ["--quiet", "-q", "-fq", "--no-progress"])
def test_a_git_that_is_told_to_be_quiet_has_quiet_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    work = _in_which_all_takes_long(tmp_path, monkeypatch)
    work.write("data/a", hashlib.shake_128(b"a").digest(300_000))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "c")
    said = [Terminal(work, "git", "push", told, "origin", "HEAD").end()]
    work.git("rm", "-q", "-r", "data")
    work.git("config", "ml.smudgeLimit", "0")  # filled in by a hook
    said.append(Terminal(work, "git", "checkout", told, "HEAD", "--", "data").end())
    assert (work.path / "data/a").stat().st_size == 300_000
    work.write("data/a", hashlib.shake_128(b"b").digest(300_000))
    said.append(Terminal(work, "git", "commit", "-qam", "d").end())
    assert not [each for each in said if "%" in each or "reading: " in each]
