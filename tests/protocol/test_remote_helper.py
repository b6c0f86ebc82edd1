"""The remote helper's conversation, without a process: whole, and byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitml.oid import ObjectFormat, Oid
from gitml.protocol.pktline import PeerError
from gitml.protocol.remote_helper import (
    Capabilities,
    End,
    Fetch,
    HelperDecoder,
    List,
    Option,
    Push,
    Request,
    Update,
    format_capabilities,
    format_fetched,
    format_option_reply,
    format_pushed,
    format_refs,
    quote,
    unquote,
)

A, B = Oid(b"\xaa" * 20), Oid(b"\xbb" * 20)

CONVERSATION = (
    b"capabilities\noption progress true\noption cas refs/heads/main:"
    + b"0" * 40
    + b'\noption push-option "with \\"quotes\\" and \\303\\251"\n'
    b"option object-format\nlist for-push\n"
    b"push refs/heads/main:refs/heads/main\npush +HEAD~1:refs/tags/v1\npush :refs/heads/old\n\n"
    b"list\nfetch "
    + b"aa" * 20
    + b" HEAD\nfetch "
    + b"aa" * 20
    + b" refs/heads/main\nfetch "
    + b"bb" * 20
    + b" x\n\n\n"
)
REQUESTS: list[Request] = [
    Capabilities(),
    Option("progress", b"true"),
    Option("cas", b"refs/heads/main:" + b"0" * 40),
    Option("push-option", 'with "quotes" and é'.encode()),
    Option("object-format", b""),
    List(for_push=True),
    Push(
        (
            Update("refs/heads/main", b"refs/heads/main", force=False),
            Update("HEAD~1", b"refs/tags/v1", force=True),
            Update(None, b"refs/heads/old", force=False),
        )
    ),
    List(for_push=False),
    Fetch((A, B)),
    End(),
]


def _decode(pieces: list[bytes]) -> list[Request]:
    decoder = HelperDecoder()
    found = []
    for piece in pieces:
        decoder.receive(piece)
        while (request := decoder.next_request()) is not None:
            found.append(request)
    return found


@pytest.mark.parametrize("size", [1, 2, 7, len(CONVERSATION)])
def test_requests_do_not_depend_on_how_bytes_arrive(size: int) -> None:
    pieces = [CONVERSATION[at : at + size] for at in range(0, len(CONVERSATION), size)]
    assert _decode(pieces) == REQUESTS


def test_a_closed_pipe_is_the_end() -> None:
    assert _decode([b"capabilities\n", b""]) == [Capabilities(), End()]


@pytest.mark.parametrize("cut", [b"list", b"fetch " + b"aa" * 20 + b" x\n", b"push a:b\npush c"])
def test_a_pipe_closed_in_a_request_is_no_end(cut: bytes) -> None:
    decoder = HelperDecoder()
    decoder.receive(cut)
    assert decoder.next_request() is None
    with pytest.raises(PeerError, match="middle of a request"):
        decoder.receive(b"")


@pytest.mark.parametrize(
    "line",
    [
        b"connect git-upload-pack\n",
        b"listing\n",
        b"list for-fetch\n",
        b"option\n",
        b"fetch 1234 x\n\n",
        b"fetch " + b"AA" * 20 + b" x\n\n",
        b"fetch " + b"aa" * 21 + b" x\n\n",
        b"push nothing\n\n",
        b"push a:\n\n",
        b"push a:b\nfetch " + b"aa" * 20 + b" x\n\n",
        b"push a:b\nlist\n",
        b'option push-option "open\n',
    ],
)
def test_what_git_never_says_is_an_error(line: bytes) -> None:
    with pytest.raises(PeerError):
        _decode([line])


def test_a_line_without_end_is_an_error() -> None:
    with pytest.raises(PeerError, match="no end"):
        _decode([b"option x " + b"y" * (2 << 20)])


def test_sources_may_be_paths_of_a_commit() -> None:
    [push] = _decode([b"push +HEAD:dir/a:b:refs/data/x\n\n"])
    assert isinstance(push, Push)
    assert push.updates == (Update("HEAD:dir/a:b", b"refs/data/x", force=True),)


def test_sources_that_are_no_utf8_come_back() -> None:
    [push] = _decode([b"push refs/heads/\xff:refs/heads/\xff\n\n"])
    assert isinstance(push, Push)
    assert push.updates == (Update("refs/heads/\udcff", b"refs/heads/\xff", force=False),)


def test_replies_byte_by_byte() -> None:
    assert format_capabilities() == b"fetch\npush\noption\nobject-format\ncheck-connectivity\n\n"
    assert format_option_reply(True) == b"ok\n"
    assert format_option_reply(False) == b"unsupported\n"
    assert format_option_reply(True, "bad\nvalue") == b"error bad value\n"
    assert format_fetched(connected=False) == b"\n"
    assert format_fetched(connected=True) == b"connectivity-ok\n\n"
    assert format_fetched(connected=True, keep=b"/a b/x.keep") == b"lock /a b/x.keep\nconnectivity-ok\n\n"
    assert format_fetched(connected=False, keep=b"/a\nb/x.keep") == b"\n"
    assert format_refs(None, None, []) == b"\n"
    assert (
        format_refs(ObjectFormat.SHA1, b"refs/heads/main", [(b"refs/heads/main", A), (b"refs/tags/v1^{}", B)])
        == b":object-format sha1\n@refs/heads/main HEAD\n" + b"aa" * 20 + b" refs/heads/main\n" + b"bb" * 20
        + b" refs/tags/v1^{}\n\n"
    )  # fmt: skip
    assert (
        format_pushed([(b"refs/heads/a", None), (b"refs/heads/b", "fetch first"), (b"refs/heads/c", "two\nlines")])
        == b'ok refs/heads/a\nerror refs/heads/b fetch first\nerror refs/heads/c "two\\nlines"\n\n'
    )


@given(st.binary())
def test_quoting_is_undone(text: bytes) -> None:
    assert unquote(quote(text)) == text
    assert b"\n" not in quote(text)


def test_quotes_are_those_of_git() -> None:
    assert quote(b"plain text") == b"plain text"
    assert quote(b'a "b"\t\\\x01\x7f') == b'"a \\"b\\"\\t\\\\\\001\\177"'
