"""Packets read so that what they carry comes to lie in one place: bytes of a long content need not be copied again.

Git fills all packets of a file but the last. So it is known beforehand where in the stream the lengths stand, and one
`readv` can put them aside. Where a packet is not full after all, it and what follows are left to the decoder.
"""

from contextlib import suppress

FULL_PAYLOAD = 65516
"""Bytes that a full packet carries."""

_LENGTH = 4
_FULL = b"%04x" % (FULL_PAYLOAD + _LENGTH)
_STRIDE = FULL_PAYLOAD + _LENGTH
_AT_ONCE = 32
"""Packets that are offered for one read: more than a pipe holds."""


class Memory:
    """Blocks of `size` bytes, used again once nobody refers to what is in them: new ones would have to be cleared."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._blocks: list[bytearray] = []

    def take(self) -> bytearray:
        """A block that nobody uses."""
        for block in self._blocks:
            with suppress(BufferError):  # somebody does: then it cannot change its size
                block.append(0)
                del block[self._size :]
                return block
        self._blocks.append(bytearray(self._size))
        return self._blocks[-1]

    def clear(self) -> None:
        """Keep none."""
        self._blocks.clear()


class PacketBlock:
    """The last `left` bytes of a packet and `packets` full ones after it, in `memory` that has room for them."""

    def __init__(self, left: int, packets: int, memory: bytearray) -> None:
        self._left = left
        self._packets = packets
        self._content = memoryview(memory)[: left + packets * FULL_PAYLOAD]
        self._lengths = memoryview(bytearray(packets * _LENGTH))
        self._received = 0

    def buffers(self) -> list[memoryview]:
        """What the next bytes of the stream are to be read into, in this order."""
        number, within = self._position
        parts = [self._content[self._received : self._left]]
        for each in range(max(number, 0), min(number + _AT_ONCE, self._packets)):
            parts += self._parts(each)
        while within >= len(parts[0]):
            within -= len(parts.pop(0))
        parts[0] = parts[0][within:]
        return parts

    def advance(self, count: int) -> None:
        """Say that so many bytes were read into `buffers`."""
        self._received += count

    @property
    def is_over(self) -> bool:
        """Whether no more is to be read into it: it is full, or holds a packet that is not."""
        return self._position[0] >= self._packets or self._other() is not None

    def content(self) -> memoryview:
        """What full packets carry that were received; nothing writes to it any more."""
        number, within = self._position
        if number < 0:
            end = self._received
        elif (other := self._other()) is not None:
            end = self._left + other * FULL_PAYLOAD
        else:
            end = self._left + number * FULL_PAYLOAD + max(within - _LENGTH, 0)
        return self._content[:end].toreadonly()

    def rest(self) -> tuple[int, bytes]:
        """Bytes that the packet under way still lacks, and what came after the full packets and is to be decoded."""
        number, within = self._position
        if number < 0:
            return self._left - self._received, b""
        other = self._other()
        if other is None and within >= _LENGTH:
            return _STRIDE - within, b""
        parts = [part for each in range(number if other is None else other, number) for part in self._parts(each)]
        if within:
            lengths, payload = self._parts(number)
            parts += [lengths[:within], payload[: max(within - _LENGTH, 0)]]
        return 0, b"".join(parts)

    @property
    def _position(self) -> tuple[int, int]:
        """The packet that comes next, and how many of its bytes were received; -1 is what was left of another."""
        if self._received < self._left:
            return -1, 0
        return divmod(self._received - self._left, _STRIDE)

    def _parts(self, number: int) -> list[memoryview]:
        start = self._left + number * FULL_PAYLOAD
        lengths = self._lengths[number * _LENGTH : (number + 1) * _LENGTH]
        return [lengths, self._content[start : start + FULL_PAYLOAD]]

    def _other(self) -> int | None:
        """The first packet that is not full; None if none is known to be."""
        number, within = self._position
        known = max(number, 0) + (within >= _LENGTH)
        lengths = self._lengths[: known * _LENGTH]
        if lengths == _FULL * known:
            return None
        return next(each for each in range(known) if lengths[each * _LENGTH : (each + 1) * _LENGTH] != _FULL)
