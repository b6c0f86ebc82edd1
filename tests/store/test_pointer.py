"""Pointers: one spelling, both ways, and a message for everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitml.oid import Oid
from gitml.store.pointer import (
    MAX_POINTER_SIZE,
    MAX_SIZE,
    MIN_POINTER_SIZE,
    Pointer,
    PointerError,
    format_pointer,
    is_pointer,
    parse_pointer,
)

GOOD = b"gitml pointer 1\nsha256 " + b"ab" * 32 + b"\nsize 65536\nmanifest " + b"0123456789" * 4 + b"\n"

pointers = st.builds(
    Pointer,
    st.binary(min_size=32, max_size=32),
    st.integers(0, MAX_SIZE),
    st.sampled_from((20, 32)).flatmap(lambda size: st.binary(min_size=size, max_size=size)).map(Oid),
)


@given(pointers)
def test_parse_undoes_format(pointer: Pointer) -> None:
    text = format_pointer(pointer)
    assert parse_pointer(text) == pointer
    assert is_pointer(text)
    assert MIN_POINTER_SIZE <= len(text) <= MAX_POINTER_SIZE


@given(st.data())
def test_every_accepted_text_is_canonical(data: st.DataObject) -> None:
    text = bytearray(GOOD)
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255))
    try:
        pointer = parse_pointer(bytes(text))
    except PointerError:
        return
    assert format_pointer(pointer) == text


def test_the_bounds_are_reached() -> None:
    assert len(format_pointer(Pointer(bytes(32), 0, Oid(bytes(20))))) == MIN_POINTER_SIZE
    assert len(format_pointer(Pointer(bytes(32), MAX_SIZE, Oid(bytes(32))))) == MAX_POINTER_SIZE


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "first line"),
        (GOOD.replace(b"pointer 1", b"pointer 2"), "first line"),
        (GOOD.replace(b"\n", b"\r\n"), "first line"),
        (GOOD.replace(b"ab", b"AB", 1), "line 2: expected 'sha256'"),
        (GOOD.replace(b"65536", b"065536"), "line 3: expected 'size'"),
        (GOOD.replace(b"65536", b"-1"), "line 3: expected 'size'"),
        (GOOD.replace(b"65536", b"9223372036854775808"), "too large"),
        (GOOD.replace(b"65536", b"9" * 5000), "at most"),
        (GOOD.replace(b"manifest ", b"manifest"), "line 4: expected 'manifest'"),
        (GOOD.replace(b"0123456789", b"", 1), "line 4: expected 'manifest'"),
        (GOOD[:-1], "4 lines"),
        (GOOD + b"\n", "4 lines"),
        (GOOD + b"note x\n", "4 lines"),
        (GOOD.replace(b"65536\n", b"65536\r\n"), "CR LF"),
    ],
)
def test_a_malformed_pointer_is_refused_with_its_fault(text: bytes, fault: str) -> None:
    with pytest.raises(PointerError, match=fault):
        parse_pointer(text)


def test_a_value_that_no_pointer_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not a valid pointer"):
        format_pointer(Pointer(bytes(31), 1, Oid(bytes(20))))
    with pytest.raises(ValueError, match="not a valid pointer"):
        format_pointer(Pointer(bytes(32), -1, Oid(bytes(20))))
