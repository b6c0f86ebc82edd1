"""Stores that are damaged, or that somebody wrote who means no good.

What comes of it is one clear message. Nothing wrong enters a repository, and what fails works again once the store is
mended. Either an object is what its name says, or it is not there.
"""

import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitml.errors import CorruptError, UserError
from gitml.remote.state import parse_state
from tests.end_to_end.project import Project
from tests.remote.conftest import clone, commit

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
    commit(work, "one\n")
    path = top / "store"
    url = f"ml::file://{path}"
    work.git("push", "-q", url, "main")
    before = {each.name for each in path.glob("packs/*.index")}
    reader = clone(url, top / "reader")
    chance = random.Random(size)
    for number in range(6):
        work.write(f"dir/{number}", chance.randbytes(size // 6))
    work.write("table", "".join(f"{row},{chance.random()}\n" for row in range(300)))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "two")
    work.git("push", "-q", url, "main")
    (new,) = {each.name for each in path.glob("packs/*.index")} - before
    return World(Files(path, new.removesuffix(".index")), work, reader)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives where a world of a kind is, `small` or `large`; each is built once."""
    made: dict[str, Path] = {}

    def original(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            build(made[kind], 6000 if kind == "small" else LARGE)
        return made[kind]

    return original


@pytest.fixture(params=["small", "large"])
def world(request: pytest.FixtureRequest, originals: Callable[[str], Path], tmp_path: Path) -> World:
    original = originals(request.param)
    top = tmp_path / "world"
    shutil.copytree(original, top)
    reader, work = Project(top / "reader"), Project(top / "work")
    for project in (reader, work):
        # what is kept of a store here is kept by its address
        shutil.rmtree(project.path / ".git" / "ml", ignore_errors=True)
    url = f"ml::file://{top}/store"
    reader.git("remote", "set-url", "origin", url)
    newest = max((top / "store/packs").glob("*.index"), key=lambda path: path.stat().st_mtime_ns)
    return World(Files(top / "store", newest.stem), work, reader)


def endures(world: World, damage: Callable[[], object], tmp_path: Path, *, harmless: bool = False) -> None:
    """Damage the store: clone and fetch end with a message and leave nothing; mend it: they work."""
    whole = tmp_path / "whole"
    shutil.copytree(world.store.path, whole)
    damage()
    old = world.reader.git("for-each-ref")
    failed = [
        _fails_or_is_right(world, Project(tmp_path), ["clone", world.store.url, "cloned"], tmp_path / "cloned"),
        _fails_or_is_right(world, world.reader, ["fetch"], None),
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
        right(world, clone(world.store.url, tmp_path / "cloned"))


def _fails_or_is_right(world: World, where: Project, command: list[str], cloned: Path | None) -> bool:
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


# damage


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at if at >= 0 else path.stat().st_size + at)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


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
        _fails_or_is_right(world, Project(tmp_path), ["clone", world.store.url, f"c{number}"], tmp_path / f"c{number}")
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


# indexes that are well-formed, and lie


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


# the state


Values = dict[str, tuple[Any, ...]]


def _of_pack(name: str, value: Any) -> Callable[[Files, Any], None]:
    def change(store: Files, state: Any) -> None:
        store.pack_entry(state)[name] = value

    return change


def _of_ref(value: Any) -> Callable[[Files, Any], None]:
    def change(_: Files, state: Any) -> None:
        state["refs"]["refs/heads/main"] = value

    return change


def _of_state(name: str, value: Any) -> Callable[[Files, Any], None]:
    def change(_: Files, state: Any) -> None:
        state[name] = value

    return change


def _with_ref(name: str) -> Callable[[Files, Any], None]:
    def change(_: Files, state: Any) -> None:
        state["refs"][name] = state["refs"]["refs/heads/main"]

    return change


def _without(name: str) -> Callable[[Files, Any], None]:
    def change(_: Files, state: Any) -> None:
        del state[name]

    return change


def _without_newest(store: Files, state: Any) -> None:
    state["packs"].remove(store.pack_entry(state))


OIDS: tuple[Any, ...] = (
    "", "x" * 40, "../" * 13 + "a", "A" * 40, "1" * 39, "1" * 64, "1" * 40, None, 1, ["1" * 40], {}
)  # fmt: skip
PACK_VALUES: Values = {
    "id": ("", "../../x", "/etc/passwd", "x" * 40, "1" * 40, "1" * 64, None, 3),
    "size": (-1, 0, 1, 12, 33, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 200, "100", None, 1.5, True),
    "objects": (-1, 0, 1, 1 << 31, 1 << 40, 1 << 63, "3", None, True),
    "kind": ("", "other", None, 1),
    "epoch": (-1, None, "1", 1 << 40, True, "../x"),
}
STATE_VALUES: Values = {
    "refs": (None, [], 1, "x"),
    "packs": (None, {"a": 1}, 1, [None], [[]], ["x"]),
    "dropped": (None, 1, [None], [{"id": "../x", "size": 1, "since": 1}]),
    "head": (1, "../x", "x y", []),
    "object_format": ("md5", None, 1, [], "sha256"),
    "format": (None, 0, -1, "1", 2, 1 << 70, [], True),
    "sweeps": (-1, None, "x"),
    "epoch": (-1, None, "x", 1 << 40),
    "update": (None, 1),
}
NOT_REFS: tuple[Any, ...] = (None, 1, "1" * 40, [], {})

STATES: dict[str, Callable[[Files, Any], None]] = {
    **{
        f"ref {name!r}": _with_ref(name)
        for name in (
            "refs/heads/../../x",
            "refs/heads/a b",
            "refs/heads/a\nb",
            "refs/heads/\x1b[2J",
            "refs/heads/\x7f",
            "refs/heads/x.lock",
            "refs/heads/x.lock/y",
            "HEAD",
            "config",
            "../config",
            "/etc/passwd",
            "",
            "refs/",
            "refs/heads/",
            "refs/heads//x",
            "refs/heads/.x",
            "refs/heads/x.",
            "refs/heads/a..b",
            "refs/heads/@{x",
            "refs/heads/a\\b",
            "refs/heads/a:b",
            "refs/heads/a\0b",
            "refs/heads/\ud800",
            "refs/heads/main^{}",
        )
    },
    **{f"oid {value!r}": _of_ref({"oid": value}) for value in OIDS},
    **{f"ref is {value!r}": _of_ref(value) for value in NOT_REFS},
    "peeled is no oid": lambda _, state: state["refs"]["refs/heads/main"].update(peeled="../x"),
    **{f"pack {name} {value!r}": _of_pack(name, value) for name, values in PACK_VALUES.items() for value in values},
    **{f"{name} {value!r}": _of_state(name, value) for name, values in STATE_VALUES.items() for value in values},
    **{f"without {name}": _without(name) for name in ("refs", "packs", "dropped", "head", "object_format", "format")},
    "without a pack": _without_newest,
}


def test_a_state_that_is_wrong(originals: Callable[[str], Path], tmp_path: Path) -> None:
    """One world for all: what is refused leaves it as it was. Git is asked where reading the state finds nothing."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    asked = set(random.Random(seed).sample(sorted(STATES), 6))
    top = tmp_path / "world"
    shutil.copytree(originals("small"), top)
    reader = Project(top / "reader")
    shutil.rmtree(reader.path / ".git" / "ml")
    newest = max((top / "store/packs").glob("*.index"), key=lambda path: path.stat().st_mtime_ns)
    store = Files(top / "store", newest.stem)
    reader.git("remote", "set-url", "origin", store.url)
    original = (store.path / "refs.json").read_bytes()
    before = reader.git("for-each-ref")
    for name, change in STATES.items():
        state = json.loads(original)
        change(store, state)
        store.set_state(state)
        try:
            parse_state((store.path / "refs.json").read_bytes(), "refs.json")
            asked.add(name)
        except (CorruptError, UserError):
            pass
        if name in asked:
            done = reader.run("git", "fetch", check=False)
            assert done.returncode != 0, name
            assert any(line.startswith("fatal: ") for line in done.stderr.splitlines()), (name, done.stderr)
            assert all(char.isprintable() or char in "\n\t" for char in done.stderr), (name, done.stderr)
            assert reader.git("for-each-ref") == before, name
    reader.git("fsck", "--strict", "--full")
    (store.path / "refs.json").write_bytes(original)
    reader.git("fetch", "-q")
    assert reader.head("origin/main") == Project(top / "work").head()


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": ' + b"9" * 10_000 + b"}"],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
@pytest.mark.parametrize("world", ["small"], indirect=True)
def test_a_state_that_is_none(world: World, data: bytes, tmp_path: Path) -> None:
    endures(world, lambda: (world.store.path / "refs.json").write_bytes(data), tmp_path)


@pytest.mark.parametrize("world", ["small"], indirect=True)
def test_no_push_goes_into_a_store_of_a_later_format(world: World) -> None:
    state = world.store.state()
    state["format"] = 2
    world.store.set_state(state)
    before = (world.store.path / "refs.json").read_bytes()
    commit(world.work, "three\n")
    done = world.work.run("git", "push", world.store.url, "main", check=False)
    assert done.returncode != 0
    assert "has format 2" in done.stderr
    assert (world.store.path / "refs.json").read_bytes() == before


# packs that are bombs


def entry(kind: int, size: int, stream: bytes) -> bytes:
    head = []
    byte, size = kind << 4 | size & 15, size >> 4
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    return bytes([*head, byte]) + stream


def zeros(size: int) -> bytes:
    """A zlib stream of `size` zeros, a thousandth of that."""
    compressor = zlib.compressobj(1)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(size >> 20)) + compressor.flush()


# a process counts the memory of the one that started it until it runs its program, and a test process is large
WITH_PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


@pytest.mark.parametrize("filler", [0, 34 << 20], ids=["hashed by git", "hashed by gitml"])
@pytest.mark.parametrize("bomb", ["small size, much content", "size without end"])
def test_a_bomb_in_a_pack(filler: int, bomb: str, tmp_path: Path) -> None:
    stream = zeros(384 << 20)
    size = 1000 if bomb.startswith("small") else 1 << 40
    blob = bytes.fromhex("b0" * 20)
    fill = random.Random(1).randbytes(1 << 20)
    objects: list[tuple[bytes, int, int, bytes]] = [(blob, BLOB, size, entry(BLOB, size, stream))]
    names = [(b"bomb", blob)]
    for number in range(filler >> 20):
        content = b"%d" % number + fill
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).digest()
        objects.append((oid, BLOB, len(content), entry(BLOB, len(content), zlib.compress(content, 0))))
        names.append((b"fill%04d" % number, oid))
    tree = b"".join(b"100644 " + name + b"\0" + oid for name, oid in names)
    tree_oid = hashlib.sha1(b"tree %d\0" % len(tree) + tree).digest()
    objects.append((tree_oid, TREE, len(tree), entry(TREE, len(tree), zlib.compress(tree))))
    text = b"tree " + tree_oid.hex().encode() + b"\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    commit_oid = hashlib.sha1(b"commit %d\0" % len(text) + text).digest()
    objects.append((commit_oid, COMMIT, len(text), entry(COMMIT, len(text), zlib.compress(text))))
    store = write_store(tmp_path / "store", objects, commit_oid)
    command = ["git", "clone", store.url, str(tmp_path / "cloned")]
    done = subprocess.run(
        [sys.executable, "-c", WITH_PEAK, *command],
        env=Project(tmp_path).environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "fatal: " in done.stderr
    assert not (tmp_path / "cloned").exists()
    peak = int(done.stdout) >> 10
    print("peak of memory", peak, "MiB;", done.stderr)
    assert peak < 250


def write_store(path: Path, objects: list[tuple[bytes, int, int, bytes]], head: bytes) -> Files:
    """A store with one pack of these entries: oid, kind, size, bytes."""
    pack = b"PACK" + struct.pack(">LL", 2, len(objects))
    placed: dict[bytes, tuple[int, int, int, int]] = {}
    parts = [pack]
    at = len(pack)
    for oid, kind, size, data in objects:
        placed[oid] = (at, zlib.crc32(data), kind, min(size, 0xFFFFFFFF))
        parts.append(data)
        at += len(data)
    body = b"".join(parts)
    trailer = hashlib.sha1(body).digest()
    body += trailer
    order = sorted(placed)
    git = b"\xfftOc\0\0\0\2" + struct.pack(">256L", *(sum(oid[0] <= byte for oid in order) for byte in range(256)))
    git += b"".join(order)
    git += struct.pack(f">{len(order)}L", *(placed[oid][1] for oid in order))
    git += struct.pack(f">{len(order)}L", *(placed[oid][0] for oid in order)) + trailer
    git += hashlib.sha1(git).digest()
    ours = git + bytes(placed[oid][2] for oid in order)
    ours += struct.pack(f">{len(order)}L", *(placed[oid][3] for oid in order))
    store = Files(path, trailer.hex())
    (path / "packs").mkdir(parents=True)
    store.index.write_bytes(ours + hashlib.sha256(ours).digest())
    if len(body) <= 16 << 20:
        (path / "packs" / f"{store.newest}.pack").write_bytes(body)
    else:
        (path / "packs" / store.newest).mkdir()
        for number, start in enumerate(range(0, len(body), 16 << 20)):
            (path / "packs" / store.newest / f"{number:05}").write_bytes(body[start : start + (16 << 20)])
    store.set_state(
        {
            "format": 1, "object_format": "sha1", "head": "refs/heads/main",
            "refs": {"refs/heads/main": {"oid": head.hex()}},
            "packs": [{"id": store.newest, "size": len(body), "objects": len(order), "kind": "code"}],
            "dropped": [], "sweeps": 0, "update": "",
        }
    )  # fmt: skip
    return store


def test_the_store_that_the_tests_write_is_one(tmp_path: Path) -> None:
    text = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    commit_oid = hashlib.sha1(b"commit %d\0" % len(text) + text).digest()
    tree_oid = hashlib.sha1(b"tree 0\0").digest()
    objects = [
        (commit_oid, COMMIT, len(text), entry(COMMIT, len(text), zlib.compress(text))),
        (tree_oid, TREE, 0, entry(TREE, 0, zlib.compress(b""))),
    ]
    store = write_store(tmp_path / "store", objects, commit_oid)
    assert clone(store.url, tmp_path / "cloned").head() == commit_oid.hex()
