"""Packs written directly, never loose objects.

A pack is `PACK`, version 2, a count, the entries (a header of type and size, then zlib data) and a digest of all before
(git: Documentation/gitformat-pack). Entries are whole objects, never deltas: git itself finds deltas when it repacks or
pushes.

Order on disk: pack and index under `tmp_` names, both synced, the pack renamed, then the index, then the directory
synced. Git sees a pack once its index is there, and `git prune` knows `tmp_` names as garbage of a killed process.
A pack that takes objects for longer may have a name of its own instead, under which neither git nor `git prune` sees
it. Its file is locked while its writer lives; what `hand_over` has given to the operating system can be read back
with `read_unfinished` after a kill, or after `finish` failed on a full disk.
A pack that no ref reaches yet is published with a `.keep` file, which comes before the index: between both moments
`git gc --prune=now` would take it for garbage.
"""

import hashlib
import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from gitml.errors import GitmlError
from gitml.git.deflate import deflated, deflated_stream, isal
from gitml.git.newfile import NewFile, sync_directory
from gitml.git.packdigest import HEADER_SIZE, PackDigest, pack_header
from gitml.git.packindex import PackIndex, format_index
from gitml.git.packreader import LARGEST, parse_entry, parse_header
from gitml.oid import ObjectFormat, Oid
from gitml.store.odb import Kind, MissingObjectError, ObjectReader, Prepared

JOINED_PACK_LIMIT = 256 << 20
"""Packs larger than this many bytes are not copied by `consolidate`."""

_TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_KINDS = {number: kind for kind, number in _TYPES.items()}


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


_SMALL = 64 << 20
"""Bytes that a pack takes time for to make them small: who adds few files hardly notices, who adds many does."""


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
        self._file: NewFile | None = None
        self._end = HEADER_SIZE
        self._closed = False
        self._foreseen: PackDigest | None = None
        self._small = 0
        """Bytes that were deflated to take little room."""

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

    def holds_plain(self, oid: Oid, size: int) -> bool:
        """Whether this very pack has the object of `size` bytes, and as it is: reading it back costs little."""
        placed = self._placed.get(oid)
        return placed is not None and placed.length > size

    @property
    def foreseen(self) -> int | None:
        """How many objects the pack is expected to have in the end; None if nothing is known, or it was wrong."""
        return None if self._foreseen is None else self._foreseen.count

    def foresee(self, more: int) -> None:
        """Say that the pack will be finished after `more` objects: its digest is computed from now on, beside them.

        If it is not so, the digest is computed in `finish`, as it is without this.
        """
        with self._lock:
            self._forget_digest()
            if self._file is not None:
                self._foreseen = PackDigest(len(self._placed) + more, self.format)
                self._foreseen.begin(self._file)

    def write(self, kind: Kind, data: bytes | bytearray | memoryview) -> Oid:
        """Store an object unless it is known or already in this pack, and give its name."""
        oid, store = self.prepare(kind, data)
        store()
        return oid

    def prepare(
        self, kind: Kind, data: bytes | bytearray | memoryview, *, noisy: bool = False, small: bool = False
    ) -> Prepared:
        """Hash and deflate an object; what is given stores it as `write` does. `data` must not change in between.

        `noisy` and `small` are as in `deflated`; what a pack takes after many small ones is deflated fast.
        """
        oid = self.format.oid_of(kind, data)
        crc32 = isal().crc32
        if oid in self._placed or (self._known is not None and self._known.has(oid)):
            return Prepared(oid, _nothing)
        small = small and self._small < _SMALL
        entry = [b"".join([_entry_header(kind, len(data)), *deflated(data, noisy=noisy, small=small)])]
        if small and len(entry[0]) < len(data):  # where nothing was gained no time was lost
            self._small += len(data)
        crc = crc32(entry[0], 0)

        def store() -> None:
            with self._lock:
                if oid not in self._placed:
                    self._add(oid, entry, crc)

        return Prepared(oid, store)

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
            with self._lock:
                entry = self._file.read(placed.offset, placed.length)
            return _parse_entry(entry)
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

    def take_over(self, oid: Oid, entry: bytes) -> None:
        """Add the entry of a whole object as it stands in another pack; its caller has verified it."""
        with self._lock:
            if oid not in self._placed:
                self._add(oid, [entry], isal().crc32(entry, 0))

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
                        self._add(oid, [os.pread(descriptor, end - offset, offset)], crc)
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
                digest = self._foreseen
                if digest is None or digest.count != len(self._placed):
                    self._forget_digest()
                    digest = PackDigest(len(self._placed), self.format)
                return _publish(file, self._directory, self.format, self._placed, keep, digest)
            except BaseException:
                if self._name is not None:
                    file.abandon()
                raise
            finally:
                self._forget_digest()
                file.discard()

    def abort(self) -> None:
        """Forget what was written; after `finish` this does nothing."""
        with self._lock:
            self._closed = True
            self._forget_digest()
            file, self._file = self._file, None
            if file is not None:
                file.discard()

    def _append(self, *parts: bytes | memoryview) -> None:
        if self._closed:
            raise ValueError("the pack is finished")
        if self._file is None:
            self._file = NewFile(self._directory, "tmp_pack_", self._name)
            self._file.write(pack_header(0))
        self._file.write(*parts)

    def _add(self, oid: Oid, entry: Sequence[bytes | memoryview], crc: int) -> None:
        try:
            self._append(*entry)
        except BaseException:
            self._truncate(self._end)
            raise
        self._place(oid, sum(map(len, entry)), crc)

    def _place(self, oid: Oid, length: int, crc: int) -> None:
        self._placed[oid] = _Placed(self._end, length, crc)
        self._end += length
        if self._foreseen is not None and len(self._placed) > self._foreseen.count:
            self._forget_digest()

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
        for part in deflated_stream(hashed()):
            crc = self._append_part(part, crc)
        if left != 0:
            raise ValueError(f"the content does not have the {size} bytes that were announced")
        return Oid(digest.digest()), crc

    def _append_part(self, part: bytes | memoryview, crc: int) -> int:
        self._append(part)
        self._end += len(part)
        return int(isal().crc32(part, crc))

    def _forget_digest(self) -> None:
        digest, self._foreseen = self._foreseen, None
        if digest is not None:
            digest.stop()

    def _truncate(self, end: int) -> None:
        self._forget_digest()
        self._end = end
        if self._file is not None:
            self._file.truncate(end)


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
        file.seek(HEADER_SIZE)
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


def _publish(
    file: NewFile,
    directory: Path,
    object_format: ObjectFormat,
    placed: dict[Oid, _Placed],
    keep: bytes | None,
    digest: PackDigest,
) -> Path:
    file.write_at(0, pack_header(len(placed)))
    file.start_sync()
    trailer = digest.finish(file)
    file.write(trailer)
    pack = directory / f"pack-{trailer.hex()}.pack"
    index = pack.with_suffix(".idx")
    if keep is not None:
        _write_keep(pack.with_suffix(".keep"), keep)
    if pack.exists() and index.exists():
        os.utime(pack)  # as git does: a fresh time protects it from an expiring prune
        sync_directory(directory)
        return pack
    file.sync()
    index_file = NewFile(directory, "tmp_idx_")
    try:
        index_file.write(
            format_index(object_format, {oid: (each.offset, each.crc) for oid, each in placed.items()}, trailer)
        )
        index_file.sync()
        file.rename(pack)
        index_file.rename(index)
    except FileNotFoundError:
        raise GitmlError("the unfinished pack was deleted", hint="do not prune while adding; try again") from None
    finally:
        index_file.discard()
    sync_directory(directory)
    return pack


def _write_keep(path: Path, text: bytes) -> None:
    """Make a `.keep` file, unless there is one: whoever wrote that keeps the pack for longer."""
    with suppress(FileExistsError), path.open("xb") as file:
        file.write(text)


def _nothing() -> None:
    """Store an object that is there already."""


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
    kind, size, at = parse_header(entry)
    parsed = parse_entry(memoryview(entry)) if size <= LARGEST else None
    if parsed is None:
        assert kind is not None, "a writer stores whole objects"
        return kind, zlib.decompress(memoryview(entry)[at:])
    return parsed
