"""A store, who pushed to it, who fetches from it; and what of that is to hold while the store is damaged."""

import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.project import Project

LARGE = 36 << 20
"""More than what is hashed by git: whole objects of such a pack are hashed by our own code."""


@dataclass(frozen=True)
class Files:
    """A store in a directory; what was pushed last is in the pack `newest`."""

    path: Path
    newest: str

    @property
    def url(self) -> str:
        return f"ml::file://{self.path}"

    @property
    def index(self) -> Path:
        return self.path / "packs" / f"{self.newest}.index"

    @property
    def packs(self) -> list[Path]:
        """The objects of the newest pack."""
        return sorted(self.path.glob(f"packs/{self.newest}.pack")) or sorted(self.path.glob(f"packs/{self.newest}/*"))

    def state(self) -> Any:
        return json.loads((self.path / "refs.json").read_bytes())

    def set_state(self, state: Any) -> None:
        (self.path / "refs.json").write_text(json.dumps(state))

    def pack_entry(self, state: Any) -> Any:
        return next(each for each in state["packs"] if each["id"] == self.newest)


@dataclass(frozen=True)
class World:
    """A store, who pushed to it, and who has its first commit only."""

    store: Files
    work: Project
    reader: Project


def build(top: Path, size: int) -> World:
    """A store with two pushes of about `size` bytes at last."""
    work = Project(top / "work")
    work.path.mkdir()
    work.git("init", "-q")
    work.write("file", "one\n")
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "one")
    path = top / "store"
    url = f"ml::file://{path}"
    work.git("push", "-q", url, "main")
    before = {each.name for each in path.glob("packs/*.index")}
    work.git("clone", "-q", url, str(top / "reader"))
    reader = Project(top / "reader")
    chance = random.Random(size)
    for number in range(6):
        work.write(f"dir/{number}", chance.randbytes(size // 6))
    work.write("table", "".join(f"{row},{chance.random()}\n" for row in range(300)))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "two")
    work.git("push", "-q", url, "main")
    (new,) = {each.name for each in path.glob("packs/*.index")} - before
    return World(Files(path, new.removesuffix(".index")), work, reader)


def endures(world: World, damage: Callable[[], object], tmp_path: Path, *, harmless: bool = False) -> None:
    """Damage the store: clone and fetch end with a message and leave nothing; mend it: they work."""
    whole = tmp_path / "whole"
    shutil.copytree(world.store.path, whole)
    damage()
    old = world.reader.git("for-each-ref")
    failed = [
        fails_or_is_right(world, Project(tmp_path), ["clone", world.store.url, "cloned"], tmp_path / "cloned"),
        fails_or_is_right(world, world.reader, ["fetch"], None),
    ]
    assert harmless or all(failed), "a damaged store went unnoticed"
    if failed[0]:
        assert not (tmp_path / "cloned").exists()
    world.reader.git("fsck", "--strict", "--full")
    if failed[1]:
        assert world.reader.git("for-each-ref") == old
        # whatever is there is complete: git looks at nothing but what refs reach
        assert world.reader.git("cat-file", "-t", world.work.head(), check=False) == ""
    shutil.rmtree(world.store.path)
    whole.rename(world.store.path)
    world.reader.git("fetch", "-q")
    assert world.reader.head("origin/main") == world.work.head()
    world.reader.git("merge", "-q", "--ff-only", "origin/main")
    right(world, world.reader)
    if failed[0]:
        Project(tmp_path).git("clone", "-q", world.store.url, "cloned")
        right(world, Project(tmp_path / "cloned"))


def fails_or_is_right(world: World, where: Project, command: list[str], cloned: Path | None) -> bool:
    done = where.run("git", *command, check=False)
    if done.returncode == 0:
        if cloned is not None:
            right(world, Project(cloned))
        return False
    assert any(line.startswith("fatal: ") for line in done.stderr.splitlines()), done.stderr
    assert "bug" not in done.stderr.lower()
    assert all(char.isprintable() or char in "\n\r\t\x1b" for char in done.stderr), repr(done.stderr)
    return True


def right(world: World, project: Project) -> None:
    project.git("fsck", "--strict", "--full")
    assert project.head() == world.work.head()
    assert project.head("HEAD^{tree}") == world.work.head("HEAD^{tree}")
    assert project.git("rev-list", "--objects", "HEAD") == world.work.git("rev-list", "--objects", "HEAD")
    assert project.is_clean()


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at if at >= 0 else path.stat().st_size + at)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


class Index:
    """The index of a pack of `count` SHA-1 objects, to be changed; `data` gives it with digests that are right."""

    def __init__(self, path: Path) -> None:
        self._data = bytearray(path.read_bytes()[:-32])
        self.count = struct.unpack_from(">L", self._data, 8 + 1020)[0]
        self._tail = len(self._data) - 5 * self.count

    def data(self) -> bytes:
        git = bytes(self._data[: self._tail - 20])
        body = git + hashlib.sha1(git).digest() + bytes(self._data[self._tail :])
        return body + hashlib.sha256(body).digest()

    @property
    def kinds(self) -> bytes:
        return bytes(self._data[self._tail : self._tail + self.count])

    def set_kind(self, position: int, kind: int) -> None:
        self._data[self._tail + position] = kind

    def set_size(self, position: int, size: int) -> None:
        struct.pack_into(">L", self._data, self._tail + self.count + 4 * position, size)

    def oid(self, position: int) -> bytes:
        return bytes(self._data[1032 + 20 * position : 1052 + 20 * position])

    def set_oid(self, position: int, oid: bytes) -> None:
        self._data[1032 + 20 * position : 1052 + 20 * position] = oid

    def crc(self, position: int) -> int:
        return int(struct.unpack_from(">L", self._data, 1032 + 20 * self.count + 4 * position)[0])

    def set_crc(self, position: int, crc: int) -> None:
        struct.pack_into(">L", self._data, 1032 + 20 * self.count + 4 * position, crc)

    def offset(self, position: int) -> int:
        return int(struct.unpack_from(">L", self._data, 1032 + 24 * self.count + 4 * position)[0])

    def set_offset(self, position: int, offset: int) -> None:
        struct.pack_into(">L", self._data, 1032 + 24 * self.count + 4 * position, offset)

    def set_fanout(self, byte: int, count: int) -> None:
        struct.pack_into(">L", self._data, 8 + 4 * byte, count)

    def of(self, kind: int) -> list[int]:
        """The positions of objects of a kind."""
        return [position for position, each in enumerate(self.kinds) if each == kind]


COMMIT, TREE, BLOB = 1, 2, 3


def offsets(store: Files) -> list[int]:
    index = Index(store.index)
    return [index.offset(position) for position in range(index.count)]
