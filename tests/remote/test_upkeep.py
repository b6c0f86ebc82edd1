"""Stores over time: folding, and `git ml remote info`, `fsck`, `gc`."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.remote.fold import LARGEST, LOWEST, MOST, WIDTH, level_of, to_fold
from gitml.remote.outgoing import make_packs, packs_in
from gitml.remote.packs import StoredIndex, index_key
from gitml.remote.state import Kind, Pack, format_state, parse_state
from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit


@pytest.fixture
def url(new_store: NewStore) -> str:
    return new_store("file")


def directory(url: str) -> Path:
    return Path(url.removeprefix("ml::file://"))


def info(work: Project, url: str) -> Any:
    return json.loads(work.ml("remote", "info", url, "--json").stdout)


def files(url: str) -> set[str]:
    return {str(path.relative_to(directory(url))) for path in directory(url).rglob("*") if path.is_file()}


def test_levels() -> None:
    assert [level_of(size) for size in (0, LOWEST - 1, LOWEST, 8 * LOWEST - 1, 8 * LOWEST)] == [0, 0, 1, 1, 2]
    assert level_of(LARGEST) is None


def test_the_eighth_pack_of_a_level_takes_the_others() -> None:
    small = [Pack(f"{number:040x}", 1000, 3, Kind.CODE) for number in range(WIDTH - 1)]
    assert to_fold(small[1:], Kind.CODE, 1000) == []
    assert to_fold(small, Kind.CODE, 1000) == small
    assert to_fold(small, Kind.DATA, 1000) == []
    assert to_fold(small, Kind.CODE, 1000, "never") == []
    assert to_fold(small[:2], Kind.CODE, 1000, "now") == small[:2]


def test_folding_goes_on_with_the_next_level() -> None:
    small = [Pack(f"{number:040x}", LOWEST // 2, 3, Kind.CODE) for number in range(7)]
    middle = [Pack(f"{number:040x}", 2 * LOWEST, 3, Kind.CODE) for number in range(10, 17)]
    assert to_fold([*small, *middle], Kind.CODE, LOWEST // 2) == [*small, *middle]


def test_packs_that_are_not_at_hand_are_read_only_once_there_are_many() -> None:
    def pack(number: int) -> Pack:
        return Pack(f"{number:040x}", 1000, 3, Kind.CODE)

    theirs = [pack(number) for number in range(100, 100 + MOST - 1)]
    ours = [pack(number) for number in range(WIDTH - 1)]
    assert to_fold([*theirs[1:], *ours[1:]], Kind.CODE, 1000, at_hand=ours.__contains__) == [*ours[1:], theirs[1]]
    assert to_fold(theirs[1:], Kind.CODE, 1000, at_hand=ours.__contains__) == []
    assert to_fold(theirs, Kind.CODE, 1000, at_hand=ours.__contains__) == theirs[: WIDTH - 1]
    assert to_fold([*theirs, *ours], Kind.CODE, 1000, at_hand=ours.__contains__) == ours
    assert to_fold([*theirs, *ours], Kind.CODE, 1000, "now", ours.__contains__) == [*theirs, *ours]


def test_sixty_pushes_leave_few_packs(work: Project, url: str, tmp_path: Path) -> None:
    for number in range(60):
        commit(work, f"{number}\n" * 50, f"dir/{number % 7}")
        work.git("push", "-q", url, "main")
    assert len(info(work, url)["packs"]) < WIDTH
    other = clone(url, tmp_path / "other")
    assert other.head() == work.head()
    other.git("fsck", "--strict")
    assert "all good" in work.ml("remote", "fsck", "--deep", url).stderr


def test_folding_what_others_pushed(work: Project, url: str, tmp_path: Path) -> None:
    """The pushing repository has none of the objects that others pushed to branches of theirs."""
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    for number in range(MOST - 3):
        commit(other, f"{number}\n")
        other.git("push", "-q", "-o", "fold=never", url, f"HEAD:refs/heads/theirs-{number}")
    trace = tmp_path / "trace"
    commit(work, "ours\n")
    work.git("push", "-q", url, "main", GITML_TRACE_REMOTE=str(trace))
    assert len(trace.read_text().splitlines()) == 4, "a small push read what others pushed"
    commit(work, "ours again\n")
    work.git("push", "-q", url, "main")
    assert len(info(work, url)["packs"]) == MOST - (WIDTH - 1)
    other.git("fetch", "-q", "origin")
    commit(other, "with all at hand\n")
    other.git("push", "-q", url, "HEAD:refs/heads/last")
    assert len(info(work, url)["packs"]) == 1
    whole = clone(url, tmp_path / "whole", "--mirror")
    whole.git("fsck", "--strict")
    assert whole.head(f"theirs-{MOST - 4}") == other.head("HEAD~1")
    assert whole.head("main") == work.head()


def test_data_and_code_stay_apart(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main")
    work.git("push", "-q", url, "HEAD:refs/ml/data/" + work.head())
    work.git("checkout", "-q", "--orphan", "data")
    commit(work, "data\n", "chunk")
    work.git("push", "-q", url, "HEAD:refs/ml/data/" + work.head())
    work.git("push", "-q", "-o", "fold=now", url, "HEAD~0:refs/ml/runs")
    assert sorted(pack["kind"] for pack in info(work, url)["packs"]) == ["code", "data"]
    trace = tmp_path / "trace"
    Project(tmp_path).git("clone", "-q", url, "code", GITML_TRACE_REMOTE=str(trace))
    assert len(trace.read_text().splitlines()) == 3, "a clone of the code read something of the data"


def test_gc_deletes_what_was_folded_after_the_grace_period(work: Project, url: str) -> None:
    for number in range(3):
        commit(work, f"{number}\n")
        work.git("push", "-q", url, "main")
    commit(work, "last\n")
    work.git("push", "-q", "-o", "fold=now", url, "main")
    assert len(info(work, url)["packs"]) == 1
    assert len(info(work, url)["dropped"]) == 3
    before = files(url)
    said = work.ml("remote", "gc", url)
    assert "3 packs" in said.stdout
    assert files(url) == before
    assert "3 packs" in work.ml("remote", "gc", "--grace", "0", "--dry-run", url).stdout
    assert files(url) == before
    work.ml("remote", "gc", "--grace", "0", url)
    [pack] = info(work, url)["packs"]
    assert files(url) == {"refs.json", f"packs/{pack['id']}.pack", f"packs/{pack['id']}.index"}
    assert "nothing to free" in work.ml("remote", "gc", "--grace", "0", url).stderr


def test_gc_finds_what_killed_pushes_left(work: Project, url: str) -> None:
    work.git("push", "-q", url, "main")
    packs = directory(url) / "packs"
    (packs / f"{'ab' * 20}.pack").write_bytes(b"x" * 100)
    (packs / ("cd" * 20)).mkdir()
    (packs / ("cd" * 20) / "00001").write_bytes(b"y" * 100)
    (packs / "not-ours").write_bytes(b"z")
    work.ml("remote", "gc", url)
    assert len(info(work, url)["dropped"]) == 2
    work.ml("remote", "gc", "--grace", "0", url)
    assert {path.name for path in packs.iterdir()} & {f"{'ab' * 20}.pack", "cd" * 20} == set()
    assert (packs / "not-ours").exists()
    assert "all good" in work.ml("remote", "fsck", url).stderr


def test_gc_removes_files_of_writes_that_were_killed(work: Project, url: str) -> None:
    work.git("push", "-q", url, "main")
    (pack,) = directory(url).glob("packs/*.pack")
    left = [directory(url) / ".refs.json.0123456789abcdef", pack.with_name(f"{pack.name}#1")]
    for path in left:
        path.write_bytes(b"half of something")
    work.ml("remote", "gc", url)
    assert all(path.exists() for path in left)
    work.ml("remote", "gc", "--grace", "0", url)
    assert not any(path.exists() for path in left)
    assert "all good" in work.ml("remote", "fsck", "--deep", url).stderr


def test_gc_frees_what_a_deleted_branch_had(work: Project, url: str, tmp_path: Path) -> None:
    import hashlib

    work.git("push", "-q", url, "main")
    work.git("checkout", "-q", "-b", "side")
    work.write("large", hashlib.shake_128(b"large").digest(300_000))
    commit(work, "side\n")
    work.git("push", "-q", "-o", "fold=now", url, "side")
    work.git("push", "-q", url, ":side")
    done = json.loads(work.ml("remote", "gc", "--grace", "0", "--json", url).stdout)
    assert done["unreached"] > 300_000
    assert len(done["rewritten"]) == 1
    work.ml("remote", "gc", "--grace", "0", url)
    assert sum(path.stat().st_size for path in directory(url).rglob("*") if path.is_file()) < 10_000
    clone(url, tmp_path / "other", "--mirror").git("fsck", "--strict")
    assert "all good" in work.ml("remote", "fsck", "--deep", url).stderr


def test_a_push_takes_back_what_it_needs(work: Project, url: str, tmp_path: Path) -> None:
    """The same pack again, while it waits to be deleted."""
    work.git("push", "-q", url, "main")
    tip = commit(work, "side\n")
    work.git("push", "-q", url, "main:side")
    work.git("push", "-q", url, ":side")
    work.ml("remote", "gc", url)
    assert len(info(work, url)["dropped"]) == 1
    work.git("push", "-q", url, f"{tip}:refs/heads/again")
    assert info(work, url)["dropped"] == []
    work.ml("remote", "gc", "--grace", "0", url)
    clone(url, tmp_path / "other", "--mirror").git("fsck", "--strict")


def test_a_push_does_not_wait_for_a_deletion_of_its_own_pack(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main")
    commit(work, "side\n")
    work.git("push", "-q", url, "main:side")
    work.git("push", "-q", url, ":side")
    work.ml("remote", "gc", url)
    state = json.loads((directory(url) / "refs.json").read_text())
    for each in state["dropped"]:
        each["doomed"] = True
    (directory(url) / "refs.json").write_text(json.dumps(state))
    [doomed] = [each["id"] for each in state["dropped"]]
    work.git("push", "-q", url, "main:again")
    names = {path.name for path in (directory(url) / "packs").iterdir()}
    assert {f"{doomed}.pack", f"{doomed}.index", f"{doomed}-1.pack", f"{doomed}-1.index"} <= names
    state = json.loads((directory(url) / "refs.json").read_text())
    assert state["epoch"] == 1
    assert [each.get("epoch", 0) for each in state["packs"] if each["id"] == doomed] == [1]
    work.ml("remote", "gc", url)  # what began to delete was killed: the next one ends it
    names = {path.name for path in (directory(url) / "packs").iterdir()}
    assert f"{doomed}.pack" not in names
    assert f"{doomed}-1.pack" in names
    assert "all good" in work.ml("remote", "fsck", "--deep", url).stderr
    clone(url, tmp_path / "whole", "--mirror").git("fsck", "--strict")


@pytest.mark.parametrize("damage", ["missing pack", "missing index", "short pack", "flipped byte", "lost object"])
def test_fsck_finds(work: Project, url: str, damage: str) -> None:
    for number in range(3):
        commit(work, f"{number}\n" * 100)
    work.git("push", "-q", url, "main")
    [pack] = (directory(url) / "packs").glob("*.pack")
    match damage:
        case "missing pack":
            pack.unlink()
        case "missing index":
            pack.with_suffix(".index").unlink()
        case "short pack":
            pack.write_bytes(pack.read_bytes()[:-1])
        case "flipped byte":
            data = bytearray(pack.read_bytes())
            data[len(data) // 2] ^= 1
            pack.write_bytes(data)
        case "lost object":
            state = json.loads((directory(url) / "refs.json").read_text())
            state["refs"]["refs/heads/other"] = {"oid": "12" * 20}
            (directory(url) / "refs.json").write_text(json.dumps(state))
    (work.path / ".git" / "ml").rename(work.path / "kept-here")
    done = work.ml("remote", "fsck", "--deep", "--json", url, check=False)
    assert done.returncode == (6 if damage in ("short pack", "flipped byte") else 5)
    assert len(json.loads(done.stdout)["faults"]) == 1
    unreadable = "refs/heads/other" if damage == "lost object" else "refs/heads/main"
    assert list(json.loads(done.stdout)["unreadable"]) == [unreadable]
    said = work.ml("remote", "fsck", "--deep", url, check=False)
    assert "1 fault" in said.stderr
    assert "git push --mirror" in said.stderr


def test_fsck_names_every_hole_and_the_refs_that_are_whole(work: Project, url: str) -> None:
    """Three branches, a pack each; of two packs an object is gone."""
    commit(work, "first\n")
    work.git("push", "-q", url, "main")
    for name in ("one", "two", "three"):
        work.git("checkout", "-q", "--orphan", name)
        work.git("rm", "-q", "-r", "-f", ".")
        commit(work, f"{name}\n", f"only-{name}")
        work.git("push", "-q", "-o", "fold=never", url, name)
    packs = {pack["id"]: pack for pack in info(work, url)["packs"]}
    state = json.loads((directory(url) / "refs.json").read_text())
    lost = {work.head("one"), work.head("two")}
    for pack in packs:
        index = (directory(url) / "packs" / f"{pack}.index").read_bytes()
        if any(bytes.fromhex(oid) in index for oid in lost):
            state["packs"] = [each for each in state["packs"] if each["id"] != pack]
    assert len(state["packs"]) == len(packs) - 2
    (directory(url) / "refs.json").write_text(json.dumps(state))
    done = work.ml("remote", "fsck", "--json", url, check=False)
    assert done.returncode == 5
    report = json.loads(done.stdout)
    assert [fault["subject"] for fault in report["faults"]] == ["refs/heads/one", "refs/heads/two"]
    assert list(report["unreadable"]) == ["refs/heads/one", "refs/heads/two"]
    assert "2 other refs can" in work.ml("remote", "fsck", url, check=False).stdout


def drop_object(work: Project, store: Path, lost: str) -> None:
    """Put a pack without an object in the place of the one that has it."""
    repo = Repository.discover(work.path)
    state = parse_state((store / "refs.json").read_bytes(), "")
    for pack in state.packs:
        index = StoredIndex(store / index_key(pack), pack, repo.format)
        if index.find(Oid.parse(lost)) is None:
            continue
        with tempfile.TemporaryDirectory() as place:
            objects = [index.oid(position) for position in range(len(index))]
            make_packs(repo, {oid: b"" for oid in objects if oid.hex() != lost}, Path(place))
            (made,) = packs_in(repo, Path(place), pack.kind)
            (store / "packs" / f"{made.pack.id}.pack").write_bytes(made.path.read_bytes())
        (store / index_key(made.pack)).write_bytes(made.index)
        state = state.changed(refs={}, added=[made.pack], removed=[pack.id], now=0)
    (store / "refs.json").write_bytes(format_state(state))


@pytest.mark.parametrize("lost", ["HEAD:dir", "HEAD:dir/file"])
def test_fsck_finds_trees_and_contents_that_are_lost(work: Project, url: str, lost: str) -> None:
    """A ref names a commit that is there, and what the commit reaches is not."""
    commit(work, "first\n")
    work.git("push", "-q", url, "main")
    work.write("dir/file", "of the second\n")
    commit(work, "second\n")
    work.git("push", "-q", "-o", "fold=never", url, "main:second")
    drop_object(work, directory(url), work.head(lost))
    done = work.ml("remote", "fsck", "--json", url, check=False)
    assert done.returncode == 5, done.stderr
    report = json.loads(done.stdout)
    subject = "refs/heads/second" if lost == "HEAD:dir" else f"object {work.head(lost)}"
    assert [fault["subject"] for fault in report["faults"]] == [subject]
    assert list(report["unreadable"]) == ["refs/heads/second"]
    assert work.head(lost) in report["unreadable"]["refs/heads/second"]


def test_remotes_by_name(work: Project, url: str) -> None:
    work.git("remote", "add", "storage", url)
    work.git("push", "-q", "storage", "main")
    assert "HEAD is refs/heads/main" in work.ml("remote", "info").stdout
    assert "HEAD is refs/heads/main" in work.ml("remote", "info", "storage").stdout
    work.git("remote", "add", "forge", "https://example.org/x")
    done = work.ml("remote", "gc", "forge", check=False)
    assert done.returncode == 128
    assert "no repository in object storage" in done.stderr
