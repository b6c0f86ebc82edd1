"""The manifest: the chunks of one content in order, with what names each in the data tree.

A manifest is a blob. One whose encoding is longer than a chunk may be is cut by the chunker like any content, and a
manifest one level up lists the pieces. Reading trusts nothing: every count, size and kind is checked.
"""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from gitml.errors import CorruptError
from gitml.oid import ObjectFormat, Oid
from gitml.record import record
from gitml.store.chunker import MAX_CHUNK, Chunker
from gitml.store.odb import ObjectReader, ObjectWriter
from gitml.store.sketch import sketch

MAX_MANIFEST = MAX_CHUNK
"""Bytes of the longest manifest blob; a longer encoding is cut into pieces."""

MAX_LEVEL = 2
"""Highest level: enough for more than 100 PB."""

_HEADER = re.compile(
    rb"gitml manifest 1\nhash (sha1|sha256)\nlevel ([0-9])\nsize (0|[1-9][0-9]{0,18})\nchunks (0|[1-9][0-9]{0,18})\n\n"
)
_MAX_HEADER = 128
_INCOMPRESSIBLE = 0
_SKETCHED = 1
_ENTRY = struct.Struct(">BII")


class ManifestError(CorruptError):
    """A manifest that is malformed or does not list what it promises. Carries its top `oid` where one is known."""

    def __init__(self, what: str, oid: Oid | None = None) -> None:
        super().__init__(f"malformed manifest: {what}" if oid is None else f"manifest '{oid}': {what}")
        self.oid = oid


class Chunk(NamedTuple):
    """One chunk: its size in bytes, its sketch (None if incompressible), and the blob oid of its bytes."""

    size: int
    sketch: int | None
    oid: Oid


@record
class Manifest:
    """A content of `size` bytes as its chunks in order."""

    size: int
    chunks: Sequence[Chunk]


@record
class EncodedManifest:
    """The blobs of a manifest: the top one, and the pieces of the lower levels in order of their bytes."""

    top: bytes
    pieces: Sequence[tuple[Chunk, bytes]]


def encode_manifest(manifest: Manifest, object_format: ObjectFormat) -> EncodedManifest:
    """The blobs that `manifest` is stored as: a pure function of it.

    Raise `ManifestError` for a manifest with more chunks than `MAX_LEVEL` can list.
    """
    pieces: list[tuple[Chunk, bytes]] = []
    chunks, size = manifest.chunks, manifest.size
    for level in range(MAX_LEVEL + 1):
        length = _length(level, size, len(chunks), object_format)
        if length <= MAX_MANIFEST:
            return EncodedManifest(b"".join(_encode(level, size, chunks, object_format)), pieces)
        lower = [(_describe(piece, object_format), piece) for piece in _pieces(level, size, chunks, object_format)]
        pieces += lower
        chunks, size = [chunk for chunk, _ in lower], length
    raise ManifestError(f"{len(manifest.chunks)} chunks are too many")


def write_manifest(manifest: Manifest, writer: ObjectWriter) -> Oid:
    """Write the blobs of `manifest`; give the oid of the top one."""
    encoded = encode_manifest(manifest, writer.format)
    for _, piece in encoded.pieces:
        writer.write("blob", piece)
    return writer.write("blob", encoded.top)


def read_manifest(oid: Oid, reader: ObjectReader) -> Manifest:
    """The manifest whose top blob is `oid`; raise `ManifestError` or `MissingObjectError`."""
    try:
        data = _read_blob(oid, reader)
        if len(data) > MAX_MANIFEST:
            raise ManifestError(f"{len(data)} bytes, at most {MAX_MANIFEST} allowed")
        level, manifest = _decode(data, reader.format)
        while level > 0:
            below, manifest = _decode(b"".join(_lower(manifest, reader)), reader.format)
            if below != level - 1:
                raise ManifestError(f"level {below} below level {level}")
            level = below
    except ManifestError as error:
        raise ManifestError(error.message.removeprefix("malformed manifest: "), oid) from None
    return manifest


def missing_parts(oid: Oid, reader: ObjectReader, has: Callable[[Oid], bool]) -> list[Oid]:
    """What `has` lacks next for the content of a manifest: its top, else pieces of it, else chunks; none at the end.

    So a level at a time can be fetched for many contents at once. Raise `ManifestError`.
    """
    if not has(oid):
        return [oid]
    level, manifest = _decode(_read_blob(oid, reader), reader.format)
    while True:
        absent = list(dict.fromkeys(chunk.oid for chunk in manifest.chunks if not has(chunk.oid)))
        if absent or level == 0:
            return absent
        level, manifest = _decode(b"".join(_lower(manifest, reader)), reader.format)


def _lower(manifest: Manifest, reader: ObjectReader) -> Iterator[bytes]:
    """The pieces that a manifest of a higher level lists."""
    for chunk in manifest.chunks:
        piece = _read_blob(chunk.oid, reader)
        if len(piece) != chunk.size:
            raise ManifestError(f"piece '{chunk.oid}' has {len(piece)} bytes, expected {chunk.size}")
        yield piece


def _read_blob(oid: Oid, reader: ObjectReader) -> bytes:
    kind, data = reader.read(oid)
    if kind != "blob":
        raise ManifestError(f"object '{oid}' is a {kind}, expected a blob")
    return data


def _describe(piece: bytes, object_format: ObjectFormat) -> Chunk:
    return Chunk(len(piece), sketch(piece), object_format.oid_of("blob", piece))


def _header(level: int, size: int, count: int, object_format: ObjectFormat) -> bytes:
    name = object_format.value
    return f"gitml manifest 1\nhash {name}\nlevel {level}\nsize {size}\nchunks {count}\n\n".encode()


def _length(level: int, size: int, count: int, object_format: ObjectFormat) -> int:
    """Bytes of the encoding, without encoding it."""
    return len(_header(level, size, count, object_format)) + count * (_ENTRY.size + object_format.size)


def _encode(level: int, size: int, chunks: Sequence[Chunk], object_format: ObjectFormat) -> Iterator[bytes]:
    """The encoding in parts of less than a chunk, so that a long one is never held whole."""
    yield _header(level, size, len(chunks), object_format)
    for start in range(0, len(chunks), 4096):
        yield b"".join(
            _ENTRY.pack(_INCOMPRESSIBLE if mark is None else _SKETCHED, length, mark or 0) + oid
            for length, mark, oid in chunks[start : start + 4096]
        )


def _pieces(level: int, size: int, chunks: Sequence[Chunk], object_format: ObjectFormat) -> Iterator[bytes]:
    chunker = Chunker()
    for part in _encode(level, size, chunks, object_format):
        yield from map(bytes, chunker.feed(part))
    yield from map(bytes, chunker.finish())


def _decode(data: bytes, object_format: ObjectFormat) -> tuple[int, Manifest]:
    """Level and value of one encoded manifest."""
    match = _HEADER.match(data[:_MAX_HEADER])
    if match is None:
        raise ManifestError("the header is not that of a version 1 manifest")
    if match[1] != object_format.value.encode():
        raise ManifestError(f"hash {match[1].decode()} in a {object_format.value} repository")
    level, size, count = int(match[2]), int(match[3]), int(match[4])
    if level > MAX_LEVEL:
        raise ManifestError(f"level {level}, at most {MAX_LEVEL} allowed")
    width = _ENTRY.size + object_format.size
    if len(data) - match.end() != count * width:
        raise ManifestError(f"{len(data) - match.end()} bytes of entries, expected {count * width}")
    chunks = [_entry(data, at, width) for at in range(match.end(), len(data), width)]
    total = sum(chunk.size for chunk in chunks)
    if total != size:
        raise ManifestError(f"chunks of {total} bytes, expected {size}")
    return level, Manifest(size, chunks)


def _entry(data: bytes, at: int, width: int) -> Chunk:
    kind, size, mark = _ENTRY.unpack_from(data, at)
    if not 0 < size <= MAX_CHUNK:
        raise ManifestError(f"a chunk of {size} bytes, expected 1 to {MAX_CHUNK}")
    if kind not in (_INCOMPRESSIBLE, _SKETCHED) or (kind == _INCOMPRESSIBLE and mark):
        raise ManifestError(f"a chunk of kind {kind} with sketch {mark}")
    return Chunk(size, mark if kind == _SKETCHED else None, Oid(data[at + _ENTRY.size : at + width]))
