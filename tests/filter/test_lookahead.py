import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitml.errors import GitmlError
from gitml.filter.lookahead import Lookahead, Prepared
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.store.content import store_content


def noise(size: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


@pytest.fixture
def pack(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackWriter]:
    monkeypatch.chdir(repo)
    (repo / "d").mkdir()
    for n in range(6):
        (repo / f"d/{n}.bin").write_bytes(noise(100_000, n))
        (repo / f"d/{n}.txt").write_text("other files are passed over")
    repository = Repository.discover(repo)
    with PackWriter(repository.objects_dir, repository.format) as writer:
        yield writer


def prepared_after(pack: PackWriter, *paths: bytes) -> Prepared | None:
    """What is prepared of the file that comes next once git has asked for these."""
    lookahead = Lookahead()
    for path in paths:
        lookahead.follow(path, lambda _: pack)
    directory, _, name = paths[-1].rpartition(b"/")
    return lookahead.take(b"%s/%d.bin" % (directory, int(name[:1]) + 1))


def test_the_next_file_is_prepared_once_git_has_asked_in_order(pack: PackWriter) -> None:
    prepared = prepared_after(pack, b"d/0.bin", b"d/1.bin", b"d/2.bin")
    assert prepared is not None
    assert len(pack) == 0
    assert prepared.compare(iter([noise(100_000, 3)[:65_000], memoryview(noise(100_000, 3)[65_000:])])) is None
    stored = prepared.write()
    assert len(pack) > 0
    assert stored == store_content([noise(100_000, 3)], pack)


def test_names_without_a_suffix_follow_each_other(pack: PackWriter) -> None:
    Path("e").mkdir()
    for name in ("10", "11", "20.bin", "30", "40"):
        Path("e", name).write_bytes(noise(100_000))
    lookahead = Lookahead()
    for asked in (b"10", b"11", b"30"):
        lookahead.follow(b"e/" + asked, lambda _: pack)
    assert lookahead.take(b"e/40") is not None


@pytest.mark.parametrize("paths", [["0"], ["0", "1"], ["0", "1", "3"], ["2", "1", "0"], ["4", "5"]])
def test_nothing_is_prepared_without_an_order(pack: PackWriter, paths: list[str]) -> None:
    assert prepared_after(pack, *(f"d/{path}.bin".encode() for path in paths)) is None


@pytest.mark.parametrize("size", [10, 65_535, (1 << 20) + 1])
def test_small_and_large_files_are_not_prepared(pack: PackWriter, size: int) -> None:
    Path("d/3.bin").write_bytes(noise(size))
    assert prepared_after(pack, b"d/0.bin", b"d/1.bin", b"d/2.bin") is None


def test_files_that_are_not_new_are_not_read(pack: PackWriter) -> None:
    lookahead = Lookahead()
    for n in range(3):
        lookahead.follow(b"d/%d.bin" % n, lambda _: None)
    assert lookahead.take(b"d/3.bin") is None
    lookahead.follow(b"d/3.bin", lambda _: pack)
    assert lookahead.take(b"d/4.bin") is not None


@pytest.mark.parametrize("error", [OSError("the disk"), GitmlError("the index")])
def test_what_fails_while_preparing_is_left_to_the_request(pack: PackWriter, error: Exception) -> None:
    def failing(_: bytes) -> PackWriter:
        raise error

    lookahead = Lookahead()
    for n in range(3):
        lookahead.follow(b"d/%d.bin" % n, failing)
    assert lookahead.take(b"d/3.bin") is None
    lookahead.follow(b"d/3.bin", lambda _: pack)
    assert lookahead.take(b"d/4.bin") is not None


@pytest.mark.parametrize("edit", ["first", "last", "shorter", "longer", "nothing"])
def test_other_content_comes_back_whole(pack: PackWriter, edit: str) -> None:
    read = noise(100_000)
    sent = {
        "first": b"x" + read[1:],
        "last": read[:-1] + b"x",
        "shorter": read[:70_000],
        "longer": read + b"more",
        "nothing": b"",
    }[edit]
    prepared = Prepared(b"f", read, pack, lambda: store_content([read], pack))
    given = prepared.compare(iter([sent[:65_000], sent[65_000:]]))
    assert given is not None
    assert b"".join(given) == sent


def test_directories_that_cannot_be_listed_and_names_that_cannot_be(pack: PackWriter) -> None:
    lookahead = Lookahead()
    for path in [b"gone/1", b"gone/2", b"gone/3", b"nul\0/1", b"nul\0/2", b"", b""]:
        lookahead.follow(path, lambda _: pack)
        assert lookahead.take(path) is None
