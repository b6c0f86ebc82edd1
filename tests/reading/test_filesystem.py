import errno
import gzip
import json
import multiprocessing
import os
import pickle
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from gitml.reading.filesystem import GitmlFileSystem, ReadOnlyError
from gitml.reading.source import ContentMissingError
from tests.reading.conftest import Store, noise

BIG = noise(1_000_000)


def files_at(store: Store, rev: str = "HEAD", **options: Any) -> GitmlFileSystem:
    return GitmlFileSystem(store.path, rev, **options)


class TestAbstractGet(AbstractFixtures, AbstractGetTests):  # type: ignore[misc]
    """fsspec's own tests of reading, over scenarios that are commits: a commit has no `rm` to clean up with."""

    @pytest.fixture
    def fs(self, store: Store) -> GitmlFileSystem:
        nested = {"file1", "file2", "subdir/subfile1", "subdir/subfile2", "subdir/nesteddir/nestedfile"}
        edge = {"file1", "file2"} | {
            f"subdir{number}/{name}" for number in (0, 1) for name in ("subfile1", "subfile2", "nesteddir/nestedfile")
        }
        hashed = {f"{md5(b'%d' % number).hexdigest()}.txt": b"%d" % number for number in range(10)}
        scenarios: dict[str, dict[str, bytes]] = {
            "bulk/source": dict.fromkeys(nested, b""),
            "edge/source": dict.fromkeys(edge, b""),
            "prefix/source": {"subdir.txt": b"", "subdir/subfile.txt": b""},
            "hashed/source": hashed,
            "top/src": {"file": b""},
        }
        store.commit(
            {f"{name}/{path}".encode(): data for name, files in scenarios.items() for path, data in files.items()}
        )
        return files_at(store)

    @pytest.fixture(autouse=True)
    def what_tests_make_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One test makes its directories in its body: they are committed already."""
        for name in ("mkdir", "touch"):
            monkeypatch.setattr(GitmlFileSystem, name, lambda self, path: self.info(path))

    @pytest.fixture
    def fs_path(self) -> str:
        # fsspec itself cannot tell a directory from what is in it where a path has only one name
        return "top"

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self) -> str:
        return "bulk/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self) -> str:
        return "edge/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self) -> str:
        return "prefix/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self) -> str:
        return "hashed/source"


def test_what_is_there(store: Store) -> None:
    links = {b"link": b"data/big", b"to-dir": b"data", b"broken": b"none", b"data/loop": b".."}
    store.commit({b"data/big": BIG, b"data/a.csv": b"1\n", b"data/deep/er/x": b"x", b"top": b"t"}, links)
    fs = files_at(store)
    assert fs.ls("", detail=False) == ["broken", "data", "link", "to-dir", "top"]
    assert fs.ls("data/", detail=False) == ["data/a.csv", "data/big", "data/deep", "data/loop"]
    assert fs.ls("data/a.csv", detail=False) == ["data/a.csv"]
    by_name = {info["name"]: info for info in fs.ls("data")}
    pointer = store.git("rev-parse", "HEAD:data/big")
    assert by_name["data/big"] == {
        "name": "data/big", "type": "file", "size": len(BIG), "mode": 0o100644, "oid": pointer,
        "sha256": sha256(BIG).hexdigest(),
    }  # fmt: skip
    assert by_name["data/big"] == fs.info("data/big") == fs.info("gitml://data/big")
    assert fs.info("data/a.csv")["size"] == 2
    assert fs.info("data/a.csv")["sha256"] is None
    assert (fs.info("")["type"], fs.info("data/deep")["type"], fs.info("to-dir")["type"]) == ("directory",) * 3
    assert fs.info("link") == {**fs.info("data/big"), "name": "link", "islink": True, "destination": b"data/big"}
    types = {info["name"]: (info["type"], info["size"]) for info in fs.ls("")}
    assert types["link"] == ("file", len(BIG))
    assert (types["to-dir"], types["broken"]) == (("link", 0), ("link", 0))
    assert fs.find("data") == ["data/a.csv", "data/big", "data/deep/er/x", "data/loop"]
    assert fs.find("", maxdepth=1) == ["broken", "link", "to-dir", "top"]
    assert fs.du("data/deep") == 1
    assert list(fs.walk("data/deep")) == [("data/deep", ["er"], []), ("data/deep/er", [], ["x"])]
    assert fs.glob("data/*.csv") == ["data/a.csv"]
    assert fs.glob("**/x") == ["data/deep/er/x"]
    assert fs.exists("data/big")
    assert not fs.exists("data/none")
    assert (fs.isdir("data"), fs.isfile("data"), fs.isfile("data/big")) == (True, False, True)
    assert fs.ls("to-dir", detail=False)[0] == "to-dir/a.csv"
    for call in (fs.ls, fs.info, fs.open, fs.cat_file):
        with pytest.raises(FileNotFoundError):
            call("data/none")
    with pytest.raises(IsADirectoryError):
        fs.open("data")


def test_listing_asks_git_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit({b"d%d/%d/x" % (one, two): b"x" for one in range(8) for two in range(8)})
    fs = files_at(store)
    monkeypatch.setenv("GIT_TRACE2", str(tmp_path / "trace"))
    assert sum(info["size"] for info in fs.find("", detail=True).values()) == 64
    assert fs.glob("d*/3/*")[-1] == "d7/3/x"
    started = [line for line in (tmp_path / "trace").read_text().splitlines() if " start " in line]
    assert len(started) <= 4  # two for each walk


def test_content(store: Store, tmp_path: Path) -> None:
    packed = gzip.compress(b"some text\n")
    store.commit({b"data/big": BIG, b"data/a.txt": "é\n".encode(), b"data/b.txt.gz": packed})
    fs = files_at(store)
    assert fs.cat_file("data/big") == BIG
    assert fs.cat_file("data/big", start=999_000) == BIG[999_000:]
    assert fs.cat_file("data/big", start=-10, end=-5) == BIG[-10:-5]
    assert fs.head("data/big", 10) == BIG[:10]
    assert fs.tail("data/big", 10) == BIG[-10:]
    assert fs.cat(["data/big", "data/a.txt"]) == {"data/big": BIG, "data/a.txt": b"\xc3\xa9\n"}
    assert fs.read_text("data/a.txt") == "é\n"
    with fs.open("data/b.txt.gz", "rt", compression="infer") as text:
        assert text.read() == "some text\n"
    fs.get("data", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out/big").read_bytes() == BIG
    with fs.open("data/big") as file:
        assert file.size == len(BIG)
        file.seek(-4, os.SEEK_END)  # as a reader of Parquet does
        assert file.read() == BIG[-4:]


def test_ranges(store: Store, away: Callable[[Store], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = noise(5_000_000)
    store.commit({b"big": content, b"other": BIG, b"small": b"0123456789"})
    fs = files_at(away(store))
    monkeypatch.setenv("GIT_TRACE2", str(tmp_path / "trace"))
    paths = ["big", "small", "big", "none", "big", "small"]
    starts = [0, 2, 2_500_000, 0, -10, -3]
    ends = [10, 4, 2_500_100, 1, None, None]
    found = fs.cat_ranges(paths, starts, ends)
    assert isinstance(found[3], FileNotFoundError)
    assert found[:3] + found[4:] == [content[:10], b"23", content[2_500_000:2_500_100], content[-10:], b"789"]
    started = [line.split() for line in (tmp_path / "trace").read_text().splitlines() if " start " in line]
    assert sum("fetch" in words for words in started) == 2  # the manifest, three chunks
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["none"], 0, 1, on_error="raise")
    assert fs.cat_ranges(["small", "small"], 1, 3) == [b"12", b"12"]


def test_content_that_is_not_here(store: Store, away: Callable[[Store], Store]) -> None:
    store.commit({b"big": BIG})
    clone = away(store)
    fs = files_at(clone, fetch=False)
    assert fs.info("big")["size"] == len(BIG)
    with pytest.raises(ContentMissingError):
        fs.cat_file("big")
    # a mapper takes a missing key for one that was never written, and fills in zeros
    with pytest.raises(ContentMissingError):
        fs.get_mapper("")["big"]
    with pytest.raises(KeyError):
        fs.get_mapper("")["none"]
    assert files_at(clone).cat_file("big") == BIG


def test_pointers_of_a_clone_without_blobs(store: Store, tmp_path: Path) -> None:
    store.commit({b"data/big": BIG, b"data/small": b"small", b"top": b"t" * 5000})
    store.git("config", "uploadpack.allowFilter", "true")
    store.git("config", "uploadpack.allowAnySHA1InWant", "true")
    source = f"file://{store.path}"
    subprocess.run(
        ["git", "clone", "-q", "--filter=blob:none", "--no-checkout", source, tmp_path / "partial"], check=True
    )
    fs = files_at(Store(tmp_path / "partial"))
    assert {name: info["size"] for name, info in fs.find("", detail=True).items()} == {
        "data/big": len(BIG), "data/small": 5, "top": 5000
    }  # fmt: skip
    assert fs.cat_file("data/big") == BIG


def test_malformed_pointers_are_listed(store: Store) -> None:
    store.commit({b"data/x": b"gitml pointer 1\nwhat\n"})
    fs = files_at(store)
    assert [info["size"] for info in fs.ls("data")] == [21]
    with pytest.raises(OSError, match="malformed pointer"):
        fs.open("data/x")


def test_identity_and_dates(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, files in enumerate([{b"a": b"1", b"b": BIG}, {b"a": b"2", b"b": BIG}, {b"a": b"1", b"c": BIG}]):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"2024-01-0{number + 1} 12:00:00 +0000")
        store.commit(files)
    first, last = files_at(store, "HEAD~2"), files_at(store)
    assert first.checksum("a") == last.checksum("a") != files_at(store, "HEAD~1").checksum("a")
    assert first.ukey("b") == last.ukey("c")
    assert last.created("a") == datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert last.modified("a") == datetime(2024, 1, 3, 12, tzinfo=UTC)
    assert first.modified("b") == last.created("a")
    with pytest.raises(FileNotFoundError):
        last.modified("b")
    with pytest.raises(NotImplementedError):
        files_at(store, "HEAD^{tree}").modified("a")


@pytest.mark.parametrize(
    ("url", "options", "path"),
    [
        ("gitml://data/x.csv", {}, "data/x.csv"),
        ("gitml://v1.2@data/x.csv", {"rev": "v1.2"}, "data/x.csv"),
        ("gitml://feature/new@data/x", {"rev": "feature/new"}, "data/x"),
        ("gitml:///some/where:v1@data/x", {"repo": "/some/where", "rev": "v1"}, "data/x"),
        ("gitml://../other:@data/x", {"repo": "../other"}, "data/x"),
        ("gitml://main@{1}@data/x", {"rev": "main@{1}"}, "data/x"),
        ("gitml://@data/a@b:c.csv", {}, "data/a@b:c.csv"),
        ("gitml://data/2024-01-01T00:00.csv", {}, "data/2024-01-01T00:00.csv"),
        ("gitml://", {}, ""),
        ("data/a@b", {}, "data/a@b"),
        ("/data/x/", {}, "data/x"),
    ],
)
def test_urls(url: str, options: dict[str, str], path: str) -> None:
    assert GitmlFileSystem._get_kwargs_from_urls(url) == options
    assert GitmlFileSystem._strip_protocol(url) == path
    assert GitmlFileSystem._strip_protocol(path) == path
    back = GitmlFileSystem.unstrip_protocol(GitmlFileSystem.__new__(GitmlFileSystem), path)
    assert GitmlFileSystem._strip_protocol(back) == path
    assert GitmlFileSystem._get_kwargs_from_urls(back) == {}


def test_fsspec_finds_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit({b"data/x.csv": b"a,b\n1,2\n", b"data/a@b.csv": b"c\n"})
    store.git("tag", "v1.2")
    store.commit({b"data/x.csv": b"a,b\n3,4\n"})
    monkeypatch.chdir(store.path)
    with fsspec.open("gitml://data/x.csv", "rt", rev="v1.2") as text:
        assert text.read() == "a,b\n1,2\n"
    with fsspec.open(f"gitml://{store.path}:v1.2@data/a@b.csv") as file:
        assert file.read() == b"c\n"
    assert [each.path for each in fsspec.open_files("gitml://v1.2@data/*.csv")] == ["data/a@b.csv", "data/x.csv"]
    assert fsspec.filesystem("gitml", repo=store.path).cat("data/x.csv") == b"a,b\n3,4\n"
    with pytest.raises(FileNotFoundError, match="unknown revision 'data/a'") as raised:
        fsspec.open("gitml://data/a@b.csv")
    assert "gitml://@PATH" in raised.value.__notes__[0]


def read_elsewhere(fs: GitmlFileSystem) -> bytes:
    os.chdir("/")
    found: bytes = fs.cat_file("x")
    return found


def test_it_stays_at_its_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.path)
    first = store.commit({b"x": b"old"})
    fs = GitmlFileSystem(rev="main")
    assert fs == GitmlFileSystem(rev=first)
    frozen = pickle.dumps(fs)
    store.commit({b"x": b"new"})
    assert fs.cat_file("x") == b"old"
    assert GitmlFileSystem(rev="main").cat_file("x") == b"new"
    assert fs != GitmlFileSystem(rev="main")
    again = pickle.loads(frozen)
    assert again == fs
    assert again.cat_file("x") == b"old"
    assert GitmlFileSystem.from_json(fs.to_json()).cat_file("x") == b"old"
    assert json.loads(fs.to_json())["rev"] == first
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(read_elsewhere, fs).result(300) == b"old"


@pytest.mark.parametrize(
    "write",
    [
        lambda fs, local: fs.open("new", "wb"),
        lambda fs, local: fs.open("x", "ab"),
        lambda fs, local: fs.open("x", "r+b"),
        lambda fs, local: fs.open("new", "xb"),
        lambda fs, local: fs.open("new", "w"),
        lambda fs, local: fs.pipe_file("x", b""),
        lambda fs, local: fs.pipe({"x": b""}),
        lambda fs, local: fs.write_text("x", ""),
        lambda fs, local: fs.touch("x"),
        lambda fs, local: fs.mkdir("d"),
        lambda fs, local: fs.makedirs("d", exist_ok=True),
        lambda fs, local: fs.rmdir("d"),
        lambda fs, local: fs.rm("x"),
        lambda fs, local: fs.rm_file("x"),
        lambda fs, local: fs.delete("d", recursive=True),
        lambda fs, local: fs.cp("x", "y"),
        lambda fs, local: fs.copy("d", "e", recursive=True),
        lambda fs, local: fs.mv("x", "y"),
        lambda fs, local: fs.put(local, "x"),
        lambda fs, local: fs.put_file(local, "x"),
        lambda fs, local: fs.upload(local, "d/"),
    ],
)
def test_writing_is_refused(store: Store, tmp_path: Path, write: Callable[[Any, str], object]) -> None:
    store.commit({b"x": b"x", b"d/y": b"y"})
    (tmp_path / "local").write_bytes(b"local")
    before = store.git("for-each-ref")
    with pytest.raises(OSError, match="commits do not change") as raised:
        write(files_at(store), str(tmp_path / "local"))
    assert isinstance(raised.value, ReadOnlyError)
    assert raised.value.errno == errno.EROFS
    assert store.git("for-each-ref") == before


def test_pandas_reads_tables(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    old = pandas.DataFrame({"a": range(50_000), "b": [f"row {number}" for number in range(50_000)]})
    for frame, tag in ((old, "v1.2"), (old.iloc[::2], "v1.3")):
        frame.to_parquet(tmp_path / "x.parquet", index=False)
        csv = frame.to_csv(index=False).encode()
        store.commit({b"data/x.parquet": (tmp_path / "x.parquet").read_bytes(), b"data/x.csv": csv})
        store.git("tag", tag)
    monkeypatch.chdir(store.path)
    assert pandas.read_parquet("gitml://data/x.parquet", storage_options={"rev": "v1.2"}).equals(old)
    assert pandas.read_parquet("gitml://v1.2@data/x.parquet", columns=["a"]).equals(old[["a"]])
    assert len(pandas.read_parquet("gitml://data/x.parquet")) == 25_000
    assert pandas.read_csv("gitml://data/x.csv", storage_options={"rev": "v1.2", "repo": str(store.path)}).equals(old)
