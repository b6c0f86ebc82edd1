"""Stat data of git's index, set in place: whoever knows that a file holds what its entry says writes that down.

`git update-index --refresh` finds out by reading, and cleaning, the whole content again. Here only the stat fields of
the entries in question change, and the checksum at the end; every other byte of the index, extensions included, stays
as it is (git: Documentation/gitformat-index). It is written through `index.lock` and renamed, as git does.

A file that changed within the second in which it was looked at may keep its time and size. Git therefore compares the
content of every entry that is not older than the index file ("racily clean", git: Documentation/technical/racy-git).
Writing the index anew must not make such entries look old: they are compared here, and those that cannot be told to be
clean lose their size, the sign for git to compare them. The new index carries the moment at which the lock was taken,
before any file was looked at.
"""

import hashlib
import os
import stat
import struct
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gitml.errors import GitmlError
from gitml.git.indexlock import IndexLock
from gitml.git.repository import Repository
from gitml.oid import ObjectFormat, Oid

_HEADER = struct.Struct(">4sLL")
_STAT = struct.Struct(">10L")
_MODE_AT = 24
_SIZE_AT = 36
_EXTENDED = 0x4000
_STAGE = 0x3000
_NAME_LENGTH = 0x0FFF
_SKIP_WORKTREE = 0x4000
_INTENT_TO_ADD = 0x2000
_COMPARED = 16 << 20
"""Bytes up to which a racily clean file is compared here; git compares larger ones when it next looks."""


class UnsupportedIndexError(GitmlError):
    """An index that only git itself can change: split, of an unknown version, or damaged."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the index cannot be changed in place: {why}")


class Clean(NamedTuple):
    """The blob that a file holds, and the state of the file (not of what a link leads to) when that was known."""

    oid: Oid
    state: os.stat_result


class IndexEntry(NamedTuple):
    """One entry: its path, where it stands in the index file, mode, oid, stage of a conflict (0: none), flags."""

    path: bytes
    offset: int
    mode: int
    oid: Oid
    stage: int
    skipped: bool
    intended: bool


class Index:
    """The entries of one index file, in order. Raise `UnsupportedIndexError` while reading."""

    def __init__(self, data: bytes | bytearray, object_format: ObjectFormat) -> None:
        self._data = data
        self.format = object_format
        if len(data) < _HEADER.size + object_format.size:
            raise UnsupportedIndexError("it is too short")
        magic, self._version, self._count = _HEADER.unpack_from(data)
        if magic != b"DIRC" or self._version not in (2, 3, 4):
            raise UnsupportedIndexError(f"version {self._version} is not known")
        self._check_trailer()

    def __len__(self) -> int:
        return int(self._count)

    def __iter__(self) -> Iterator[IndexEntry]:
        try:
            end = yield from self._entries()
        except IndexError:
            raise UnsupportedIndexError("an entry is cut short") from None
        self._check_extensions(end)

    @property
    def is_hashed(self) -> bool:
        """Whether the index ends in its checksum, not in zeros (`index.skipHash`)."""
        return any(self._data[-self.format.size :])

    def size(self, entry: IndexEntry) -> int:
        """Bytes that the index believes the file of one of its entries to have (modulo 2**32)."""
        return int.from_bytes(self._data[entry.offset + _SIZE_AT : entry.offset + _SIZE_AT + 4])

    def _entries(self) -> Generator[IndexEntry, None, int]:
        data, size, compressed = self._data, self.format.size, self._version == 4
        at, path = _HEADER.size, b""
        for _ in range(self._count):
            flags_at = at + _STAT.size + size
            name_at = flags_at + 2
            flags = data[flags_at] << 8 | data[flags_at + 1]
            more = 0
            if flags & _EXTENDED:
                more = data[name_at] << 8 | data[name_at + 1]
                name_at += 2
            if compressed:
                dropped, name_at = _varint(data, name_at)
                end = data.find(b"\0", name_at)
                path = path[: len(path) - dropped] + bytes(data[name_at:end])
                following = end + 1
            else:
                length = flags & _NAME_LENGTH
                end = name_at + length if length < _NAME_LENGTH else data.find(b"\0", name_at + length)
                path = bytes(data[name_at:end])
                following = at + (end - at + 8 & ~7)
            if end < name_at or data[end]:
                raise UnsupportedIndexError("an entry has no end")
            mode = data[at + _MODE_AT + 2] << 8 | data[at + _MODE_AT + 3]
            yield IndexEntry(
                path,
                at,
                mode,
                Oid(bytes(data[at + _STAT.size : flags_at])),
                (flags & _STAGE) >> 12,
                bool(more & _SKIP_WORKTREE),
                bool(more & _INTENT_TO_ADD),
            )
            at = following
        return at

    def _check_trailer(self) -> None:
        """A damaged index must not get a good checksum."""
        size = self.format.size
        if self.is_hashed and _digest(self._data, self.format) != self._data[-size:]:
            raise UnsupportedIndexError("its checksum is wrong")

    def _check_extensions(self, at: int) -> None:
        end = len(self._data) - self.format.size
        while at + 8 <= end:
            name = bytes(self._data[at : at + 4])
            if name == b"link":
                raise UnsupportedIndexError("it is split")
            # an upper-case letter says: whoever does not know it may leave it alone; sparse directories are trees
            if not name[:1].isupper() and name != b"sdir":
                raise UnsupportedIndexError(f"extension '{name.decode('ascii', 'backslashreplace')}' is not known")
            at += 8 + int.from_bytes(self._data[at + 4 : at + 8])
        if at != end:
            raise UnsupportedIndexError("it is cut short")


def record_clean(repo: Repository, files: Mapping[bytes, Clean]) -> set[bytes]:
    """Let the index say that these files are unmodified; give the paths for which it does.

    Left out are files that changed since, paths whose entry has another blob or is in conflict or only intended, and
    what is no regular file. Raise `BusyError`, with nothing changed, if the index is locked, and
    `UnsupportedIndexError` if git has to do it: `git update-index --refresh`.
    """
    return _rewrite(repo, files, {})


def compare_again(repo: Repository, blobs: Mapping[bytes, Oid]) -> set[bytes]:
    """Let git compare the content of these files when it next looks at them; give the paths for which it will.

    Without it git takes a file of another size for modified without asking the filter (git: read-cache.c,
    ie_modified). Left out are paths whose entry has another blob than the given one. Raise as `record_clean`.
    """
    return _rewrite(repo, {}, blobs)


def _rewrite(repo: Repository, clean: Mapping[bytes, Clean], unsure: Mapping[bytes, Oid]) -> set[bytes]:
    if repo.worktree is None or not (clean or unsure):
        return set()
    path = Path(os.path.realpath(repo.git_dir / "index"))
    lock = IndexLock(path)
    try:
        try:
            with path.open("rb") as file:
                data, before = bytearray(file.read()), os.fstat(file.fileno())
        except FileNotFoundError:
            return set()
        written = int(before.st_mtime_ns // 10**9)
        done = _patch(data, Index(data, repo.format), repo.worktree, written, clean, unsure)
        if done:
            lock.commit(data, stat.S_IMODE(before.st_mode))
        return done
    finally:
        lock.release()


def _patch(
    data: bytearray,
    index: Index,
    worktree: Path,
    written: int,
    known: Mapping[bytes, Clean],
    unsure: Mapping[bytes, Oid],
) -> set[bytes]:
    """Set stat data in `data`, the content of an index that was written in the second `written`; give the paths."""
    done: set[bytes] = set()
    racy: list[IndexEntry] = []
    for entry in index:
        if entry.stage or entry.intended:
            continue
        clean = known.get(entry.path)
        if clean is not None and clean.oid == entry.oid and _is_still(worktree, entry, clean.state):
            _set_stat(data, entry, clean.state)
            done.add(entry.path)
        elif unsure.get(entry.path) == entry.oid:
            _forget_size(data, entry)
            done.add(entry.path)
        elif int.from_bytes(data[entry.offset + 8 : entry.offset + 12]) >= written:
            racy.append(entry)
    if done:
        for entry in racy:
            if _may_be_modified(data, entry, worktree, index.format):
                _forget_size(data, entry)
        if index.is_hashed:
            data[-index.format.size :] = _digest(data, index.format)
    return done


def _is_still(worktree: Path, entry: IndexEntry, state: os.stat_result) -> bool:
    if not stat.S_ISREG(entry.mode) or not stat.S_ISREG(state.st_mode):
        return False
    try:
        now = (worktree / os.fsdecode(entry.path)).lstat()
    except OSError:
        return False
    return all(
        getattr(now, name) == getattr(state, name)
        for name in ("st_mode", "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    )


def _set_stat(data: bytearray, entry: IndexEntry, state: os.stat_result) -> None:
    values = (
        *divmod(state.st_ctime_ns, 10**9),
        *divmod(state.st_mtime_ns, 10**9),
        state.st_dev,
        state.st_ino,
        entry.mode,
        state.st_uid,
        state.st_gid,
        state.st_size,  # of a multiple of 4 GiB zero is left: some versions of git want that, to others it says compare
    )
    _STAT.pack_into(data, entry.offset, *(value & 0xFFFFFFFF for value in values))


def _forget_size(data: bytearray, entry: IndexEntry) -> None:
    data[entry.offset + _SIZE_AT : entry.offset + _SIZE_AT + 4] = bytes(4)


def _may_be_modified(data: bytearray, entry: IndexEntry, worktree: Path, object_format: ObjectFormat) -> bool:
    """Whether a racily clean entry could stand for a file that differs from it, and git could not tell any more."""
    recorded = _STAT.unpack_from(data, entry.offset)
    if recorded[9] == 0 or stat.S_IFMT(entry.mode) not in (stat.S_IFREG, stat.S_IFLNK):
        return False
    place = worktree / os.fsdecode(entry.path)
    try:
        now = place.lstat()
        if (now.st_mtime_ns // 10**9 & 0xFFFFFFFF, now.st_size & 0xFFFFFFFF) != (recorded[2], recorded[9]):
            return False  # git sees that it differs
        if now.st_size > _COMPARED:
            return True
        content = os.fsencode(place.readlink()) if stat.S_ISLNK(now.st_mode) else place.read_bytes()
    except OSError:
        return True
    return object_format.oid_of("blob", content) != entry.oid


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A number in git's offset encoding (git: varint.c), and where it ends."""
    byte = data[at]
    value = byte & 127
    while byte & 128:
        at += 1
        byte = data[at]
        value = (value + 1 << 7) + (byte & 127)
    return value, at + 1


def _digest(data: bytes | bytearray, object_format: ObjectFormat) -> bytes:
    return hashlib.new(object_format.value, memoryview(data)[: -object_format.size], usedforsecurity=False).digest()
