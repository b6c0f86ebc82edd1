"""Content in and out: bytes to chunks, manifest and data tree, and back. Streams; never holds a whole content."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gitml.errors import CorruptError
from gitml.oid import ObjectFormat, Oid
from gitml.store.chunker import Chunker
from gitml.store.datatree import write_data_tree
from gitml.store.manifest import Chunk, Manifest, ManifestError, read_manifest, write_manifest
from gitml.store.odb import ObjectReader, ObjectWriter
from gitml.store.pointer import Pointer
from gitml.store.sketch import sketch

if TYPE_CHECKING:
    from concurrent.futures import Future

SMALL = 65536
"""Content of fewer bytes than this is not stored as chunks: it stays a plain blob in the user's tree."""

_AHEAD = 8


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


def passes_through(head: bytes, *, ended: bool) -> bool | None:
    """Whether content that begins with `head` stays a plain blob; None if that takes more bytes to know.

    `ended` says that `head` is all there is.
    """
    if len(head) >= SMALL:
        return False
    return True if ended else None


def store_content(pieces: Iterable[bytes | bytearray | memoryview], writer: ObjectWriter) -> Stored:
    """Store the content that `pieces` make up, of any size. What is given depends on the content alone.

    Sketches are made in two threads; `writer` is called from the calling thread only, chunks in order, then
    manifest, then trees.
    """
    digest = hashlib.sha256()
    chunks: list[Chunk] = []
    # loads the logging package; reading and small files do without
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="sketch") as pool:
        waiting: deque[tuple[bytes, Future[int | None]]] = deque()
        for data in _chunks(pieces):
            waiting.append((data, pool.submit(sketch, data)))
            digest.update(data)
            if len(waiting) > _AHEAD:
                chunks.append(_write_chunk(*waiting.popleft(), writer))
        while waiting:
            chunks.append(_write_chunk(*waiting.popleft(), writer))
    manifest = Manifest(sum(chunk.size for chunk in chunks), chunks)
    manifest_id = write_manifest(manifest, writer)
    data_tree = write_data_tree(manifest_id, manifest, writer)
    return Stored(Pointer(digest.digest(), manifest.size, manifest_id), data_tree)


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
        kind, data = reader.read(chunk.oid)
        verify_chunk(chunk, index, kind, data, reader.format)
        digest.update(data)
        yield data
    if digest.digest() != pointer.sha256:
        raise ContentError(f"content has sha256 {digest.hexdigest()}, the pointer says {pointer.sha256.hex()}")


def verify_chunk(chunk: Chunk, index: int, kind: str, data: bytes, object_format: ObjectFormat) -> None:
    """Raise `ContentError` unless an object of `kind` with the bytes `data` is the chunk at `index` of a content."""
    if kind != "blob":
        raise ContentError(f"chunk '{chunk.oid}' is a {kind}, expected a blob", chunk=chunk.oid, index=index)
    if len(data) != chunk.size:
        message = f"chunk '{chunk.oid}' has {len(data)} bytes, expected {chunk.size}"
        raise ContentError(message, chunk=chunk.oid, index=index)
    if object_format.oid_of("blob", data) != chunk.oid:
        raise ContentError(f"the bytes of chunk '{chunk.oid}' are damaged", chunk=chunk.oid, index=index)


def _chunks(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    chunker = Chunker()
    for piece in pieces:
        yield from chunker.feed(piece)
    yield from chunker.finish()


def _write_chunk(data: bytes, mark: "Future[int | None]", writer: ObjectWriter) -> Chunk:
    return Chunk(len(data), mark.result(), writer.write("blob", data))
