"""Manifests: written and read back, cut into levels when long, and refused with a reason when anything is off."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.oid import ObjectFormat, Oid
from gitml.store.manifest import (
    MAX_MANIFEST,
    Chunk,
    Manifest,
    ManifestError,
    encode_manifest,
    read_manifest,
    write_manifest,
)
from gitml.store.odb import MemoryOdb, MissingObjectError
from tests.store.samples import noise

ENTRY = b"\1" + struct.pack(">II", 7, 0xABCDEF01) + bytes(20)
HEADER = b"gitml manifest 1\nhash sha1\nlevel 0\nsize 7\nchunks 1\n\n"

formats = st.sampled_from(ObjectFormat)
numbers = st.integers(0, 2**32 - 1)


def long_manifest(count: int) -> Manifest:
    """A manifest of `count` chunks with names out of noise."""
    names = noise(20 * count)
    chunks = [Chunk(65536, None if n % 3 else n, Oid(names[20 * n : 20 * n + 20])) for n in range(count)]
    return Manifest(65536 * count, chunks)


@settings(max_examples=30, deadline=None)
@given(formats, st.lists(st.tuples(st.integers(1, 2**20), st.none() | numbers, st.binary(min_size=32, max_size=32))))
def test_reading_undoes_writing(object_format: ObjectFormat, rows: list[tuple[int, int | None, bytes]]) -> None:
    odb = MemoryOdb(object_format)
    chunks = [Chunk(size, mark, Oid(name[: object_format.size])) for size, mark, name in rows]
    manifest = Manifest(sum(chunk.size for chunk in chunks), chunks)
    assert read_manifest(write_manifest(manifest, odb), odb) == manifest


def test_the_encoding_is_the_documented_one() -> None:
    odb = MemoryOdb()
    oid = write_manifest(Manifest(7, [Chunk(7, 0xABCDEF01, Oid(bytes(20)))]), odb)
    assert odb.read(oid) == ("blob", HEADER + ENTRY)


def test_a_long_manifest_is_cut_and_listed_one_level_up() -> None:
    odb = MemoryOdb()
    manifest = long_manifest(45_000)
    encoded = encode_manifest(manifest, odb.format)
    assert b"\nlevel 1\n" in encoded.top[:64]
    assert b"".join(piece for _, piece in encoded.pieces).startswith(b"gitml manifest 1\nhash sha1\nlevel 0\n")
    oid = write_manifest(manifest, odb)
    assert read_manifest(oid, odb) == manifest
    assert all(len(data) <= MAX_MANIFEST for _, data in odb.objects.values())


def test_one_more_chunk_changes_few_pieces_of_a_long_manifest() -> None:
    manifest = long_manifest(45_000)
    more = Manifest(manifest.size + 5, [Chunk(5, None, Oid(b"x" * 20)), *manifest.chunks])
    pieces = [{chunk.oid for chunk, _ in encode_manifest(one, ObjectFormat.SHA1).pieces} for one in (manifest, more)]
    assert len(pieces[0]) >= 3
    assert len(pieces[1] - pieces[0]) <= 2


def test_a_missing_piece_is_missing_not_corrupt() -> None:
    odb = MemoryOdb()
    oid = write_manifest(long_manifest(40_000), odb)
    piece = encode_manifest(long_manifest(40_000), odb.format).pieces[0][0].oid
    del odb.objects[piece]
    with pytest.raises(MissingObjectError) as caught:
        read_manifest(oid, odb)
    assert caught.value.oid == piece


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "header"),
        (b"gitml manifest 2" + HEADER[16:] + ENTRY, "header"),
        (HEADER.replace(b"size 7", b"size 07") + ENTRY, "header"),
        (HEADER.replace(b"\n\n", b"\n") + ENTRY, "header"),
        (HEADER.replace(b"sha1", b"sha256") + ENTRY, "hash sha256 in a sha1 repository"),
        (HEADER.replace(b"level 0", b"level 9") + ENTRY, "level 9"),
        (HEADER.replace(b"chunks 1", b"chunks 2") + ENTRY, "bytes of entries"),
        (HEADER.replace(b"chunks 1", b"chunks 999999999999999999") + ENTRY, "bytes of entries"),
        (HEADER + ENTRY + b"x", "bytes of entries"),
        (HEADER + ENTRY[:-1], "bytes of entries"),
        (HEADER.replace(b"size 7", b"size 8") + ENTRY, "chunks of 7 bytes, expected 8"),
        (HEADER + b"\2" + ENTRY[1:], "kind 2"),
        (HEADER + b"\0" + ENTRY[1:], "kind 0 with sketch"),
        (HEADER + b"\1" + struct.pack(">I", 0) + ENTRY[5:], "a chunk of 0 bytes"),
        (HEADER + b"\1" + struct.pack(">I", 2**20 + 1) + ENTRY[5:], "a chunk of 1048577 bytes"),
        (HEADER + ENTRY + bytes(MAX_MANIFEST), "at most 1048576"),
    ],
)
def test_a_malformed_manifest_is_refused_with_its_fault(data: bytes, fault: str) -> None:
    odb = MemoryOdb()
    oid = odb.write("blob", data)
    with pytest.raises(ManifestError, match=fault) as caught:
        read_manifest(oid, odb)
    assert caught.value.oid == oid


def level_one(odb: MemoryOdb, piece: bytes, size: int | None = None, kind: str = "blob") -> Oid:
    """A level 1 manifest over one `piece`."""
    oid = odb.write(kind, piece)
    length = len(piece) if size is None else size
    head = f"gitml manifest 1\nhash sha1\nlevel 1\nsize {length}\nchunks 1\n\n".encode()
    return odb.write("blob", head + b"\0" + struct.pack(">II", length, 0) + oid)


@pytest.mark.parametrize(
    ("piece", "size", "kind", "fault"),
    [
        (b"not a manifest", None, "blob", "header"),
        (HEADER + ENTRY, 5, "blob", "expected 5"),
        (HEADER + ENTRY, None, "tree", "is a tree, expected a blob"),
        (HEADER.replace(b"level 0", b"level 1") + ENTRY, None, "blob", "level 1 below level 1"),
        (HEADER.replace(b"level 0", b"level 2") + ENTRY, None, "blob", "level 2 below level 1"),
    ],
)
def test_a_malformed_lower_level_is_refused(piece: bytes, size: int | None, kind: str, fault: str) -> None:
    odb = MemoryOdb()
    with pytest.raises(ManifestError, match=fault):
        read_manifest(level_one(odb, piece, size, kind), odb)


def test_an_object_that_is_no_blob_is_refused() -> None:
    odb = MemoryOdb()
    with pytest.raises(ManifestError, match="is a commit, expected a blob"):
        read_manifest(odb.write("commit", HEADER + ENTRY), odb)
