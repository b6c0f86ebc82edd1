"""Stores as they are used: what is read is what somebody wrote, whole; conditions hold; failures have one form."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitml.remote.address import parse_address
from gitml.remote.bucket import Bucket, StoreError
from gitml.remote.services import open_bucket
from tests.remote.conftest import NewStore
from tests.stores import KINDS


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


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rclone"])
def test_every_store_does_the_same(kind: str, new_store: NewStore) -> None:
    bucket = open_bucket(parse_address(new_store(kind)))
    assert bucket.minds_conditions()
    assert bucket.read("refs.json") is None
    assert bucket.read_versioned("refs.json") is None
    assert bucket.exchange("refs.json", b"one", None)
    assert not bucket.exchange("refs.json", b"two", None)
    first = bucket.read_versioned("refs.json")
    assert first is not None
    assert first[0] == b"one"
    assert bucket.exchange("refs.json", b"two", first[1])
    assert not bucket.exchange("refs.json", b"three", first[1])
    assert bucket.read("refs.json") == b"two"

    bucket.write("packs/ab/00000", bytes(range(200)))
    bucket.write("packs/ab/00000", bytes(range(200)))
    bucket.write("packs/ab.index", b"index")
    bucket.write("packs/abc.index", b"")
    listed = {each.key: each.size for each in bucket.list("packs")}
    assert listed == {"packs/ab/00000": 200, "packs/ab.index": 5, "packs/abc.index": 0}
    assert [each.key for each in bucket.list("packs/ab")] == ["packs/ab/00000"]
    assert list(bucket.list("other")) == []
    assert bucket.read_range("packs/ab/00000", 10, 20) == bytes(range(10, 20))
    assert bucket.read_range("packs/ab/00000", 0, 200) == bytes(range(200))
    with pytest.raises(StoreError, match="20 bytes of 30"):
        bucket.read_range("packs/ab/00000", 180, 210)
    with pytest.raises(StoreError, match="it is not there"):
        bucket.read_range("packs/none", 0, 1)
    bucket.delete(["packs/ab/00000", "packs/none"])
    assert {each.key for each in bucket.list("packs")} == {"packs/ab.index", "packs/abc.index"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rclone"])
def test_of_many_exchanges_at_once_one_happens(kind: str, new_store: NewStore) -> None:
    bucket = open_bucket(parse_address(new_store(kind)))
    for number in range(5):
        found = bucket.read_versioned("refs.json")
        version = None if found is None else found[1]
        texts = [f"{number} of {who}".encode() for who in range(8)]
        with ThreadPoolExecutor(8) as threads:
            done = list(threads.map(lambda text, version=version: bucket.exchange("refs.json", text, version), texts))
        assert done.count(True) == 1
        assert bucket.read("refs.json") == texts[done.index(True)]
