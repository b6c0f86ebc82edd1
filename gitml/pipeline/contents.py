"""Large contents as files that tasks share, written once each; and what a blob stands for."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from gitml.errors import CorruptError
from gitml.oid import Oid
from gitml.record import record
from gitml.store.content import SMALL, read_content
from gitml.store.odb import Kind, ObjectReader
from gitml.store.pointer import is_pointer, parse_pointer

STAMP = 946_684_800
"""Modification time of every placed file, in seconds: 2000-01-01, late enough for zip."""


@runtime_checkable
class StreamingReader(Protocol):
    """A reader that can give an object in pieces, as `GitOdb` does."""

    def open(self, oid: Oid) -> AbstractContextManager[tuple[Kind, int, Iterator[bytes]]]:
        """Kind, size and content in pieces; raise `MissingObjectError`."""
        ...


@record(frozen=False)
class Cached:
    """A content in the cache: its file, and how that file looks while nobody has written to it."""

    path: Path
    size: int
    mode: int
    inode: int
    is_pointer: bool
    users: int = 0

    def intact(self) -> bool:
        """Whether the content is what was put there."""
        try:
            now = self.path.lstat()
        except OSError:
            return False
        return (now.st_ino, now.st_size, now.st_mtime_ns) == (self.inode, self.size, STAMP * 10**9)


class Content(NamedTuple):
    """The bytes of a file, in pieces that need not be asked for."""

    pieces: Iterable[bytes]
    size: int
    is_pointer: bool
    """Whether git has a pointer to them."""


class Contents:
    """Files with large contents in `directory`, read-only. Safe to share between threads.

    `limit` bytes are kept for later tasks once no running task uses them.
    """

    def __init__(self, directory: Path, odb: ObjectReader, limit: int) -> None:
        self._directory = directory
        self._odb = odb
        self._limit = limit
        self._cache: OrderedDict[tuple[Oid, bool], Cached] = OrderedDict()
        self._lock = threading.Lock()
        self._filling: dict[tuple[Oid, bool], threading.Lock] = {}

    def small(self, oid: Oid, executable: bool) -> bytes | None:
        """A small plain blob; None if the content is large or behind a pointer, so that it is for `use`."""
        if (oid, executable) in self._cache:
            return None
        if isinstance(self._odb, StreamingReader):
            with self._odb.open(oid) as (kind, size, pieces):
                _check_blob(oid, kind)
                data = b"".join(pieces) if size < SMALL else None
        else:
            kind, whole = self._odb.read(oid)
            _check_blob(oid, kind)
            data = whole if len(whole) < SMALL else None
        return None if data is None or is_pointer(data) else data

    def use(self, oid: Oid, executable: bool) -> Cached:
        """The file of a large content, written if need be; it stays until it is given to `unuse`."""
        key = (oid, executable)
        with self._lock:
            filling = self._filling.setdefault(key, threading.Lock())
        with filling:
            with self._lock:
                known = self._cache.get(key)
                if known is not None and known.intact():
                    self._cache.move_to_end(key)
                    known.users += 1
                    return known
            made = self._fill(oid, executable)
            made.users = 1
            with self._lock:
                self._cache[key] = made
                self._evict()
            return made

    def _fill(self, oid: Oid, executable: bool) -> Cached:
        path = self._directory / (f"{oid}-x" if executable else f"{oid}")
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            with content_of(oid, self._odb) as found:
                file.writelines(found.pieces)
            mode = 0o555 if executable else 0o444
            os.fchmod(file.fileno(), mode)
        os.utime(partial, (STAMP, STAMP))
        partial.replace(path)
        made = path.lstat()
        return Cached(path, made.st_size, mode, made.st_ino, found.is_pointer)

    def _evict(self) -> None:
        """Drop least recently used contents that no task uses, above the limit. The lock is held."""
        total = sum(cached.size for cached in self._cache.values())
        for key in [key for key, cached in self._cache.items() if cached.users == 0]:
            if total <= self._limit:
                return
            dropped = self._cache.pop(key)
            total -= dropped.size
            dropped.path.unlink(missing_ok=True)

    def unuse(self, cached: Cached) -> None:
        """A task is done with a content."""
        with self._lock:
            cached.users -= 1
            self._evict()

    def forget(self, cached: Cached) -> None:
        """A content was written to: the next task gets a new one."""
        with self._lock:
            for key in [key for key, value in self._cache.items() if value is cached]:
                del self._cache[key]


@contextmanager
def content_of(oid: Oid, odb: ObjectReader) -> Iterator[Content]:
    """The content of a blob, or of the file it points to if it is a pointer; raise what reading objects raises."""
    if isinstance(odb, StreamingReader):
        with odb.open(oid) as (_, size, pieces):
            if size >= SMALL:
                yield Content(pieces, size, False)
                return
            data = b"".join(pieces)
    else:
        data = odb.read(oid)[1]
    if is_pointer(data):
        pointer = parse_pointer(data)
        yield Content(read_content(pointer, odb), pointer.size, True)
    else:
        yield Content([data], len(data), False)


def _check_blob(oid: Oid, kind: Kind) -> None:
    if kind != "blob":
        raise CorruptError(f"object {oid} is a {kind}, expected a blob")
