"""Cuts: independent of how bytes arrive, within bounds, at tensor boundaries, and unmoved by hostile headers."""

import json
import struct
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfastcdc import FastCDC
from pyfastcdc.py import FastCDC as PurePythonFastCDC

from gitml.store.chunker import MAX_CHUNK, MAX_HEADER, MIN_CHUNK, Chunker, tensor_boundaries
from tests.store.samples import noise, safetensors, table


def cuts(data: bytes, piece: int | None = None) -> list[int]:
    """The sizes of the chunks of `data`, fed in pieces of `piece` bytes."""
    chunker = Chunker()
    chunks: list[memoryview] = []
    step = piece or max(1, len(data))
    for at in range(0, len(data), step):
        chunks += chunker.feed(data[at : at + step])
    chunks += chunker.finish()
    assert b"".join(chunks) == data
    return [len(chunk) for chunk in chunks]


def plain(data: bytes) -> list[int]:
    """The sizes FastCDC alone gives."""
    fastcdc = FastCDC(256 * 1024, min_size=64 * 1024, max_size=1024 * 1024, normalized_chunking=1, seed=0)
    return [chunk.length for chunk in fastcdc.cut_buf(data)]


def with_header(header: bytes, body: int = 600_000) -> bytes:
    return struct.pack("<Q", len(header)) + header + noise(body)


def test_empty_content_has_no_chunks() -> None:
    assert cuts(b"") == []


@pytest.mark.parametrize("data", [noise(2_000_000), table(60_000), safetensors([400_000, 1_300_000, 4_000])])
def test_cuts_do_not_depend_on_how_the_bytes_arrive(data: bytes) -> None:
    whole = cuts(data)
    assert [cuts(data, piece) for piece in (1021, 65536, 1_048_577)] == [whole] * 3


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 700_000), max_size=6))
def test_cuts_do_not_depend_on_random_framing(ends: list[int]) -> None:
    data = safetensors([150_000, 250_000, 299_000])
    chunker, last = Chunker(), 0
    chunks: list[memoryview] = []
    for end in [*sorted(ends), len(data)]:
        chunks += chunker.feed(data[last : max(last, end)])
        last = max(last, end)
    chunks += chunker.finish()
    assert [len(chunk) for chunk in chunks] == cuts(data)


def test_a_buffer_that_is_used_again_may_be_fed() -> None:
    data = noise(40 * 65536)
    chunker, buffer = Chunker(), bytearray(65536)
    chunks: list[memoryview] = []
    for at in range(0, len(data), len(buffer)):
        buffer[:] = data[at : at + len(buffer)]
        chunks += chunker.feed(buffer)
    buffer[:] = bytes(len(buffer))
    chunks += chunker.finish()
    assert b"".join(chunks) == data


def test_content_that_is_no_safetensors_is_cut_by_fastcdc_alone() -> None:
    data = noise(3_000_000)
    assert cuts(data) == plain(data)
    assert all(MIN_CHUNK <= size <= MAX_CHUNK for size in cuts(data)[:-1])


def test_content_without_any_cut_point_is_cut_at_the_maximum() -> None:
    assert cuts(bytes(2 * MAX_CHUNK + 5)) == [MAX_CHUNK, MAX_CHUNK, 5]


def test_the_pure_python_fastcdc_gives_the_same_cuts() -> None:
    data = table(6_000) + noise(300_000)
    pure = PurePythonFastCDC(256 * 1024, min_size=64 * 1024, max_size=1024 * 1024, normalized_chunking=1, seed=0)
    assert [chunk.length for chunk in pure.cut_buf(data)] == plain(data)


def test_a_small_edit_changes_few_chunks() -> None:
    data = table(60_000)
    middle = len(data) // 2
    edited = data[:middle] + b"one more cell" + data[middle:]
    before, after = Chunker(), Chunker()
    old = {*before.feed(data), *before.finish()}
    new = {*after.feed(edited), *after.finish()}
    assert len(old) > 4
    assert len(new - old) <= 2


class TestSafetensors:
    """The rule for content that begins with a safetensors header."""

    @pytest.mark.parametrize("sizes", [[100_000] * 8, [100_000, 300_000], [70_000, 1_200_000, 90_000, 500]])
    def test_a_tensor_boundary_is_a_cut_unless_the_last_cut_is_nearer_than_the_minimum(self, sizes: list[int]) -> None:
        data = safetensors(sizes)
        ends = list(accumulate(cuts(data)))
        found = 0
        for boundary in tensor_boundaries(data, ended=True) or ():
            last = max((end for end in ends if end < boundary), default=0)
            assert boundary in ends or boundary - last < MIN_CHUNK
            found += boundary in ends and boundary not in accumulate(plain(data))
        assert found

    def test_a_boundary_nearer_than_the_minimum_is_passed_over(self) -> None:
        data = safetensors([10_000] * 20)
        assert min(cuts(data)[:-1]) >= MIN_CHUNK

    def test_a_changed_tensor_leaves_the_others_whole(self) -> None:
        sizes = [100_000, 500_000, 400_000]
        one, other = Chunker(), Chunker()
        old = [*one.feed(safetensors(sizes)), *one.finish()]
        new = [*other.feed(safetensors(sizes, first=noise(100_000, b"changed"))), *other.finish()]
        rest = b"".join(noise(size, b"tensors%d" % number) for number, size in enumerate(sizes) if number)
        assert b"".join(chunk for chunk in new if chunk in old) == rest

    @pytest.mark.parametrize(
        "header",
        [
            b"{" + b'"a":' + b"[" * 50_000,
            b"{" + b'"a":{' * 50_000,
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"9" * 100_000 + b"]}}",
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,300000]}}',
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[300000,0]}}',
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,300000,4]}}',
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,3e5]}}',
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[false,300000]}}',
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,NaN]}}',
            b'{"a":{"dtype":1,"shape":[1],"data_offsets":[0,300000]}}',
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,300000],"x":1}}',
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9]}}',
            b'{"a":[]}',
            b'{"__metadata__":{"a":1}}',
            b'{"__metadata__":[]}',
            b'{"a":',
            b"{\xff}",
            b"{}",
        ],
    )
    def test_a_header_of_another_shape_means_plain_fastcdc(self, header: bytes) -> None:
        data = with_header(header)
        assert tensor_boundaries(data, ended=True) == []
        assert cuts(data) == plain(data)

    @pytest.mark.parametrize("piece", [65536, 1 << 20, 5 << 20])
    def test_a_header_may_be_longer_than_what_is_cut_at_once(self, piece: int) -> None:
        data = safetensors([500_000, 800_000, 300_000])
        end = 8 + int.from_bytes(data[:8], "little")
        header = data[8:end] + b" " * (3 << 20)
        long = struct.pack("<Q", len(header)) + header + data[end:]
        assert cuts(long, piece) == cuts(long)
        boundaries = {8 + len(header) + offset for offset in (500_000, 1_300_000)}
        assert boundaries & {*accumulate(cuts(long, piece))} - {*accumulate(plain(long))}

    def test_a_header_length_beyond_the_cap_is_not_waited_for(self) -> None:
        head = struct.pack("<Q", MAX_HEADER + 1) + b"{"
        assert tensor_boundaries(head, ended=False) == []

    def test_content_shorter_than_its_header_is_plain(self) -> None:
        head = struct.pack("<Q", 1000) + b'{"a"'
        assert tensor_boundaries(head, ended=False) is None
        assert tensor_boundaries(head, ended=True) == []

    def test_boundaries_count_from_the_end_of_the_header(self) -> None:
        text = json.dumps({"__metadata__": {"k": "v"}, "t": {"dtype": "U8", "shape": [7], "data_offsets": [3, 10]}})
        head = struct.pack("<Q", len(text)) + text.encode()
        assert tensor_boundaries(head, ended=False) == [len(head) + 3, len(head) + 10]
