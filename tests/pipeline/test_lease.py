"""The runner's lock, requests and state."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from gitml.git.repository import Repository
from gitml.pipeline.lease import Lease, RunState, StageProgress

HOLD = """
import sys, time
from pathlib import Path
from gitml.git.repository import Repository
from gitml.pipeline.lease import Lease
with Lease(Repository.discover(Path(sys.argv[1]))).acquire() as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def state(run: str = "r1", status: str = "running") -> RunState:
    return RunState(
        run=run, branch="refs/heads/main", tip="0" * 40, pid=1, host="h", boot="b", started=1.0, status=status,
        stages={"model": StageProgress("running", total=3, done=1)},
    )  # fmt: skip


def test_a_killed_holder_lets_go_at_once(repo: Path) -> None:
    lease = Lease(Repository.discover(repo))
    assert not lease.is_held()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(repo)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert lease.is_held()
    with lease.acquire() as mine:
        assert not mine
    lease.write_state(state())
    assert not lease.is_lost(state())
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert not lease.is_held()
    read = lease.read_state()
    assert read is not None
    assert lease.is_lost(read)
    with lease.acquire() as mine:
        assert mine
        assert lease.is_held()
    assert not lease.is_held()


def test_state_comes_back_as_it_was_written(repo: Path) -> None:
    lease = Lease(Repository.discover(repo))
    assert lease.read_state() is None
    lease.write_state(state("r1"))
    lease.write_state(state("r2", "published"))
    latest, first = lease.read_state(), lease.read_state("r1")
    assert latest is not None
    assert first is not None
    assert (latest.run, latest.status) == ("r2", "published")
    assert first.stages["model"] == StageProgress("running", total=3, done=1)
    assert not lease.is_lost(latest)
    assert lease.read_state("r3") is None
    (lease.run_dir("r1") / "state.json").write_text("{half")
    assert lease.read_state("r1") is None


def test_asking_twice_is_asking_once(repo: Path) -> None:
    lease = Lease(Repository.discover(repo))
    assert lease.take_request() is None
    for branch in ("refs/heads/main", "refs/heads/a/b", "refs/heads/main"):
        lease.request(branch)
    assert lease.requests() == ["refs/heads/a/b", "refs/heads/main"]
    assert [lease.take_request(), lease.take_request(), lease.take_request()] == [
        "refs/heads/a/b",
        "refs/heads/main",
        None,
    ]


def test_parked_branches_are_asked_for_until_they_are_published(repo: Path) -> None:
    lease = Lease(Repository.discover(repo))
    assert not lease.request_parked()
    lease.park("refs/heads/main")
    assert lease.request_parked()
    assert lease.take_request() == "refs/heads/main"
    assert lease.request_parked()
    lease.unpark("refs/heads/main")
    lease.unpark("refs/heads/main")
    lease.take_request()
    assert not lease.request_parked()


def test_only_the_latest_runs_are_kept(repo: Path) -> None:
    lease = Lease(Repository.discover(repo))
    for number in range(25):
        lease.write_state(state(f"r{number:02}"))
        os.utime(lease.run_dir(f"r{number:02}"), (time.time() + number, time.time() + number))
    assert sorted(path.name for path in lease.forget_old_runs()) == ["r00", "r01", "r02", "r03", "r04"]


def test_readers_never_keep_a_runner_from_its_place(repo: Path) -> None:
    lease = Lease(Repository.discover(repo))
    with lease.acquire():
        pass  # there is a lock to look at
    looks = Event()

    def look() -> None:
        while not looks.is_set():
            lease.is_held()

    readers = [Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(300):
            with lease.acquire() as mine:
                assert mine
    finally:
        looks.set()
        for reader in readers:
            reader.join()


def test_a_request_that_is_taken_while_one_looks_is_not_done(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(Repository.discover(repo))
    lease.request("refs/heads/main")
    is_held = lease.is_held
    with ExitStack() as runner:

        def look() -> bool:
            held = is_held()
            runner.enter_context(Lease(Repository.discover(repo)).acquire())
            lease.take_request()
            return held

        monkeypatch.setattr(lease, "is_held", look)
        assert lease.activity() == (False, True)
        monkeypatch.undo()
        assert lease.activity() == (True, False)


def test_a_run_that_ends_well_while_one_looks_is_not_lost(repo: Path) -> None:
    lease = Lease(Repository.discover(repo))
    lease.write_state(state())
    before = lease.read_state()
    assert before is not None
    assert lease.is_lost(before)
    lease.write_state(state(status="published"))
    assert not lease.is_lost(before)
