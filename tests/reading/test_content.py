import hashlib
import io
import os
import random
import threading
import tracemalloc
from collections.abc import Iterable

import pytest

from gitml.oid import ObjectFormat, Oid
from gitml.reading.content import BUFFER, ChunkedContent
from gitml.reading.source import ContentDamagedError, ContentMissingError
from gitml.store.manifest import Chunk, Manifest
from gitml.store.pointer import Pointer

LENGTHS = [65536, 300_000, 1 << 20, 70_000, 1, 200_000, 90_000, 123_456, 65536, 65537, 300_000, 5]


def piece(number: int, size: int) -> bytes:
    return hashlib.shake_128(b"%d" % number).digest(size)


class Remote:
    """Chunks that are made when they are read; those not in `here` must be brought first. Notes what happens."""

    def __init__(self, lengths: list[int], *, here: bool = True) -> None:
        self.oids = [ObjectFormat.SHA1.oid_of("blob", piece(*item)) for item in enumerate(lengths)]
        self.chunks = [Chunk(size, None, oid) for size, oid in zip(lengths, self.oids, strict=True)]
        self.here = set(self.oids) if here else set[Oid]()
        self.requests: list[list[int]] = []
        self.read: list[int] = []
        self._lock = threading.Lock()

    def has(self, oid: Oid) -> bool:
        return oid in self.here

    def bring(self, oids: Iterable[Oid]) -> None:
        missing = [self.oids.index(oid) for oid in oids if oid not in self.here]
        if missing:
            self.requests.append(missing)
            self.here.update(self.oids[index] for index in missing)

    def chunk(self, chunk: Chunk, index: int) -> bytes:
        if chunk.oid not in self.here:
            raise ContentMissingError("not here")
        with self._lock:
            self.read.append(index)
        return piece(index, chunk.size)

    def open(self, sha256: bytes | None = None) -> ChunkedContent:
        digest = hashlib.sha256()
        for index, chunk in enumerate(self.chunks):
            digest.update(piece(index, chunk.size))
        size = sum(chunk.size for chunk in self.chunks)
        pointer = Pointer(sha256 or digest.digest(), size, self.oids[0])
        return ChunkedContent(self, pointer, Manifest(size, self.chunks))


def whole(lengths: list[int]) -> bytes:
    return b"".join(piece(*item) for item in enumerate(lengths))


@pytest.mark.parametrize("seed", range(6))
def test_it_reads_what_a_file_in_memory_reads(seed: int) -> None:
    rng = random.Random(seed)
    remote = Remote(LENGTHS, here=seed % 2 == 0)
    plain, ours = io.BytesIO(whole(LENGTHS)), io.BufferedReader(remote.open(), BUFFER)
    size = len(plain.getvalue())
    with ours:
        for _ in range(60):
            if rng.random() < 0.5:
                whence = rng.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
                offset = rng.randrange(size) if whence == os.SEEK_SET else -rng.randrange(1000)
                at = max(0, {os.SEEK_SET: 0, os.SEEK_CUR: plain.tell(), os.SEEK_END: size}[whence] + offset)
                assert ours.seek(at) == plain.seek(at)
            count = rng.choice([0, 1, 100, 65536, 65537, 300_000, 2_000_000])
            assert ours.read(count) == plain.read(count)
            assert ours.tell() == plain.tell()
        ours.seek(rng.randrange(size))
        plain.seek(ours.tell())
        assert ours.read() == plain.read()
        assert ours.read() == ours.read(1) == b""
        buffer = bytearray(100)
        ours.seek(size - 10)
        assert ours.readinto(buffer) == 10


def test_a_small_read_touches_one_chunk() -> None:
    remote = Remote(LENGTHS, here=False)
    file = io.BufferedReader(remote.open(), BUFFER)
    # 1 KiB that ends just before a chunk does: filling the buffer must not need the next
    file.seek(sum(LENGTHS[:3]) - 1024)
    assert len(file.read(1024)) == 1024
    assert remote.requests == [[2]]
    assert remote.read == [2]


def test_a_large_read_is_one_request() -> None:
    remote = Remote(LENGTHS, here=False)
    file = io.BufferedReader(remote.open(), BUFFER)
    file.seek(100)
    file.read(sum(LENGTHS[:6]))
    assert remote.requests[0] == [0, 1, 2, 3, 4, 5]
    remote = Remote(LENGTHS, here=False)
    assert len(io.BufferedReader(remote.open(), BUFFER).read()) == sum(LENGTHS)
    assert remote.requests == [list(range(len(LENGTHS)))]


def test_requests_grow_while_a_file_is_read_in_order() -> None:
    lengths = [66_000] * 400
    remote = Remote(lengths, here=False)
    with io.BufferedReader(remote.open(), BUFFER) as file:
        while file.read(5000):
            pass
    assert [len(request) for request in remote.requests[:4]] == [1, 3, 6, 12]
    assert len(remote.requests) < 12
    assert sorted(remote.read) == list(range(400))


def test_jumping_about_reads_nothing_ahead() -> None:
    remote = Remote([66_000] * 50, here=False)
    with io.BufferedReader(remote.open(), BUFFER) as file:
        for index in (40, 7, 20, 3, 30):
            file.seek(66_000 * index + 5)
            file.read(10)
    assert remote.requests == [[40], [7], [20], [3], [30]]
    assert remote.read == [40, 7, 20, 3, 30]


def test_ranges_come_in_one_request() -> None:
    remote = Remote([100_000] * 30, here=False)
    with remote.open() as file:
        file.bring([(0, 10), (950_000, 1_050_000), (2_900_000, 9_999_999), (5, 5), (99_999_999, 100_000_000)])
    assert remote.requests == [[0, 9, 10, 29]]
    assert remote.read == []


def test_the_whole_is_verified_when_it_is_read_in_order() -> None:
    remote = Remote(LENGTHS)
    file = io.BufferedReader(remote.open(sha256=bytes(32)), BUFFER)
    # all but the last chunk can be had
    assert len(file.read(sum(LENGTHS[:-1]))) == sum(LENGTHS[:-1])
    with pytest.raises(ContentDamagedError, match="content has sha256"):
        file.read(1)
    # and it stays so
    with pytest.raises(ContentDamagedError):
        file.read(10_000)
    with pytest.raises(ContentDamagedError):
        remote.open(sha256=bytes(32)).readall()


def test_the_whole_is_verified_although_the_end_was_read_first() -> None:
    file = io.BufferedReader(Remote([70_000] * 5).open(sha256=bytes(32)), BUFFER)
    file.seek(-8, os.SEEK_END)
    assert len(file.read()) == 8
    file.seek(0)
    with pytest.raises(ContentDamagedError):
        file.read()


def test_memory_does_not_grow_with_the_file() -> None:
    lengths = [400_000] * 125
    remote = Remote(lengths)
    raw = remote.open()
    with io.BufferedReader(raw, BUFFER) as file:
        file.read(1_000_000)
        tracemalloc.start()
        while file.read(1 << 20):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert sum(lengths) == 50_000_000
    assert peak < 20_000_000


def test_what_is_closed_is_closed() -> None:
    before = threading.active_count()
    file = Remote(LENGTHS).open()
    reader = io.BufferedReader(file, BUFFER)
    reader.read(2_500_000)
    assert threading.active_count() > before
    reader.close()
    assert threading.active_count() == before
    assert file.closed
    for call in (file.tell, file.readall, lambda: file.seek(0), lambda: file.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_positions_that_are_none() -> None:
    with Remote(LENGTHS).open() as file:
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
        assert file.seek(10**12) == 10**12
        assert file.read(10) == b""
        assert file.readall() == b""
