"""Finding the pointers among many blobs with two git processes, however many there are."""

from collections.abc import Iterable

from gitml.git.command import Git
from gitml.oid import Oid
from gitml.store.pointer import MAX_POINTER_SIZE, MIN_POINTER_SIZE, Pointer, PointerError, is_pointer, parse_pointer


def read_pointers(git: Git, blobs: Iterable[Oid]) -> dict[Oid, Pointer]:
    """Those of `blobs` that are well-formed pointers, with what they say; missing objects are passed over."""
    candidates = list(dict.fromkeys(blobs))
    if not candidates:
        return {}
    listing = git.output("cat-file", "--batch-check", input=_lines(candidates))
    small = []
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] == b"blob" and MIN_POINTER_SIZE <= int(fields[2]) <= MAX_POINTER_SIZE:
            small.append(Oid.parse(fields[0]))
    if not small:
        return {}
    found: dict[Oid, Pointer] = {}
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
            except PointerError:
                continue
    return found


def _lines(oids: Iterable[Oid]) -> bytes:
    return b"".join(oid.hex().encode() + b"\n" for oid in oids)
