"""Stores that are damaged.

What comes of it is one clear message. Nothing wrong enters a repository, and what fails works again once the store is
mended. Either an object is what its name says, or it is not there.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.remote.worlds import Files, World, endures, fails_or_is_right, flip, offsets


@pytest.mark.parametrize("at", [0.3, 0.97])
def test_a_flipped_byte_of_a_pack(world: World, at: float, tmp_path: Path) -> None:
    path = world.store.packs[int(at * len(world.store.packs))]
    endures(world, lambda: flip(path, int(path.stat().st_size * at)), tmp_path)


def test_any_flipped_byte_of_a_small_pack(originals: Callable[[str], Path], tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    top = tmp_path / "world"
    shutil.copytree(originals("small"), top)
    world = World(Files(top / "store", ""), Project(top / "work"), Project(top / "reader"))
    for number in range(8):
        path = chance.choice(sorted(world.store.path.glob("packs/*")))
        at = chance.randrange(path.stat().st_size)
        print(path.name, at)
        before = path.read_bytes()
        flip(path, at)
        # the head and the digest of a pack are not read where its objects are
        fails_or_is_right(world, Project(tmp_path), ["clone", world.store.url, f"c{number}"], tmp_path / f"c{number}")
        path.write_bytes(before)


def test_a_flipped_byte_where_an_entry_begins(world: World, tmp_path: Path) -> None:
    # not only what an object holds, but what it is and what it is a delta to
    entries = offsets(world.store)
    chance = random.Random(5)
    places = chance.sample(entries, 4)

    def damage() -> None:
        for place in places:
            piece, at = divmod(place, 16 << 20) if len(world.store.packs) > 1 else (0, place)
            flip(world.store.packs[piece], at)

    endures(world, damage, tmp_path)


@pytest.mark.parametrize("bytes_left", [0, 2000, -1])
def test_a_truncated_pack(world: World, bytes_left: int, tmp_path: Path) -> None:
    path = world.store.packs[-1]
    size = path.stat().st_size
    # the last byte of a pack is one of its digest, which nobody reads who reads objects
    lost_nothing = bytes_left == -1 and len(world.store.packs) == 1
    endures(
        world, lambda: os.truncate(path, bytes_left if bytes_left >= 0 else size - 1), tmp_path, harmless=lost_nothing
    )


def test_a_missing_piece(world: World, tmp_path: Path) -> None:
    endures(world, world.store.packs[-1].unlink, tmp_path)


def test_a_missing_pack(world: World, tmp_path: Path) -> None:
    def damage() -> None:
        for path in world.store.packs:
            path.unlink()

    endures(world, damage, tmp_path)


@pytest.mark.parametrize("world", ["small"], indirect=True)
def test_a_missing_index(world: World, tmp_path: Path) -> None:
    endures(world, world.store.index.unlink, tmp_path)


@pytest.mark.parametrize("world", ["small"], indirect=True)
@pytest.mark.parametrize("at", [0, 9, 1040, 1200, -1, -40])
def test_a_flipped_byte_of_an_index(world: World, at: int, tmp_path: Path) -> None:
    endures(world, lambda: flip(world.store.index, at), tmp_path)


@pytest.mark.parametrize("world", ["small"], indirect=True)
@pytest.mark.parametrize("size", [0, 1, 1000, 1100])
def test_a_truncated_index(world: World, size: int, tmp_path: Path) -> None:
    endures(world, lambda: os.truncate(world.store.index, size), tmp_path)


@pytest.mark.parametrize("world", ["small"], indirect=True)
def test_the_index_of_another_pack(world: World, tmp_path: Path) -> None:
    other = next(path for path in world.store.path.glob("packs/*.index") if path != world.store.index)
    endures(world, lambda: world.store.index.write_bytes(other.read_bytes()), tmp_path)
