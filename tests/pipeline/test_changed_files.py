"""What changed in an input, found without reading what is the same: the same as by listing both sides whole."""

import random
from collections.abc import Callable

import pytest

from gitml.oid import Oid
from gitml.pipeline.glob import compile_glob
from gitml.pipeline.reason import changed_files
from gitml.pipeline.spec.model import PfsInput
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_GITLINK, MODE_TREE, Entry, Snapshot

MakeTree = Callable[..., Snapshot]

GLOBS = ["/", "/*", "/*/*", "/**", "/a", "/a/*", "/{a,b}/c", "/a*", "/*/b/**", "/!(a)", "/**c"]
NAMES = ["a", "b", "c", "a/b", "a/c", "b/c", "a/b/c", "c/a", "c/a/b", "a/b/d", "d"]


def files(snapshot: Snapshot, glob: str) -> dict[bytes, Entry]:
    """Every file that is picked, or lies in a directory that is; a submodule only in the latter case."""
    compiled = compile_glob(glob)

    def picked(path: bytes, entry: Entry) -> bool:
        above = [path[:at] for at, char in enumerate(path) if char == ord("/")]
        itself = entry.mode != MODE_GITLINK and compiled.matches(path)
        return compiled.is_root or itself or any(map(compiled.matches, above))

    return {path: entry for path, entry in snapshot.walk() if picked(path, entry)}


def random_files(dice: random.Random) -> dict[str, str | Entry]:
    found: dict[str, str | Entry] = {}
    for name in dice.sample(NAMES, dice.randint(1, 6)):
        above = [name[:at] for at, char in enumerate(name) if char == "/"]
        if not any(each in found for each in above) and not any(each.startswith(f"{name}/") for each in found):
            found[name] = Entry(MODE_GITLINK, Oid(bytes(20))) if dice.random() < 0.1 else str(dice.randint(0, 1))
    return found


@pytest.mark.parametrize("glob", GLOBS)
def test_as_by_listing_both_whole(tree: MakeTree, glob: str) -> None:
    dice = random.Random(glob)
    leaf = PfsInput(name="x", repo="x", path=b"x", upstream=None, glob=glob)
    some = False
    for _ in range(200):
        before, after = tree(random_files(dice)), tree(random_files(dice))
        old, new = files(before, glob), files(after, glob)
        expected = {
            path: "added" if path not in old else "removed" if path not in new else "changed"
            for path in {*old, *new}
            if old.get(path) != new.get(path)
        }
        roots = Entry(MODE_TREE, before.root), Entry(MODE_TREE, after.root)
        assert changed_files(after, leaf, *roots) == expected
        some |= bool(expected)
    assert some


def test_what_is_the_same_is_not_read(tree: MakeTree, odb: MemoryOdb, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"{folder}/{number}": "x" for folder in range(10) for number in range(10)}
    before, after = tree(many), tree({**many, "3/new": "y"})
    read: list[Oid] = []
    real = odb.read

    def noting(oid: Oid) -> tuple[str, bytes]:
        read.append(oid)
        return real(oid)

    monkeypatch.setattr(odb, "read", noting)
    leaf = PfsInput(name="x", repo="x", path=b"x", upstream=None, glob="/*/*")
    roots = Entry(MODE_TREE, before.root), Entry(MODE_TREE, after.root)
    assert changed_files(Snapshot(odb, after.root), leaf, *roots) == {b"3/new": "added"}
    assert len(read) == 4  # both roots, and both versions of one directory
