"""Git's long-running filter protocol, version 2, from the filter's side (git: gitattributes, "Long Running Filter").

A `FilterConnection` is fed the bytes that git sends and gives events; what it returns from its `send_*` methods is
for git. One file at a time: `Request`, any number of `Content`, `End`, then the answer.
"""

from collections import deque
from collections.abc import Iterator
from enum import Enum

from gitml.protocol.packetblock import PacketBlock
from gitml.protocol.pktline import FLUSH, FLUSH_PACKET, Packet, PacketDecoder, PeerError, encode_content, encode_packet
from gitml.record import field, record

CAPABILITIES = (b"clean", b"smudge")
"""What this filter can do, of what git offers."""


@record
class Hello:
    """Git has introduced itself and waits for `send_hello`."""


@record
class Offer:
    """Git has said what it can do and waits for `send_capabilities`."""

    capabilities: frozenset[bytes]


@record
class Request:
    """Git asks for `command` ('clean' or 'smudge'). `pathname` is empty where the caller knows none."""

    command: bytes
    pathname: bytes
    headers: dict[bytes, bytes] = field(default_factory=dict)


@record
class Content:
    """The next bytes of the requested file: as many as have arrived, of one packet at most."""

    data: memoryview


@record
class End:
    """The requested file is complete; now, not earlier, git wants the answer."""


Event = Hello | Offer | Request | Content | End


class _State(Enum):
    HELLO = "hello"
    OFFER = "offer"
    REQUEST = "request"
    CONTENT = "content"


class FilterConnection:
    """The conversation with one git process."""

    def __init__(self) -> None:
        self._decoder = PacketDecoder()
        self._state = _State.HELLO
        self._lines: deque[bytes] = deque()

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes from git."""
        self._decoder.receive(data)

    def next_event(self) -> Event | None:
        """The next event, None if more data is needed; raise `PeerError` if git breaks the protocol."""
        if self._state is _State.CONTENT:
            return self._next_content()
        while (packet := self._decoder.next_packet()) is not None:
            event = self._take(packet)
            if event is not None:
                return event
        return None

    def content_block(self) -> PacketBlock | None:
        """Room for full packets of the requested file; None where only `receive_data` can take what comes next."""
        return self._decoder.block() if self._state is _State.CONTENT else None

    def receive_block(self, block: PacketBlock) -> memoryview:
        """Take what was read into `block`: the next bytes of the requested file. More may be there as an event."""
        return self._decoder.receive_block(block)

    def end_of_input(self) -> None:
        """Git has closed the pipe; raise `PeerError` if that was in the middle of something."""
        if self._state is not _State.REQUEST or self._lines or self._decoder.pending:
            raise PeerError("git closed the connection early")

    def send_hello(self) -> bytes:
        """The answer to `Hello`."""
        return encode_packet(b"git-filter-server\n") + encode_packet(b"version=2\n") + FLUSH_PACKET

    def send_capabilities(self, offered: frozenset[bytes]) -> bytes:
        """The answer to `Offer`."""
        common = [name for name in CAPABILITIES if name in offered]
        return b"".join(encode_packet(b"capability=%s\n" % name) for name in common) + FLUSH_PACKET

    def send_success(self) -> bytes:
        """What comes before the content of a good answer."""
        return encode_packet(b"status=success\n") + FLUSH_PACKET

    def send_content(self, data: bytes) -> Iterator[bytes]:
        """Part of the content of an answer."""
        return encode_content(data)

    def send_end(self) -> bytes:
        """What ends a good answer: the content is complete, the status stands."""
        return FLUSH_PACKET + FLUSH_PACKET

    def send_error(self) -> bytes:
        """The whole answer for a file that failed; git goes on with the next."""
        return encode_packet(b"status=error\n") + FLUSH_PACKET

    def _next_content(self) -> Content | End | None:
        piece = self._decoder.next_piece()
        if piece is None:
            return None
        if piece is not FLUSH:
            return Content(piece)
        self._state = _State.REQUEST
        return End()

    def _take(self, packet: Packet) -> Event | None:
        if packet is not FLUSH:
            self._lines.append(packet.removesuffix(b"\n"))
            return None
        lines, self._lines = list(self._lines), deque()
        if self._state is _State.HELLO:
            if lines[:1] != [b"git-filter-client"] or b"version=2" not in lines:
                raise PeerError(f"git greets with {lines!r}, expected a filter client of version 2")
            self._state = _State.OFFER
            return Hello()
        pairs = [line.partition(b"=") for line in lines]
        if self._state is _State.OFFER:
            self._state = _State.REQUEST
            return Offer(frozenset(value for key, _, value in pairs if key == b"capability"))
        headers = {key: value for key, _, value in pairs}
        command = headers.pop(b"command", None)
        if command not in CAPABILITIES:
            raise PeerError(f"git asks for {command!r}, which was not agreed")
        self._state = _State.CONTENT
        return Request(command, headers.pop(b"pathname", b""), headers)
