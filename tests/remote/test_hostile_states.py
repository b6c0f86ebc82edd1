"""States that nobody of ours wrote: values, names and refs that are refused."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitml.errors import CorruptError, UserError
from gitml.remote.state import parse_state
from tests.end_to_end.project import Project
from tests.remote.conftest import commit
from tests.remote.worlds import Files, World, endures

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
