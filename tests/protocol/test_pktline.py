import pytest

from gitml.protocol.pktline import FLUSH, MAX_PAYLOAD, Packet, PacketDecoder, PeerError, encode_content, encode_packet


def packets_of(data: bytes, step: int) -> list[Packet]:
    decoder, found = PacketDecoder(), []
    for at in range(0, len(data), step):
        decoder.receive(data[at : at + step])
        while (packet := decoder.next_packet()) is not None:
            found.append(packet)
    assert not decoder.pending
    return found


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_framing_does_not_depend_on_how_bytes_arrive(step: int) -> None:
    data = b"0006a\n" + b"0000" + b"0004" + b"000bhello =" + b"0000"
    assert packets_of(data, step) == [b"a\n", FLUSH, b"", b"hello =", FLUSH]


def test_content_is_cut_into_full_packets() -> None:
    data = bytes(range(256)) * 600
    packets = list(encode_content(data))
    assert [len(packet) for packet in packets] == [MAX_PAYLOAD + 4, MAX_PAYLOAD + 4, len(data) - 2 * MAX_PAYLOAD + 4]
    assert b"".join(packet for packet in packets_of(b"".join(packets), 70_000) if packet is not FLUSH) == data
    assert list(encode_content(b"")) == []


@pytest.mark.parametrize("data", [b"zzzz", b"0001", b"0003", b"fff1", b"ffff", b"-001", b"+005", b"0x05", b" 005"])
def test_a_bad_length_is_the_peers_fault(data: bytes) -> None:
    decoder = PacketDecoder()
    decoder.receive(data)
    with pytest.raises(PeerError, match="bad packet length"):
        decoder.next_packet()


def test_a_packet_is_neither_empty_nor_too_long() -> None:
    assert encode_packet(b"x" * MAX_PAYLOAD)[:4] == b"fff0"
    for payload in (b"", b"x" * (MAX_PAYLOAD + 1)):
        with pytest.raises(ValueError, match="a packet carries"):
            encode_packet(payload)
