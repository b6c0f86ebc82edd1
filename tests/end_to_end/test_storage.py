"""Plain git with the filter: content goes in and out, survives gc and kills, and travels with push."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gitml.git.checkout import fill_in
from gitml.git.data import HEADS, DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.pushed import PushedRef
from gitml.git.refs import list_refs
from gitml.git.remotes import FetchError, configure_remote, fetch_data, unconfigure_remote
from gitml.git.repository import Repository
from gitml.git.transfer import RUNS, Sent, push_data
from gitml.oid import Oid
from gitml.store.pointer import is_pointer
from gitml.store.tree import MODE_FILE, Entry, edit_tree

LARGE = 3_000_000


def noise(seed: int, size: int = 200_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Clone:
    """A clone with the filter configured, and what its hooks would do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("config", "filter.ml.process", f"'{sys.executable}' -P -m gitml filter-process")
        self.git("config", "filter.ml.required", "true")
        self.git("config", "ml.smudgeLimit", "1m")

    @property
    def repository(self) -> Repository:
        return Repository.discover(self.path)

    def git(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, capture_output=True, check=False)
        said = done.stderr.decode("utf-8", "replace")
        assert "Traceback" not in said, said
        assert not check or done.returncode == 0, f"git {arguments}: {done.stdout!r} {said}"
        return os.fsdecode(done.stdout).removesuffix("\n")

    def write(self, name: str, content: bytes) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def fill(self) -> None:
        fill_in(self.repository)

    def cover(self) -> None:
        repository = self.repository
        with GitOdb(repository.git, repository.format) as odb:
            DataLog(repository, odb).cover_commit(repository.resolve("HEAD"))

    def commit(self, message: str = "c") -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        self.cover()

    def push(self, remote: str = "origin", url: str = "") -> None:
        self.push_data(remote, url)
        self.git("push", "-q", remote, "HEAD")

    def push_data(self, remote: str = "origin", url: str = "") -> Sent:
        head = self.repository.resolve("HEAD")
        pushed = PushedRef("refs/heads/main", head, "refs/heads/main", None)
        return push_data(self.repository, remote, url or remote, [pushed], self.merge_runs)

    def merge_runs(self, other: Oid) -> Oid:
        """The simplest union: every file of both trees."""
        repository = self.repository
        ours = repository.try_resolve(RUNS)
        merged = other
        if ours is not None:
            with (
                GitOdb(repository.git, repository.format) as odb,
                PackWriter(repository.objects_dir, repository.format, reader=odb) as pack,
            ):
                listing = repository.git.output("ls-tree", "-r", "-z", other.hex()).split(b"\0")[:-1]
                files = {line.split(b"\t")[1]: Oid.parse(line.split()[2]) for line in listing}
                changes: dict[bytes, Entry | None] = {name: Entry(MODE_FILE, oid) for name, oid in files.items()}
                tree = edit_tree(odb, pack, repository.resolve(f"{ours}^{{tree}}"), changes)
                pack.finish()
            options = [part for parent in (ours, other) for part in ("-p", parent.hex())]
            merged = Oid.parse(repository.git.line("commit-tree", tree.hex(), "-m", "merge", *options))
        repository.git.run("update-ref", RUNS, merged.hex())
        return merged

    def add_run(self, name: str) -> None:
        git = self.repository.git
        blob = git.output("hash-object", "-w", "--stdin", input=name.encode()).decode().strip()
        tree = git.output("mktree", input=f"100644 blob {blob}\t{name}\n".encode()).decode().strip()
        commit = Oid.parse(git.line("commit-tree", tree, "-m", name))
        self.merge_runs(commit)

    def check(self) -> None:
        self.git("fsck", "--strict", "--full", "--no-dangling")
        assert self.git("status", "--porcelain") == ""


@pytest.fixture
def clone(repo: Path) -> Clone:
    made = Clone(repo)
    made.write(".gitattributes", b"data/** filter=ml -text\n")
    return made


def clone_of(source: Path, where: Path) -> Clone:
    subprocess.run(["git", "clone", "-q", str(source), str(where)], check=True)
    made = Clone(where)
    configure_remote(made.repository, "origin")
    fetch_data(made.repository, "origin")
    made.fill()
    return made


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    where = tmp_path / "server.git"
    subprocess.run(["git", "init", "-q", "--bare", str(where)], check=True)
    return where


SIZES = {"data/empty": 0, "data/small": 65_535, "data/chunk": 65_536, "data/large": LARGE}
ODD = {os.fsdecode(b"data/new\nline \xff"): 100_000, "data/sp ace/=": 70_000}


def test_content_goes_in_and_comes_out(clone: Clone) -> None:
    contents = {name: noise(size, size) for name, size in {**SIZES, **ODD}.items()}
    for name, content in contents.items():
        clone.write(name, content)
    clone.commit()
    clone.check()
    for name, content in contents.items():
        blob = clone.repository.git.output("cat-file", "blob", f"HEAD:{name}")
        assert blob == content if len(content) < 65_536 else is_pointer(blob)
        (clone.path / name).unlink()
    clone.git("checkout", "--", ".")
    assert is_pointer(clone.read("data/large"))
    clone.fill()
    assert {name: clone.read(name) for name in contents} == contents
    clone.check()


def test_branches_diff_and_stash(clone: Clone) -> None:
    one, two, three = (noise(seed, LARGE) for seed in (1, 2, 3))
    clone.write("data/large", one)
    clone.write("data/mid", noise(1))
    clone.commit()
    clone.git("switch", "-q", "-c", "other")
    clone.write("data/large", two)
    clone.write("data/mid", noise(2))
    changed = clone.git("diff", "--stat")
    assert "data/large" in changed
    assert "data/mid" in changed
    clone.commit()
    clone.git("switch", "-q", "main")
    clone.fill()
    assert (clone.read("data/large"), clone.read("data/mid")) == (one, noise(1))
    clone.check()
    clone.write("data/large", three)
    clone.git("stash", "-q")
    clone.fill()
    assert clone.read("data/large") == one
    clone.git("gc", "-q", "--prune=now")
    clone.check()
    clone.git("switch", "-q", "other")
    clone.fill()
    assert clone.read("data/large") == two
    clone.git("switch", "-q", "main")
    clone.fill()
    clone.git("stash", "pop", "-q")
    clone.fill()
    assert clone.read("data/large") == three
    assert clone.git("status", "--porcelain") == " M data/large"
    clone.git("checkout", "-q", "data/large")
    clone.fill()
    clone.git("merge", "-q", "other")
    clone.fill()
    assert clone.read("data/large") == two
    clone.check()


def test_gc_takes_neither_staged_nor_committed_content(clone: Clone) -> None:
    clone.write("data/committed", noise(1, LARGE))
    clone.commit()
    clone.write("data/staged", noise(2, LARGE))
    clone.git("add", "-A")
    clone.git("gc", "-q", "--prune=now")
    clone.git("fsck", "--strict", "--full", "--no-dangling")
    for name, seed in (("data/committed", 1), ("data/staged", 2)):
        (clone.path / name).unlink()
        clone.git("checkout", "--", name)
        clone.fill()
        assert clone.read(name) == noise(seed, LARGE)
    clone.git("commit", "-q", "-m", "two")
    clone.cover()
    assert not list_refs(clone.repository.git, "refs/ml/staged")
    clone.git("gc", "-q", "--prune=now")
    clone.check()


def test_status_of_a_touched_file_stores_nothing(clone: Clone) -> None:
    clone.write("data/large", noise(1, LARGE))
    clone.commit()
    refs = list_refs(clone.repository.git, "refs")
    packs = sorted((clone.path / ".git/objects/pack").iterdir())
    os.utime(clone.path / "data/large", (1, 1))
    clone.check()
    assert list_refs(clone.repository.git, "refs") == refs
    assert sorted((clone.path / ".git/objects/pack").iterdir()) == packs


def test_a_killed_filter_leaves_nothing_broken(clone: Clone, tmp_path: Path) -> None:
    clone.write("data/first", noise(1, LARGE))
    clone.commit()
    for number in range(40):
        clone.write(f"data/n{number}", noise(number, LARGE))
    log = tmp_path / "filter.pid"
    wrapper = tmp_path / "filter.sh"
    wrapper.write_text(f"#!/bin/sh\necho $$ > '{log}'\nexec '{sys.executable}' -P -m gitml filter-process\n")
    wrapper.chmod(0o755)
    clone.git("config", "filter.ml.process", str(wrapper))
    adding = subprocess.Popen(["git", "add", "-A"], cwd=clone.path, stderr=subprocess.DEVNULL)
    while not list((clone.repository.objects_dir / "pack").glob("staged-*")):
        assert adding.poll() is None
        time.sleep(0.01)
    os.kill(int(log.read_text()), signal.SIGKILL)
    assert adding.wait() != 0
    (clone.path / ".git/index.lock").unlink(missing_ok=True)
    clone.git("fsck", "--strict", "--full", "--no-dangling")
    clone.git("gc", "-q", "--prune=now")
    clone.git("fsck", "--strict", "--full", "--no-dangling")
    assert not list((clone.path / ".git/objects/pack").glob("tmp_*"))
    clone.commit()
    clone.check()
    (clone.path / "data/n39").unlink()
    clone.git("checkout", "--", "data/n39")
    clone.fill()
    assert clone.read("data/n39") == noise(39, LARGE)


def test_two_worktrees_add_at_once(clone: Clone, tmp_path: Path) -> None:
    clone.commit()
    clone.git("worktree", "add", "-q", "-b", "second", str(tmp_path / "second"))
    second = Clone(tmp_path / "second")
    for number in range(6):
        clone.write(f"data/a{number}", noise(number))
        second.write(f"data/b{number}", noise(number + 3))
    processes = [subprocess.Popen(["git", "add", "-A"], cwd=each.path) for each in (clone, second)]
    assert [process.wait() for process in processes] == [0, 0]
    for each in (clone, second):
        each.git("commit", "-q", "-m", "c")
        each.cover()
    clone.git("gc", "-q", "--prune=now")
    clone.check()
    second.check()
    clone.git("merge", "-q", "second")
    clone.fill()
    assert [clone.read(f"data/b{number}") for number in range(6)] == [noise(number + 3) for number in range(6)]


def test_push_and_clone_carry_the_data(clone: Clone, bare: Path, tmp_path: Path) -> None:
    clone.git("remote", "add", "origin", str(bare))
    for version in (1, 2, 3):
        clone.write("data/large", noise(version, LARGE))
        clone.write(f"data/{version}", noise(version))
        clone.git("add", "-A")
        clone.git("commit", "-q", "-m", f"v{version}")  # no hook: push itself covers every version
    clone.push()
    other = clone_of(bare, tmp_path / "other")
    assert other.read("data/large") == noise(3, LARGE)
    other.check()
    other.git("checkout", "-q", "HEAD~2")
    other.fill()
    assert other.read("data/large") == noise(1, LARGE)
    other.check()
    assert len(list_refs(other.repository.git, HEADS)) == 1
    before = list_refs(clone.repository.git, "refs/ml")
    clone.push()
    assert list_refs(clone.repository.git, "refs/ml") == before


def test_clones_that_push_never_conflict(clone: Clone, bare: Path, tmp_path: Path) -> None:
    clone.git("remote", "add", "origin", str(bare))
    configure_remote(clone.repository, "origin")
    clone.write("data/base", noise(0))
    clone.commit()
    clone.add_run("zero")
    clone.push()
    other = clone_of(bare, tmp_path / "other")
    for each, name, seed in ((clone, "ours", 1), (other, "theirs", 2)):
        each.write(f"data/{name}", noise(seed))
        each.commit()
        each.add_run(name)
    clone.push_data("origin", str(bare))
    other.push_data("origin", str(bare))
    server = Repository.discover(bare)
    assert len(list_refs(server.git, HEADS)) == 2
    assert set(server.git.lines("ls-tree", "--name-only", RUNS)) == {"zero", "ours", "theirs"}
    clone.git("push", "-q", "origin", "HEAD")
    other.git("pull", "-q", "--rebase", "origin", "main")
    other.fill()
    assert other.read("data/ours") == noise(1)
    fetch_data(other.repository, "origin")  # who has all heads joins them
    other.write("data/more", noise(3))
    other.commit()
    other.push()
    assert len(list_refs(server.git, HEADS)) == 1
    third = clone_of(bare, tmp_path / "third")
    assert [third.read(f"data/{name}") for name in ("base", "ours", "theirs", "more")] == [noise(n) for n in range(4)]
    third.check()
    subprocess.run(["git", "fsck", "--strict", "--full"], cwd=bare, check=True)


def test_a_bare_url_and_a_server_that_forbids_deletions(clone: Clone, bare: Path, tmp_path: Path) -> None:
    server = Repository.discover(bare)
    server.git.run("config", "receive.denyDeletes", "true")
    server.git.run("config", "receive.advertiseAtomic", "false")
    for version in (1, 2):
        clone.write("data/x", noise(version))
        clone.commit()
        clone.add_run(f"r{version}")
        clone.push(str(bare))
    assert len(list_refs(server.git, HEADS)) == 2
    assert not list_refs(clone.repository.git, "refs/ml/remotes", "refs/ml/incoming")
    assert clone_of(bare, tmp_path / "other").read("data/x") == noise(2)


def test_remotes_are_configured_once_and_checkouts_bring_content(clone: Clone, bare: Path, tmp_path: Path) -> None:
    clone.git("remote", "add", "origin", str(bare))
    before = clone.git("config", "--get-all", "remote.origin.fetch")
    configure_remote(clone.repository, "origin")
    configure_remote(clone.repository, "origin")
    lines: Sequence[str] = clone.git("config", "--get-all", "remote.origin.fetch").splitlines()
    assert len(lines) == 2
    clone.git("fetch", "-q")  # a remote without data or runs is no error
    fetch_data(clone.repository, "origin")
    clone.write("data/x", noise(1))
    clone.commit()
    clone.push()
    other = clone_of(bare, tmp_path / "other")
    clone.write("data/x", noise(2))
    clone.commit()
    clone.push()
    other.git("pull", "-q", "--prune")
    other.fill()
    assert other.read("data/x") == noise(2)
    unconfigure_remote(clone.repository, "origin")
    assert clone.git("config", "--get-all", "remote.origin.fetch") == before
    with pytest.raises(FetchError, match="cannot fetch data from 'nowhere'"):
        fetch_data(clone.repository, "nowhere")


def objects_size(where: Path) -> int:
    return sum(
        path.stat().st_size for path in (where / "objects").rglob("*") if path.is_file() and path.suffix != ".idx"
    )


def test_one_changed_line_of_a_large_table_pushes_little(clone: Clone, bare: Path) -> None:
    random.seed(7)
    lines = [f"{n},{random.random():.6f},{random.choice('abcdef')},{random.randrange(10**6)}\n" for n in range(150_000)]
    clone.git("remote", "add", "origin", str(bare))
    subprocess.run(["git", "config", "receive.unpackLimit", "1"], cwd=bare, check=True)
    clone.write("data/table.csv", "".join(lines).encode())
    assert (clone.path / "data/table.csv").stat().st_size > 3_500_000
    clone.commit()
    clone.push()
    before = packed(bare)
    lines[70_000] = "70000,0.5,changed,1\n"
    clone.write("data/table.csv", "".join(lines).encode())
    clone.commit()
    clone.push_data("origin", str(bare))
    new = {oid: entry for oid, entry in packed(bare).items() if oid not in before}
    chunks = [oid for oid in new if blob_size(bare, oid) > 65_536]
    assert chunks, "a line changed, so a chunk did"
    assert all(new[oid][1] for oid in chunks), "each travels as a difference from what the server has"
    assert sum(size for size, _ in new.values()) < 4_000


def packed(where: Path) -> dict[str, tuple[int, bool]]:
    """Every object in the packs of a bare repository: its bytes in the pack, and whether it is a delta."""
    found = {}
    for pack in (where / "objects/pack").glob("*.pack"):
        listed = subprocess.run(["git", "verify-pack", "-v", str(pack)], check=True, capture_output=True, text=True)
        for line in listed.stdout.splitlines():
            fields = line.split()
            if len(fields) in (5, 7) and fields[1] in ("blob", "tree", "commit"):
                found[fields[0]] = (int(fields[3]), len(fields) == 7)
    return found


def blob_size(where: Path, oid: str) -> int:
    """Bytes of a blob, 0 for anything else."""
    asked = ["git", "cat-file", "--batch-check=%(objecttype) %(objectsize)"]
    answer = subprocess.run(
        asked, cwd=where, input=oid + "\n", check=True, capture_output=True, text=True
    ).stdout.split()
    return int(answer[1]) if answer[0] == "blob" else 0


def test_more_than_four_gibibytes(clone: Clone) -> None:
    size = (4 << 30) + (100 << 20)
    (clone.path / "data").mkdir()
    with (clone.path / "data/huge").open("wb") as file:
        file.truncate(size)
    clone.git("add", "data/huge")
    assert f"size {size}" in clone.git("cat-file", "blob", ":data/huge").splitlines()
    clone.git("fsck", "--strict", "--no-dangling")
    assert objects_size(clone.path / ".git") < 2_000_000
    (clone.path / "data/huge").unlink()
