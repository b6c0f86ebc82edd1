"""What a killed runner leaves running is ended by the next one, and nothing else is."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gitml.pipeline.bubblewrap import Bubblewrap, BubblewrapError
from gitml.pipeline.process import end_leftovers


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_tasks_without_a_sandbox(tmp_path: Path) -> None:
    work = tmp_path / "run" / "work"
    (work / "tmp").mkdir(parents=True)
    alias = tmp_path / "alias"  # how a workspace is spelled to a shell
    alias.symlink_to(work)
    script = f"sleep 600 & echo $! > '{tmp_path}/pid'; mv '{tmp_path}/pid' '{tmp_path}/begun'; wait"
    left = subprocess.Popen(["sh", "-c", script], env={**os.environ, "TMPDIR": f"{alias}/tmp"}, start_new_session=True)
    other = subprocess.Popen(["sleep", "600"], cwd=work, start_new_session=True)  # somebody looks around in there
    try:
        wait_for(tmp_path / "begun")
        end_leftovers([work])
        assert left.wait(10) == -signal.SIGKILL
        status = read(Path("/proc", (tmp_path / "begun").read_text().strip(), "stat"))
        assert status.rpartition(b")")[2].split()[:1] in ([], [b"Z"])
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_sandbox_that_waits_for_a_dead_parent(tmp_path: Path) -> None:
    work, tmp = tmp_path / "run" / "work" / "tasks" / "1" / "work", tmp_path / "tmp"
    (work / "pfs").mkdir(parents=True)
    tmp.mkdir()
    try:
        sandbox = Bubblewrap(hidden=[], shown=[], network=False)
    except BubblewrapError as error:
        pytest.skip(f"bubblewrap does not work here: {error.reason}")
    command = [*sandbox.options(work, tmp, {}), "--", "sleep", "600"]
    for milliseconds in range(12):  # somewhere in there the child waits for its parent
        with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
            time.sleep(milliseconds / 1000)
            process.kill()
    end_leftovers([tmp_path / "run" / "work"])
    named = os.fsencode(work)
    assert not [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if named in read(entry)]


def read(entry: Path) -> bytes:
    try:
        return entry.read_bytes()
    except OSError:
        return b""
