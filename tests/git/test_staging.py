import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitml.git.data import STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.packindex import PackIndex
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.git.staging import Staging, adopt_leftovers, wait_for_sessions
from gitml.oid import Oid
from gitml.store.content import read_content, store_content
from gitml.store.pointer import Pointer


def noise(seed: int, size: int = 70_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Bench:
    """A repository in which sessions come and go."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.packs = repository.objects_dir / "pack"

    def odb(self) -> GitOdb:
        return GitOdb(self.repository.git, self.repository.format)

    def content(self, pointer: Pointer) -> bytes:
        with self.odb() as odb:
            return b"".join(read_content(pointer, odb))

    def gc(self) -> None:
        self.repository.git.run("gc", "-q", "--prune=now")

    def leftovers(self) -> list[str]:
        return sorted(p.name for p in self.packs.iterdir() if p.name.startswith("staged-") or p.suffix == ".keep")

    def refs(self) -> list[str]:
        return list(list_refs(self.repository.git, STAGED))

    def check(self) -> None:
        self.repository.git.run("fsck", "--strict", "--full", "--no-dangling")


@pytest.fixture
def bench(repo: Path) -> Bench:
    return Bench(Repository.discover(repo))


def keep(staging: Staging, path: bytes, content: bytes) -> Pointer:
    with staging.storing(path) as pack:
        stored = store_content([content], pack)
        staging.keep(path, stored.pointer.manifest, stored.data_tree)
    return stored.pointer


def pointer_of(line: str) -> Pointer:
    """What the child says that it has kept."""
    manifest, sha256 = line.split()
    return Pointer(bytes.fromhex(sha256), 70_000, Oid.parse(manifest))


DYING = """
import hashlib, os, signal, sys
from gitml.git import staging
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.store.content import store_content

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv[1]
repository = Repository.discover()
session = staging.Staging(repository, GitOdb(repository.git, repository.format))
for seed in (1, 2):
    with session.storing(b"d/%d" % seed) as pack:
        stored = store_content([hashlib.shake_128(b"%d" % seed).digest(70_000)], pack)
        session.keep(b"d/%d" % seed, stored.pointer.manifest, stored.data_tree)
    print(stored.pointer.manifest.hex(), stored.pointer.sha256.hex(), flush=True)
if where == "ref":
    staging.update_refs = die
if where == "release":
    staging.release_keep = die
if where == "index":
    from pathlib import Path
    rename = Path.rename
    Path.rename = lambda path, target: die() if target.suffix == ".idx" else rename(path, target)
if where == "unfinished":
    with session.storing(b"half"):
        store_content([hashlib.shake_128(b"9").digest(3_000_000)], session.pack())
        die()
session.flush()
"""


@pytest.mark.parametrize("where", ["unfinished", "index", "ref", "release"])
def test_what_was_kept_outlives_a_kill_and_gc(bench: Bench, where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", DYING, where], cwd=bench.repository.worktree, stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(bench.leftovers()) == 1
    bench.gc()
    with bench.odb() as odb:
        assert adopt_leftovers(bench.repository, odb)
        assert not adopt_leftovers(bench.repository, odb)
    assert bench.leftovers() == []
    bench.gc()
    pointers = [pointer_of(line) for line in done.stdout.decode().splitlines()]
    assert [bench.content(pointer) for pointer in pointers] == [noise(1), noise(2)]
    assert len(bench.refs()) == 1
    bench.check()
    with bench.odb() as odb:
        DataLog(bench.repository, odb).cover({b"d/1": pointers[0].manifest, b"d/2": pointers[1].manifest})
    assert bench.refs() == []


def test_a_reader_finds_what_a_killed_session_left(bench: Bench) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", DYING, "unfinished"],
        cwd=bench.repository.worktree,
        stdout=subprocess.PIPE,
        check=False,
    )
    pointer = pointer_of(done.stdout.decode().splitlines()[0])
    with bench.odb() as odb, Staging(bench.repository, odb) as staging:
        assert b"".join(read_content(pointer, staging)) == noise(1)


def test_a_session_that_lives_is_left_alone(bench: Bench) -> None:
    with bench.odb() as odb, bench.odb() as other:
        with Staging(bench.repository, odb) as staging:
            pointer = keep(staging, b"a", noise(1))
            before = bench.leftovers()
            assert len(before) == 1
            adopt_leftovers(bench.repository, other)
            bench.gc()
            assert bench.leftovers() == before
            assert bench.refs() == []
        assert bench.leftovers() == []
        assert bench.content(pointer) == noise(1)


def test_others_wait_until_a_session_has_made_its_contents_visible(bench: Bench) -> None:
    slow = DYING.replace("session.flush()", "import time; time.sleep(0.5); session.flush()")
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", slow, ""], cwd=bench.repository.worktree, stdout=subprocess.PIPE, text=True
    )
    with child, bench.odb() as odb:
        assert child.stdout is not None
        pointer = pointer_of(child.stdout.readline())
        wait_for_sessions(bench.repository, odb)
        assert bench.content(pointer) == noise(1)
    assert child.returncode == 0


@pytest.mark.parametrize("method", ["fsync", "rename"])
def test_a_full_disk_at_the_end_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    with bench.odb() as odb:
        staging = Staging(bench.repository, odb)
        first = keep(staging, b"a", noise(1))

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os if method == "fsync" else Path, method, full)
            with pytest.raises(OSError, match="No space left"):
                staging.flush()
        assert len(bench.leftovers()) == 2
        bench.gc()
        second = keep(staging, b"b", noise(2))
        staging.close()
        with Staging(bench.repository, odb) as other:
            keep(other, b"c", noise(3))
        assert bench.leftovers() == []
        bench.gc()
        assert [bench.content(pointer) for pointer in (first, second)] == [noise(1), noise(2)]
        bench.check()


def test_versions_of_one_file_do_not_share_a_pack(bench: Bench) -> None:
    with bench.odb() as odb, Staging(bench.repository, odb) as staging:
        old = keep(staging, b"a", noise(1))
        keep(staging, b"b", noise(2))
        new = keep(staging, b"a", noise(1) + b"more")
    indexes = [PackIndex(path, bench.repository.format) for path in bench.packs.glob("*.idx")]
    assert len(indexes) == 2
    assert not any(index.find(old.manifest) is not None and index.find(new.manifest) is not None for index in indexes)


def test_many_flushes_leave_one_pack(bench: Bench) -> None:
    with bench.odb() as odb, Staging(bench.repository, odb) as staging:
        for seed in range(5):
            keep(staging, b"%d" % seed, noise(seed))
            staging.flush()
    assert len(list(bench.packs.glob("*.pack"))) == 1
    assert bench.leftovers() == []
    bench.check()


def test_a_failed_file_leaves_no_trace_in_the_pack(bench: Bench) -> None:
    def breaks() -> Iterator[bytes]:
        yield noise(1, 3_000_000)
        raise OSError("gone")

    with bench.odb() as odb, Staging(bench.repository, odb) as staging:
        first = keep(staging, b"a", noise(2))
        with pytest.raises(OSError, match="gone"), staging.storing(b"b") as pack:
            store_content(breaks(), pack)
        last = keep(staging, b"c", noise(3))
    (pack_file,) = bench.packs.glob("*.pack")
    assert pack_file.stat().st_size < 200_000
    assert [bench.content(pointer) for pointer in (first, last)] == [noise(2), noise(3)]


def test_an_unfinished_pack_of_another_file_system_without_locks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("gitml.git.staging.fcntl.flock", unsupported)
    with bench.odb() as odb:
        staging = Staging(bench.repository, odb)
        pointer = keep(staging, b"a", noise(1))
        adopt_leftovers(bench.repository, odb)
        (left,) = bench.packs.glob("staged-*")
        old = time.time() - 7200
        os.utime(left, (old, old))
        adopt_leftovers(bench.repository, odb)
        assert bench.leftovers() == []
        assert bench.content(pointer) == noise(1)


@pytest.mark.parametrize("path", [b"large", b"data/deep/er/large", b"a/../b", b".git/x", b""])
def test_the_last_objects_of_a_pack_are_foreseen(bench: Bench, path: bytes) -> None:
    """What `rereading` says of a content that is the last of its pack holds; else its digest is computed twice."""
    with bench.odb() as odb, Staging(bench.repository, odb) as staging, staging.storing(path) as pack:
        stored = store_content([noise(1, 3_000_000)], pack, staging.rereading(path))
        foreseen = pack.foreseen
        staging.keep(path, stored.pointer.manifest, stored.data_tree, stored.pointer)
        assert foreseen == len(pack)
        assert pack.foreseen == foreseen
        # another content after it
        store_content([noise(2, 200_000)], pack)
        assert pack.foreseen is None
    bench.check()
