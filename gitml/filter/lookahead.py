"""Preparing the file that git will ask for next, while git deals with the last answer.

The conversation with git goes to and fro: while one side works, the other waits. git asks for new files in the order
of their names, so once it has done so, the next file of the directory is read from the worktree, cut, hashed and
deflated before git sends it. Nothing is believed: what git sends is compared with what was read, byte by byte, and
stored as if nothing had been prepared if it differs.
"""

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

from gitml.errors import GitmlError
from gitml.git.pack import PackWriter
from gitml.store.content import SMALL, Stored, prepare_content

_LARGEST = 1 << 20
"""Bytes of the largest file that is prepared: what is prepared in vain must not take long."""


class Prepared(NamedTuple):
    """A file that was read, and what writes its content to `pack`."""

    path: bytes
    content: bytes
    pack: PackWriter
    write: Callable[[], Stored]

    def compare(self, pieces: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview] | None:
        """None if `pieces` make up the content that was read, else the same bytes again."""
        at = 0
        for piece in pieces:
            if not self.content.startswith(piece, at):
                return chain([self.content[:at], piece], pieces)
            at += len(piece)
        return None if at == len(self.content) else iter([self.content[:at]])


class Lookahead:
    """What git has asked for, and what it will ask for if it goes on like this."""

    def __init__(self) -> None:
        self._directory: bytes | None = None
        self._names: list[bytes] | None = None
        """The names in that directory, sorted; None until git asks for a second file of it."""
        self._expected: bytes | None = None
        self._prepared: Prepared | None = None

    def take(self, path: bytes) -> Prepared | None:
        """What was prepared of the file at `path`."""
        prepared, self._prepared = self._prepared, None
        return prepared if prepared is not None and prepared.path == path else None

    def follow(self, path: bytes, pack: Callable[[bytes], PackWriter | None]) -> None:
        """Git has had its answer about `path`: prepare what comes next, if the last guess was right.

        `pack` gives the pack that takes the objects of a file; None for a file that is not to be prepared.
        """
        was_right = path == self._expected
        self._expected = self._next(path)
        self._prepared = None
        if was_right and self._expected is not None:
            with suppress(GitmlError, OSError):  # comes again, and is told, when git asks
                self._prepared = _prepare(self._expected, pack(self._expected))

    def _next(self, path: bytes) -> bytes | None:
        """The next file of the same kind in the directory; None unless git has asked for several there."""
        directory, slash, name = path.rpartition(b"/")
        if directory != self._directory:
            self._directory, self._names = directory, None
            return None
        if self._names is None:
            try:
                self._names = sorted(os.listdir(directory or b"."))
            except (OSError, ValueError):
                self._names = []
        places = range(bisect_right(self._names, name), len(self._names))
        following = (self._names[at] for at in places)
        return next((directory + slash + each for each in following if _suffix(each) == _suffix(name)), None)


def _prepare(path: bytes, pack: PackWriter | None) -> Prepared | None:
    content = None if pack is None else _read(path)
    return None if pack is None or content is None else Prepared(path, content, pack, prepare_content([content], pack))


def _suffix(name: bytes) -> bytes:
    return name.rpartition(b".")[2] if b"." in name else b""


def _read(path: bytes) -> bytes | None:
    """The content of a file of the worktree; None if it is none of the size that is prepared."""
    with suppress(OSError, ValueError):
        # a pipe in the place of a file must not stop us
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and SMALL <= found.st_size <= _LARGEST:
                content = os.read(descriptor, _LARGEST + 1)
                return content if SMALL <= len(content) <= _LARGEST else None
        finally:
            os.close(descriptor)
    return None
