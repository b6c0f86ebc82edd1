"""Where objects from a store become objects of the repository: every one hashed first, none visible before all are.

Packs are made in an object directory of their own, which sees the repository's. A `git prune` knows its name
(`tmp_objdir-`) as that of something to remove once it is old. Whole objects of some size are hashed here, in threads
and with the fast SHA-1 of this machine; whatever has to do with deltas goes through `git index-pack`.
"""

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from gitml.errors import CorruptError
from gitml.git.command import SMALL_WINDOWS, Git
from gitml.git.deflate import isal
from gitml.git.newfile import sync_directory
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.packreader import LARGEST, parse_header
from gitml.oid import ObjectFormat, Oid
from gitml.record import record
from gitml.remote.download import PartialPack
from gitml.remote.packs import StoredIndex

KEEP_MARK = b"gitml: remote "
"""How the `.keep` file of a pack begins that refs do not reach yet; the id of the process follows, for people."""

_HASHED_HERE = 32 << 20
"""Bytes of whole objects from which on they are hashed here and not by `git index-pack`."""
_WORTH = 16 << 10
"""Bytes that entries must have on average for that."""
_SPARE = 64 << 10
"""Bytes by which an entry may be longer than its object."""
_BLOCK = 1 << 20
_OFS_DELTA, _REF_DELTA = 6, 7
_LONGEST_HEADER = 64
_INDEX_PACK = ("-c", "core.bigFileThreshold=16m", "-c", "pack.indexVersion=2", "-c", "pack.threads=2", "index-pack")
"""Objects of 16 MiB and more pass through in constant memory."""


_Item = TypeVar("_Item")


@record
class Entry:
    """An object in a pack of which some is here."""

    partial: PartialPack
    oid: Oid
    start: int
    end: int


class Landing:
    """New objects on their way into `objects_dir`. A context manager that removes what was not moved in."""

    def __init__(
        self, git: Git, objects_dir: Path, object_format: ObjectFormat, *, promisor: bool, strict: bool = False
    ) -> None:
        self.format = object_format
        self.directory = objects_dir / f"tmp_objdir-ml-{os.getpid()}-{os.urandom(4).hex()}"
        self.objects_dir = objects_dir
        self.promisor = promisor
        self._strict = strict
        """Whether git looks at what is in objects too (`fetch.fsckObjects`)."""
        self._git = git
        self._kept: dict[Path, int] = {}
        """Marks of packs that were published, each with the descriptor that holds its lock."""
        self._lent: dict[str, PartialPack] = {}
        """Packs that are still where they arrived too: if we are killed, they need not come again."""

    def __enter__(self) -> Self:
        (self.directory / "pack").mkdir(parents=True)
        (self.directory / "info").mkdir()
        alternates = [os.fsencode(self.objects_dir.resolve())]
        (self.directory / "info" / "alternates").write_bytes(b"\n".join(alternates) + b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for partial in self._lent.values():
            partial.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What lets git see what has landed, and ask no promisor for the rest."""
        return {"GIT_OBJECT_DIRECTORY": str(self.directory), "GIT_NO_LAZY_FETCH": "1"}

    @cached_property
    def index(self) -> ObjectIndex:
        """What is here or has landed."""
        return ObjectIndex(self.directory, self.format)

    def add_entries(self, entries: Sequence[Entry], found: "StoredIndexes") -> None:
        """Take objects of which the bytes are here; raise `CorruptError` for one that is not what its name says."""
        plain: list[Entry] = []
        other: list[Entry] = []
        for entry in entries:
            (plain if _is_whole(entry) else other).append(entry)
        if self._strict or sum(entry.end - entry.start for entry in plain) < _HASHED_HERE:
            plain, other = [], list(entries)
        if plain:
            self._add_plain(plain)
        if other:
            self._index_stream(other, found)
        self.index.refresh()

    def add_pack(self, partial: PartialPack, stored: StoredIndex, *, alone: bool = False) -> bool:
        """Take a pack that is here as a whole; raise `CorruptError`.

        Say whether it is known that nothing its objects refer to is outside of it; only for one that comes `alone` it
        is looked at.
        """
        connected = False
        path = self.directory / "pack" / f"pack-{partial.pack.id}.pack"
        try:
            if not self._strict and _is_plain(partial, stored):
                _verify_plain(partial, stored, self.format)
                index = path.with_suffix(".idx")
                partial.lend(path)
                index.write_bytes(stored.own_index(self.format))
                index.chmod(0o444)
            else:
                _verify_digest(partial, self.format)
                partial.lend(path)
                connected = alone and self._index(path, "--check-self-contained-and-connected").returncode == 0
                if not connected and (done := self._index(path)).returncode != 0:
                    raise CorruptError(f"pack {partial.pack.id} is damaged: {_reason(done.stderr)}")
        except CorruptError:
            partial.discard()
            path.unlink(missing_ok=True)
            raise
        self._lent[partial.pack.id] = partial
        self.index.refresh()
        return connected

    def require_blobs(self, oids: Iterable[Oid]) -> None:
        """Raise `CorruptError` unless all of these are blobs: what is none would have to be walked."""
        asked = b"".join(oid.hex().encode() + b"\n" for oid in oids)
        found = self._git.output(
            *SMALL_WINDOWS, "cat-file", "--batch-check=%(objecttype)", input=asked, env=self.environment
        )
        if not set(found.split()) <= {b"blob"}:
            raise CorruptError("an index of the store calls an object a blob that is none")

    def move_packs(self, other: "Landing", pack_ids: Iterable[str]) -> None:
        """Give packs that were taken as a whole to another landing."""
        for pack_id in pack_ids:
            other._lent[pack_id] = self._lent.pop(pack_id)
            for part in sorted((self.directory / "pack").glob(f"pack-{pack_id}.*"), key=lambda p: p.suffix == ".idx"):
                part.rename(other.directory / "pack" / part.name)
        other.index.refresh()

    def publish(self) -> None:
        """Make what has landed part of the repository, durably.

        `.keep` files protect it from a `git gc` beside us until `release`: refs reach it only later.
        """
        source, target = self.directory / "pack", self.objects_dir / "pack"
        packs = sorted(source.glob("pack-*.pack"))
        if not packs:
            return
        target.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        for pack in packs:
            pack.chmod(0o444)
            _sync(pack)
        # before it is the repository's: what arrives could be written into it by its other name
        for partial in self._lent.values():
            partial.discard()
        self._lent.clear()
        for pack in packs:
            if self.promisor:
                pack.with_suffix(".promisor").write_bytes(b"")
            keep = target / f"{pack.stem}.keep"
            if not keep.exists() and not (target / pack.name).exists():
                self._kept[keep] = _make_keep(keep)
            for part in sorted(source.glob(f"{pack.stem}.*"), key=lambda part: part.suffix == ".idx"):
                if part.suffix == ".idx":
                    _sync(part)
                part.rename(target / part.name)
        sync_directory(target)

    @property
    def keeps(self) -> Sequence[Path]:
        """The absolute names of those files."""
        return [keep.resolve() for keep in self._kept]

    def release(self) -> None:
        """Let go of what was published: refs reach it, or git did not want it."""
        for keep, descriptor in self._kept.items():
            keep.unlink(missing_ok=True)
            os.close(descriptor)
        self._kept.clear()

    def _index(self, pack: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
        return self._git.run(*_INDEX_PACK, *self._checks, *options, str(pack), check=False, env=self.environment)

    @property
    def _checks(self) -> Sequence[str]:
        return ["--fsck-objects"] if self._strict else []

    def _add_plain(self, entries: Sequence[Entry]) -> None:
        with PackWriter(self.directory, self.format) as writer:

            def take(entry: Entry) -> None:
                data = entry.partial.read(entry.start, entry.end)
                _verify_entry(data, entry.oid, entry.partial.pack.id, self.format)
                writer.take_over(entry.oid, data)

            _in_two_threads(take, entries)
            writer.finish()

    def _index_stream(self, entries: Sequence[Entry], found: "StoredIndexes") -> None:
        command = [*_INDEX_PACK, *self._checks, "--stdin", "--fix-thin"]
        with subprocess.Popen(
            self._git.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=self._git.worktree or self._git.git_dir, env=self._git.environment(self.environment),
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stderr is not None
            digest = hashlib.new(self.format.value, usedforsecurity=False)
            with suppress(BrokenPipeError):
                for part in _as_pack(entries, found):
                    digest.update(part)
                    process.stdin.write(part)
                process.stdin.write(digest.digest())
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdin = None
            said = process.stderr.read()
            if process.wait() != 0:
                raise CorruptError(f"what came from the store is damaged: {_reason(said)}")
        self.index.refresh()
        for entry in entries:
            if not self.index.has(entry.oid):
                raise CorruptError(f"pack {entry.partial.pack.id} does not hold {entry.oid} where its index says")


class StoredIndexes:
    """The index of each pack by its id."""

    def __init__(self, indexes: Iterable[StoredIndex]) -> None:
        self._by_id = {each.pack.id: each for each in indexes}

    def __getitem__(self, pack_id: str) -> StoredIndex:
        return self._by_id[pack_id]


def base_of(entry: Entry, stored: StoredIndex) -> Oid | None:
    """The object that an entry is a delta to, None for a whole object; raise `CorruptError`."""
    data = entry.partial.read(entry.start, min(entry.start + _LONGEST_HEADER, entry.end))
    try:
        _, _, at = parse_header(data)
        kind = data[0] >> 4 & 7
        if kind == _OFS_DELTA:
            distance, _ = _offset(data, at)
            return stored.at(entry.start - distance)
        if kind == _REF_DELTA:
            return Oid(data[at : at + len(entry.oid)])
    except (IndexError, ValueError):
        raise CorruptError(f"pack {stored.pack.id} is damaged at {entry.start}") from None
    return None


def _as_pack(entries: Sequence[Entry], found: StoredIndexes) -> Iterator[bytes]:
    """A pack of these entries but for its digest.

    A delta says where its base is if that is in the pack, and names it otherwise: of bases that are named, git asks a
    promisor for those it does not see in the repository (git: index-pack.c, fix_unresolved_deltas).
    """
    yield b"PACK" + struct.pack(">LL", 2, len(entries))
    at = 12
    placed: dict[Oid, int] = {}
    for entry in sorted(entries, key=lambda entry: (entry.partial.pack.id, entry.start)):
        start = entry.start
        head = b""
        base = base_of(entry, found[entry.partial.pack.id])
        if base is not None:
            head, length = _delta_header(entry, base, at - placed[base] if base in placed else None)
            start += length
            yield head
        for block in range(start, entry.end, _BLOCK):
            yield entry.partial.read(block, min(block + _BLOCK, entry.end))
        placed[entry.oid] = at
        at += len(head) + entry.end - start


def _delta_header(entry: Entry, base: Oid, distance: int | None) -> tuple[bytes, int]:
    """How a delta begins whose base is that far before it, or named; and how long its header is where it stands."""
    data = entry.partial.read(entry.start, min(entry.start + _LONGEST_HEADER, entry.end))
    _, _, at = parse_header(data)
    length = _offset(data, at)[1] if data[0] >> 4 & 7 == _OFS_DELTA else at + len(base)
    kind = _REF_DELTA if distance is None else _OFS_DELTA
    number = bytes([data[0] & 0x8F | kind << 4]) + data[1:at]
    return number + (base if distance is None else _format_offset(distance)), length


def _format_offset(distance: int) -> bytes:
    """The number that `_offset` reads."""
    digits = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        digits.append(0x80 | distance & 0x7F)
    return bytes(reversed(digits))


def _offset(data: bytes, at: int) -> tuple[int, int]:
    """How far before a delta its base begins, and where that number ends (git: gitformat-pack, OBJ_OFS_DELTA)."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = (value + 1) << 7 | data[at] & 0x7F
    return value, at + 1


def _header(entry: Entry) -> tuple[str | None, int, int]:
    try:
        return parse_header(entry.partial.read(entry.start, min(entry.start + 32, entry.end)))
    except IndexError:
        raise CorruptError(f"pack {entry.partial.pack.id} is damaged at {entry.start}") from None


def _is_plain(partial: PartialPack, stored: StoredIndex) -> bool:
    """Whether a whole pack is of some size and holds nothing but whole objects that are not very large."""
    if partial.pack.size < max(_HASHED_HERE, _WORTH * len(stored)):
        return False
    for position in range(len(stored)):
        start, end = stored.extent(position)
        if not _is_whole(Entry(partial, stored.oid(position), start, end)):
            return False
    return True


def _is_whole(entry: Entry) -> bool:
    """Whether an entry is a whole object, of a size that is read into memory."""
    kind, size, _ = _header(entry)
    return kind is not None and size <= LARGEST and entry.end - entry.start <= LARGEST + _SPARE


def _verify_plain(partial: PartialPack, stored: StoredIndex, object_format: ObjectFormat) -> None:
    """Everything `git index-pack` would check of a pack without deltas, against the index that came with it."""
    head = partial.read(0, 12)
    ends = sorted(stored.extent(position) for position in range(len(stored)))
    tiled = all(before[1] == after[0] for before, after in pairwise(ends))
    if head != b"PACK" + struct.pack(">LL", 2, len(stored)) or not tiled or (ends and ends[0][0] != 12):
        raise CorruptError(f"pack {partial.pack.id} is not what its index says")

    def check(position: int) -> None:
        start, end = stored.extent(position)
        data = partial.read(start, end)
        _verify_entry(data, stored.oid(position), partial.pack.id, object_format)
        if isal().crc32(data) != stored.crc(position):
            raise CorruptError(f"pack {partial.pack.id} has another checksum than its index at {start}")

    with ThreadPoolExecutor(2) as beside:
        # hashing needs no disk
        beside.submit(partial.sync)
        whole = beside.submit(_verify_digest, partial, object_format)
        _in_two_threads(check, sorted(range(len(stored)), key=lambda position: stored.extent(position)[0]))
        whole.result()


def _verify_entry(data: bytes, oid: Oid, pack_id: str, object_format: ObjectFormat) -> None:
    from isal import isal_zlib  # noqa: PLC0415 - what reads nothing does without the library for 30 ms

    try:
        kind, size, at = parse_header(data)
        inflater = isal_zlib.decompressobj()
        # never more than the header promised: a few bytes may hold gigabytes of zeros
        content = inflater.decompress(memoryview(data)[at:], size + 1)
        if kind is None or not inflater.eof or inflater.unused_data or len(content) != size:
            raise ValueError
    except Exception:  # IsalError is known to its stub as nothing
        raise CorruptError(f"object {oid} in pack {pack_id} is damaged") from None
    if object_format.oid_of(kind, content) != oid:
        raise CorruptError(f"object {oid} in pack {pack_id} is another")


def _verify_digest(partial: PartialPack, object_format: ObjectFormat) -> None:
    digest = hashlib.new(object_format.value, usedforsecurity=False)
    end = partial.pack.size - object_format.size
    partial.digest(digest, end)
    if digest.hexdigest() != partial.pack.id or partial.read(end, partial.pack.size) != digest.digest():
        raise CorruptError(f"pack {partial.pack.id} is damaged: its digest is {digest.hexdigest()}")


def _in_two_threads(work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
    threads = ThreadPoolExecutor(2)
    try:
        for _ in threads.map(work, items):
            pass
    finally:
        threads.shutdown(cancel_futures=True)


def _make_keep(keep: Path) -> int:
    """A `.keep` file that is locked while we live, complete when it appears; gives the descriptor with the lock."""
    new = keep.with_name(f"tmp_keep_{os.urandom(8).hex()}")  # git prune knows such names
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with suppress(OSError):  # a file system without locks: there nothing is swept away either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, KEEP_MARK + str(os.getpid()).encode() + b"\n")
    new.rename(keep)
    return descriptor


def _sweep(packs: Path) -> None:
    """Remove `.keep` files of processes that were killed; ids of processes are used again, locks are not."""
    for keep in packs.glob("*.keep"):
        with suppress(OSError), keep.open("rb") as file:
            if file.read(len(KEEP_MARK)) == KEEP_MARK:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                keep.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("fatal: ") if lines else "git index-pack failed"
