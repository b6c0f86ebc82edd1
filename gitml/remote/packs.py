"""How a pack lies in a store: as one object or in pieces, with an index that says what is where.

The index is git's own (version 2) of the pack, then one byte for the kind of each object in the order of the index,
four bytes for its size, and the SHA-256 of all before. Hides both forms (docs/remote.md).
"""

import re
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from gitml.errors import CorruptError
from gitml.git.packindex import PackIndex
from gitml.git.packindex import format_index as format_git_index
from gitml.oid import ObjectFormat, Oid
from gitml.remote.state import Dropped, Pack
from gitml.store.odb import Kind

PACKS = "packs"
"""Where packs are, below the address."""

PIECE = 16 << 20
"""Bytes of a piece; packs up to this size are one object."""

LARGE = 0xFFFFFFFF
"""The size of an object of 4 GiB or more, in an index."""

_NUMBERS: dict[str, int] = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_KINDS: dict[int, Kind] = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_NAME = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(?:-([1-9][0-9]{0,9}))?(?=[./]|$)")
_DIGEST = 32
_HEADER = 12
_HEADER_OF_INDEX = 8 + 1024


def name_of(pack: Pack | Dropped) -> str:
    """How the objects of a pack are called: by its id, from the second epoch on with the epoch."""
    return f"{pack.id}-{pack.epoch}" if pack.epoch else pack.id


def directory_of(pack: Pack | Dropped) -> str:
    """Where the pieces of a pack are, if it is in pieces."""
    return f"{PACKS}/{name_of(pack)}"


def index_key(pack: Pack | Dropped) -> str:
    """Where the index of a pack is."""
    return f"{PACKS}/{name_of(pack)}.index"


def pieces(pack: Pack | Dropped) -> list[tuple[str, int, int]]:
    """The objects that hold a pack: key, and which bytes of the pack it has."""
    if pack.size <= PIECE:
        return [(f"{PACKS}/{name_of(pack)}.pack", 0, pack.size)]
    return [
        (f"{directory_of(pack)}/{number:05}", start, min(start + PIECE, pack.size))
        for number, start in enumerate(range(0, pack.size, PIECE))
    ]


def pack_of(key: str) -> tuple[str, int] | None:
    """Id and epoch of the pack that an object below `packs/` belongs to, None if it is none of ours."""
    found = _NAME.match(key.removeprefix(f"{PACKS}/"))
    return None if found is None else (found[1], int(found[2] or 0))


def format_index(index: bytes, kinds: Iterable[Kind], sizes: Iterable[int]) -> bytes:
    """The index of a pack in a store: git's own, with kind and size of each object in its order."""
    numbers = bytes(_NUMBERS[kind] for kind in kinds)
    short = array("I", (min(size, LARGE) for size in sizes))
    if sys.byteorder == "little":
        short.byteswap()
    body = b"".join([index, numbers, short.tobytes()])
    return body + sha256(body).digest()


class StoredIndex:
    """What a pack holds and where, from a file that has its index. Raise `CorruptError` for one that is not right."""

    def __init__(self, path: Path, pack: Pack, object_format: ObjectFormat) -> None:
        self.pack = pack
        self.path = path
        try:
            self._index = PackIndex(path, object_format)
        except CorruptError as error:
            raise CorruptError(f"the index of pack {pack.id} is damaged: {error.message}") from None
        self._width = object_format.size
        count = len(self._index)
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _DIGEST - 5 * count, 0))
            self._tail = file.read(5 * count)
        if len(self._tail) != 5 * count or count != pack.objects or self._tail[:count].strip(b"\1\2\3\4"):
            raise CorruptError(f"the index of pack {pack.id} does not have {pack.objects} objects")

    def __len__(self) -> int:
        return len(self._index)

    def find(self, oid: Oid) -> int | None:
        """The position of an object, None if the pack does not hold it."""
        return self._index.find(oid)

    def oid(self, position: int) -> Oid:
        """The object at a position."""
        return self._index.oid(position)

    def kind(self, position: int) -> Kind:
        """What it is, as the index says."""
        return _KINDS[self._tail[position]]

    def size(self, position: int) -> int:
        """Bytes of its content; `LARGE` for 4 GiB and more."""
        return int.from_bytes(self._tail[len(self) + 4 * position : len(self) + 4 * position + 4])

    def of_kinds(self, *kinds: Kind) -> Iterator[Oid]:
        """All objects of these kinds."""
        numbers = {_NUMBERS[kind] for kind in kinds}
        return (self.oid(position) for position in range(len(self)) if self._tail[position] in numbers)

    def crc(self, position: int) -> int:
        """The CRC-32 of its entry."""
        return self._index.crc(position)

    def extent(self, position: int) -> tuple[int, int]:
        """Which bytes of the pack an object takes; raise `CorruptError` if it has none."""
        start = self._index.offset(position)
        if not _HEADER <= start < self._offsets[-1]:
            raise CorruptError(f"the index of pack {self.pack.id} is damaged")
        return start, self._offsets[bisect_right(self._offsets, start)]

    def at(self, offset: int) -> Oid:
        """The object that begins at an offset of the pack; raise `CorruptError`."""
        position = self._positions.get(offset)
        if position is None:
            raise CorruptError(f"pack {self.pack.id} is damaged: nothing begins at {offset}")
        return self.oid(position)

    def git_index(self) -> bytes:
        """Git's own index of the pack, as it came."""
        return self.path.read_bytes()[: -(_DIGEST + 5 * len(self))]

    def own_index(self, object_format: ObjectFormat) -> bytes:
        """Git's own index of the pack, made anew of its entries: what they do not say is not believed."""
        entries = {oid: (offset, crc) for oid, crc, offset in self._index.entries()}
        return format_git_index(object_format, entries, bytes.fromhex(self.pack.id))

    @cached_property
    def _offsets(self) -> list[int]:
        end = self.pack.size - self._width
        return [*sorted(offset for offset in self._positions if offset < end), end]

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {self._index.offset(position): position for position in range(len(self))}


def check_index(data: bytes, pack: Pack, object_format: ObjectFormat) -> None:
    """Raise `CorruptError` unless `data` is the index of `pack`."""
    count = pack.objects
    width = object_format.size
    ours = _DIGEST + 5 * count
    if len(data) < ours + 2 * width + _HEADER_OF_INDEX or sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise CorruptError(f"the index of pack {pack.id} is damaged", hint="git ml remote fsck says what is lost")
    fanout = struct.unpack_from(">256L", data, 8)
    if list(fanout) != sorted(fanout) or fanout[-1] != count:
        raise CorruptError(f"the index of pack {pack.id} does not have {count} objects")
    kinds = data[len(data) - ours : len(data) - ours + count]
    if kinds.strip(b"\1\2\3\4"):
        raise CorruptError(f"the index of pack {pack.id} names kinds that git has not")
    offsets_at = _HEADER_OF_INDEX + count * (width + 4)
    large_at = offsets_at + 4 * count
    large, rest = divmod(len(data) - ours - 2 * width - large_at, 8)
    if (
        rest
        or large < 0
        or any(
            offset & 0x80000000 and offset & 0x7FFFFFFF >= large
            for offset in struct.unpack_from(f">{count}L", data, offsets_at)
        )
    ):
        raise CorruptError(f"the index of pack {pack.id} says of objects that they are nowhere")
    if data[-ours - 2 * width : -ours - width].hex() != pack.id:
        raise CorruptError(f"the index of pack {pack.id} is that of another pack")
