"""Where content is cut into chunks: FastCDC 2020, and tensor boundaries in safetensors content.

Hides every number and rule that decides a cut. They are part of the storage format (docs/format.md): another
set is another format version. Cuts depend on the bytes alone, never on names or on how the bytes arrive.

FastCDC: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems",
IEEE TPDS 31(9), 2020. Safetensors: https://github.com/huggingface/safetensors#format
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final

MIN_CHUNK = 64 * 1024
"""Bytes of the smallest chunk, except for the last of a content."""

AVERAGE_CHUNK = 256 * 1024
"""Where FastCDC changes from the strict to the lax mask, in bytes."""

MAX_CHUNK = 1024 * 1024
"""Bytes of the largest chunk."""

NORMALISATION: Final = 1
"""FastCDC's level of normalised chunking: mask bits more before the average, and fewer after."""

MAX_HEADER = 4 * 1024 * 1024
"""Longest safetensors header, in bytes, that is looked into; longer ones are cut as any content."""

_MAX_DIGITS = 18


_BLOCK = 4 * MAX_CHUNK
"""Bytes that are collected before they are cut. Where a piece is as long, only what lies around its ends is copied."""


class Chunker:
    """Cuts one content into chunks as its bytes arrive. Chunks are parts of what was fed, joined where they must be."""

    def __init__(self) -> None:
        from pyfastcdc import FastCDC  # noqa: PLC0415 - whoever only reads does not need it

        self._fastcdc = FastCDC(
            AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK, normalized_chunking=NORMALISATION, seed=0
        )
        self._rest = memoryview(b"")
        """What follows the last cut and was too short to be cut."""
        self._pieces: list[memoryview] = []
        """What came after it."""
        self._held = 0
        self._wanted = _BLOCK
        self._offset = 0
        self._boundaries: list[int] | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
        """Take the next bytes of the content; give the chunks that are certain by now, in order.

        The result must be iterated over to the end. Chunks share the memory of `data`, unless that can be written to.
        """
        view = memoryview(data)
        self._pieces.append(view if view.readonly else memoryview(bytes(view)))
        self._held += len(view)
        if self._held >= self._wanted:
            yield from self._cut(ended=False)

    def finish(self) -> Iterator[memoryview]:
        """Say that the content has ended; give the chunks that remain."""
        return self._cut(ended=True)

    def _cut(self, *, ended: bool) -> Iterator[memoryview]:
        if self._boundaries is None or len(self._pieces) > 1:  # many must be joined, so it costs little to join all
            block, self._rest = _joined([self._rest, *self._pieces]), memoryview(b"")
        else:
            block = _joined(self._pieces)
        self._pieces, self._held, self._wanted = [], 0, _BLOCK
        if self._boundaries is None:
            self._boundaries = tensor_boundaries(block, ended=ended)
            if self._boundaries is None:
                # a header is longer than a block
                self._rest, self._wanted = block, len(block)
                return
        if len(self._rest):
            # the chunks that begin in the rest, of which the last ends in the block
            ends = _joined([self._rest, block[:MAX_CHUNK]])
            at = 0
            for chunk in self._chunks(ends, ended=ended and len(block) <= MAX_CHUNK):
                at += len(chunk)
                yield chunk
                if at >= len(self._rest):
                    break
            if at < len(self._rest):  # there is not enough yet
                self._rest = _joined([ends[at:], block[MAX_CHUNK:]])
                return
            block = block[at - len(self._rest) :]
        at = 0
        for chunk in self._chunks(block, ended=ended):
            at += len(chunk)
            yield chunk
        self._rest = block[at:]

    def _chunks(self, block: memoryview, *, ended: bool) -> Iterator[memoryview]:
        """The chunks that `block` begins with: those that are certain, all if the content ends with it."""
        at = 0
        cuts = None
        while at < len(block):
            limit = self._next_limit()
            if len(block) - at < limit and not ended:
                return
            if limit < MAX_CHUNK:
                cut, cuts = next(iter(self._fastcdc.cut_buf(block[at : at + limit]))), None
            else:
                cuts = cuts or iter(self._fastcdc.cut_buf(block[at:]))
                cut = next(cuts)
            chunk = block[at : at + cut.length]
            at += len(chunk)
            self._offset += len(chunk)
            yield chunk

    def _next_limit(self) -> int:
        """Bytes from the last cut to the latest possible next one."""
        assert self._boundaries is not None
        at = bisect_left(self._boundaries, self._offset + MIN_CHUNK)
        if at == len(self._boundaries):
            return MAX_CHUNK
        return min(MAX_CHUNK, self._boundaries[at] - self._offset)


def _joined(pieces: Sequence[memoryview]) -> memoryview:
    """All bytes of `pieces` in one place; copied only if there are several."""
    there = [piece for piece in pieces if len(piece)]
    return there[0] if len(there) == 1 else memoryview(b"".join(there))


def tensor_boundaries(head: bytes | bytearray | memoryview, *, ended: bool) -> list[int] | None:
    """Offsets in the content, ascending, where tensors begin and end; empty if it is not safetensors.

    `head` are the first bytes, and all of them if `ended`. None means that more bytes are needed.
    """
    if len(head) < 9:
        return [] if ended else None
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER or head[8:9] != b"{":
        return []
    if len(head) < 8 + length:
        return [] if ended else None
    try:
        header = json.loads(
            bytes(head[8 : 8 + length]).decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_natural,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
        offsets = _offsets(header)
    except (ValueError, RecursionError):
        return []
    return sorted({8 + length + offset for offset in offsets})


def _offsets(header: dict[str, Any]) -> set[int]:
    """All data offsets of a parsed header; raise `ValueError` unless it has exactly the shape of one."""
    offsets: set[int] = set()
    for name, member in header.items():
        if type(member) is not dict:
            raise ValueError("a tensor is an object")
        if name == "__metadata__":
            if not all(type(value) is str for value in member.values()):
                raise ValueError("metadata are strings")
            continue
        if member.keys() != {"dtype", "shape", "data_offsets"} or type(member["dtype"]) is not str:
            raise ValueError("a tensor has dtype, shape and data_offsets")
        for numbers in (member["shape"], member["data_offsets"]):
            if type(numbers) is not list or not all(type(number) is int for number in numbers):
                raise ValueError("shape and data_offsets are lists of integers")
        first, last = member["data_offsets"]  # another length is a ValueError as well
        if first > last:
            raise ValueError("a tensor ends where it begins or later")
        offsets |= {first, last}
    return offsets


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key occurs twice")
    return members


def _natural(text: str) -> int:
    if text.startswith("-") or len(text) > _MAX_DIGITS:
        raise ValueError("not an offset")
    return int(text)


def _refuse(text: str) -> float:
    raise ValueError(f"not an offset: {text}")
