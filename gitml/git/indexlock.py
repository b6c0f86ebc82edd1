"""Writing git's index side by side with git: its lock, taken or waited for."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gitml.errors import BusyError, GitmlError
from gitml.git.command import GitError
from gitml.git.repository import Repository
from gitml.liveness import is_alive, this_host

UNTRANSLATED = {"LC_ALL": "C"}
"""The environment for git commands whose messages `is_locked` reads."""
QUIET = {"GITML_ACTIVE": "1", **UNTRANSLATED}
"""For git children that write the index: our own hook has nothing to do then."""

_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class IndexLock:
    """`index.lock`, held from construction until `release`; raise `BusyError` if it is taken."""

    def __init__(self, path: Path) -> None:
        self._target = path
        self._path = path.with_name(f"{path.name}.lock")
        try:
            self._descriptor = self._take()
        except FileExistsError:
            raise locked_index() from None
        except OSError as error:
            raise GitmlError(f"cannot lock the index: {error.strerror}") from None
        self._held = True
        self._moment = os.fstat(self._descriptor).st_mtime_ns

    def _take(self) -> int:
        """Make the file; its content says whose it is, until that of the index takes its place."""
        remove_dead_lock(self._path)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        os.write(descriptor, f"gitml {os.getpid()} {this_host()}\n".encode())
        return descriptor

    def commit(self, data: bytearray, mode: int) -> None:
        """Make `data` the index."""
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fchmod(self._descriptor, mode)
            os.utime(self._descriptor, ns=(self._moment, self._moment))
            self._path.rename(self._target)
        except OSError as error:
            raise GitmlError(f"cannot write the index: {error.strerror}") from None
        self._held = False

    def release(self) -> None:
        """Give the lock up, with the index as it was unless `commit` was called."""
        os.close(self._descriptor)
        if self._held:
            self._path.unlink(missing_ok=True)
            self._held = False


def remove_dead_lock(path: Path) -> None:
    """Take away an `index.lock` that a process of ours left when it was killed; one of git's stays."""
    try:
        text = path.read_bytes()[:_MOST]
        words = text.decode("utf-8", "replace").split()
        ours = len(words) == 3 and words[0] == "gitml" and words[1].isdigit() and words[2] == this_host()
        if not ours or is_alive(int(words[1])):
            return
        aside = path.with_name(f"{path.name}.{os.getpid()}.dead")
        path.rename(aside)
        if aside.read_bytes()[:_MOST] != text:  # somebody else did the same, and has taken the lock since
            os.link(aside, path)
        aside.unlink()
    except OSError:
        return


_MOST = 300


def write_index(repo: Repository, *arguments: str, listed: Iterable[bytes]) -> None:
    """Run a git command that takes the index lock, with a NUL-terminated list as input; raise `BusyError`.

    A kill of our process group does not reach it: it would leave the lock, and files that it was about to write.
    """
    try:
        repo.git.run(*arguments, input=b"".join(item + b"\0" for item in listed), env=QUIET, apart=True)
    except GitError as error:
        if is_locked(error.stderr):
            raise locked_index() from None
        raise


def patiently(write: Callable[[], object]) -> None:
    """Call what raises `BusyError` while the index is locked, for about two seconds."""
    for pause in _PAUSES:
        try:
            write()
            return
        except BusyError:
            time.sleep(pause)
    write()


def is_locked(said: str) -> bool:
    """Whether git failed because another process holds the lock of the index, not because it cannot be written."""
    return "index.lock': File exists" in said


def locked_index() -> BusyError:
    """What to raise when another process holds the lock of the index."""
    return BusyError("the index is locked by another git process", hint="try again when it has ended")
