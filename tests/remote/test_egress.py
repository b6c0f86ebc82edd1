"""Egress: what is copied where, what is copied again, and what is kept after a failure or a kill."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gitml.errors import BusyError, GitmlError, MachineError, UserError
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.remote.address import parse_address
from gitml.remote.bucket import StoreError
from gitml.remote.egress import Egress, EgressStoppedError
from gitml.remote.services import open_bucket
from gitml.store.content import store_content
from gitml.store.pointer import Pointer, format_pointer
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, Entry, edit_tree, empty_tree
from tests.remote.faulty import Fault, faulty

LARGE = bytes(range(256)) * 16_000


class Outputs:
    """Trees in a real repository, and what copies them."""

    def __init__(self, path: Path) -> None:
        self.repo = Repository.discover(path)
        self.odb = GitOdb(self.repo.git, self.repo.format)
        self.egress = Egress(self.repo, self.odb)
        self.commit = Oid.parse("1" * 40)

    def tree(self, **files: bytes) -> Oid:
        return self.tree_of({name.encode(): data for name, data in files.items()})

    def tree_of(self, files: dict[bytes, bytes], executable: bytes = b"") -> Oid:
        with PackWriter(self.repo.objects_dir, self.repo.format, reader=self.odb) as pack:
            entries = {
                path: Entry(MODE_EXECUTABLE if path == executable else MODE_FILE, pack.write("blob", data))
                for path, data in files.items()
            }
            tree = edit_tree(pack, pack, empty_tree(self.repo.format), entries)
            pack.finish()
        return tree

    def pointer(self, content: bytes) -> bytes:
        with PackWriter(self.repo.objects_dir, self.repo.format, reader=self.odb) as pack:
            stored = store_content([content], pack)
            pack.finish()
        return format_pointer(stored.pointer)

    def send(self, url: str, tree: Oid, *, everything: bool = False) -> int:
        return self.egress.send("model", url, tree, commit=self.commit, everything=everything)

    def standing(self, url: str, tree: Oid) -> str:
        return self.egress.standing("model", url, tree)[0]


@pytest.fixture
def outputs(repo: Path) -> Iterator[Outputs]:
    made = Outputs(repo)
    with made.odb:
        yield made


def files_below(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def test_a_directory_gets_what_changed_and_keeps_what_is_gone(outputs: Outputs, tmp_path: Path) -> None:
    top = tmp_path / "far away"
    url = f"file://{top}"
    odd = b"deep/\xff\n*?"
    first = outputs.tree_of(
        {b"a": b"1", b"same/x": b"s", odd: b"odd", b"run.sh": b"#!", b"large": outputs.pointer(LARGE)}, b"run.sh"
    )
    assert outputs.standing(url, first) == "elsewhere"
    assert not outputs.egress.is_due("model", url, first)
    assert outputs.send(url, first) == 5
    assert files_below(top) == {"a": b"1", "same/x": b"s", os.fsdecode(odd): b"odd", "run.sh": b"#!", "large": LARGE}
    assert (top / "run.sh").stat().st_mode & 0o100
    assert not (top / "a").stat().st_mode & 0o100
    assert outputs.standing(url, first) == "copied"
    assert outputs.send(url, first) == 0
    (top / "same/x").write_bytes(b"by hand")
    second = outputs.tree_of({b"a": b"2", b"same/x": b"s", b"new/y": b"y"})
    assert outputs.standing(url, second) == "behind"
    assert outputs.egress.is_due("model", url, second)
    assert outputs.send(url, second) == 2
    found = files_below(top)
    assert (found["a"], found["new/y"]) == (b"2", b"y")
    assert found["same/x"] == b"by hand", "what did not change is not looked at"
    assert found["run.sh"] == b"#!", "nothing is removed"
    assert outputs.send(url, second, everything=True) == 3
    assert (top / "same/x").read_bytes() == b"s"
    assert outputs.send(f"file://{tmp_path}/other", second) == 3, "another address has a history of its own"
    assert outputs.send(url, first) == 4, "what went and came back is copied again"


def test_what_stands_in_the_way_is_told_and_mended_without_copying_again(outputs: Outputs, tmp_path: Path) -> None:
    top = tmp_path / "out"
    url = f"file://{top}"
    top.mkdir()
    (top / "z").mkdir()
    (top / "z/file").touch()
    tree = outputs.tree(a=b"1", b=b"2", z=b"3")
    with pytest.raises(MachineError, match="director"):
        outputs.send(url, tree)
    state = outputs.egress.state("model", url)
    assert state is not None
    assert (state.done, state.wanted, state.total, outputs.standing(url, tree)) == (None, tree.hex(), 3, "failed")
    assert "director" in state.message
    (top / "z/file").unlink()
    (top / "z").rmdir()
    assert outputs.send(url, tree) == 1, "the others are there"
    assert files_below(top) == {"a": b"1", "b": b"2", "z": b"3"}
    # between two trees: a half copied one must not hide what it wrote over
    other = outputs.tree(a=b"one", b=b"2", z=b"3", bad=b"x")
    (top / "bad").mkdir()
    (top / "bad/file").touch()
    with pytest.raises(MachineError):
        outputs.send(url, other)
    assert (top / "a").read_bytes() == b"one"
    assert outputs.send(url, tree) == 1
    assert (top / "a").read_bytes() == b"1"
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(MachineError):
        outputs.send(f"file://{place}", tree)
    for inside in (outputs.repo.worktree, outputs.repo.git_dir / "objects"):
        with pytest.raises(UserError, match="into the repository itself"):
            outputs.send(f"file://{inside}", tree)
    with pytest.raises(UserError, match="no option 'region'"):
        outputs.send(f"file://{tmp_path}/x?region=1", tree)


def test_names_that_lead_elsewhere_are_refused(outputs: Outputs, tmp_path: Path) -> None:
    raw = b"40000 ..\0" + outputs.tree(evil=b"1") + b"100644 ok\0" + outputs.repo.format.oid_of("blob", b"1")
    with PackWriter(outputs.repo.objects_dir, outputs.repo.format, reader=outputs.odb) as pack:
        tree = pack.write("tree", raw)
        pack.write("blob", b"1")
        pack.finish()
    with pytest.raises(GitmlError):
        outputs.send(f"file://{tmp_path}/top/out", tree)
    assert not (tmp_path / "top").exists(), "nothing is copied before every name is known to be good"


def test_a_stop_and_another_process(outputs: Outputs, tmp_path: Path) -> None:
    class After:
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 1

    tree = outputs.tree(**{f"f{n}": b"%d" % n for n in range(40)})
    url = f"file://{tmp_path}/out"
    with pytest.raises(EgressStoppedError):
        outputs.egress.send("model", url, tree, commit=outputs.commit, stop=After())
    arrived = len(files_below(tmp_path / "out"))
    assert 0 < arrived < 40
    assert len(outputs.egress.missing("model", url, tree)) == 40 - arrived
    with outputs.egress._locked("model", url):
        with pytest.raises(BusyError):
            outputs.send(url, tree)
        assert outputs.standing(url, tree) == "copying"
    assert outputs.send(url, tree) == 40 - arrived


def test_after_a_kill_only_what_had_not_arrived_is_copied(outputs: Outputs, tmp_path: Path) -> None:
    tree = outputs.tree(**{f"f{n:03}": b"%d" % n for n in range(120)})
    url = f"file://{tmp_path}/out"
    script = """
import os, signal, sys
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.remote import egress
noted = egress._note
def note(file, path, entry):
    noted(file, path, entry)
    if path == b"f050":
        os.kill(os.getpid(), signal.SIGKILL)
egress._note = note
repo = Repository.discover()
with GitOdb(repo.git, repo.format) as odb:
    egress.Egress(repo, odb).send("model", sys.argv[1], Oid.parse(sys.argv[2]), commit=Oid.parse("1" * 40))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, url, tree.hex()], cwd=outputs.repo.worktree, check=False, env={**os.environ}
    )
    assert done.returncode == -signal.SIGKILL
    journal = next((outputs.repo.state_dir / "egress").glob("*.done"))
    with journal.open("ab") as file:
        file.write(b"100644 cut off in the mid")
    left = outputs.egress.missing("model", url, tree)
    assert 20 < len(left) < 75
    assert outputs.send(url, tree) == len(left)
    assert files_below(tmp_path / "out") == {f"f{n:03}": b"%d" % n for n in range(120)}
    assert not journal.exists()


def test_object_storage(outputs: Outputs, moto: str) -> None:
    prefix = secrets.token_hex(6)
    with faulty(moto) as proxy:
        url = f"s3://bucket/{prefix}?endpoint={proxy.endpoint}&region=us-east-1"
        store = open_bucket(parse_address(f"s3://bucket/{prefix}?endpoint={moto}&region=us-east-1"))
        large = os.urandom(20 << 20)
        tree = outputs.tree_of({"ä b/100%.txt".encode(): b"1", b"c": b"", b"large": outputs.pointer(large), b"x": b"x"})
        proxy.faults.append(Fault("503", "PUT", count=2))
        assert outputs.send(url, tree) == 4
        assert {each.key: each.size for each in store.list("")} == {
            "ä b/100%.txt": 1,
            "c": 0,
            "large": len(large),
            "x": 1,
        }
        assert store.read("large") == large
        before = len(proxy.seen)
        second = outputs.tree_of({b"c": b"c2", b"large": outputs.pointer(large)})
        assert outputs.send(url, second) == 1
        assert [each.method for each in proxy.seen[before:]] == ["PUT"], "one request for one file"
        assert store.read("x") == b"x"
        with pytest.raises(UserError, match="not UTF-8"):
            outputs.send(url, outputs.tree_of({b"\xff": b"1", b"good": b"1"}))
        for name in (b"line\nbreak", b"a/tab\t", b"deleted\x7f"):
            with pytest.raises(UserError, match="control characters"):
                outputs.send(url, outputs.tree_of({name: b"1", b"good": b"1"}))
        assert store.read("good") is None
    with pytest.raises(StoreError, match="no such bucket"):
        outputs.send(f"s3://none-{prefix}?endpoint={moto}&region=us-east-1", tree)
    damaged = outputs.tree_of({b"gone": format_pointer(Pointer(b"1" * 32, 20 << 20, Oid.parse("2" * 40)))})
    with pytest.raises(GitmlError, match="2222"):
        outputs.send(f"s3://bucket/{prefix}?endpoint={moto}&region=us-east-1", damaged)
    assert store.read("gone") is None


@pytest.mark.parametrize("kind", ["azure", "google"])
def test_object_storage_of_other_services(kind: str, request: pytest.FixtureRequest, outputs: Outputs) -> None:
    """Azurite and a stand-in for Google's service, through the clients that talk to these services."""
    endpoint = request.getfixturevalue(kind)
    start, prefix = ("az://container" if kind == "azure" else "gs://bucket"), secrets.token_hex(6)
    with faulty(endpoint) as proxy:
        url = f"{start}/{prefix}?endpoint={proxy.endpoint}{urlsplit(endpoint).path}"
        store = open_bucket(parse_address(f"{start}/{prefix}?endpoint={endpoint}"))
        large = os.urandom(20 << 20)
        tree = outputs.tree_of(
            {
                "ä b/100%.txt".encode(): b"1",
                b"-c": b"",
                b"large": outputs.pointer(large),
                b"x": b"x",
            }
        )
        proxy.faults.append(Fault("503", "PUT", count=2))
        assert outputs.send(url, tree) == 4
        assert {each.key: each.size for each in store.list("")} == {
            "ä b/100%.txt": 1,
            "-c": 0,
            "large": len(large),
            "x": 1,
        }
        assert store.read("large") == large
        assert sum(fault.happened for fault in proxy.faults) == 2
        before = len(proxy.seen)
        second = outputs.tree_of({b"-c": b"c2", b"large": outputs.pointer(large)})
        assert outputs.send(url, second) == 1
        assert [each.method for each in proxy.seen[before:]] == ["PUT"], "one request for one file"
        assert (store.read("-c"), store.read("x")) == (b"c2", b"x")
        proxy.faults.append(Fault("503", "PUT", count=None))
        third = outputs.tree_of({b"-c": b"c3"})
        with pytest.raises(GitmlError):
            outputs.send(url, third)
        proxy.faults.clear()
        assert outputs.standing(url, third) == "failed"
        assert outputs.send(url, third) == 1
        assert store.read("-c") == b"c3"
    missing = start.replace("container", "no-container").replace("bucket", "no-bucket")
    with pytest.raises(StoreError, match="no such bucket"):
        outputs.send(f"{missing}/{prefix}?endpoint={endpoint}", tree)
