"""Single objects from real repositories, over file:// and so through git's own upload-pack."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitml.git import promisor
from gitml.git.data import DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.promisor import fetch_contents, fetch_missing
from gitml.git.refs import list_refs
from gitml.git.remotes import FetchError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.content import store_content
from gitml.store.manifest import read_manifest
from tests.conftest import run_git


def noise(seed: int, size: int = 400_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


ABSENT = Oid(b"\x01" * 20)


@dataclass
class Pair:
    """A server that has contents by path, and a clone without them."""

    server: Path
    clone: Repository
    contents: dict[bytes, Oid]
    chunks: list[Oid]

    def has(self, oid: Oid) -> bool:
        return ObjectIndex(self.clone.objects_dir, self.clone.format).has(oid)

    def is_sound(self) -> None:
        """Nothing is missing, and what was fetched stays, also after the strictest gc."""
        run_git(self.clone.common_dir, "fsck", "--strict", "--full", "--no-dangling")
        run_git(self.clone.common_dir, "gc", "-q", "--prune=now")
        run_git(self.clone.common_dir, "fsck", "--strict", "--full", "--no-dangling")
        assert not list(self.clone.objects_dir.glob("pack/*.keep"))
        landing = self.clone.state_dir / "landing"
        assert not landing.exists() or not list(landing.iterdir())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, Oid], list[Oid]]:
    """A bare repository with four contents in a data commit; built once, never changed."""
    where = tmp_path_factory.mktemp("served") / "server.git"
    subprocess.run(["git", "init", "-q", "--bare", str(where)], check=True)
    repo = Repository.discover(where)
    contents: dict[bytes, Oid] = {}
    chunks: list[Oid] = []
    with GitOdb(repo.git, repo.format) as odb:
        for number in range(4):
            with PackWriter(repo.objects_dir, repo.format, reader=odb) as pack:
                path = b"data/%d" % number
                contents[path] = store_content([noise(number)], pack).pointer.manifest
                pack.finish()
            DataLog(repo, odb).cover({path: contents[path]})
            chunks += [chunk.oid for chunk in read_manifest(contents[path], odb).chunks]
    tree = repo.git.line("mktree")
    commit = repo.git.run("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-m", "m").stdout
    repo.git.run("update-ref", "refs/heads/main", commit.decode().strip())
    return where, contents, chunks


@pytest.fixture
def pair(served: tuple[Path, dict[bytes, Oid], list[Oid]], tmp_path: Path) -> Pair:
    source, contents, chunks = served
    server = tmp_path / "server.git"
    shutil.copytree(source, server)
    run_git(tmp_path, "clone", "-q", f"file://{server}", "clone")
    return Pair(server, Repository.discover(tmp_path / "clone"), contents, chunks)


def test_objects_come_in_one_batch_and_stay(pair: Pair) -> None:
    wanted = [*pair.contents.values(), *pair.chunks]
    assert not any(map(pair.has, wanted))
    assert fetch_missing(pair.clone, wanted[:3]) == set()
    assert [pair.has(oid) for oid in wanted] == [True] * 3 + [False] * (len(wanted) - 3)
    assert fetch_missing(pair.clone, wanted) == set()
    pair.is_sound()
    assert all(map(pair.has, wanted))
    assert "promisor" not in run_git(pair.clone.common_dir, "config", "--list", "--local")


def test_what_a_server_lacks_is_told_apart(pair: Pair) -> None:
    absent = {Oid(bytes([number]) * 20) for number in range(1, 12)}
    assert fetch_missing(pair.clone, [*absent, *pair.chunks]) == absent
    assert all(map(pair.has, pair.chunks))
    pair.is_sound()


def test_whole_contents_are_kept_as_data_commits(pair: Pair) -> None:
    some = {path: oid for path, oid in pair.contents.items() if path != b"data/0"}
    assert fetch_contents(pair.clone, {**some, b"gone": ABSENT}) == {b"gone": "no remote has it"}
    kept = list_refs(pair.clone.git, "refs/ml/fetched")
    assert list(kept) == ["refs/ml/fetched/origin/contents"]
    listing = run_git(pair.clone.common_dir, "ls-tree", "-r", "--name-only", "refs/ml/fetched/origin/contents")
    assert {os.fsencode(line) for line in listing.splitlines() if line.endswith("/manifest")} == {
        path + b"/manifest" for path in some
    }
    assert not pair.has(pair.contents[b"data/0"])
    with GitOdb(pair.clone.git, pair.clone.format) as odb:
        log = DataLog(pair.clone, odb)
        assert log.fetched(pair.contents.items()) == set(some.items())
        assert log.fetched(pair.contents.items(), "elsewhere") == set()
    pair.is_sound()
    assert fetch_contents(pair.clone, pair.contents) == {}
    pair.is_sound()
    assert all(map(pair.has, pair.chunks))


def test_a_server_that_gives_no_single_objects_gives_its_data_commits(pair: Pair) -> None:
    pair.clone.git.run("config", "protocol.version", "0")
    assert fetch_contents(pair.clone, {b"data/0": pair.contents[b"data/0"]}) == {}
    assert all(map(pair.has, pair.chunks)), "all data came"
    pair.is_sound()
    run_git(pair.server, "config", "uploadpack.allowAnySHA1InWant", "true")
    assert fetch_missing(pair.clone, [ABSENT]) == {ABSENT}


def test_hidden_refs_hide_no_objects(pair: Pair) -> None:
    run_git(pair.server, "config", "transfer.hideRefs", "refs/ml")
    assert fetch_contents(pair.clone, pair.contents) == {}
    pair.is_sound()


def test_several_remotes_and_one_that_is_gone(pair: Pair, tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "empty.git")
    clone = pair.clone.common_dir
    run_git(clone, "remote", "set-url", "origin", str(tmp_path / "empty.git"))
    assert fetch_missing(pair.clone, pair.chunks[:1]) == {pair.chunks[0]}
    run_git(clone, "remote", "add", "also", f"file://{pair.server}")
    assert fetch_missing(pair.clone, pair.chunks[:1]) == set()
    run_git(clone, "remote", "set-url", "also", str(tmp_path / "nowhere"))
    with pytest.raises(FetchError, match="cannot fetch data from 'also'"):
        fetch_missing(pair.clone, pair.chunks)
    reasons = fetch_contents(pair.clone, pair.contents)
    assert reasons.keys() == pair.contents.keys()
    assert "also" in reasons[b"data/0"]
    # an entry that only promises is not asked
    for name in ("promisor", "skipFetchAll"):
        run_git(clone, "config", f"remote.also.{name}", "true")
    assert fetch_missing(pair.clone, pair.chunks[:1], remotes=["origin"]) == set()


def test_batches_are_kept_one_by_one(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promisor, "BATCH", 2)
    assert fetch_contents(pair.clone, pair.contents) == {}
    assert "refs/ml/fetched/origin/objects" in list_refs(pair.clone.git, "refs/ml/fetched")
    pair.is_sound()
    assert all(map(pair.has, pair.chunks))


@pytest.mark.parametrize("object_format", ["sha256"])
def test_other_hash_bare_and_odd_place(tmp_path: Path, object_format: str) -> None:
    top = tmp_path / 'a:"b\\ c'
    top.mkdir()
    run_git(top, "init", "-q", "--bare", f"--object-format={object_format}", "server")
    run_git(top, "init", "-q", "--bare", f"--object-format={object_format}", "clone")
    server, clone = Repository.discover(top / "server"), Repository.discover(top / "clone")
    with PackWriter(server.objects_dir, server.format) as pack:
        manifest = store_content([noise(1)], pack).pointer.manifest
        pack.finish()
    with GitOdb(server.git, server.format) as odb:
        DataLog(server, odb).cover({b"x": manifest})
    run_git(top / "clone", "remote", "add", "origin", str(top / "server"))
    assert fetch_contents(clone, {b"x": manifest}) == {}
    run_git(top / "clone", "gc", "-q", "--prune=now")
    run_git(top / "clone", "fsck", "--strict")
    assert fetch_contents(clone, {b"x": manifest}, remotes=[]) == {}


def test_a_killed_fetch_leaves_nothing_and_the_next_completes(pair: Pair) -> None:
    program = (
        "import sys, os; from pathlib import Path; from gitml.git.repository import Repository;"
        "from gitml.git.promisor import fetch_missing; from gitml.oid import Oid;"
        "fetch_missing(Repository.discover(Path(sys.argv[1])), map(Oid.parse, sys.argv[2:]))"
    )
    wrapper = pair.clone.state_dir / "upload-pack"
    wrapper.parent.mkdir(exist_ok=True)
    # the server ends the client's gitml in the middle of the request
    wrapper.write_text('#!/bin/sh\nkill -9 "$(cat "$GITML_VICTIM")"\nexec git-upload-pack "$@"\n')
    wrapper.chmod(0o755)
    pair.clone.git.run("config", "remote.origin.uploadpack", str(wrapper))
    note = pair.clone.state_dir / "victim"
    arguments = [str(pair.clone.common_dir), *(oid.hex() for oid in pair.chunks)]
    process = subprocess.Popen(
        ["sh", "-c", 'echo $$ >"$GITML_VICTIM"; exec "$@"', "sh", sys.executable, "-c", program, *arguments],
        env={**os.environ, "GITML_VICTIM": str(note)},
    )
    assert process.wait() == -signal.SIGKILL
    pair.clone.git.run("config", "--unset", "remote.origin.uploadpack")
    assert fetch_missing(pair.clone, pair.chunks) == set()
    pair.is_sound()
