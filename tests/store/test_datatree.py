"""Data trees: every blob of a file is reachable, named by sketch, fanned out when large."""

import re

import pytest

from gitml.oid import Oid
from gitml.store.datatree import MAX_ENTRIES, write_data_tree
from gitml.store.manifest import Chunk, Manifest, ManifestError, encode_manifest, write_manifest
from gitml.store.odb import MemoryOdb
from gitml.store.tree import Snapshot
from tests.store.samples import noise


def oid(number: int) -> Oid:
    return Oid(number.to_bytes(4, "big") * 5)


def names(chunks: list[Chunk]) -> dict[bytes, Oid]:
    """Path to oid of everything in the data tree of `chunks`, without the manifest."""
    odb = MemoryOdb()
    manifest = Manifest(sum(chunk.size for chunk in chunks), chunks)
    top = write_manifest(manifest, odb)
    tree = Snapshot(odb, write_data_tree(top, manifest, odb))
    listed = {path: entry.oid for path, entry in tree.walk()}
    assert listed.pop(b"manifest") == top
    return listed


def test_chunks_are_named_by_sketch_or_by_oid() -> None:
    chunks = [Chunk(1, 0xA1, oid(1)), Chunk(1, None, oid(2)), Chunk(1, 0xA1, oid(3)), Chunk(1, 0xFFFFFFFF, oid(4))]
    assert names(chunks) == {
        b"00-mlchunk-000000a1": oid(1),
        oid(2).hex().encode() + b".mlx": oid(2),
        b"01-mlchunk-000000a1": oid(3),
        b"00-mlchunk-ffffffff": oid(4),
    }


def test_a_repeated_chunk_stands_once() -> None:
    assert names([Chunk(1, 5, oid(1)), Chunk(1, 5, oid(1)), Chunk(1, None, oid(2)), Chunk(1, None, oid(2))]) == {
        b"00-mlchunk-00000005": oid(1),
        oid(2).hex().encode() + b".mlx": oid(2),
    }


def test_the_last_sixteen_characters_are_constant_and_sketch() -> None:
    many = names([Chunk(1, 7, oid(number)) for number in range(150)])
    assert {path[-16:] for path in many} == {b"mlchunk-00000007"}
    assert b"149-mlchunk-00000007" in many


def test_a_directory_that_is_full_is_not_split() -> None:
    chunks = [Chunk(1, number << 16, oid(number)) for number in range(MAX_ENTRIES)]
    assert not any(b"/" in path for path in names(chunks))


def test_a_larger_one_is_split_by_the_first_digits() -> None:
    chunks = [Chunk(1, number << 16, oid(number)) for number in range(MAX_ENTRIES)] + [
        Chunk(1, None, Oid(b"\xab" * 20))
    ]
    listed = names(chunks)
    assert len(listed) == MAX_ENTRIES + 1
    assert b"ab/" + b"ab" * 20 + b".mlx" in listed
    assert all(re.fullmatch(rb"([0-9a-f]{2})/(00-mlchunk-\1[0-9a-f]{6}|\1[0-9a-f]{38}\.mlx)", path) for path in listed)


def test_only_a_full_subdirectory_is_split_again() -> None:
    crowd = [Chunk(1, 0xAA000000 + (number << 8), oid(number)) for number in range(MAX_ENTRIES + 1)]
    listed = names([*crowd, Chunk(1, 0xBB000000, oid(9999))])
    assert b"bb/00-mlchunk-bb000000" in listed
    assert b"aa/00/00-mlchunk-aa000000" in listed


def test_many_chunks_of_one_sketch_still_spread() -> None:
    listed = names([Chunk(1, 0x01020304, oid(number)) for number in range(MAX_ENTRIES + 1)])
    assert len(listed) == MAX_ENTRIES + 1
    assert b"01/02/03/04/ff/255-mlchunk-01020304" in listed
    assert b"01/02/03/04/00/2048-mlchunk-01020304" in listed


def test_pieces_of_a_long_manifest_stand_in_the_tree() -> None:
    raw = noise(20 * 40_000)
    chunks = [Chunk(9, None, Oid(raw[20 * number : 20 * number + 20])) for number in range(40_000)]
    pieces = {chunk.oid for chunk, _ in encode_manifest(Manifest(360_000, chunks), MemoryOdb().format).pieces}
    assert len(pieces) >= 2
    assert set(names(chunks).values()) == pieces | {chunk.oid for chunk in chunks}


def test_a_manifest_that_is_not_the_canonical_one_is_refused() -> None:
    with pytest.raises(ManifestError, match="canonical"):
        write_data_tree(oid(1), Manifest(1, [Chunk(1, None, oid(2))]), MemoryOdb())
