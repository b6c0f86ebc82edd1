"""Trees that are edited again and again: what snapshots share."""

import random

import pytest

from gitml.errors import CorruptError
from gitml.oid import ObjectFormat, Oid
from gitml.store.odb import MemoryOdb
from gitml.store.tree import (
    MODE_FILE,
    MODE_TREE,
    Entry,
    Snapshot,
    Trees,
    edit_tree,
    empty_tree,
    format_tree,
    parse_tree,
)


def odb(name: str = "sha1") -> MemoryOdb:
    return MemoryOdb(ObjectFormat.named(name))


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_edits_with_shared_trees_give_what_edits_without_give(name: str) -> None:
    chance = random.Random(7)
    store, trees = odb(name), Trees(most=40)  # small, so that some have to go
    shared = plain = empty_tree(store.format)
    names = [b"a", b"a.b", b"a-b", b"a0", b"a/b", b"a/b/c", b"x/y/z", b"x/y0", b"x.y"]
    for number in range(300):
        blob = store.write("blob", b"%d" % number)
        changes = {chance.choice(names): Entry(MODE_FILE, blob) if chance.random() < 0.6 else None}
        shared = edit_tree(store, store, shared, changes, trees)
        plain = edit_tree(store, store, plain, changes)
        assert shared == plain
        seen, fresh = Snapshot(store, shared, trees), Snapshot(store, shared)
        assert list(seen.walk()) == list(fresh.walk()), "in git's order too"
        assert list(seen.list(b"").items()) == list(fresh.list(b"").items())


def test_what_was_just_written_need_not_be_read() -> None:
    store, written, trees = odb(), odb(), Trees()
    tree = edit_tree(store, written, empty_tree(store.format), {b"a/b": Entry(MODE_FILE, Oid(b"1" * 20))}, trees)
    entry = Snapshot(store, tree, trees).get(b"a/b")
    assert entry == (MODE_FILE, b"1" * 20)
    assert isinstance(entry.oid, Oid)


def test_what_was_used_last_is_kept() -> None:
    trees = Trees(most=3)
    names = [Oid(bytes([number]) * 20) for number in range(4)]
    entry = {b"one": Entry(MODE_TREE, names[0])}
    for name in names[:3]:
        trees.put(name, entry)
        trees.put(name, entry)
    assert trees.get(names[0]) is not None
    trees.put(names[3], entry)
    assert [trees.get(name) is not None for name in names] == [True, False, True, True]


def test_a_tree_comes_back_as_it_was_written() -> None:
    entries = [(b"a", Entry(MODE_FILE, Oid(b"1" * 20))), (b"b", Entry(MODE_TREE, Oid(b"2" * 20)))]
    parsed = parse_tree(format_tree(entries), 20)
    assert parsed == entries
    assert all(type(entry.oid) is Oid for _, entry in parsed)
    for damaged in (b"100644 a\0" + b"1" * 19, b"100644 a", b"x a\0" + b"1" * 20, b"100644"):
        with pytest.raises(CorruptError):
            parse_tree(damaged, 20)
