"""Indexes that are well-formed, and lie: whoever wrote them means no good."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.remote.worlds import BLOB, COMMIT, TREE, Index, World, endures


def _swap_offsets(kind: int) -> Callable[[Index], None]:
    def lie(index: Index) -> None:
        one, other = index.of(kind)[:2]
        first, second = index.offset(one), index.offset(other)
        index.set_offset(one, second)
        index.set_offset(other, first)
        first, second = index.crc(one), index.crc(other)
        index.set_crc(one, second)
        index.set_crc(other, first)

    return lie


def _commit_for_blob(index: Index) -> None:
    commit, blob = index.of(COMMIT)[0], index.of(BLOB)[0]
    first, second = index.offset(commit), index.offset(blob)
    index.set_offset(commit, second)
    index.set_offset(blob, first)


def _another_name(kind: int) -> Callable[[Index], None]:
    def lie(index: Index) -> None:
        at = index.of(kind)[-1]
        index.set_oid(at, index.oid(at)[:-1] + bytes([index.oid(at)[-1] ^ 1]))

    return lie


def _kinds(old: int, new: int) -> Callable[[Index], None]:
    def lie(index: Index) -> None:
        for position in index.of(old):
            index.set_kind(position, new)

    return lie


def _one_kind(old: int, new: int) -> Callable[[Index], None]:
    return lambda index: index.set_kind(index.of(old)[-1], new)


def _one_offset(offset: int) -> Callable[[Index], None]:
    return lambda index: index.set_offset(index.of(BLOB)[0], offset)


def _offset_more(kind: int) -> Callable[[Index], None]:
    return lambda index: index.set_offset(index.of(kind)[0], index.offset(index.of(kind)[0]) + 1)


def _same_offset(index: Index) -> None:
    one, other = index.of(BLOB)[:2]
    index.set_offset(one, index.offset(other))


def _not_in_order(index: Index) -> None:
    one, other = index.oid(0), index.oid(index.count - 1)
    for numbers, set_number in ((index.offset, index.set_offset), (index.crc, index.set_crc)):
        first, second = numbers(0), numbers(index.count - 1)
        set_number(0, second)
        set_number(index.count - 1, first)
    first, second = index.kinds[0], index.kinds[-1]
    index.set_kind(0, second)
    index.set_kind(index.count - 1, first)
    index.set_oid(0, other)
    index.set_oid(index.count - 1, one)


def _twice_the_same(index: Index) -> None:
    one, other = index.of(BLOB)[:2]
    index.set_oid(other, index.oid(one))
    index.set_offset(other, index.offset(one))


def _fanout(byte: int, count: int) -> Callable[[Index], None]:
    return lambda index: index.set_fanout(byte, count)


LIES: dict[str, Callable[[Index], None]] = {
    "blobs swapped": _swap_offsets(BLOB),
    "trees swapped": _swap_offsets(TREE),
    "commit and blob swapped": _commit_for_blob,
    "a commit by another name": _another_name(COMMIT),
    "a tree by another name": _another_name(TREE),
    "a blob by another name": _another_name(BLOB),
    "commits are blobs": _kinds(COMMIT, BLOB),
    "commits are trees": _kinds(COMMIT, TREE),
    "trees are blobs": _kinds(TREE, BLOB),
    "one tree is a blob": _one_kind(TREE, BLOB),
    "blobs are trees": _kinds(BLOB, TREE),
    "a blob is a commit": _one_kind(BLOB, COMMIT),
    "no kind": _kinds(BLOB, 0),
    "an offset in the head": _one_offset(3),
    "an offset behind the end": _one_offset(0x7FFFFFFF),
    "an offset in a table that is not there": _one_offset(0xFFFFFFFF),
    "an offset in the table of large ones": _one_offset(0x80000000),
    "a blob begins a byte later": _offset_more(BLOB),
    "a tree begins a byte later": _offset_more(TREE),
    "a commit begins a byte later": _offset_more(COMMIT),
    "two blobs at one place": _same_offset,
    "oids are not in order": _not_in_order,
    "an oid twice": _twice_the_same,
    "the fanout goes down": _fanout(0x80, 0),
    "the fanout counts too far": _fanout(0x10, 0xFFFFFFFF),
    "the fanout counts more objects": _fanout(0xFF, 1000),
    "the fanout counts none": _fanout(0xFF, 0),
    "another checksum": lambda index: index.set_crc(index.of(BLOB)[0], 1),
    "another size": lambda index: index.set_size(index.of(BLOB)[0], 0xFFFFFFFF),
}
HARMLESS = {
    "another checksum", "another size", "blobs are trees", "a blob is a commit", "oids are not in order",
    "blobs swapped", "trees swapped", "commits are trees", "a tree begins a byte later",
}  # fmt: skip
"""What may work as well: git finds the truth by itself from the bytes that came."""
HASHED_HERE = (
    "blobs swapped", "a blob by another name", "commits are blobs", "one tree is a blob", "an offset in the head",
    "a blob begins a byte later", "two blobs at one place", "oids are not in order", "an oid twice",
    "another checksum",
)  # fmt: skip
"""What is told of large packs too, which git does not index."""


@pytest.mark.parametrize(
    ("world", "name"),
    [(size, name) for name in LIES for size in ("small", "large") if size == "small" or name in HASHED_HERE],
    indirect=["world"],
)
def test_an_index_that_lies(world: World, name: str, tmp_path: Path) -> None:
    index = Index(world.store.index)
    LIES[name](index)
    lies = index.data()
    assert lies != world.store.index.read_bytes()
    endures(world, lambda: world.store.index.write_bytes(lies), tmp_path, harmless=name in HARMLESS)
