"""Packs written directly, never loose objects, and the question "is this object here?" answered fast.

A pack is `PACK`, version 2, a count, the entries (a header of type and size, then zlib data) and a digest of all
before; its index, version 2, lists oids in order with the CRC and offset of each entry (git: Documentation/
gitformat-pack). Entries are whole objects, never deltas: git itself finds deltas when it repacks or pushes.
Content is deflated with isal at level 1; what does not shrink is kept in stored blocks.

Order on disk: pack and index under `tmp_` names, both synced, the pack renamed, then the index, then the directory
synced. Git sees a pack once its index is there, and `git prune` knows `tmp_` names as garbage of a killed process.
A pack that takes objects for longer may have a name of its own instead, under which neither git nor `git prune` sees
it. Its file is locked while its writer lives; what `hand_over` has given to the operating system can be read back
with `read_unfinished` after a kill, or after `finish` failed on a full disk.
A pack that no ref reaches yet is published with a `.keep` file, which comes before the index: between both moments
`git gc --prune=now` would take it for garbage.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple, Protocol, Self

from gitml.errors import CorruptError, GitmlError
from gitml.oid import ObjectFormat, Oid
from gitml.store.odb import Kind, MissingObjectError, ObjectReader

JOINED_PACK_LIMIT = 256 << 20
"""Packs larger than this many bytes are not copied by `consolidate`."""

_TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_KINDS = {number: kind for kind, number in _TYPES.items()}
_HEADER_SIZE = 12
_INDEX_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_FANOUT_AT = 8
_OIDS_AT = 8 + 1024
_IN_MEMORY = 1 << 20
"""Bytes of a pack that are collected before there is a file: most packs of a session are smaller."""
_WRITEBACK = 32 << 20
"""Bytes of a large pack after which the disk is set to work, so that the last sync has little left to do."""
_PROBE = 4096
_PROBED_FROM = 64 << 10


class _Placed(NamedTuple):
    """Where an entry stands in a pack: its offset, length in bytes and CRC."""

    offset: int
    length: int
    crc: int


class KnownObjects(Protocol):
    """Tells which objects need not be written again."""

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        ...


class PackWriter:
    """A `ChunkWriter` and `ObjectReader` that collects objects in one new pack of `objects_dir`.

    `known` tells which objects need not be written again; `reader` serves reads of objects that are not in this
    pack. Nothing appears in the repository before `finish`; until then the pack is the file `name` among the packs.
    As a context manager it removes what it wrote unless `finish` was called. Several threads may write at once.
    """

    def __init__(
        self,
        objects_dir: Path,
        object_format: ObjectFormat,
        *,
        known: "KnownObjects | None" = None,
        reader: ObjectReader | None = None,
        name: str | None = None,
    ) -> None:
        self.format = object_format
        self._name = name
        self._directory = objects_dir / "pack"
        self._known = known
        self._reader = reader
        self._placed: dict[Oid, _Placed] = {}
        self._lock = threading.Lock()
        self._file: _NewFile | None = None
        self._end = _HEADER_SIZE
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def __len__(self) -> int:
        return len(self._placed)

    @property
    def size(self) -> int:
        """Bytes of the pack so far."""
        return self._end

    def hand_over(self) -> None:
        """Give everything to the operating system: a kill of this process leaves it readable (`read_unfinished`)."""
        with self._lock:
            if self._file is not None:
                self._file.spill()

    def hold(self) -> int | None:
        """A descriptor that keeps the pack locked for as long as it is open, beyond `finish`; None without a file."""
        with self._lock:
            return None if self._file is None else self._file.duplicate()

    def roll_back(self, size: int) -> None:
        """Forget what was written after the pack had `size` bytes."""
        with self._lock:
            while self._placed and next(reversed(self._placed.values())).offset >= size:
                self._placed.popitem()
            self._truncate(size)

    def holds(self, oid: Oid) -> bool:
        """Whether this very pack has the object."""
        return oid in self._placed

    def write(self, kind: Kind, data: bytes | bytearray | memoryview) -> Oid:
        """Store an object unless it is known or already in this pack, and give its name."""
        return self.prepare(kind, data)()

    def prepare(self, kind: Kind, data: bytes | bytearray | memoryview) -> Callable[[], Oid]:
        """Hash and deflate an object; what is given stores it as `write` does."""
        oid = self.format.oid_of(kind, data)
        if oid in self._placed or (self._known is not None and self._known.has(oid)):
            return lambda: oid
        entry = b"".join([_entry_header(kind, len(data)), *_deflated(data)])
        crc = _isal().crc32(entry)

        def write() -> Oid:
            with self._lock:
                if oid not in self._placed:
                    self._add(oid, entry, crc)
            return oid

        return write

    def write_stream(self, kind: Kind, size: int, pieces: Iterable[bytes]) -> Oid:
        """Store an object of `size` bytes given in pieces, in constant memory, and give its name.

        `pieces` must not write to this pack. Raise `ValueError` if they do not add up to `size`; what they raise
        passes through. In both cases the pack is as before.
        """
        with self._lock:
            start = self._end
            try:
                oid, crc = self._append_stream(kind, size, pieces)
            except BaseException:
                self._truncate(start)
                raise
            if oid in self._placed or (self._known is not None and self._known.has(oid)):
                self._truncate(start)
                return oid
            length, self._end = self._end - start, start
            self._place(oid, length, crc)
        return oid

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content, from this pack or the reader behind it; raise `MissingObjectError`."""
        placed = self._placed.get(oid)
        if placed is not None and self._file is not None:
            return _parse_entry(self._file.read(placed.offset, placed.length))
        if self._reader is None:
            raise MissingObjectError(oid)
        return self._reader.read(oid)

    def has(self, oid: Oid) -> bool:
        """Whether the object is in this pack or known to be in the repository."""
        if oid in self._placed:
            return True
        if self._known is not None and self._known.has(oid):
            return True
        return self._known is None and self._reader is not None and self._reader.has(oid)

    def copy_pack(self, path: Path) -> bool:
        """Take over all entries of a pack as they are; False, and nothing taken, if it holds deltas."""
        index = PackIndex(path.with_suffix(".idx"), self.format)
        entries = sorted(index.entries(), key=lambda entry: entry[2])
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            ends = [offset for _, _, offset in entries[1:]] + [os.fstat(descriptor).st_size - self.format.size]
            if any(os.pread(descriptor, 1, offset)[0] >> 4 & 7 not in _KINDS for _, _, offset in entries):
                return False
            with self._lock:
                for (oid, crc, offset), end in zip(entries, ends, strict=True):
                    if oid not in self._placed:
                        self._add(oid, os.pread(descriptor, end - offset, offset), crc)
        finally:
            os.close(descriptor)
        return True

    def finish(self, *, keep: bytes | None = None) -> Path | None:
        """Make the objects part of the repository, durably; give the pack's path, None if nothing was written.

        With `keep`, a `.keep` file with that text stands beside it before git can see it (see `release_keep`). An
        identical pack that is already there is kept. The writer takes no more objects, and reads go to the reader.
        On an error a pack with a name of its own stays as it is. Raise `GitmlError` if the unfinished pack was
        deleted meanwhile.
        """
        with self._lock:
            self._closed = True
            file, self._file = self._file, None
            if file is None:
                return None
            try:
                if not self._placed:
                    return None
                return _publish(file, self._directory, self.format, self._placed, keep)
            except BaseException:
                if self._name is not None:
                    file.abandon()
                raise
            finally:
                file.discard()

    def abort(self) -> None:
        """Forget what was written; after `finish` this does nothing."""
        with self._lock:
            self._closed = True
            file, self._file = self._file, None
            if file is not None:
                file.discard()

    def _append(self, data: bytes | memoryview) -> None:
        if self._closed:
            raise ValueError("the pack is finished")
        if self._file is None:
            self._file = _NewFile(self._directory, "tmp_pack_", self._name)
            self._file.write(_pack_header(0))
        self._file.write(data)

    def _add(self, oid: Oid, entry: bytes, crc: int) -> None:
        try:
            self._append(entry)
        except BaseException:
            self._truncate(self._end)
            raise
        self._place(oid, len(entry), crc)

    def _place(self, oid: Oid, length: int, crc: int) -> None:
        self._placed[oid] = _Placed(self._end, length, crc)
        self._end += length

    def _append_stream(self, kind: Kind, size: int, pieces: Iterable[bytes]) -> tuple[Oid, int]:
        digest = hashlib.new(self.format.value, b"%s %d\0" % (kind.encode(), size), usedforsecurity=False)
        left = size

        def hashed() -> Iterator[bytes]:
            nonlocal left
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                yield piece

        crc = self._append_part(_entry_header(kind, size), 0)
        for part in _deflated_stream(hashed()):
            crc = self._append_part(part, crc)
        if left != 0:
            raise ValueError(f"the content does not have the {size} bytes that were announced")
        return Oid(digest.digest()), crc

    def _append_part(self, part: bytes | memoryview, crc: int) -> int:
        self._append(part)
        self._end += len(part)
        return int(_isal().crc32(part, crc))

    def _truncate(self, end: int) -> None:
        self._end = end
        if self._file is not None:
            self._file.truncate(end)


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
    """The index of one pack, version 2, mapped into memory."""

    def __init__(self, path: Path, object_format: ObjectFormat) -> None:
        self._size = object_format.size
        with path.open("rb") as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise CorruptError(f"pack index '{path}' is empty") from None
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

    def entries(self) -> Iterator[tuple[Oid, int, int]]:
        """Oid, CRC and offset of every entry."""
        for position in range(len(self)):
            (crc,) = struct.unpack_from(">L", self._map, self._crcs_at + 4 * position)
            yield Oid(self._raw(position)), crc, self.offset(position)

    def offset(self, position: int) -> int:
        """Where in the pack the entry at a position of the index begins."""
        (offset,) = struct.unpack_from(">L", self._map, self._offsets_at + 4 * position)
        if offset & 0x80000000:
            (offset,) = struct.unpack_from(">Q", self._map, self._large_at + 8 * (offset & 0x7FFFFFFF))
        return int(offset)

    def _raw(self, position: int) -> bytes:
        at = _OIDS_AT + position * self._size
        return self._map[at : at + self._size]


def consolidate(objects_dir: Path, packs: Iterable[Path], object_format: ObjectFormat) -> Path | None:
    """Join small packs that this process wrote into one, then delete them; give the new pack, None if not needed.

    Entries are copied as they are. Meant for the packs of one session: between two whole objects of one pack git
    looks for no delta when it repacks (git: builtin/pack-objects.c, try_delta), so versions of one file must not be
    joined this way. Packs that are gone, kept (`.keep`), large or hold deltas stay out of it.
    """
    joined: list[Path] = []
    with PackWriter(objects_dir, object_format) as writer:
        sources = [path for path in dict.fromkeys(packs) if _is_joinable(path)]
        if len(sources) < 2:
            return None
        for path in sources:
            with suppress(FileNotFoundError):
                if writer.copy_pack(path):
                    joined.append(path)
        result = writer.finish() if len(joined) > 1 else None
    if result is not None:
        for path in joined:
            if path != result:
                path.with_suffix(".idx").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
    return result


def _is_joinable(path: Path) -> bool:
    try:
        return path.stat().st_size <= JOINED_PACK_LIMIT and not path.with_suffix(".keep").exists()
    except FileNotFoundError:
        return False


def release_keep(pack: Path, keep: bytes) -> None:
    """Remove the `.keep` file of a pack if it has this text; git may repack it from now on."""
    place = pack.with_suffix(".keep")
    with suppress(FileNotFoundError):
        if place.read_bytes() == keep:
            place.unlink()


def read_unfinished(path: Path) -> Iterator[tuple[Kind, bytes]]:
    """The objects in a pack that was never finished, in order, up to the first that is not whole."""
    with path.open("rb") as file:
        file.seek(_HEADER_SIZE)
        data = b""
        while True:
            entry = _whole_entry(data)
            if entry is not None:
                kind, content, length = entry
                data = data[length:]
                yield kind, content
                continue
            more = file.read(1 << 21)
            if not more:
                return
            data += more


def _whole_entry(data: bytes) -> tuple[Kind, bytes, int] | None:
    """Kind, content and length of the entry that `data` begins with; None if there is no whole one."""
    at = 0
    while at < len(data) and data[at] & 0x80:
        at += 1
    if at >= len(data):
        return None
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data[at + 1 :])
    except zlib.error:
        return None
    kind = _KINDS.get(data[0] >> 4 & 7)
    if not inflater.eof or kind is None:
        return None
    return kind, content, len(data) - len(inflater.unused_data)


class _NewFile:
    """A file under a temporary name, gone unless it is renamed. The file is made once there is more than a little."""

    def __init__(self, directory: Path, prefix: str, name: str | None = None) -> None:
        self._path = directory / (name or f"{prefix}{os.urandom(8).hex()}")
        self._directory = directory
        self._locks = name is not None
        self._held = bytearray()
        self._descriptor: int | None = None
        self._size = 0
        self._written_back = 0
        self._writeback: threading.Thread | None = None

    def __len__(self) -> int:
        return self._size + len(self._held)

    def write(self, data: bytes | memoryview) -> None:
        if len(self._held) + len(data) <= _IN_MEMORY:
            self._held += data
            return
        self.spill()
        self._write_all(data)

    def write_at(self, offset: int, data: bytes) -> None:
        if offset < self._size:
            os.pwrite(self._fd, data, offset)
        else:
            self._held[offset - self._size : offset - self._size + len(data)] = data

    def read(self, offset: int, length: int) -> bytes:
        """What stands from `offset` on: `length` bytes, or what there is."""
        parts = []
        while length and offset < self._size and (part := os.pread(self._fd, min(length, self._size - offset), offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        if length:
            parts.append(bytes(memoryview(self._held)[offset - self._size : offset - self._size + length]))
        return b"".join(parts)

    def duplicate(self) -> int | None:
        """Another descriptor of the file, which shares its lock; None if there is no file yet."""
        return None if self._descriptor is None else os.dup(self._descriptor)

    def truncate(self, size: int) -> None:
        if self._size <= size <= len(self):
            del self._held[size - self._size :]
            return
        if size < self._size:
            self._held.clear()
        self.spill()
        os.ftruncate(self._fd, size)
        self._size = size

    def start_sync(self) -> None:
        """Set the disk to work on all that was written, if it is much."""
        if self._size > _WRITEBACK:
            self.spill()
            self._start_writeback()

    def sync(self) -> None:
        self.spill()
        self._end_writeback()
        os.fsync(self._fd)

    def rename(self, target: Path) -> None:
        self.spill()
        self._path.rename(target)
        self._close()

    def discard(self) -> None:
        """Close, and remove the file unless it was renamed."""
        self._held.clear()
        if self._descriptor is not None:
            self._close()
            self._path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close, and leave the file where it is."""
        self._held.clear()
        if self._descriptor is not None:
            self._close()

    @property
    def _fd(self) -> int:
        assert self._descriptor is not None, "the file is closed"
        return self._descriptor

    def spill(self) -> None:
        """Write what was only collected."""
        if self._descriptor is None:
            # Created read-only as git does; the umask (which core.sharedRepository users set) decides for whom.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                self._descriptor = os.open(self._path, flags, 0o444)
            except FileNotFoundError:
                self._directory.mkdir(exist_ok=True)
                self._descriptor = os.open(self._path, flags, 0o444)
            if self._locks:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if self._held:
            self._write_all(self._held)
            self._held.clear()

    def _write_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            done = 0
            try:
                while done < len(view):
                    done += os.pwrite(self._fd, view[done:], self._size + done)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(self._fd, self._size)
                raise
        self._size += len(data)
        if self._size - self._written_back >= _WRITEBACK:
            self._start_writeback()

    def _start_writeback(self) -> None:
        if self._writeback is None or not self._writeback.is_alive():
            self._written_back = self._size
            self._writeback = threading.Thread(target=_sync_data, args=(os.dup(self._fd),), name="writeback")
            self._writeback.start()

    def _end_writeback(self) -> None:
        if self._writeback is not None:
            self._writeback.join()
            self._writeback = None

    def _close(self) -> None:
        self._end_writeback()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _sync_data(descriptor: int) -> None:
    """Bring what was written to the disk and close `descriptor`; whether it worked, the sync at the end says."""
    try:
        with suppress(OSError):
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _publish(
    file: _NewFile, directory: Path, object_format: ObjectFormat, placed: dict[Oid, _Placed], keep: bytes | None
) -> Path:
    file.write_at(0, _pack_header(len(placed)))
    file.start_sync()
    digest = hashlib.new(object_format.value, usedforsecurity=False)
    offset = 0
    while block := file.read(offset, 1 << 20):
        digest.update(block)
        offset += len(block)
    trailer = digest.digest()
    file.write(trailer)
    pack = directory / f"pack-{trailer.hex()}.pack"
    index = pack.with_suffix(".idx")
    if keep is not None:
        _write_keep(pack.with_suffix(".keep"), keep)
    if pack.exists() and index.exists():
        os.utime(pack)  # as git does: a fresh time protects it from an expiring prune
        _sync_directory(directory)
        return pack
    file.sync()
    index_file = _NewFile(directory, "tmp_idx_")
    try:
        index_file.write(_format_index(object_format, placed, trailer))
        index_file.sync()
        file.rename(pack)
        index_file.rename(index)
    except FileNotFoundError:
        raise GitmlError("the unfinished pack was deleted", hint="do not prune while adding; try again") from None
    finally:
        index_file.discard()
    _sync_directory(directory)
    return pack


def _write_keep(path: Path, text: bytes) -> None:
    """Make a `.keep` file, unless there is one: whoever wrote that keeps the pack for longer."""
    with suppress(FileExistsError), path.open("xb") as file:
        file.write(text)


def _pack_header(count: int) -> bytes:
    return b"PACK" + struct.pack(">LL", 2, count)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _format_index(object_format: ObjectFormat, placed: dict[Oid, _Placed], trailer: bytes) -> bytes:
    ordered = sorted(placed.items())
    counts = [0] * 256
    for oid, _ in ordered:
        counts[oid[0]] += 1
    fanout, total = [], 0
    for count in counts:
        total += count
        fanout.append(total)
    offsets: list[int] = []
    large: list[int] = []
    for _, entry in ordered:
        if entry.offset < 0x80000000:
            offsets.append(entry.offset)
        else:
            offsets.append(0x80000000 | len(large))
            large.append(entry.offset)
    body = b"".join(
        [
            _INDEX_MAGIC,
            struct.pack(">256L", *fanout),
            *(oid for oid, _ in ordered),
            struct.pack(f">{len(ordered)}L", *(entry.crc for _, entry in ordered)),
            struct.pack(f">{len(offsets)}L", *offsets),
            struct.pack(f">{len(large)}Q", *large),
            trailer,
        ]
    )
    return body + hashlib.new(object_format.value, body, usedforsecurity=False).digest()


def _isal() -> ModuleType:
    # 30 ms that whoever only reads need not pay
    from isal import isal_zlib  # noqa: PLC0415

    return isal_zlib


def _entry_header(kind: Kind, size: int) -> bytes:
    byte = _TYPES[kind] << 4 | size & 0x0F
    size >>= 4
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    header.append(byte)
    return bytes(header)


def _parse_entry(entry: bytes) -> tuple[Kind, bytes]:
    at = 0
    while entry[at] & 0x80:
        at += 1
    return _KINDS[entry[0] >> 4 & 7], zlib.decompress(entry[at + 1 :])


def _deflated(data: bytes | bytearray | memoryview) -> list[bytes | memoryview]:
    if len(data) >= _PROBED_FROM and not _shrinks(data):
        return list(_stored([data]))
    deflated = _isal().compress(data, 1)
    return [deflated] if len(deflated) < len(data) or len(data) < 64 else list(_stored([data]))


def _deflated_stream(pieces: Iterator[bytes]) -> Iterator[bytes | memoryview]:
    first = next(pieces, b"")
    if len(first) >= _PROBED_FROM and not _shrinks(first):
        yield from _stored(_chain(first, pieces))
        return
    deflater = _isal().compressobj(1)
    for piece in _chain(first, pieces):
        if part := deflater.compress(piece):
            yield part
    yield deflater.flush()


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _shrinks(data: bytes | bytearray | memoryview) -> bool:
    """Whether deflating is worth its time, and inflating at every checkout: four samples lose a tenth.

    Weights in float32 lose 7 %, at a fifth of the speed.
    """
    step = max((len(data) - _PROBE) // 3, 1)
    sample = b"".join(bytes(data[at : at + _PROBE]) for at in range(0, len(data) - _PROBE + 1, step))
    return len(_isal().compress(sample, 1)) < 0.9 * len(sample)


def _stored(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes | memoryview]:
    """A zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4)."""
    yield b"\x78\x01"
    checksum = 1
    for piece in pieces:
        checksum = _isal().adler32(piece, checksum)
        view = memoryview(piece)
        for at in range(0, len(view), 0xFFFF):
            block = view[at : at + 0xFFFF]
            yield struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF)
            yield block
    yield b"\x01\x00\x00\xff\xff" + struct.pack(">L", checksum)


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
