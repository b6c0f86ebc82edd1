"""Which objects a repository has, answered fast; the index of a pack, version 2, read and written.

An index lists oids in order with the CRC and offset of each entry (git: Documentation/gitformat-pack).
"""

import hashlib
import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from gitml.errors import CorruptError
from gitml.oid import ObjectFormat, Oid

_INDEX_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_FANOUT_AT = 8
_OIDS_AT = 8 + 1024
_SMALL = 1 << 20


class ObjectIndex:
    """Which objects a repository has: packs, loose objects and alternates.

    A miss costs microseconds, where git looks through the pack directory again each time (about 1 ms). What other
    processes add is seen after `refresh`.
    """

    def __init__(self, objects_dir: Path, object_format: ObjectFormat) -> None:
        self.format = object_format
        self._places = [_ObjectPlace(place, object_format) for place in _with_alternates(objects_dir)]

    def has(self, oid: Oid) -> bool:
        """Whether the object is here, as of the last refresh."""
        return any(place.has(oid) for place in self._places)

    def locate(self, oid: Oid) -> Iterator[tuple[Path, int]]:
        """Every pack that holds the object, with the offset of its entry, as of the last refresh."""
        for place in self._places:
            yield from place.locate(oid)

    def refresh(self) -> None:
        """See packs and loose objects that came since; one `stat` per object directory if there are none."""
        for place in self._places:
            place.refresh()


class _ObjectPlace:
    """One objects directory."""

    def __init__(self, directory: Path, object_format: ObjectFormat) -> None:
        self._directory = directory
        self._format = object_format
        self._packs: dict[str, PackIndex] = {}
        self._loose: dict[int, frozenset[str]] = {}
        self._seen: int | None = None
        self.refresh()

    def has(self, oid: Oid) -> bool:
        return any(index.find(oid) is not None for index in self._packs.values()) or self._has_loose(oid)

    def locate(self, oid: Oid) -> Iterator[tuple[Path, int]]:
        for name, index in self._packs.items():
            position = index.find(oid)
            if position is not None:
                yield self._directory / "pack" / f"{name.removesuffix('.idx')}.pack", index.offset(position)

    def refresh(self) -> None:
        self._loose.clear()
        directory = self._directory / "pack"
        try:
            changed = directory.stat().st_mtime_ns
            if changed == self._seen:
                return
            names = {entry.name for entry in os.scandir(directory) if entry.name.endswith(".idx")}
        except FileNotFoundError:
            self._packs = {}
            return
        # a new dict: other threads may be looking through the old one
        packs = {name: index for name, index in self._packs.items() if name in names}
        for name in names - packs.keys():
            if name.startswith("tmp_"):
                continue
            with suppress(FileNotFoundError, CorruptError):
                packs[name] = PackIndex(directory / name, self._format)
        self._packs = packs
        self._seen = changed

    def _has_loose(self, oid: Oid) -> bool:
        names = self._loose.get(oid[0])
        if names is None:
            try:
                names = frozenset(os.listdir(self._directory / f"{oid[0]:02x}"))
            except (FileNotFoundError, NotADirectoryError):
                names = frozenset()
            self._loose[oid[0]] = names
        return bool(names) and oid.hex()[2:] in names


class PackIndex:
    """The index of one pack, version 2: a large one mapped into memory, a small one read.

    A mapping takes a descriptor for as long as it lives, and small packs may be thousands.
    """

    def __init__(self, path: Path, object_format: ObjectFormat) -> None:
        self._size = object_format.size
        with path.open("rb") as file:
            small = file.read(_SMALL + 1)
            self._map = small if len(small) <= _SMALL else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._map[:_FANOUT_AT] != _INDEX_MAGIC or len(self._map) < _OIDS_AT + 2 * self._size:
            raise CorruptError(f"pack index '{path}' is not of version 2")
        self._fanout = struct.unpack_from(">256L", self._map, _FANOUT_AT)
        self._crcs_at = _OIDS_AT + len(self) * self._size
        self._offsets_at = self._crcs_at + 4 * len(self)
        self._large_at = self._offsets_at + 4 * len(self)
        if len(self._map) < self._large_at + 2 * self._size:
            raise CorruptError(f"pack index '{path}' is cut short")

    def __len__(self) -> int:
        return int(self._fanout[255])

    def find(self, oid: Oid) -> int | None:
        """The position of an oid in the index, None if the pack does not hold it."""
        first = oid[0]
        low, high = self._fanout[first - 1] if first else 0, self._fanout[first]
        if low == high:
            return None
        found = bisect_left(range(high), bytes(oid), low, high, key=self._raw)
        return found if found < high and self._raw(found) == oid else None

    def oids(self) -> list[Oid]:
        """Every oid, in their order."""
        names = self._map[_OIDS_AT : self._crcs_at]
        return [Oid(names[at : at + self._size]) for at in range(0, len(names), self._size)]

    def entries(self) -> Iterator[tuple[Oid, int, int]]:
        """Oid, CRC and offset of every entry."""
        for position in range(len(self)):
            yield Oid(self._raw(position)), self.crc(position), self.offset(position)

    def crc(self, position: int) -> int:
        """The CRC-32 of the entry at a position of the index."""
        return int(struct.unpack_from(">L", self._map, self._crcs_at + 4 * position)[0])

    def oid(self, position: int) -> Oid:
        """The oid at a position of the index."""
        return Oid(self._raw(position))

    def offset(self, position: int) -> int:
        """Where in the pack the entry at a position of the index begins."""
        (offset,) = struct.unpack_from(">L", self._map, self._offsets_at + 4 * position)
        if offset & 0x80000000:
            (offset,) = struct.unpack_from(">Q", self._map, self._large_at + 8 * (offset & 0x7FFFFFFF))
        return int(offset)

    def _raw(self, position: int) -> bytes:
        at = _OIDS_AT + position * self._size
        return self._map[at : at + self._size]


def format_index(object_format: ObjectFormat, entries: Mapping[Oid, tuple[int, int]], trailer: bytes) -> bytes:
    """An index of entries, given by oid with offset and CRC, in a pack that ends with the digest `trailer`."""
    ordered = sorted(entries.items())
    counts = [0] * 256
    for oid, _ in ordered:
        counts[oid[0]] += 1
    fanout, total = [], 0
    for count in counts:
        total += count
        fanout.append(total)
    offsets: list[int] = []
    large: list[int] = []
    for _, (offset, _) in ordered:
        if offset < 0x80000000:
            offsets.append(offset)
        else:
            offsets.append(0x80000000 | len(large))
            large.append(offset)
    body = b"".join(
        [
            _INDEX_MAGIC,
            struct.pack(">256L", *fanout),
            *(oid for oid, _ in ordered),
            struct.pack(f">{len(ordered)}L", *(crc for _, (_, crc) in ordered)),
            struct.pack(f">{len(offsets)}L", *offsets),
            struct.pack(f">{len(large)}Q", *large),
            trailer,
        ]
    )
    return body + hashlib.new(object_format.value, body, usedforsecurity=False).digest()


def _with_alternates(objects_dir: Path) -> list[Path]:
    """The directory and those its `info/alternates` name, recursively (git: gitrepository-layout)."""
    found: list[Path] = []
    waiting = [objects_dir]
    while waiting:
        directory = waiting.pop()
        if directory in found:
            continue
        found.append(directory)
        try:
            lines = (directory / "info" / "alternates").read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        waiting += [directory / os.fsdecode(line) for line in lines if line and not line.startswith(b"#")]
    return found
