import pytest

from gitml.protocol.filter_process import Content, End, Event, FilterConnection, Hello, Offer, Request
from gitml.protocol.pktline import PeerError, encode_packet

FLUSH = b"0000"


def lines(*texts: bytes) -> bytes:
    return b"".join(encode_packet(text + b"\n") for text in texts) + FLUSH


HANDSHAKE = lines(b"git-filter-client", b"version=2")
OFFER = lines(b"capability=clean", b"capability=smudge", b"capability=delay")


def events_of(data: bytes, step: int) -> list[Event]:
    connection = FilterConnection()
    found: list[Event] = []
    for at in range(0, len(data), step):
        connection.receive_data(data[at : at + step])
        while (event := connection.next_event()) is not None:
            last = found[-1] if found else None
            if isinstance(event, Content) and isinstance(last, Content):
                found[-1] = Content(memoryview(bytes(last.data) + event.data))
            else:
                found.append(event)
    connection.end_of_input()
    return found


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_session(step: int) -> None:
    session = (
        HANDSHAKE
        + OFFER
        + lines(b"command=clean", b"pathname=a=b\nc\xff")
        + encode_packet(b"one")
        + encode_packet(b"two\n")
        + FLUSH
        + lines(b"command=smudge", b"pathname=", b"ref=refs/heads/main", b"blob=12")
        + FLUSH
    )
    assert events_of(session, step) == [
        Hello(),
        Offer(frozenset({b"clean", b"smudge", b"delay"})),
        Request(b"clean", b"a=b\nc\xff"),
        Content(memoryview(b"onetwo\n")),
        End(),
        Request(b"smudge", b"", {b"ref": b"refs/heads/main", b"blob": b"12"}),
        End(),
    ]


def test_answers_are_what_git_expects() -> None:
    connection = FilterConnection()
    assert connection.send_hello() == b"0016git-filter-server\n000eversion=2\n0000"
    assert connection.send_capabilities(frozenset({b"smudge", b"delay"})) == b"0016capability=smudge\n0000"
    answer = connection.send_success() + b"".join(connection.send_content(b"x")) + connection.send_end()
    assert answer == b"0013status=success\n00000005x00000000"
    assert connection.send_error() == b"0011status=error\n0000"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lines(b"git-filter-client", b"version=3"), "version 2"),
        (lines(b"welcome"), "version 2"),
        (HANDSHAKE + OFFER + lines(b"command=list_available_blobs"), "not agreed"),
        (HANDSHAKE + OFFER + lines(b"pathname=x"), "not agreed"),
        (HANDSHAKE + OFFER + lines(b"command=clean", b"pathname=x"), "closed the connection early"),
        (HANDSHAKE + OFFER + b"00", "closed the connection early"),
        (HANDSHAKE + OFFER + encode_packet(b"command=clean"), "closed the connection early"),
    ],
)
def test_a_broken_session_is_the_peers_fault(data: bytes, message: str) -> None:
    with pytest.raises(PeerError, match=message):
        events_of(data, 100_000)
