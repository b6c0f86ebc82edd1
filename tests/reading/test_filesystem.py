"""`gitml://` in fsspec: its own abstract tests for reading, and what is ours."""

import json
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from gitml.reading.filesystem import GitmlFileSystem, ReadOnlyError
from tests.conftest import run_git
from tests.reading.conftest import FIRST

BIG = FIRST["data/big.bin"]


class CommittingFileSystem(GitmlFileSystem):
    """What the abstract tests write is committed, so that they can read it."""

    cachable = False

    def touch(self, path: str, **_: Any) -> None:
        self.pipe(path, b"")

    def pipe(self, path: str, value: bytes, **_: Any) -> None:
        target = Path(self.repo) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(value)
        run_git(Path(self.repo), "add", "--", path)
        run_git(Path(self.repo), "commit", "-q", "--allow-empty", "-m", path)

    def rm(self, path: str, recursive: bool = False, **_: Any) -> None:
        run_git(Path(self.repo), "rm", "-r", "-q", "--", path)
        run_git(Path(self.repo), "commit", "-q", "-m", f"without {path}")

    def mkdir(self, path: str, **_: Any) -> None:
        """Git has no empty directories."""

    def makedirs(self, path: str, **_: Any) -> None:
        """Git has no empty directories."""


class TestGet(AbstractFixtures, AbstractGetTests):  # type: ignore[misc]
    """fsspec's tests of get; those of put, pipe, copy, mv and open("xb") are about writing."""

    @pytest.fixture
    def fs(self, repo: Path) -> CommittingFileSystem:
        run_git(repo, "commit", "-q", "--allow-empty", "-m", "first")
        return CommittingFileSystem(repo=repo)

    @pytest.fixture
    def fs_path(self) -> str:
        return "top"


@pytest.fixture
def fs(built: Path) -> GitmlFileSystem:
    return GitmlFileSystem(repo=built, rev="v1")


def test_listing(fs: GitmlFileSystem) -> None:
    assert sorted(fs.ls("", detail=False)) == [
        ".gitattributes", "at@sign", "data", "folder", "link", "odd name\n.bin", "out", "plain",
    ]  # fmt: skip
    assert {each["name"]: each["size"] for each in fs.ls("data")} == {
        "data/big.bin": len(BIG), "data/empty": 0, "data/small.csv": 8,
    }  # fmt: skip
    assert fs.ls("data/small.csv", detail=False) == ["data/small.csv"]
    assert fs.find("plain") == ["plain/large.bin"]
    assert fs.glob("data/*.bin") == ["data/big.bin"]
    with pytest.raises(FileNotFoundError):
        fs.ls("nothing")


def test_info(fs: GitmlFileSystem, built: Path) -> None:
    found = fs.info("data/big.bin")
    assert (found["type"], found["size"], found["mode"]) == ("file", len(BIG), "100644")
    assert found["oid"] == run_git(built, "rev-parse", "v1:data/big.bin")
    assert fs.checksum("data/big.bin") == found["sha256"]
    assert fs.info("")["type"] == "directory"
    assert fs.isdir("data")
    assert fs.isfile("link")
    assert fs.info("link")["islink"]
    assert not fs.exists("data/nothing")
    assert isinstance(fs.modified("data/big.bin"), datetime)
    assert fs.created("data/big.bin") == fs.modified("data/big.bin")


def test_urls_name_a_revision_as_those_of_git_do(built: Path) -> None:
    options = {"repo": str(built)}
    for url, more, size in (
        ("gitml://v1@data/big.bin", {}, len(BIG)),
        ("gitml://data/big.bin", {"rev": "v1"}, len(BIG)),
        ("gitml://data/big.bin", {}, len(BIG) + 4),
    ):
        with fsspec.open(url, "rb", **options, **more) as file:
            assert len(file.read()) == size
    with fsspec.open("gitml://@at@sign/x", **options) as file:
        assert file.read() == b"at\n"
    with fsspec.open("gitml://table.json", "rt", **options) as text:
        assert json.load(text) == {"rows": 2}


def test_head_is_looked_up_at_each_call(repo: Path) -> None:
    fs = GitmlFileSystem(repo=repo)
    for content in ("one", "two"):
        (repo / "file").write_text(content)
        run_git(repo, "add", "file")
        run_git(repo, "commit", "-q", "-m", content)
        assert fs.cat_file("file") == content.encode()


def test_ranges(fs: GitmlFileSystem) -> None:
    assert fs.cat_file("data/big.bin", 1_000_000, 1_000_010) == BIG[1_000_000:1_000_010]
    assert fs.cat_file("data/big.bin", -5) == BIG[-5:]
    found = fs.cat_ranges(["data/big.bin", "data/big.bin", "nothing"], [0, -10, 0], [10, None, 1])
    assert found[:2] == [BIG[:10], BIG[-10:]]
    assert isinstance(found[2], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["nothing"], 0, 1, on_error="raise")


def test_nothing_can_be_written(fs: GitmlFileSystem, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    for write in (
        lambda: fs.open("x", "wb"),
        lambda: fs.pipe("x", b"1"),
        lambda: fs.rm("data", recursive=True),
        lambda: fs.put(str(tmp_path / "x"), "x"),
        lambda: fs.mkdir("new"),
        lambda: fs.mv("link", "other"),
        lambda: fs.touch("x"),
    ):
        with pytest.raises(ReadOnlyError, match="read-only"):
            write()  # type: ignore[no-untyped-call]


def test_it_travels_to_another_process(fs: GitmlFileSystem) -> None:
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file("data/small.csv") == b"a,b\n1,2\n"


def test_a_revision_that_does_not_exist(built: Path) -> None:
    with pytest.raises(Exception, match="no-such-rev"):
        GitmlFileSystem(repo=built, rev="no-such-rev").ls("")
