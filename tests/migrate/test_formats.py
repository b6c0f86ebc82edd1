"""Pointers of git-lfs, contents of DVC, and over which packs versions are spread."""

import hashlib
from pathlib import Path

import pytest

from gitml.errors import CorruptError, MissingDataError
from gitml.migrate.convert import lanes
from gitml.migrate.dvc import DvcCache, cache_places, is_dvc_file
from gitml.migrate.lfs import LfsPointer, format_lfs_pointer, parse_lfs_pointer

DIGEST = hashlib.sha256(b"content").digest()


def test_a_pointer_of_git_lfs_is_read_and_written() -> None:
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 7\n" % DIGEST.hex().encode()
    assert parse_lfs_pointer(text) == LfsPointer(DIGEST, 7)
    assert format_lfs_pointer(DIGEST, 7) == text
    assert format_lfs_pointer(hashlib.sha256(b"").digest(), 0) == b""


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"version 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 7\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize -7\n",
        b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 1100,
    ],
)
def test_other_text_is_no_pointer_of_git_lfs(text: bytes) -> None:
    assert parse_lfs_pointer(text) is None


def test_a_pointer_with_extensions_says_so() -> None:
    text = b"version https://git-lfs.github.com/spec/v1\next-0-foo sha256:%s\noid sha256:%s\nsize 7\n" % (
        (DIGEST.hex().encode(),) * 2
    )
    assert parse_lfs_pointer(text) == LfsPointer(DIGEST, 7, extended=True)


def place(root: Path, content: bytes, *layout: str, md5: str | None = None) -> str:
    digest = md5 or hashlib.md5(content).hexdigest()
    path = root.joinpath(*layout) / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def read(cache: DvcCache, md5: str, *, legacy: bool = False) -> bytes:
    return b"".join(cache.read(md5, legacy=legacy))


@pytest.mark.parametrize("layout", [("files", "md5"), ()])
def test_both_layouts_of_a_cache_are_read(tmp_path: Path, layout: tuple[str, ...]) -> None:
    md5 = place(tmp_path, b"content", *layout)
    assert read(DvcCache([tmp_path / "none", tmp_path]), md5) == b"content"


def test_contents_are_verified(tmp_path: Path) -> None:
    md5 = place(tmp_path, b"other", md5=hashlib.md5(b"content").hexdigest())
    with pytest.raises(CorruptError, match="is damaged"):
        read(DvcCache([tmp_path]), md5)
    with pytest.raises(MissingDataError, match="is missing"):
        read(DvcCache([tmp_path]), "0" * 32)


def test_old_digests_are_those_of_text_with_lf(tmp_path: Path) -> None:
    content = b"a\r\nb\rc\r\n" * 200_000 + b"\r"
    md5 = place(tmp_path, content, md5=hashlib.md5(content.replace(b"\r\n", b"\n")).hexdigest())
    assert read(DvcCache([tmp_path]), md5, legacy=True) == content
    with pytest.raises(CorruptError):
        read(DvcCache([tmp_path]), md5)


def test_missing_contents_are_fetched_once(tmp_path: Path) -> None:
    calls = []

    def fetch() -> None:
        calls.append(1)
        place(tmp_path, b"content")

    cache = DvcCache([tmp_path], fetch)
    assert read(cache, hashlib.md5(b"content").hexdigest()) == b"content"
    assert cache.find("0" * 32) is None
    assert calls == [1]


def test_caches_and_directories_that_are_remotes_are_found(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    for name in ("elsewhere", "store"):
        (tmp_path / name).mkdir()
    (tmp_path / ".dvc/config").write_text(
        "[core]\n    remote = a\n[cache]\n    dir = ../elsewhere\n"
        "['remote \"a\"']\n    url = ../store\n['remote \"b\"']\n    url = s3://bucket/x\n"
    )
    assert [path.resolve() for path in cache_places([tmp_path])] == [tmp_path / "elsewhere", tmp_path / "store"]


def test_which_files_are_those_of_dvc() -> None:
    assert is_dvc_file(b"a.csv.dvc")
    assert is_dvc_file(b"dvc.lock")
    assert not is_dvc_file(b".dvc")
    assert not is_dvc_file(b"dvc.yaml")


def test_versions_of_a_path_go_to_different_packs() -> None:
    versions = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"1"), (b"b", b"3"), (b"b", b"4")]
    assert lanes(versions) == {b"1": 0, b"2": 0, b"3": 1, b"4": 1}
