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
        self._content = memoryview(memory)[: left + packets * FULL_PAYLOAD]
        self._lengths = memoryview(bytearray(packets * _LENGTH))
        self._received = 0
        self._missing = [self._content[:left]] if left else []
        """What is still to be read into, in the order of the stream, last first: lengths and payloads in turn."""
        for number in range(packets):
            self._missing += self._parts(number)
        self._missing.reverse()
        self._full = 0
        """Packets that are known to be full, from the first on."""
        self._is_broken = False
        """Whether the one after them is not."""

    def buffers(self) -> list[memoryview]:
        """What the next bytes of the stream are to be read into, in this order."""
        return self._missing[: -2 * _AT_ONCE - 1 : -1]

    def advance(self, count: int) -> None:
        """Say that so many bytes were read into `buffers`."""
        self._received += count
        missing = self._missing
        while count:
            part = missing[-1]
            if count < len(part):
                missing[-1] = part[count:]
                break
            count -= len(missing.pop())
        if not self._is_broken:
            number, within = self._position
            known = max(number, 0) + (within >= _LENGTH)
            while self._full < known and not self._is_broken:
                self._is_broken = self._length(self._full) != _FULL
                self._full += not self._is_broken

    @property
    def is_over(self) -> bool:
        """Whether no more is to be read into it: it is full, or holds a packet that is not."""
        return not self._missing or self._is_broken

    def content(self) -> memoryview:
        """What full packets carry that were received; nothing writes to it any more."""
        number, within = self._position
        if number < 0:
            end = self._received
        elif self._is_broken:
            end = self._left + self._full * FULL_PAYLOAD
        else:
            end = self._left + number * FULL_PAYLOAD + max(within - _LENGTH, 0)
        return self._content[:end].toreadonly()

    def rest(self) -> tuple[int, bytes]:
        """Bytes that the packet under way still lacks, and what came after the full packets and is to be decoded."""
        number, within = self._position
        if number < 0:
            return self._left - self._received, b""
        if within >= _LENGTH and not self._is_broken:
            return _STRIDE - within, b""
        parts = [part for each in range(self._full, number) for part in self._parts(each)]
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
        return [self._length(number), self._content[start : start + FULL_PAYLOAD]]

    def _length(self, number: int) -> memoryview:
        return self._lengths[number * _LENGTH : (number + 1) * _LENGTH]
