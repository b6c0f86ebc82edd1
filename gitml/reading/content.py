"""A file over chunks: seekable, reading no more than what is asked for, verified on the way.

Hides which chunks a request needs, which are read ahead, and which are kept.
"""

import hashlib
import io
import os
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from gitml.oid import Oid
from gitml.reading.source import ContentDamagedError
from gitml.store.manifest import Chunk, Manifest
from gitml.store.pointer import Pointer

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from _typeshed import WriteableBuffer

BUFFER = 65536
"""Bytes of the buffer in front of a content: the size of the smallest chunk."""

_KEPT = 16
"""Chunks that stay in memory after they were read."""

_INFLATED_AHEAD = 8
"""Chunks that are read and verified ahead by threads, once it is seen that they are read in order."""

_FETCHED_AHEAD = 64 << 20
"""Bytes that a request brings at most beyond what is needed."""


class Chunks(Protocol):
    """Where chunks come from. Threads may share it."""

    def has(self, oid: Oid) -> bool:
        """Whether a chunk is here."""
        ...

    def bring(self, oids: Iterable[Oid]) -> None:
        """Have chunks here, what is missing in one request; raise `ContentMissingError`."""
        ...

    def chunk(self, chunk: Chunk, index: int) -> bytes:
        """The verified bytes of a chunk; raise `ContentMissingError`, `ContentDamagedError`."""
        ...


class ChunkedContent(io.RawIOBase):
    """The content behind a pointer as a raw binary stream. One thread at a time; several streams may share a source.

    A request of at most `BUFFER` bytes is answered from one chunk and may come short, as raw streams may; larger ones
    are answered whole. Raise `ContentMissingError`, or `ContentDamagedError` for other bytes than promised.
    """

    def __init__(self, source: Chunks, pointer: Pointer, manifest: Manifest) -> None:
        super().__init__()
        self._source = source
        self._pointer = pointer
        self._chunks = manifest.chunks
        self._starts = array("Q", accumulate((chunk.size for chunk in manifest.chunks), initial=0))
        self._position = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._expected = 0
        self._streak = 0
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._ahead: dict[int, Future[bytes]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self._pointer.size

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, which may lie behind the end; raise `ValueError` for one before the start."""
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}
        if whence not in bases:
            raise ValueError(f"invalid whence: {whence}")
        position = bases[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` from the position on; give how many bytes there are, 0 at the end."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self.size - self._position)
        if wanted <= 0:
            return 0
        first = bisect_right(self._starts, self._position) - 1
        last = bisect_left(self._starts, self._position + wanted) - 1
        if len(view) <= BUFFER:
            while last > first and last not in self._kept:
                last -= 1
        self._bring(first, last)
        done = 0
        for index in range(first, last + 1):
            at = self._position - self._starts[index]
            piece = memoryview(self._chunk(index))[at : at + wanted - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def readall(self) -> bytes:
        """All bytes from the position to the end."""
        self._check_open()
        if self._position >= self.size:
            return b""
        first = bisect_right(self._starts, self._position) - 1
        self._bring(first, len(self._chunks) - 1)
        whole = io.BytesIO()
        for index in range(first, len(self._chunks)):
            whole.write(memoryview(self._chunk(index))[self._position - self._starts[index] :])
            self._position = self._starts[index + 1]
        return whole.getvalue()

    def bring(self, ranges: list[tuple[int, int]]) -> None:
        """Have all chunks of these ranges (from, to, in bytes) here, what is missing in one request."""
        self._check_open()
        wanted: dict[int, None] = {}
        for start, end in ranges:
            if 0 <= start < min(end, self.size):
                first = bisect_right(self._starts, start) - 1
                wanted.update(dict.fromkeys(range(first, bisect_left(self._starts, min(end, self.size)))))
        self._source.bring(self._chunks[index].oid for index in wanted if index not in self._kept)

    def close(self) -> None:
        """Forget what was read; threads that read ahead end."""
        if not self.closed:
            self._stop()
            self._kept.clear()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _bring(self, first: int, last: int) -> None:
        """Have the chunks `first` to `last` here; if a fetch is needed, more where they are read in order."""
        missing = [
            index
            for index in range(first, last + 1)
            if index not in self._kept and index not in self._ahead and not self._source.has(self._chunks[index].oid)
        ]
        if not missing:
            return
        end = last + 1
        if first <= self._expected <= last + 1:
            read = self._streak + last + 1 - first
            limit = self._starts[end] + _FETCHED_AHEAD
            stop = min(end + (read if self._streak else 0), len(self._chunks))
            while end < stop and self._starts[end + 1] <= limit:
                end += 1
        self._source.bring(chunk.oid for chunk in self._chunks[first:end])

    def _chunk(self, index: int) -> bytes:
        """The bytes of one chunk, checked; those of the last also against the digest of the whole, if it can be."""
        data = self._kept.get(index)
        if data is not None:
            self._kept.move_to_end(index)
        else:
            self._streak = self._streak + 1 if index == self._expected else 0
            self._expected = index + 1
            if self._streak < 2:
                self._stop()
                data = self._source.chunk(self._chunks[index], index)
            else:
                data = self._stream(index)
        if index == self._hashed:
            self._digest.update(data)
            self._hashed += 1
        if index == len(self._chunks) - 1 < self._hashed and self._digest.digest() != self._pointer.sha256:
            raise ContentDamagedError(
                f"content has sha256 {self._digest.hexdigest()}, the pointer says {self._pointer.sha256.hex()}",
                hint="look closer: git ml fsck --deep",
            )
        self._kept[index] = data
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return data

    def _stream(self, index: int) -> bytes:
        """A chunk that follows others: threads have it, and go on with the next ones."""
        if self._process != os.getpid():
            self._process, self._pool = os.getpid(), None
            self._ahead.clear()
        if self._pool is None:
            # loads the logging package; short files do without
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

            self._pool = ThreadPoolExecutor(2, thread_name_prefix="read")
        for other in [other for other in self._ahead if other < index]:
            self._ahead.pop(other).cancel()
        for next_ in range(index, min(index + 1 + _INFLATED_AHEAD, len(self._chunks))):
            chunk = self._chunks[next_]
            if next_ not in self._ahead and (next_ == index or self._source.has(chunk.oid)):
                self._ahead[next_] = self._pool.submit(self._source.chunk, chunk, next_)
        return self._ahead.pop(index).result()

    def _stop(self) -> None:
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()
        pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown(wait=True)
