"""Git's pkt-line framing: four hex digits of length, itself included, then the payload; `0000` is a flush.

Source: git, Documentation/gitprotocol-common and Documentation/gitprotocol-long-running-process.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final

from gitml.errors import GitmlError
from gitml.protocol.packetblock import FULL_PAYLOAD, Memory, PacketBlock

MAX_PAYLOAD = FULL_PAYLOAD
"""Most bytes that one packet carries."""

_PACKETS = 128
"""Packets of a block: 8 MiB."""

FLUSH_PACKET = b"0000"
"""The bytes of a flush packet."""


class _Flush(Enum):
    FLUSH = "flush"


FLUSH: Final = _Flush.FLUSH
"""The event of a flush packet."""

Packet = bytes | _Flush
"""What a decoder gives: a payload or `FLUSH`."""


class PeerError(GitmlError):
    """The other program broke the protocol."""


class PacketDecoder:
    """Takes bytes as they arrive, gives whole packets."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._left = 0
        """Bytes that are still to come of a packet that `next_piece` has begun to give."""
        self._memory = Memory((_PACKETS + 1) * FULL_PAYLOAD)

    def receive(self, data: bytes) -> None:
        """Take the next bytes from the peer."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def next_packet(self) -> Packet | None:
        """The next packet, None if it is not complete yet; raise `PeerError` for a bad length."""
        at, length = self._at, self._length()
        if length == 0:
            self._at = at + 4
            return FLUSH
        if length is None or len(self._data) - at < length:
            return None
        self._at = at + length
        return self._data[at + 4 : at + length]

    def next_piece(self) -> memoryview | _Flush | None:
        """What has arrived of the next packet, or of the rest of it, without a copy; None if nothing has."""
        while not self._left:
            length = self._length()
            if length is None:
                return None
            self._at += 4
            if length == 0:
                self._memory.clear()
                return FLUSH
            self._left = length - 4
        piece = memoryview(self._data)[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        return piece or None

    def _length(self) -> int | None:
        """Bytes of the packet that begins here with its length; 0 for a flush, None if they are not here yet."""
        digits = self._data[self._at : self._at + 4]
        if len(digits) < 4:
            return None
        try:
            length = int.from_bytes(bytes.fromhex(digits.decode("ascii")), "big") if digits.isalnum() else -1
        except ValueError:
            length = -1
        if length and not 4 <= length <= MAX_PAYLOAD + 4:
            raise PeerError(f"bad packet length {digits!r} from git")
        return length

    def block(self) -> PacketBlock | None:
        """Room for what comes next, if those are full packets; None unless all that was received has been given."""
        if self._at < len(self._data):
            return None
        return PacketBlock(self._left, _PACKETS, self._memory.take())

    def receive_block(self, block: PacketBlock) -> memoryview:
        """Take what `block` has received; give what its full packets carry."""
        self._left, self._data = block.rest()
        self._at = 0
        return block.content()

    @property
    def pending(self) -> bool:
        """Whether part of a packet is waiting for its rest."""
        return self._left > 0 or self._at < len(self._data)


def encode_packet(payload: bytes) -> bytes:
    """One packet; raise `ValueError` if the payload is empty or too long."""
    if not 0 < len(payload) <= MAX_PAYLOAD:
        raise ValueError(f"a packet carries 1 to {MAX_PAYLOAD} bytes, not {len(payload)}")
    return b"%04x" % (len(payload) + 4) + payload


def encode_content(data: bytes) -> Iterator[bytes]:
    """`data` as packets, as few as possible."""
    for at in range(0, len(data), MAX_PAYLOAD):
        yield encode_packet(data[at : at + MAX_PAYLOAD])
