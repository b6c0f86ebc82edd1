"""Situations in which git repositories are, and moments at which others act, that stores have to survive."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gitml.git.repository import Repository
from gitml.protocol.remote_helper import Update
from gitml.remote import sweep as sweeping
from gitml.remote.address import parse_address
from gitml.remote.bucket import StoreError
from gitml.remote.directory import DirectoryBucket
from gitml.remote.push import push
from gitml.remote.store import Store
from gitml.remote.terms import Terms
from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit


@pytest.fixture
def url(new_store: NewStore) -> str:
    return new_store("file")


def is_whole(work: Project, url: str, place: Path) -> bool:
    """Whether a store is sound, and everything in it can be had."""
    assert "all good" in work.ml("remote", "fsck", "--deep", url).stderr
    work.git("clone", "-q", "--mirror", url, str(place))
    Project(place).git("fsck", "--strict", "--full")
    return True


# pushes


def test_replaced_objects_go_as_they_are(work: Project, url: str, tmp_path: Path) -> None:
    commit(work, "two\n")
    tree = work.git("rev-parse", "HEAD~1^{tree}")
    work.git("replace", "HEAD", work.git("commit-tree", "-m", "instead", tree))
    work.git("push", "-q", url, "main")
    assert is_whole(work, url, tmp_path / "whole")
    assert Project(tmp_path / "whole").git("rev-list", "--count", "main") == "2"


def test_a_ref_that_may_move_only_in_the_second_round_brings_its_objects(
    work: Project, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.git("push", "-q", url, "main", "main:refs/heads/a/b")
    for name in ("one", "two"):
        work.git("switch", "-q", "-c", name, "main")
        commit(work, f"this is {name}\n")
    monkeypatch.chdir(work.path)
    store = Store(parse_address(url), tmp_path / "kept")
    state, write, first = store.read(), store.write, [True]

    def while_somebody_deletes(new: Any) -> bool:
        if first:
            first.clear()
            work.git("push", "-q", url, ":refs/heads/a/b")
        return write(new)

    monkeypatch.setattr(store, "write", while_somebody_deletes)
    updates = [Update("one", b"refs/heads/one", False), Update("two", b"refs/heads/a", False)]
    results = push(Repository.discover(), store, state, updates, Terms(leases={}))
    assert results == [(b"refs/heads/one", None), (b"refs/heads/a", None)]
    assert is_whole(work, url, tmp_path / "whole")


def test_mirroring_again_says_that_nothing_changed(work: Project, url: str) -> None:
    work.git("push", "-q", "--mirror", url)
    done = work.run("git", "push", "--mirror", url)
    assert "deleted" not in done.stderr
    assert "Everything up-to-date" in done.stderr


def test_pieces_that_a_killed_push_left_are_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packs" / "x").mkdir(parents=True)
    for name in ("00000", "00001"):
        (tmp_path / "packs" / "x" / name).write_bytes(b"piece")
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    bucket = DirectoryBucket(tmp_path, f"file://{tmp_path}")
    bucket.rely_on("packs/x/00000")
    bucket.write("packs/x/00001", b"piece")
    assert bucket.exchange("refs.json", b"{}", None)
    places = [
        tmp_path / "packs/x/00000",
        tmp_path / "packs/x/00001",
        tmp_path / "packs/x",
        tmp_path / "packs",
        tmp_path,
    ]
    assert {str(place) for place in places} <= set(synced)


def test_a_push_whose_files_somebody_removes_changes_nothing(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main")
    directory = tmp_path / url.rpartition("/")[2]
    bucket = DirectoryBucket(directory, "file:///store")
    found = bucket.read_versioned("refs.json")
    assert found is not None
    bucket.write("packs/x/00000", b"piece")
    (directory / "packs/x/00000").unlink()
    with pytest.raises(StoreError, match="somebody removed it meanwhile"):
        bucket.exchange("refs.json", b"{}", found[1])
    assert bucket.read("refs.json") == found[0]


# fetches


@pytest.mark.parametrize("filters", ["blob:none", "tree:0", "blob:limit=10"])
@pytest.mark.parametrize("depth", ["1", "2"])
def test_a_depth_with_a_filter(work: Project, url: str, tmp_path: Path, depth: str, filters: str) -> None:
    for number in range(3):
        commit(work, f"{number} of some length\n", f"dir/{number}")
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other", "--depth", depth, f"--filter={filters}")
    assert other.git("rev-list", "--count", "HEAD") == depth
    assert other.read("dir/2") == "2 of some length\n"
    other.git("fetch", "-q", "--unshallow")
    assert other.git("rev-list", "--count", "HEAD") == "4"


def test_a_filter_reads_nothing_of_the_data(work: Project, url: str, tmp_path: Path, monkeypatch: Any) -> None:
    work.git("push", "-q", url, "main")
    work.git("push", "-q", url, f"{work.git('commit-tree', '-m', 'data', 'HEAD^{tree}')}:refs/ml/data/x")
    data = {each["id"] for each in work.json("remote", "info", url)["packs"] if each["kind"] == "data"}
    assert data
    trace = tmp_path / "trace"
    monkeypatch.setenv("GITML_TRACE_REMOTE", str(trace))
    clone(url, tmp_path / "other", "--filter=blob:none")
    assert not [line for line in trace.read_text().splitlines() if any(each in line for each in data)]


def test_what_stores_cannot_do_is_said(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main")
    for option, message in {
        "--shallow-since=2030-01-01": "'deepen-since' is not known to stores",
        "--shallow-exclude=main": "'deepen-not' is not known to stores",
        "--filter=sparse:oid=main:x": "is not known to stores",
    }.items():
        done = work.run("git", "clone", option, url, str(tmp_path / "other"), check=False)
        assert done.returncode != 0
        assert message in done.stderr


def test_limits_in_combined_filters(work: Project, url: str, tmp_path: Path) -> None:
    work.write("large", "x" * 5000)
    commit(work, "small\n")
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other", "--no-checkout", "--filter=combine:blob:limit=1k+tree:9")
    missing = other.git("rev-list", "--objects", "--missing=print", "HEAD").splitlines()
    assert [line for line in missing if line.startswith("?")] == [f"?{work.git('rev-parse', 'HEAD:large')}"]


def test_objects_are_looked_at_if_the_user_wants_it(work: Project, url: str, tmp_path: Path) -> None:
    broken = work.git("cat-file", "commit", "HEAD").replace("author ", "author no mail ", 1).replace("<", "", 1)
    done = work.run("git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=broken.encode() + b"\n")
    work.git("push", "-q", url, f"{done.stdout.strip()}:refs/heads/main")
    work.git("clone", "-q", "--bare", url, str(tmp_path / "trusting"))
    done = work.run(
        "git", "-c", "transfer.fsckObjects=true", "clone", "-q", "--bare", url, str(tmp_path / "careful"), check=False
    )
    assert done.returncode != 0
    assert "fsck error" in done.stderr


# gc


def test_the_grace_period_begins_when_gc_sees_a_pack(
    work: Project, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.git("push", "-q", url, "main")
    monkeypatch.chdir(work.path)
    # the clock of the pusher is a month behind
    monkeypatch.setattr(time, "time", lambda now=time.time: now() - 30 * 86400)
    for number in range(8):
        commit(work, f"{number}\n")
        store = Store(parse_address(url), tmp_path / "kept")
        push(Repository.discover(), store, store.read(), [Update("main", b"refs/heads/main", False)], Terms(leases={}))
    monkeypatch.undo()
    store = Store(parse_address(url), tmp_path / "kept")
    state = store.read()
    assert state is not None
    assert state.dropped
    swept = sweeping.sweep(store, grace=14 * 86400, dry_run=False, shown=False)
    assert swept.deleted == ()
    assert all(abs(each.since - time.time()) < 600 for each in swept.waiting)


def test_a_second_gc_deletes_nothing_that_came_back(
    work: Project, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.git("push", "-q", url, "main")
    commit(work, "two\n")
    work.git("push", "-q", url, "HEAD:side")
    work.git("push", "-q", url, ":side")
    one, two = (Store(parse_address(url), tmp_path / name) for name in ("one", "two"))
    sweeping.sweep(one, grace=14 * 86400, dry_run=False, shown=False)
    doomed, _ = sweeping._doom(one, 0, dry_run=False)
    late, _ = sweeping._doom(two, 0, dry_run=False)
    assert doomed == late != []

    sent: list[str] = []

    def after_all_looks(keys: Iterable[str]) -> None:
        """The second one stands still right before it deletes: the first ends, and the same pack is pushed again."""
        if not sent:
            sweeping._delete(one, doomed)
            work.git("push", "-q", url, "HEAD:side")
            state = one.read()
            assert state is not None
            sent.extend(pack.id for pack in state.packs if pack.epoch)
        delete(keys)

    delete = two.bucket.delete
    monkeypatch.setattr(two.bucket, "delete", after_all_looks)
    sweeping._delete(two, late)
    assert sent == [each.id for each in doomed]
    assert is_whole(work, url, tmp_path / "whole")


def test_a_pack_that_is_doomed_while_it_is_sent_gets_another_name(
    work: Project, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.git("push", "-q", url, "main")
    commit(work, "two\n")
    monkeypatch.chdir(work.path)
    store, other = (Store(parse_address(url), tmp_path / name) for name in ("one", "two"))
    write, writes = store.write, []

    def after_a_sweep_without_grace(new: Any) -> bool:
        writes.append(new)
        if len(writes) == 1:
            swept = sweeping.sweep(other, grace=0, dry_run=False, shown=False)
            assert len(swept.deleted) == 1
        return write(new)

    monkeypatch.setattr(store, "write", after_a_sweep_without_grace)
    state = store.read()
    updates = [Update("main", b"refs/heads/main", force=False)]
    assert push(Repository.discover(), store, state, updates, Terms(leases={})) == [(b"refs/heads/main", None)]
    assert len(writes) == 2
    assert {pack.epoch for pack in writes[0].packs} == {0}
    assert {pack.epoch for pack in writes[1].packs} == {0, 1}
    assert is_whole(work, url, tmp_path / "whole")


# the terminal


@pytest.fixture
def silent() -> Any:
    """A server that takes requests and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                open_ones.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for each in open_ones:
        each.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [["git-remote-ml", "x"], ["git", "ml", "remote", "info"]], ids=["helper", "info"])
def test_interrupts_end_a_request_that_is_not_answered(
    work: Project, silent: int, command: list[str], number: int
) -> None:
    address = f"s3://bucket/x?endpoint=http://127.0.0.1:{silent}&region=us-east-1"
    extra = {"GIT_DIR": str(work.path / ".git")} if command[0] == "git-remote-ml" else {}
    url = address if command[0] == "git-remote-ml" else f"ml::{address}"
    with subprocess.Popen(
        [*command, url], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=work.path,
        env=work.environment(**extra), start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(b"list\n")
        process.stdin.flush()
        time.sleep(1.5)
        assert process.poll() is None
        os.killpg(process.pid, number)
        started = time.monotonic()
        process.wait(20)
        assert time.monotonic() - started < 15
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/x?endpoint=localhost:1234", "the endpoint 'localhost:1234' is no address"),
        ("s3://bucket/x?endpoint=minio.example.org", "the endpoint 'minio.example.org' is no address"),
        ("s3://buc ket/x", "'buc ket' is no name of a bucket"),
        ("s3://b/x?access_key_id=A&secret_access_key=TOPSECRET", "'access_key_id' does not belong in an address"),
        ("az://c/x?sas_token=TOPSECRET", "'sas_token' does not belong in an address"),
    ],
)
def test_addresses_that_are_mistyped_or_tell_secrets(work: Project, address: str, message: str) -> None:
    done = work.run("git", "ls-remote", f"ml::{address}", check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert "panick" not in done.stderr
    assert "TOPSECRET" not in done.stderr
