"""Workspaces in memory: where they lie, when they fit, and that nothing is left of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.pipeline.datum import DatumInput
from gitml.pipeline.volume import memory_needed, remove_root, workspaces_at
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_TREE, Entry, Snapshot


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What stands for the memory of the machine."""
    place = tmp_path / "shm"
    place.mkdir()
    return place


def test_where_workspaces_lie(tmp_path: Path, odb: MemoryOdb, volume: Path) -> None:
    root = tmp_path / "run" / "work"
    with workspaces_at(root, odb, memory=1, volume=volume) as workspaces:
        (place,) = volume.iterdir()
        assert workspaces.root == root.readlink() == place / "work"
        with workspaces.create(()) as workspace:
            assert workspace.out.resolve().is_relative_to(place)
            assert place.stat().st_mode & 0o777 == 0o700
    assert (list(volume.iterdir()), root.is_symlink()) == ([], False)
    for asked, where in ((None, volume), (1 << 60, volume), (1, tmp_path / "none")):
        with workspaces_at(root, odb, memory=asked, volume=where) as workspaces:
            assert workspaces.root == root
            assert not root.is_symlink()
    assert (list(volume.iterdir()), root.exists()) == ([], False)


def test_what_a_killed_runner_leaves(tmp_path: Path, odb: MemoryOdb, volume: Path) -> None:
    root = tmp_path / "run" / "work"
    killed = workspaces_at(root, odb, memory=1, volume=volume)
    killed.__enter__().create(())
    assert sorted(tmp_path.glob("*/work")) == [root]
    remove_root(root, volume)
    assert (list(volume.iterdir()), root.is_symlink()) == ([], False)
    # a machine that was started anew has lost the directory, and a link to somewhere else leads to nothing of ours
    other = tmp_path / "other" / "gitml-x" / "work"
    other.mkdir(parents=True)
    for target in (volume / "gitml-gone" / "work", other):
        root.symlink_to(target)
        with workspaces_at(root, odb, volume=volume) as workspaces:
            workspaces.create(())
            assert not root.is_symlink()
    assert other.exists()


def test_how_much_they_need(odb: MemoryOdb, tree: Callable[..., Snapshot]) -> None:
    def whole(files: dict[str, str], *, empty_files: bool = False) -> DatumInput:
        return DatumInput("x", b"x", b"", Entry(MODE_TREE, tree(files).root), empty_files=empty_files)

    one, two = whole({"a": "1" * 100, "d/b": "2" * 10, "l@": "a"}), whole({"a": "1" * 100, "c": "3" * 1000})
    assert memory_needed([], odb, 1, 0) == 0
    assert memory_needed([(one,)], odb, 1, 7) == 110 + 2 * 110 + 7
    assert memory_needed([(one, two), (one,)], odb, 3, 7) == 1110 + 3 * (2 * 1210 + 7)
    assert memory_needed([(whole({"a": "1"}, empty_files=True),)], odb, 1, 0) == 0
