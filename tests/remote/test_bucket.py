"""Directories as stores: what is read is what somebody wrote, whole."""

import threading
from pathlib import Path

from gitml.remote.address import parse_address
from gitml.remote.bucket import Bucket, open_bucket


def bucket_at(path: Path) -> Bucket:
    return open_bucket(parse_address(f"file://{path}"))


def test_a_reader_beside_a_writer_gets_one_state_or_the_other(tmp_path: Path) -> None:
    short, long = b"short", b"long" * 20_000
    writer, reader = bucket_at(tmp_path), bucket_at(tmp_path)
    assert writer.exchange("refs.json", short, None)
    done = threading.Event()

    def write() -> None:
        for number in range(400):
            found = writer.read_versioned("refs.json")
            assert found is not None
            assert writer.exchange("refs.json", (long, short)[number % 2], found[1])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        reads = 0
        while not done.is_set() and thread.is_alive():
            found = reader.read_versioned("refs.json")
            assert found is not None
            assert found[0] in (short, long)
            assert reader.read("refs.json") in (short, long)
            reads += 1
    finally:
        thread.join()
    assert done.is_set()
    assert reads > 10


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        assert bucket_at(place).read("refs.json") is None
        assert bucket_at(place).read_versioned("packs/00.index") is None
    assert not (tmp_path / "none").exists()


def test_an_exchange_minds_what_is_there(tmp_path: Path) -> None:
    bucket = bucket_at(tmp_path)
    assert bucket.exchange("refs.json", b"one", None)
    assert not bucket.exchange("refs.json", b"two", None)
    found = bucket.read_versioned("refs.json")
    assert found is not None
    assert found[0] == b"one"
    assert bucket.exchange("refs.json", b"two", found[1])
    assert not bucket.exchange("refs.json", b"three", found[1])
    assert bucket.read("refs.json") == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["refs.json"]
