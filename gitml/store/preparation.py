"""Chunks on their way to the writer, and the sha256 of all of them."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self, TypeVar

from gitml.record import record
from gitml.store import batches
from gitml.store.manifest import Chunk
from gitml.store.odb import ChunkWriter, Rereading
from gitml.store.sketch import sketch

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_LONG = 256 << 20
"""Bytes of a content after which its sha256 can wait."""

_T = TypeVar("_T")


class Preparation:
    """Chunks on their way to the writer.

    Once there are more than a few, groups of them go through threads: two that sketch and prepare, one that writes in
    order, one that computes the sha256 of the whole. `small` is as for `prepare`.
    """

    def __init__(self, writer: ChunkWriter, rereading: Rereading | None, *, small: bool) -> None:
        self._writer = writer
        self._small = small
        self._group: list[memoryview] = []
        self._size = 0
        self._waiting: deque[_Group] = deque()
        self._pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        self._whole = _Whole(rereading)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools or ():
            pool.shutdown(cancel_futures=True)
        self._whole.close()

    def digest(self) -> bytes:
        """The sha256 of everything, once `rest` was taken to its end."""
        return self._whole.digest()

    def take(self, data: memoryview) -> list[Chunk]:
        """Take the next chunk; give those that are written by now."""
        self._group.append(data)
        self._size += len(data)
        if len(self._group) <= batches.FEW and (self._pools is None or self._size < batches.TOGETHER):
            return []
        if self._pools is None:
            self._pools = batches.threads(2), batches.threads(1)
        preparing, writing = self._pools
        prepared = preparing.submit(self._prepare, self._group)
        group = _Group(self._group, writing.submit(lambda: _written(prepared.result())))
        self._group, self._size = [], 0
        self._waiting.append(group)
        self._whole.take(group)
        return self._done() if len(self._waiting) > batches.GROUPS else []

    def rest(self) -> Iterator[Chunk]:
        """Give what is left, written."""
        while self._waiting:
            yield from self._done()
        yield from _written(self._prepare(self._group))
        self._whole.take_last(self._group)

    def _done(self) -> list[Chunk]:
        group = self._waiting.popleft()
        chunks = group.written.result()
        self._whole.written(group, chunks)
        return chunks

    def _prepare(self, group: list[memoryview]) -> list[tuple[Chunk, Callable[[], object]]]:
        prepared = []
        for data in group:
            mark = sketch(data)
            noisy = mark is None and self._pools is not None
            oid, store = self._writer.prepare("blob", data, noisy=noisy, small=self._small)
            prepared.append((Chunk(len(data), mark, oid), store))
        return prepared


@record(eq=False)
class _Group:
    """Chunks that are written together."""

    data: list[memoryview]
    written: "Future[list[Chunk]]"


class _Whole:
    """The sha256 of the whole.

    Each group is hashed by a thread of its own while others prepare it. But what comes late in long content, and is
    stored as it is, is read back and hashed in the end: while the writer computes the digest of all that it has
    written, another processor has nothing else to do.
    """

    def __init__(self, rereading: Rereading | None) -> None:
        self._rereading = rereading
        self._digest = hashlib.sha256()
        self._pool: ThreadPoolExecutor | None = None
        self._hashing: deque[Future[None]] = deque()
        self._taken = 0
        """Bytes."""
        self._plain = False
        """Whether the last group that was written can be read back."""
        self._unhashed: list[Chunk] = []
        """Chunks that were written and are to be read back."""
        self._put_off: deque[_Group] = deque()
        """Groups that follow them and are on their way."""

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def take(self, group: _Group) -> None:
        """Take the next group, which is about to be written."""
        self._taken += sum(map(len, group.data))
        if self._plain and self._taken > _LONG:
            self._put_off.append(group)
        else:
            self._catch_up()
            self._submit(self._hash, group.data)

    def written(self, group: _Group, chunks: list[Chunk]) -> None:
        """Say that the first of the groups on their way has been written."""
        rereading = self._rereading
        self._plain = rereading is not None and all(rereading.holds_plain(each.oid, each.size) for each in chunks)
        if self._put_off and self._put_off[0] is group:
            if self._plain:
                self._put_off.popleft()
                self._unhashed += chunks
            else:
                self._catch_up()

    def take_last(self, data: list[memoryview]) -> None:
        """Take the last chunks, once everything before them was written."""
        self._catch_up()
        if self._pool is None:
            self._hash(data)
        else:
            self._submit(self._hash, data)

    def digest(self) -> bytes:
        """The sha256 of everything."""
        while self._hashing:
            self._hashing.popleft().result()
        return self._digest.digest()

    def _catch_up(self) -> None:
        """Hash what was put off."""
        if self._unhashed:
            self._submit(self._reread, self._unhashed)
            self._unhashed = []
        while self._put_off:
            self._submit(self._hash, self._put_off.popleft().data)

    def _submit(self, work: Callable[[_T], None], what: _T) -> None:
        if self._pool is None:
            self._pool = batches.threads(1)
        self._hashing.append(self._pool.submit(work, what))
        if len(self._hashing) > batches.GROUPS:
            self._hashing.popleft().result()

    def _hash(self, data: list[memoryview]) -> None:
        for each in data:
            self._digest.update(each)

    def _reread(self, chunks: list[Chunk]) -> None:
        assert self._rereading is not None
        for chunk in chunks:
            self._digest.update(self._rereading.read(chunk.oid)[1])


def _written(prepared: list[tuple[Chunk, Callable[[], object]]]) -> list[Chunk]:
    for _, store in prepared:
        store()
    return [chunk for chunk, _ in prepared]
