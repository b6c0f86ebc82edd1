"""The pointer: the small text blob that stands in the user's tree for large content.

Identity is sha256 and size; the manifest oid says how to get the bytes. There is one spelling of a pointer:
equal content gives equal pointer blobs, and every accepted text is what `format_pointer` writes.
"""

import re

from gitml.errors import CorruptError
from gitml.oid import Oid
from gitml.record import record

MAGIC = b"gitml pointer 1\n"
"""First line of every pointer of format version 1."""

MAX_SIZE = 2**63 - 1
"""Largest content size, in bytes, that a pointer may state."""

_TEXT = re.compile(
    rb"gitml pointer 1\nsha256 ([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,18})\nmanifest ([0-9a-f]{40}|[0-9a-f]{64})\n"
)

MIN_POINTER_SIZE = len(MAGIC) + len(b"sha256 \n") + 64 + len(b"size 0\n") + len(b"manifest \n") + 40
"""Bytes of the shortest pointer."""

MAX_POINTER_SIZE = len(MAGIC) + len(b"sha256 \n") + 64 + len(b"size \n") + 19 + len(b"manifest \n") + 64
"""Bytes of the longest pointer."""


class PointerError(CorruptError):
    """Bytes that claim to be a pointer and are none."""


@record
class Pointer:
    """Which content stands here (`sha256`, 32 raw bytes, and `size` in bytes) and the manifest that lists it."""

    sha256: bytes
    size: int
    manifest: Oid


def is_pointer(data: bytes) -> bool:
    """Whether `data` claims to be a pointer: looks at the first line and at nothing else."""
    return data.startswith(MAGIC)


def format_pointer(pointer: Pointer) -> bytes:
    """The canonical text of `pointer`; raise `ValueError` for values that no pointer can have."""
    if len(pointer.sha256) != 32 or not 0 <= pointer.size <= MAX_SIZE:
        raise ValueError(f"not a valid pointer: {pointer}")
    return (
        f"gitml pointer 1\nsha256 {pointer.sha256.hex()}\nsize {pointer.size}\nmanifest {pointer.manifest}\n"
    ).encode()


def parse_pointer(data: bytes) -> Pointer:
    """The pointer with exactly the text `data`; raise `PointerError` that says what is wrong."""
    match = _TEXT.fullmatch(data)
    if match is None:
        raise PointerError(f"malformed pointer: {_fault(data)}")
    size = int(match[2])
    if size > MAX_SIZE:
        raise PointerError(f"malformed pointer: size {size} is too large")
    return Pointer(bytes.fromhex(match[1].decode()), size, Oid.parse(match[3]))


def _fault(data: bytes) -> str:
    """What keeps `data` from being a pointer, for a message."""
    if not data.startswith(MAGIC):
        return "first line is not 'gitml pointer 1'"
    if len(data) > MAX_POINTER_SIZE:
        return f"{len(data)} bytes, at most {MAX_POINTER_SIZE} allowed"
    if b"\r" in data:
        return "line ends in CR LF, expected LF"
    lines = data.split(b"\n")
    for number, (line, shape) in enumerate(zip(lines[1:], _LINES, strict=False), start=2):
        if re.fullmatch(shape[0], line) is None:
            return f"line {number}: expected {shape[1]}"
    if len(lines) != 5 or lines[4]:
        return f"expected 4 lines that each end in LF, got {len(data)} bytes in {len(lines)} parts"
    return "not canonical"


_LINES = (
    (rb"sha256 [0-9a-f]{64}", "'sha256' and 64 lower-case hex digits"),
    (rb"size (0|[1-9][0-9]{0,18})", "'size' and a decimal number without leading zeros"),
    (rb"manifest ([0-9a-f]{40}|[0-9a-f]{64})", "'manifest' and 40 or 64 lower-case hex digits"),
)
