"""Whole objects read straight from packs, several at a time; git reads the rest.

Chunks stand in packs as whole objects until git finds a delta for them. `git cat-file` gives such objects one after
the other, through a pipe, and hashes them with its slow, collision-detecting SHA-1. Here the entry is read with one
`pread` (a mapped file would count as memory of ours, and kill us where it is cut short) and inflated in the calling
thread. Deltas, loose objects, objects that a filter or promisor holds back and damaged entries go to the reader
behind: git may know another copy.

What comes out of a pack has passed the checksum of its zlib stream, not the digest of its name: whoever reads verifies
the content as a whole, and the names of its chunks when that fails.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from gitml.errors import CorruptError
from gitml.git.pack import ObjectIndex
from gitml.oid import Oid
from gitml.store.odb import Kind, ObjectReader

_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_OPEN_PACKS = 64
_STORED_HEADER = 5
_LARGEST = 16 << 20
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
            with suppress(CorruptError, OSError):
                found = self._read(path, offset)
                if found is not None:
                    return found
        return self._behind.read(oid)

    def _read(self, path: Path, offset: int) -> tuple[Kind, bytes] | None:
        with self._lock:
            pack = self._packs.get(path)
            if pack is None and len(self._packs) < _OPEN_PACKS:
                pack = self._packs[path] = _Pack(path, self.format.size)
        if pack is not None:
            return pack.read(offset)
        pack = _Pack(path, self.format.size)
        try:
            return pack.read(offset)
        finally:
            pack.close()


class _Pack:
    """One open pack file."""

    def __init__(self, path: Path, trailer: int) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._end = os.fstat(self._descriptor).st_size - trailer

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def read(self, offset: int) -> tuple[Kind, bytes] | None:
        """Kind and content of the entry at `offset`, None if it is a delta or large; raise `CorruptError`."""
        head = os.pread(self._descriptor, 32, offset)
        if len(head) < 32:
            raise self._damaged(offset)
        kind = _KINDS.get(head[0] >> 4 & 7)
        size, shift, at = head[0] & 15, 4, 1
        while head[at - 1] & 0x80:
            size |= (head[at] & 0x7F) << shift
            shift += 7
            at += 1
            if at > 10:
                raise self._damaged(offset)
        if kind is None or size > _LARGEST:
            return None
        # a stored stream is at most so long, a deflated one shorter
        longest = size + _STORED_HEADER * (size // 0xFFFF + 4) + (size >> 12) + 64
        start = offset + at
        data = os.pread(self._descriptor, min(longest, self._end - start), start) if start < self._end else b""
        content = _inflate(data, size)
        if content is None or len(content) != size:
            raise self._damaged(offset)
        return kind, content

    def _damaged(self, offset: int) -> CorruptError:
        return CorruptError(f"pack '{self._path}' is damaged at {offset}")


def _inflate(data: bytes, size: int) -> bytes | None:
    """The first `size` bytes of content that a zlib stream holds, None if its form or checksum is wrong."""
    # what only reads a pointer or two does without the library for 30 ms
    from isal import isal_zlib  # noqa: PLC0415

    if data[2:3] == b"\0" or (size == 0 and data[2:3] == b"\1"):
        content = _unstore(data)
        if content is not None:
            text, at = content
            return text if data[at : at + 4] == isal_zlib.adler32(text).to_bytes(4) else None
    try:
        return isal_zlib.decompress(data, bufsize=max(size, 1))
    except Exception:  # IsalError, which its stub does not know as one
        return None


def _unstore(data: bytes) -> tuple[bytes, int] | None:
    """The content of a stream of nothing but stored blocks, and where it ends; at the speed of copying."""
    view = memoryview(data)
    parts: list[memoryview] = []
    at = 2
    while True:
        header = data[at : at + _STORED_HEADER]
        if len(header) < _STORED_HEADER or header[0] > 1:
            return None
        length = header[1] | header[2] << 8
        if length ^ 0xFFFF != header[3] | header[4] << 8:
            return None
        at += _STORED_HEADER
        parts.append(view[at : at + length])
        at += length
        if header[0] == 1:
            return b"".join(parts), at
