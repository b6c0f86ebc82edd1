"""Listings of datums are made once for the same inputs, and anew for any other."""

from collections.abc import Callable
from typing import Any

import pytest

from gitml.oid import Oid
from gitml.pipeline import listed
from gitml.pipeline.code import CodeFile
from gitml.pipeline.key import task_keys
from gitml.pipeline.listed import Listed, Listings
from gitml.pipeline.params import Params
from gitml.pipeline.spec.model import PfsInput, Stage, Transform
from gitml.record import replace
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, Snapshot

Files = dict[str, str]

LEAF = PfsInput(name="data", repo="data", path=b"data", upstream=None, glob="/*")
STAGE = Stage(name="s", transform=Transform(cmd=("true",)), input=LEAF, output=b"s")
CODE = CodeFile("a.py", b"a.py", Entry(MODE_FILE, Oid(bytes(20))))
NO_PARAMS = Params({}, {})


class Counted:
    """Lists stages, and counts how often that is done anew."""

    def __init__(self, tree: Callable[[Files], Snapshot], monkeypatch: pytest.MonkeyPatch) -> None:
        self.listings = Listings()
        self.made = 0
        self._tree = tree
        real = task_keys

        def counting(*arguments: Any) -> list[str]:
            self.made += 1
            return real(*arguments)

        monkeypatch.setattr(listed, "task_keys", counting)

    def of(
        self, files: Files, stage: Stage = STAGE, code: tuple[CodeFile, ...] = (), params: Params = NO_PARAMS
    ) -> Listed:
        snapshot = self._tree(files)
        return self.listings.of(stage, snapshot, {LEAF: Entry(MODE_TREE, snapshot.root)}, code, params)


@pytest.fixture
def counted(tree: Callable[[Files], Snapshot], monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(tree, monkeypatch)


def test_the_same_is_listed_once(counted: Counted) -> None:
    files = {"a": "1", "b": "2"}
    first = counted.of(files)
    assert [datum.inputs[0].path for datum in first.datums] == [b"a", b"b"]
    assert len(set(first.task_keys)) == 2
    assert counted.of(dict(files)) is first
    assert counted.made == 1


def test_whatever_is_in_a_key_is_listed_anew(counted: Counted) -> None:
    files = {"a": "1", "b": "2"}
    keys = {
        counted.of(files).key,
        counted.of({**files, "c": "3"}).key,
        counted.of({**files, "b": "changed"}).key,
        counted.of(files, stage=replace(STAGE, salt="more")).key,
        counted.of(files, code=(CODE,)).key,
        counted.of(files, params=Params({"p.json": {"a": 1}}, {})).key,
    }
    assert len(keys) == 6
    assert counted.made == 6


def test_what_was_listed_longest_ago_goes_first(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "_MOST", 4)
    two, many = {"a": "1", "b": "2"}, {str(number): "" for number in range(5)}
    one, other, third = (replace(STAGE, name=name) for name in "abc")
    for stage in (one, other, third, other, third):
        counted.of(two, stage)
    assert counted.made == 3
    counted.of(two, one)  # it had to make room
    counted.of(two, third)
    assert counted.made == 4
    counted.of(many, other)  # more than is ever kept
    counted.of(many, other)
    assert counted.made == 6
