"""Content in and out: bytes to chunks, manifest and data tree, and back. Streams; never holds a whole content."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from gitml.errors import CorruptError
from gitml.oid import Oid
from gitml.record import record
from gitml.store.chunker import Chunker
from gitml.store.datatree import write_data_tree
from gitml.store.manifest import Chunk, Manifest, ManifestError, read_manifest, write_manifest
from gitml.store.odb import ChunkWriter, Kind, ObjectReader, ObjectWriter, Rereading
from gitml.store.pointer import Pointer
from gitml.store.preparation import Preparation
from gitml.store.sketch import sketch

SMALL = 65536
"""Content of fewer bytes than this is not stored as chunks: it stays a plain blob in the user's tree."""

_NOT_LONG = 64 << 20
"""Bytes of content up to which it is deflated to take little room: tables that grow version by version."""


class ContentError(CorruptError):
    """Stored content is not what its pointer promises. Carries the `chunk` oid and its `index`, if one is at fault."""

    def __init__(self, what: str, *, chunk: Oid | None = None, index: int | None = None) -> None:
        super().__init__(what)
        self.chunk = chunk
        self.index = index


@record
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
    pieces: Iterable[bytes | bytearray | memoryview],
    writer: ChunkWriter,
    rereading: Rereading | None = None,
    *,
    size: int | None = None,
) -> Stored:
    """Store the content that `pieces` make up, of any size. What is given depends on the content alone.

    `size` is what the content will probably have: if it is not too long, time is taken to make it small.

    Chunks of more than a few are prepared and written by other threads, in order and one at a time; manifest and trees
    follow from the calling thread. With `rereading`, the sha256 of long content may be computed after all that, from
    what was stored.
    """
    chunks: list[Chunk] = []
    with Preparation(writer, rereading, small=size is not None and size <= _NOT_LONG) as preparation:
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
        chunks.append(Chunk(len(data), sketch(data), prepared.write("blob", data, small=True)))
    manifest, data_tree = _write_manifest(chunks, prepared)
    stored = Stored(Pointer(digest.digest(), *manifest), data_tree)

    def write() -> Stored:
        prepared.store()
        return stored

    return write


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

    def write(self, kind: Kind, data: bytes | memoryview, *, small: bool = False) -> Oid:
        oid, store = self._writer.prepare(kind, data, small=small)
        self._stores.append(store)
        return oid

    def store(self) -> None:
        for store in self._stores:
            store()
