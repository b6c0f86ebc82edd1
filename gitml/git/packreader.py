"""Whole objects read straight from packs, several at a time; git reads the rest.

Chunks stand in packs as whole objects until git finds a delta for them. `git cat-file` gives such objects one after
the other, through a pipe, and hashes them with its slow, collision-detecting SHA-1. Here the entry is read with one
`pread` (a mapped file would count as memory of ours, and kill us where it is cut short) and inflated in the calling
thread. Deltas, loose objects and damaged entries go to the reader behind: git may know another copy.

What comes out of a pack has passed the checksum of its zlib stream, not the digest of its name: whoever reads verifies
the content as a whole, and the names of its chunks when that fails.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from gitml.errors import CorruptError
from gitml.git.packindex import ObjectIndex
from gitml.oid import Oid
from gitml.store.odb import Kind, MissingObjectError, ObjectReader

_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_OPEN_PACKS = 64
_STORED_HEADER = 5
_SHORTEST_STREAM = 8
LARGEST = 16 << 20
"""Bytes up to which an object is read here: none of ours is larger than a chunk."""


class PackReader:
    """An `ObjectReader` over the packs that `index` knows, with `behind` for everything else.

    Threads read side by side. Close it, or use it in `with`; `behind` stays open.
    """

    def __init__(self, index: ObjectIndex, behind: ObjectReader) -> None:
        self.format = index.format
        self._index = index
        self._behind = behind
        self._packs: dict[Path, _Pack] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the packs, once no thread reads any more; a later read opens them again."""
        with self._lock:
            for pack in self._packs.values():
                pack.close()
            self._packs.clear()

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        return self._index.has(oid) or self._behind.has(oid)

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError`, or `CorruptError` if no copy can be read."""
        for path, offset in self._index.locate(oid):
            # a pack may be gone after a `git gc` by someone else, its objects in another
            with suppress(CorruptError, OSError, IndexError):
                with self._open(path) as pack:
                    kind, size, _ = parse_header(pack.read_range(offset, offset + 32))
                    data = pack.read_range(offset, offset + _longest(size)) if kind and size <= LARGEST else None
                if data is not None:
                    found = parse_entry(memoryview(data))
                    if found is not None:
                        return found
        return self._behind.read(oid)

    def read_several(self, wanted: Sequence[tuple[Oid, int]]) -> list[tuple[Kind, bytes]]:
        """As `read`, for objects with sizes that are about right: neighbours in a pack come with one request."""
        found: list[tuple[Kind, bytes] | None] = []
        for run in self._runs(wanted):
            found += self._read_run(run)
        return [each or self.read(oid) for each, (oid, _) in zip(found, wanted, strict=True)]

    def _runs(self, wanted: Sequence[tuple[Oid, int]]) -> Iterator[list["_Placed"]]:
        """The objects in order, cut wherever the next one is not right after the one before."""
        run: list[_Placed] = []
        for oid, size in wanted:
            path, offset = next(self._index.locate(oid), (None, 0))
            if run and (path != run[-1].path or not 0 < offset - run[-1].offset <= _longest(run[-1].size)):
                yield run
                run = []
            run.append(_Placed(path, offset, size))
        if run:
            yield run

    def _read_run(self, run: list["_Placed"]) -> list[tuple[Kind, bytes] | None]:
        first, last = run[0], run[-1]
        nothing: list[tuple[Kind, bytes] | None] = [None] * len(run)
        if first.path is None:
            return nothing
        try:
            with self._open(first.path) as pack:
                data = memoryview(pack.read_range(first.offset, last.offset + _longest(last.size)))
        except OSError:
            return nothing
        found: list[tuple[Kind, bytes] | None] = []
        for placed, following in zip(run, [*run[1:], None], strict=True):
            end = len(data) if following is None else following.offset - first.offset
            try:
                found.append(parse_entry(data[placed.offset - first.offset : end]))
            except CorruptError:
                found.append(None)
        return found

    @contextmanager
    def _open(self, path: Path) -> Iterator["_Pack"]:
        with self._lock:
            pack = self._packs.get(path)
            if pack is None and len(self._packs) < _OPEN_PACKS:
                pack = self._packs[path] = _Pack(path, self.format.size)
        if pack is not None:
            yield pack
            return
        pack = _Pack(path, self.format.size)
        try:
            yield pack
        finally:
            pack.close()


class LocalOdb:
    """An `ObjectReader` that asks `behind` only for what `index` knows to be here.

    In a partial clone git would fetch what is not, one object at a time.
    """

    def __init__(self, index: ObjectIndex, behind: ObjectReader) -> None:
        self.format = index.format
        self._index = index
        self._behind = behind

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        if self._index.has(oid):
            return True
        self._index.refresh()
        return self._index.has(oid)

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError`."""
        if not self.has(oid):
            raise MissingObjectError(oid)
        return self._behind.read(oid)


class _Placed(NamedTuple):
    """Where an object is, None if in no pack, and about how many bytes it has."""

    path: Path | None
    offset: int
    size: int


class _Pack:
    """One open pack file."""

    def __init__(self, path: Path, trailer: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._end = os.fstat(self._descriptor).st_size - trailer

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def read_range(self, start: int, end: int) -> bytes:
        """What stands from `start` to `end`, less where the entries of the pack end before."""
        return os.pread(self._descriptor, max(min(end, self._end) - start, 0), start)


def _longest(size: int) -> int:
    """Bytes that the entry of an object of `size` bytes takes at most: deflate may give stored blocks."""
    return size + _STORED_HEADER * (size // 0xFFFF + 4) + (size >> 12) + 80


def parse_header(data: bytes | memoryview) -> tuple[Kind | None, int, int]:
    """Kind (None for a delta) and size that the header of an entry states, and its length; raise `CorruptError`."""
    size, shift, at = data[0] & 15, 4, 1
    while data[at - 1] & 0x80:
        size |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if at > 10:
            raise CorruptError("a header has no end")
    return _KINDS.get(data[0] >> 4 & 7), size, at


def parse_entry(data: memoryview) -> tuple[Kind, bytes] | None:
    """Kind and content of an entry, None for a delta; raise `CorruptError`."""
    if len(data) < 2 + _SHORTEST_STREAM:
        raise CorruptError("an entry is cut short")
    kind, size, at = parse_header(data)
    if kind is None:
        return None
    content = _inflate(data[at:], size)
    if content is None or len(content) != size:
        raise CorruptError("an entry is damaged")
    return kind, content


def _inflate(data: bytes | memoryview, size: int) -> bytes | None:
    """The first `size` bytes of content that a zlib stream holds, None if its form or checksum is wrong."""
    # what only reads a pointer or two does without the library for 30 ms
    from isal import isal_zlib  # noqa: PLC0415

    if len(data) > 2 and (data[2] == 0 or (size == 0 and data[2] == 1)):
        content = _unstore(data)
        if content is not None:
            text, at = content
            return text if bytes(data[at : at + 4]) == isal_zlib.adler32(text).to_bytes(4) else None
    if size > LARGEST:
        return None
    try:
        return bytes(isal_zlib.decompress(data, bufsize=max(size, 1)))
    except Exception:  # IsalError, which its stub does not know as one
        return None


def _unstore(data: bytes | memoryview) -> tuple[bytes, int] | None:
    """The content of a stream of nothing but stored blocks, and where it ends; at the speed of copying."""
    parts: list[bytes | memoryview] = []
    at = 2
    while True:
        header = data[at : at + _STORED_HEADER]
        if len(header) < _STORED_HEADER or header[0] > 1:
            return None
        length = header[1] | header[2] << 8
        if length ^ 0xFFFF != header[3] | header[4] << 8:
            return None
        at += _STORED_HEADER
        parts.append(data[at : at + length])
        at += length
        if header[0] == 1:
            return b"".join(parts), at
