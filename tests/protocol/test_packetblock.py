"""Packets read in blocks: the same content, wherever packets end and however the bytes arrive."""

import random
from collections.abc import Iterator

import pytest

from gitml.protocol.filter_process import Content, End, FilterConnection
from gitml.protocol.packetblock import FULL_PAYLOAD, Memory
from gitml.protocol.pktline import PeerError, encode_content, encode_packet
from tests.protocol.test_filter_process import HANDSHAKE, OFFER, lines

FULL = FULL_PAYLOAD + 4


class Pipe:
    """A stream that gives as many bytes at a time as a die says."""

    def __init__(self, data: bytes, dice: random.Random, most: int) -> None:
        self._data = memoryview(data)
        self._dice = dice
        self._most = most

    def read(self, room: int = 1 << 18) -> bytes:
        taken = self._data[: min(self._dice.randint(1, self._most), room)]
        self._data = self._data[len(taken) :]
        return bytes(taken)

    def read_into(self, buffers: list[memoryview]) -> int:
        """As `os.readv`."""
        data = memoryview(self.read(sum(map(len, buffers))))
        left = data
        for buffer in buffers:
            part, left = left[: len(buffer)], left[len(buffer) :]
            buffer[: len(part)] = part
        return len(data)


def asked(clean: bytes) -> FilterConnection:
    """A connection on which git has asked for a file, and has sent `clean` of it."""
    connection = FilterConnection()
    connection.receive_data(HANDSHAKE + OFFER + lines(b"command=clean", b"pathname=f") + clean)
    for _ in range(3):
        assert connection.next_event() is not None
    return connection


def read(connection: FilterConnection, pipe: Pipe, blocks: list[int]) -> Iterator[memoryview]:
    """The content, read in blocks where that is possible; `blocks` gets the bytes of each."""
    while True:
        while isinstance(event := connection.next_event(), Content):
            yield event.data
        if isinstance(event, End):
            return
        block = connection.content_block()
        if block is None:
            connection.receive_data(pipe.read())
            continue
        while not block.is_over and (count := pipe.read_into(block.buffers())):
            block.advance(count)
        content = connection.receive_block(block)
        blocks.append(len(content))
        yield content
        if not block.is_over:
            connection.end_of_input()


@pytest.mark.parametrize("most", [3, 5000, FULL, 3 * FULL, 1 << 20])
@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        FULL_PAYLOAD - 1,
        FULL_PAYLOAD,
        FULL_PAYLOAD + 1,
        7 * FULL_PAYLOAD,
        7 * FULL_PAYLOAD + 5,
        200 * FULL_PAYLOAD,
    ],
)
def test_blocks_hold_what_packets_carry(size: int, most: int) -> None:
    starts = [0, 2, 4, 100, FULL - 1, FULL, FULL + 3]
    if most == 3:  # takes long
        size, starts = min(size, FULL_PAYLOAD + 1), [size % len(starts)]
    dice = random.Random(size + most)
    content = dice.randbytes(size)
    stream = b"".join(encode_content(content)) + b"0000"
    for start in starts:
        blocks: list[int] = []
        connection = asked(stream[:start])
        pipe = Pipe(stream[start:], dice, most)
        assert b"".join(read(connection, pipe, blocks)) == content
        assert max(blocks, default=0) <= 129 * FULL_PAYLOAD
        if size == 200 * FULL_PAYLOAD:  # it has room for whole blocks
            assert max(blocks) >= 128 * FULL_PAYLOAD


def test_short_packets_in_the_middle_are_read_too() -> None:
    dice = random.Random(3)
    for _ in range(30):
        payloads = [dice.randbytes(dice.choice([1, 5, 4096, FULL_PAYLOAD - 1] + 6 * [FULL_PAYLOAD])) for _ in range(40)]
        pipe = Pipe(b"".join(map(encode_packet, payloads)) + b"0000", dice, 1 << 18)
        assert b"".join(read(asked(b""), pipe, [])) == b"".join(payloads)


@pytest.mark.parametrize("kept", [2, 4, 50_000, FULL, FULL + 2, FULL + 4, 3 * FULL + 77])
def test_a_stream_that_breaks_off_is_the_peers_fault(kept: int) -> None:
    content = random.Random(1).randbytes(5 * FULL_PAYLOAD)
    pipe = Pipe(b"".join(encode_content(content))[:kept], random.Random(2), 1 << 18)
    with pytest.raises(PeerError):
        for _ in read(asked(b""), pipe, []):
            pass


def test_a_bad_length_in_a_block_is_the_peers_fault() -> None:
    stream = encode_packet(bytes(FULL_PAYLOAD)) + b"zzzz" + bytes(100_000)
    with pytest.raises(PeerError, match="bad packet length"):
        for _ in read(asked(b""), Pipe(stream, random.Random(2), 1 << 18), []):
            pass


def test_memory_is_used_again_only_when_nobody_looks_at_it() -> None:
    memory = Memory(1000)
    first = memory.take()
    view = memoryview(first)[10:20].toreadonly()
    second = memory.take()
    assert second is not first
    assert memory.take() is second
    view.release()
    assert memory.take() is first
    assert len(first) == 1000
