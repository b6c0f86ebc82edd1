"""Reading objects while the process that reads them ends."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from gitml.errors import CorruptError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_ends_all_processes_of_a_terminal_does_not_end_reading(
    repo: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository.discover(repo)
    repository.git.run("commit", "-q", "--allow-empty", "-m", "one")
    head = repository.resolve("HEAD")
    started: list[subprocess.Popen[bytes]] = []
    start = repository.git.popen

    def popen(*arguments: str) -> subprocess.Popen[bytes]:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(repository.git, "popen", popen)
    with GitOdb(repository.git, repository.format) as odb:
        before = odb.read(head)
        started[0].send_signal(number)
        started[0].wait()
        if number is not signal.SIGKILL:
            assert odb.read(head) == before
            assert len(started) == 2
        else:
            with pytest.raises(CorruptError, match="git cannot read it"):
                odb.read(head)


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_quick_command_that_ctrl_c_ended_is_done_again(repo: Path, tmp_path: Path, name: str) -> None:
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    real = shutil.which("git")
    once = f"[ -s {tmp_path}/first ] || {{ echo x > {tmp_path}/first; kill -{name} $$; }}"
    wrapper.write_text(f'#!/bin/sh\necho x >> {tmp_path}/calls\n{once}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    repository = Repository.discover(repo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
        assert repository.git.line("rev-parse", "--is-bare-repository") == "false"
        (tmp_path / "first").unlink()
        # anything else may not be done twice without being asked for
        done = repository.git.run("commit", "--allow-empty", "-m", "one", check=False)
        assert done.returncode == -signal.Signals[f"SIG{name}"]
    assert (tmp_path / "calls").read_text().count("x") == 3
