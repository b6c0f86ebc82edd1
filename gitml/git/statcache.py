"""Which content a file had when it was last read: lets a file that is provably the same be added without reading it.

Git's index has this for what is added. The cache has it too for what is not in the index any more (`git reset`, another
branch). A file counts as the same if its size, times, inode and device are, and if it had been left alone for a while
when it was read: a change in the same moment might not show in its times (git: Documentation/technical/racy-git).

Only whoever opens a file by its name may use or fill this. The filter may not: git sends it content under the name of
a file that need not be that file's (`git hash-object --path`, renormalising merges).
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gitml.git.repository import Repository
from gitml.store.pointer import Pointer, PointerError, format_pointer, parse_pointer

_QUIET = 2_000_000_000
"""Nanoseconds for which a file must have been left alone: coarser than the times of any file system in use."""
_MOST = 200_000
"""Files that are remembered, newest last."""

State = tuple[int, int, int, int, int]
"""Size, time of modification and of change in nanoseconds, inode, device."""


def state_of(found: os.stat_result) -> State:
    """What must be equal for a file to be the same."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


class StatCache:
    """The cache of one worktree, in its git directory. A file that is no such cache is ignored and written anew."""

    def __init__(self, repo: Repository) -> None:
        self._path = repo.git_dir / "ml" / "stat-cache"
        self._format = repo.format
        self._known: dict[str, tuple[State, str]] | None = None

    def get(self, path: bytes, found: os.stat_result) -> Pointer | None:
        """The content of the file at `path`, which looks like `found`; None if that is not certain."""
        entry = self._entries().get(os.fsdecode(path))
        if entry is None or entry[0] != state_of(found):
            return None
        try:
            pointer = parse_pointer(entry[1].encode())
        except (PointerError, UnicodeEncodeError):
            return None
        fits = len(pointer.manifest) == self._format.size and pointer.size == found.st_size
        return pointer if fits else None

    def update(self, contents: Mapping[bytes, tuple[os.stat_result, Pointer]]) -> None:
        """Remember files that have just been read; failing to is no harm."""
        entries = self._entries()
        before = time.time_ns() - _QUIET
        for path, (found, pointer) in contents.items():
            entries.pop(os.fsdecode(path), None)
            if max(found.st_mtime_ns, found.st_ctime_ns) < before:
                entries[os.fsdecode(path)] = (state_of(found), format_pointer(pointer).decode())
        newest = dict(list(entries.items())[-_MOST:])
        temporary = self._path.with_name(f"stat-cache-{os.getpid()}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps({"schema": "gitml/stat-cache/1", "files": newest}))
                temporary.replace(self._path)
            finally:
                temporary.unlink(missing_ok=True)

    def _entries(self) -> dict[str, tuple[State, str]]:
        if self._known is None:
            try:
                self._known = _parse(self._path)
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                self._known = {}
        return self._known


def _parse(path: Path) -> dict[str, tuple[State, str]]:
    document = json.loads(path.read_bytes())
    if document["schema"] != "gitml/stat-cache/1":
        raise ValueError("another kind of file")
    known = {}
    for name, (state, pointer) in document["files"].items():
        size, modified, changed, inode, device = map(int, state)
        known[str(name)] = ((size, modified, changed, inode, device), str(pointer))
    return known
