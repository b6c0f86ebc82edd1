"""`gitml.open`: seekable files of any commit over chunks, fetched as far as they are touched."""

import io
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import gitml
from gitml.errors import CorruptError, GitmlError, MissingDataError, UserError
from gitml.git.data import DataLog
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.store.manifest import read_manifest
from gitml.store.pointer import parse_pointer
from tests.conftest import run_git
from tests.reading.conftest import FIRST, with_filter

BIG = FIRST["data/big.bin"]


@pytest.mark.parametrize("name", FIRST)
def test_every_kind_of_file_comes_back(built: Path, name: str) -> None:
    with gitml.open(name, "v1", built) as file:
        assert (file.name, file.size) == (name, len(FIRST[name]))
        assert file.read() == FIRST[name]
        assert file.read(1) == b""
    assert file.closed


def test_head_is_the_default_and_the_worktree_plays_no_part(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built / "data")
    with gitml.open("data/big.bin") as file:
        assert file.read() == BIG + b"more"


def test_reading_at_random_is_as_in_a_plain_file(built: Path) -> None:
    seed = random.randrange(1 << 32)
    choose = random.Random(seed)
    plain = io.BytesIO(BIG)
    with gitml.open("data/big.bin", "v1", built) as file:
        for _ in range(200):
            offset, whence = choose.choice([(choose.randrange(3_100_000), 0), (-choose.randrange(3_000_000), 2)])
            assert file.seek(offset, whence) == plain.seek(offset, whence), seed
            size = choose.choice([0, 1, 7, 1000, 70_000, 1_500_000])
            assert file.read(size) == plain.read(size), seed
            assert file.tell() == plain.tell(), seed


def test_it_is_a_binary_file_like_any_other(built: Path) -> None:
    with gitml.open("data/small.csv", "v1", built) as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert [line.rstrip() for line in io.TextIOWrapper(file)] == ["a,b", "1,2"]
    with gitml.open("data/big.bin", "v1", built) as file:
        into = bytearray(10)
        file.seek(-4, io.SEEK_END)
        assert file.readinto(into) == 4
        assert into[:4] == BIG[-4:]
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_links_are_followed_inside_the_tree(built: Path) -> None:
    for name in ("link", "folder/big.bin"):
        with gitml.open(name, "v1", built) as file:
            assert file.read() == BIG
    with pytest.raises(FileNotFoundError):
        gitml.open("out", "v1", built)


@pytest.mark.parametrize(
    ("path", "rev", "kind", "words"),
    [
        ("nothing/here", "v1", FileNotFoundError, "there is no 'nothing/here' in 'v1'"),
        ("data/small.csv", "HEAD", FileNotFoundError, "data/small.csv"),
        ("../outside", "v1", FileNotFoundError, "outside"),
        ("data", "v1", IsADirectoryError, "'data' in 'v1' is a directory"),
        ("", "v1", IsADirectoryError, "is a directory"),
        ("data/big.bin", "no-such-rev", UserError, "no-such-rev"),
    ],
)
def test_what_cannot_be_opened(built: Path, path: str, rev: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        gitml.open(path, rev, built)
    assert isinstance(raised.value, GitmlError)


def test_outside_a_repository(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a git repository"):
        gitml.open("x", repo=tmp_path)
    with pytest.raises(FileNotFoundError):
        gitml.open("x", repo=tmp_path / "nowhere")


def test_a_malformed_pointer_and_a_wrong_digest_are_named(repo: Path) -> None:
    with_filter(repo)
    (repo / ".gitattributes").write_text("*.bin filter=ml -text\n")
    (repo / "good.bin").write_bytes(BIG)
    (repo / "malformed").write_text("gitml pointer 1\nsize many\n")
    run_git(repo, "add", "-A")
    pointer = run_git(repo, "cat-file", "blob", ":good.bin") + "\n"
    (repo / "wrong").write_text(pointer.replace(pointer.split()[4], "0" * 64))
    run_git(repo, "add", "-A")
    run_git(repo, "commit", "-q", "-m", "c")
    with pytest.raises(CorruptError, match="malformed pointer"):
        gitml.open("malformed", repo=repo)
    with gitml.open("wrong", repo=repo) as file, pytest.raises(CorruptError, match="the pointer says 0000"):
        file.read()


def test_a_clone_fetches_only_the_chunks_that_are_touched(built: Path, tmp_path: Path) -> None:
    origin = Repository.discover(built)
    with GitOdb(origin.git, origin.format) as odb:
        for revision_name in ("v1^{commit}", "HEAD"):
            DataLog(origin, odb).cover_commit(origin.resolve(revision_name))
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", f"file://{built}", str(clone)], check=True)
    with GitOdb(origin.git, origin.format) as odb:
        pointer = parse_pointer(odb.read(origin.resolve("v1:data/big.bin"))[1])
        chunks = [chunk.oid for chunk in read_manifest(pointer.manifest, odb).chunks]
    blobs = [pointer.manifest, *chunks]
    assert not any(_has(clone, oid.hex()) for oid in blobs)
    with gitml.open("data/big.bin", "v1", clone) as file:
        file.seek(1_500_000)
        assert file.read(1024) == BIG[1_500_000:1_501_024]
        here = [oid for oid in blobs if _has(clone, oid.hex())]
        assert here[0] == pointer.manifest
        assert len(here) == 2
        file.seek(0)
        assert file.read() == BIG
    assert all(_has(clone, oid.hex()) for oid in blobs)


def test_content_that_nobody_has_is_said_to_be_missing(built: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--no-local", str(built), str(clone)], check=True)
    run_git(clone, "remote", "remove", "origin")
    with pytest.raises(MissingDataError, match="no remote has it") as raised:
        gitml.open("data/big.bin", "v1", clone)
    assert isinstance(raised.value, OSError)


def test_files_in_several_threads(built: Path) -> None:
    found: list[bool] = []

    def read(seed: int) -> None:
        choose = random.Random(seed)
        with gitml.open("data/big.bin", "v1", built) as file:
            for _ in range(30):
                at = choose.randrange(3_000_000)
                file.seek(at)
                found.append(file.read(5000) == BIG[at : at + 5000])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 120


def test_no_descriptor_and_no_process_is_left(built: Path) -> None:
    gitml.open("data/big.bin", "v1", built).close()
    before = len(os.listdir("/proc/self/fd"))
    for name in ("data/big.bin", "plain/large.bin"):
        with gitml.open(name, "v1", built) as file:
            file.read(10)
    with pytest.raises(FileNotFoundError):
        gitml.open("nothing", "v1", built)
    assert len(os.listdir("/proc/self/fd")) == before


def test_importing_gitml_imports_nothing_else() -> None:
    code = "import sys, gitml; print(sorted(name for name in sys.modules if name.startswith('gitml')))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['gitml']\n"


def _has(path: Path, oid: str) -> bool:
    return subprocess.run(["git", "cat-file", "-e", oid], cwd=path, capture_output=True, check=False).returncode == 0
