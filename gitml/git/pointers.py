"""Finding the pointers among many blobs with two git processes, however many there are."""

from collections.abc import Iterable

from gitml.git.command import Git
from gitml.oid import Oid
from gitml.store.pointer import (
    MAGIC,
    MAX_POINTER_SIZE,
    MIN_POINTER_SIZE,
    Pointer,
    PointerError,
    is_pointer,
    parse_pointer,
)

LARGEST = 1024
"""Bytes up to which a blob is taken for a pointer if it claims to be one: damaged ones may be shorter or longer."""


def read_pointers(git: Git, blobs: Iterable[Oid]) -> dict[Oid, Pointer]:
    """Those of `blobs` that are well-formed pointers, with what they say; missing objects are passed over."""
    return scan_pointers(git, blobs, MIN_POINTER_SIZE, MAX_POINTER_SIZE)[0]


def scan_pointers(
    git: Git, blobs: Iterable[Oid], smallest: int = len(MAGIC), largest: int = LARGEST
) -> tuple[dict[Oid, Pointer], dict[Oid, str]]:
    """The well-formed pointers among `blobs`, and what is wrong with those that only claim to be pointers."""
    candidates = list(dict.fromkeys(blobs))
    found: dict[Oid, Pointer] = {}
    malformed: dict[Oid, str] = {}
    if not candidates:
        return found, malformed
    listing = git.output("cat-file", "--batch-check", input=_lines(candidates))
    small = []
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] == b"blob" and smallest <= int(fields[2]) <= largest:
            small.append(Oid.parse(fields[0]))
    if not small:
        return found, malformed
    content = git.output("cat-file", "--batch", input=_lines(small))
    at = 0
    while at < len(content):
        header, _, _ = content[at : at + 128].partition(b"\n")
        oid, _, size = header.split()
        start = at + len(header) + 1
        at = start + int(size) + 1
        data = content[start : at - 1]
        if is_pointer(data):
            try:
                found[Oid.parse(oid)] = parse_pointer(data)
            except PointerError as error:
                malformed[Oid.parse(oid)] = error.message
    return found, malformed


def _lines(oids: Iterable[Oid]) -> bytes:
    return b"".join(oid.hex().encode() + b"\n" for oid in oids)
