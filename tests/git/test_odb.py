"""Reading objects while the process that reads them ends."""

import signal
import subprocess
from pathlib import Path

import pytest

from gitml.errors import CorruptError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_does_not_end_reading(repo: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
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
        if number is signal.SIGINT:
            assert odb.read(head) == before
            assert len(started) == 2
        else:
            with pytest.raises(CorruptError, match="git cannot read it"):
                odb.read(head)
