"""The lock of git's index, when those who hold it are killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitml.errors import BusyError
from gitml.git.indexlock import IndexLock
from tests.conftest import run_git

SLOW_GIT = """#!/bin/sh
case " $* " in *" update-index "*) touch "{started}"; sleep 0.5 ;; esac
exec "{git}" "$@"
"""
WRITE = """
import sys
from gitml.git.indexlock import write_index
from gitml.git.repository import Repository
write_index(Repository.discover(), "update-index", "-z", "--index-info", listed=[sys.argv[1].encode()])
"""


def test_a_kill_of_the_process_group_leaves_the_index_whole_and_unlocked(repo: Path, tmp_path: Path) -> None:
    blob = run_git(repo, "hash-object", "-w", "--stdin", stdin=b"x")
    started = tmp_path / "started"
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "git"
    wrapper.write_text(SLOW_GIT.format(started=started, git=shutil.which("git")))
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, f"100644 {blob}\ta"], cwd=repo, env=environment, start_new_session=True
    )
    end = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while run_git(repo, "ls-files") != "a":
        assert time.monotonic() < end, "git did not end what it had begun"
        time.sleep(0.05)
    assert not (repo / ".git" / "index.lock").exists()


def test_the_lock_of_a_dead_process_of_ours_is_no_hindrance(repo: Path) -> None:
    index = repo / ".git" / "index"
    lock = index.with_name("index.lock")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = socket.gethostname()
    for text in ("", f"gitml {os.getpid()} {here}\n", f"gitml {ended.pid} elsewhere\n"):
        lock.write_text(text)  # git's own, one that lives, one of another machine
        with pytest.raises(BusyError):
            IndexLock(index)
        assert lock.read_text() == text
    lock.write_text(f"gitml {ended.pid} {here}\n")
    taken = IndexLock(index)
    assert lock.read_text() == f"gitml {os.getpid()} {here}\n"
    taken.commit(bytearray(b"content"), 0o644)
    taken.release()
    assert index.read_bytes() == b"content"
    assert not lock.exists()
