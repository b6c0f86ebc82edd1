"""Paths of the repository on disk, never through a symbolic link: `a/b` is not followed where `a` is one."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class Places:
    """Paths of the repository on disk, never through a symbolic link."""

    def __init__(self, worktree: Path) -> None:
        self._top = worktree.resolve()
        self._real: dict[bytes, bool] = {}

    def of(self, path: bytes) -> Path | None:
        """Where a path is, None if something other than directories leads to it."""
        return self._at(path) if self._is_real(parent(path)) else None

    def state(self, path: bytes) -> tuple[int, ...] | None:
        """What tells one state of a file from another; None if nothing is there."""
        place = self.of(path)
        try:
            found = place.lstat() if place is not None else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        return () if found is None else file_state(found)

    def remove(self, path: bytes) -> None:
        """Delete a file, and the directories above it that are empty then."""
        place = self.of(path)
        if place is None:
            return
        place.unlink(missing_ok=True)
        self._real.clear()
        above = parent(path)
        with suppress(OSError):
            while above:
                self._at(above).rmdir()
                above = parent(above)

    def make_room(self, path: bytes) -> bool:
        """Whether a file can be put at `path`: only directories above it, no directory in its place."""
        self._real.clear()
        place = self.of(path)
        try:
            return place is not None and not stat.S_ISDIR(place.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return True

    def _is_real(self, directory: bytes) -> bool:
        """Whether nothing but directories, or nothing at all, is on the way to `directory` and there."""
        if not directory:
            return True
        known = self._real.get(directory)
        if known is None:
            known = self._is_real(parent(directory))
            with suppress(FileNotFoundError):
                known = known and stat.S_ISDIR(self._at(directory).lstat().st_mode)
            self._real[directory] = known
        return known

    def _at(self, path: bytes) -> Path:
        return self._top / os.fsdecode(path)


def file_state(found: os.stat_result) -> tuple[int, ...]:
    """What tells one state of a file from another."""
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def parent(path: bytes) -> bytes:
    """The directory that a path is in, `b""` for the top."""
    return path.rpartition(b"/")[0]


def above(path: bytes) -> Iterator[bytes]:
    """The directories that lead to a path, outermost first; the top is none of them."""
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)
