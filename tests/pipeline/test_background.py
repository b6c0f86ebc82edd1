import os
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from gitml.git.command import GitError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline import background
from gitml.pipeline.lease import Lease, RunState
from gitml.pipeline.runreport import RunOptions


@pytest.mark.parametrize(("stopped", "status"), [(True, "stopped"), (False, "error")])
def test_what_fails_because_of_a_stop_is_no_error(
    repo: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool, status: str
) -> None:
    """A closed terminal ends every `git` that had been asked something, beside the run."""
    repository = Repository.discover(repo)
    lease = Lease(repository)
    stop = Event()

    class Broken:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, _: object) -> Any:
            state = RunState(run="0123456789ab", branch=None, tip="", pid=os.getpid(), host="", boot="", started=1.0)
            lease.write_state(state)
            if stopped:
                stop.set()
            raise GitError(["cat-file"], -1, b"")

    monkeypatch.setattr(background, "Runner", Broken)
    with GitOdb(repository.git, repository.format) as odb, pytest.raises(GitError):
        background.run_branch(repository, odb, lease, RunOptions(), report=lambda _: None, stop=stop)
    state = lease.read_state()
    assert state is not None
    assert state.status == status
