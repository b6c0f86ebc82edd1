"""Content in and out: bytes to chunks, manifest and data tree, and back. Streams; never holds a whole content."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Self, TypeVar

from gitml.errors import CorruptError
from gitml.oid import ObjectFormat, Oid
from gitml.store.chunker import Chunker
from gitml.store.datatree import write_data_tree
from gitml.store.manifest import Chunk, Manifest, ManifestError, read_manifest, write_manifest
from gitml.store.odb import ChunkWriter, Kind, ObjectReader, ObjectWriter, Rereading
from gitml.store.pointer import Pointer
from gitml.store.sketch import sketch

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

SMALL = 65536
"""Content of fewer bytes than this is not stored as chunks: it stays a plain blob in the user's tree."""

_TOGETHER = 4 << 20
"""Bytes of chunks from which on they are prepared together: handing them to a thread costs more than a small one."""

_GROUPS = 4
"""Groups of chunks that may be under way at a time, of at most `_TOGETHER` and one chunk each."""

_FEW = 3
"""Contents of no more chunks than this are prepared without threads."""

_LONG = 256 << 20
"""Bytes of a content after which its sha256 can wait."""

_T = TypeVar("_T")


class ContentError(CorruptError):
    """Stored content is not what its pointer promises. Carries the `chunk` oid and its `index`, if one is at fault."""

    def __init__(self, what: str, *, chunk: Oid | None = None, index: int | None = None) -> None:
        super().__init__(what)
        self.chunk = chunk
        self.index = index


@dataclass(frozen=True, slots=True)
class Stored:
    """What storing a content gave: its pointer and the tree that makes everything it needs reachable."""

    pointer: Pointer
    data_tree: Oid


def passes_through(head: bytes | bytearray, *, ended: bool) -> bool | None:
    """Whether content that begins with `head` stays a plain blob; None if that takes more bytes to know.

    `ended` says that `head` is all there is.
    """
    if len(head) >= SMALL:
        return False
    return True if ended else None


def store_content(
    pieces: Iterable[bytes | bytearray | memoryview], writer: ChunkWriter, rereading: Rereading | None = None
) -> Stored:
    """Store the content that `pieces` make up, of any size. What is given depends on the content alone.

    Chunks of more than a few are prepared and written by other threads, in order and one at a time; manifest and trees
    follow from the calling thread. With `rereading`, the sha256 of long content may be computed after all that, from
    what was stored.
    """
    chunks: list[Chunk] = []
    with _Preparation(writer, rereading) as preparation:
        for data in _chunks(pieces):
            chunks += preparation.take(data)
        chunks += preparation.rest()
        manifest, data_tree = _write_manifest(chunks, writer)
        if rereading is not None:
            rereading.nearly_done()
        return Stored(Pointer(preparation.digest(), *manifest), data_tree)


def prepare_content(pieces: Iterable[bytes | bytearray | memoryview], writer: ChunkWriter) -> Callable[[], Stored]:
    """Do the expensive part of `store_content` in the calling thread; what is given writes the content.

    All of it is held in memory meanwhile: for contents of a few chunks, several of which are prepared side by side.
    """
    digest = hashlib.sha256()
    prepared = _Prepared(writer)
    chunks = []
    for data in _chunks(pieces):
        digest.update(data)
        chunks.append(Chunk(len(data), sketch(data), prepared.write("blob", data)))
    manifest, data_tree = _write_manifest(chunks, prepared)
    stored = Stored(Pointer(digest.digest(), *manifest), data_tree)

    def write() -> Stored:
        prepared.store()
        return stored

    return write


def compare_content(
    pieces: Iterable[bytes | memoryview], pointer: Pointer, manifest: Manifest, object_format: ObjectFormat
) -> tuple[int, Iterator[bytes | memoryview]] | None:
    """None if `pieces` make up the content of `pointer`, whose manifest this is; then nothing needs to be stored.

    Else how many of its first chunks they begin with, and all bytes after those. Only digests are computed: of each
    chunk, and of the whole, because a pointer may carry the digest of something else.
    """
    source = _Source(pieces)
    waiting: deque[tuple[list[Chunk], list[bytes | memoryview], Callable[[], list[Oid]]]] = deque()
    equal = 0
    with _Digests(object_format, len(manifest.chunks)) as digests:
        for group in [*_grouped(manifest.chunks), []]:  # the last stands for the end
            if group:
                data = [source.take(chunk.size) for chunk in group]
                waiting.append((group, data, digests.take(data)))
            while waiting and (len(waiting) > _GROUPS or not group):
                chunks, data, named = waiting.popleft()
                for number, (chunk, oid) in enumerate(zip(chunks, named(), strict=True)):
                    if oid != chunk.oid:
                        left = chain(data[number:], *(data for _, data, _ in waiting), source.rest())
                        return equal + number, left
                equal += len(chunks)
        more = source.take(1)
    if more or digests.whole() != pointer.sha256:
        return equal, chain([more], source.rest())
    return None


def _grouped(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks that are hashed together."""
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        group.append(chunk)
        size += chunk.size
        if size >= _TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group


def read_content(pointer: Pointer, reader: ObjectReader) -> Iterator[bytes]:
    """The content behind `pointer`, chunk by chunk; every chunk is verified before it is given.

    Raise `ContentError` or `ManifestError` when something stored is wrong, `MissingObjectError` when it is not
    here. The digest of the whole is known only at the end: a caller that keeps the bytes drops them on an error.
    """
    manifest = read_manifest(pointer.manifest, reader)
    if manifest.size != pointer.size:
        raise ManifestError(f"{manifest.size} bytes, the pointer says {pointer.size}", pointer.manifest)
    digest = hashlib.sha256()
    for index, chunk in enumerate(manifest.chunks):
        data = read_chunk(chunk, index, reader)
        digest.update(data)
        yield data
    if digest.digest() != pointer.sha256:
        raise ContentError(f"content has sha256 {digest.hexdigest()}, the pointer says {pointer.sha256.hex()}")


def read_chunk(chunk: Chunk, index: int, reader: ObjectReader) -> bytes:
    """The bytes of a chunk, the `index`-th of its content; raise `ContentError` or `MissingObjectError`."""
    kind, data = reader.read(chunk.oid)
    if kind != "blob":
        raise ContentError(f"chunk '{chunk.oid}' is a {kind}, expected a blob", chunk=chunk.oid, index=index)
    if len(data) != chunk.size:
        message = f"chunk '{chunk.oid}' has {len(data)} bytes, expected {chunk.size}"
        raise ContentError(message, chunk=chunk.oid, index=index)
    if reader.format.oid_of("blob", data) != chunk.oid:
        raise ContentError(f"the bytes of chunk '{chunk.oid}' are damaged", chunk=chunk.oid, index=index)
    return data


def _write_manifest(chunks: list[Chunk], writer: ObjectWriter) -> tuple[tuple[int, Oid], Oid]:
    """Write what goes with chunks that are written: size of the content and its manifest, and the data tree."""
    manifest = Manifest(sum(chunk.size for chunk in chunks), chunks)
    manifest_id = write_manifest(manifest, writer)
    return (manifest.size, manifest_id), write_data_tree(manifest_id, manifest, writer)


def _chunks(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[memoryview]:
    chunker = Chunker()
    for piece in pieces:
        yield from chunker.feed(piece)
    yield from chunker.finish()


class _Prepared:
    """An `ObjectWriter` that only prepares objects; all are stored later, in the same order."""

    def __init__(self, writer: ChunkWriter) -> None:
        self.format = writer.format
        self._writer = writer
        self._stores: list[Callable[[], object]] = []

    def write(self, kind: Kind, data: bytes | memoryview) -> Oid:
        oid, store = self._writer.prepare(kind, data)
        self._stores.append(store)
        return oid

    def store(self) -> None:
        for store in self._stores:
            store()


class _Source:
    """Bytes that arrive in pieces, taken in other sizes."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def take(self, size: int) -> bytes | memoryview:
        """The next `size` bytes, fewer only at the end."""
        parts, left = [], size
        while left:
            piece = self._rest or memoryview(next(self._pieces, b""))
            if not piece:
                break
            parts.append(piece[:left])
            self._rest = piece[left:]
            left -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def rest(self) -> Iterator[bytes | memoryview]:
        """Everything that was not taken."""
        yield self._rest
        yield from self._pieces


class _Digests:
    """Computes the oids of chunks, in two threads if there are more than a few, and the sha256 of the whole in one."""

    def __init__(self, object_format: ObjectFormat, count: int) -> None:
        self._format = object_format
        self._digest = hashlib.sha256()
        self._pools = (_threads(2), _threads(1)) if count > _FEW else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools or ():
            pool.shutdown(cancel_futures=True)

    def whole(self) -> bytes:
        """The sha256 of everything, once the oid of every chunk was asked for."""
        return self._digest.digest()

    def take(self, group: Sequence[bytes | memoryview]) -> Callable[[], list[Oid]]:
        """Take the next chunks; what is given waits for their oids."""
        if self._pools is None:
            self._hash(group)
            oids = self._name(group)
            return lambda: oids
        naming, hashing = self._pools
        named, hashed = naming.submit(self._name, group), hashing.submit(self._hash, group)

        def oids_of() -> list[Oid]:
            hashed.result()
            return named.result()

        return oids_of

    def _name(self, group: Sequence[bytes | memoryview]) -> list[Oid]:
        return [self._format.oid_of("blob", data) for data in group]

    def _hash(self, group: Sequence[bytes | memoryview]) -> None:
        for data in group:
            self._digest.update(data)


def _threads(count: int) -> "ThreadPoolExecutor":
    # loads the logging package; reading and small files do without
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    return ThreadPoolExecutor(max_workers=count, thread_name_prefix="chunks")


class _Preparation:
    """Chunks on their way to the writer.

    Once there are more than a few, groups of them go through threads: two that sketch and prepare, one that writes in
    order, one that computes the sha256 of the whole.
    """

    def __init__(self, writer: ChunkWriter, rereading: Rereading | None) -> None:
        self._writer = writer
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
        if len(self._group) <= _FEW and (self._pools is None or self._size < _TOGETHER):
            return []
        if self._pools is None:
            self._pools = _threads(2), _threads(1)
        preparing, writing = self._pools
        prepared = preparing.submit(self._prepare, self._group)
        group = _Group(self._group, writing.submit(lambda: _written(prepared.result())))
        self._group, self._size = [], 0
        self._waiting.append(group)
        self._whole.take(group)
        return self._done() if len(self._waiting) > _GROUPS else []

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
            oid, store = self._writer.prepare("blob", data)
            prepared.append((Chunk(len(data), mark, oid), store))
        return prepared


@dataclass(frozen=True, slots=True, eq=False)
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
            self._pool = _threads(1)
        self._hashing.append(self._pool.submit(work, what))
        if len(self._hashing) > _GROUPS:
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
