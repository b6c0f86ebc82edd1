"""From `/pfs/out` to a tree: what a task wrote becomes git objects, large content as pointers.

What git could not hold, or what would be a surprise in a repository, is an error that names the file: sockets,
devices, links that lead outside, names that git keeps for itself. Nothing outside the workspace is ever opened.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from gitml.errors import UserError
from gitml.oid import Oid
from gitml.pipeline.bubblewrap import WORKSPACE
from gitml.pipeline.workspace import Workspace
from gitml.provenance.codec import printable
from gitml.record import field, record
from gitml.store.content import SMALL, store_content
from gitml.store.odb import ChunkWriter, Kind, ObjectReader, ObjectWriter
from gitml.store.pointer import MAX_POINTER_SIZE, format_pointer, is_pointer
from gitml.store.tree import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_TREE,
    Entry,
    empty_tree,
    format_tree,
    parse_tree,
)

_PIECE = 1 << 17
_PASSING, _PASSING_STEP = 1 << 30, 1 << 22
"""Bytes from which on a file is not kept in the page cache: it would push out everything else."""

_DEEPEST = 200
_MOST_LINKS = 40
_TMP, _MOUNTS = b"/tmp", b"/mounts"
"""Stand first in a place in the private temporary directory, or in code at an absolute place: no names of files."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# Names that git itself uses, with what HFS+ and NTFS take for the same (git's is_hfs_dot_generic and
# is_ntfs_dot_generic: ignorable code points; 8.3 short names; spaces, dots or a stream after the name).
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_RESERVED = re.compile(
    r"(\.git|git~1|\.gitattributes|gitatt~[1-4]|gi7d29[a-f0-9]{0,2}~[0-9]+|"
    r"\.gitmodules|gitmod~[1-4]|gi7eba[a-f0-9]{0,2}~[0-9]+)[ .]*(:.*)?",
    re.IGNORECASE | re.DOTALL,
)


class StreamWriter(ChunkWriter, Protocol):
    """A writer that also takes an object in pieces, as `PackWriter` does."""

    def write_stream(self, kind: Kind, size: int, pieces: Iterable[bytes]) -> Oid:
        """Store an object of `size` bytes and give its name."""
        ...


class OutputError(UserError):
    """A task wrote something that cannot become a result. Carries the `path` below `/pfs/out`."""

    def __init__(self, label: str, path: bytes, what: str, *, hint: str) -> None:
        text = f"output '{printable(path)}' {what}" if path else what
        super().__init__(f"{label}: {text}" if label else text, hint=hint)
        self.path = path


class DuplicateOutputError(UserError):
    """Two datums wrote to one place. Carries the `path` below the output directory and both `labels`."""

    def __init__(self, path: bytes, labels: tuple[str, str], *, clash: bool) -> None:
        how = "is a file from one datum and a directory from another" if clash else "was written by two datums"
        super().__init__(
            f"output '{printable(path)}' {how}: {labels[0]} and {labels[1]}",
            hint="put the datum into the name: the input's own name, or $PACH_DATUM_ID",
        )
        self.path = path
        self.labels = labels


@record(kw_only=True)
class Collected:
    """What one task wrote."""

    tree: Oid
    pointers: Mapping[bytes, tuple[Oid, Oid]]
    """Path below the output directory of each content that was stored in chunks: manifest and data tree.

    Content taken over from an input by reference is not here: its chunks are where they were.
    """
    files: int
    size: int
    """Bytes of all content together."""
    plain_large: tuple[tuple[bytes, int], ...]
    """Path and size of large files stored as ordinary blobs because their path is not under gitml."""


def collect(
    workspace: Workspace, writer: StreamWriter, *, is_tracked: Callable[[bytes], bool], label: str
) -> Collected:
    """Store what is in the workspace's `/pfs/out`, and give its tree.

    `is_tracked` says whether a path below the output directory is under gitml; `label` begins messages, unless it
    is empty. Empty directories are dropped, executable bits kept, links to inputs, outputs, private temporary files and
    what lies in the directories of code replaced by what they point to. Raise `OutputError`.
    """
    collector = _Collector(workspace, writer, is_tracked, label)
    with collector.opened():
        entry = collector.directory([b"pfs", b"out"], b"", [])
    return Collected(
        tree=entry.oid if entry is not None else writer.write("tree", b""),
        pointers=collector.pointers,
        files=collector.files,
        size=collector.size,
        plain_large=tuple(collector.plain_large),
    )


def is_reserved(name: bytes) -> bool:
    """Whether git, on some file system, takes a file of this name for its own."""
    for part in name.split(b"\\"):
        text = _HFS_IGNORED.sub("", part.decode("utf-8", "surrogateescape"))
        if _RESERVED.fullmatch(text):
            return True
    return False


@record(frozen=False)
class _Collector:
    """Reads below the workspace's top, through descriptors of directories; paths are lists of names from there.

    What begins with `_TMP` or `_MOUNTS` is in a directory beside it instead.
    """

    workspace: Workspace
    writer: StreamWriter
    is_tracked: Callable[[bytes], bool]
    label: str
    pointers: dict[bytes, tuple[Oid, Oid]] = field(default_factory=dict)
    files: int = 0
    size: int = 0
    plain_large: list[tuple[bytes, int]] = field(default_factory=list)
    _top: int = -1
    _beside: dict[bytes, int] = field(default_factory=dict)
    """Descriptors of the directories beside the workspace's top."""
    _spellings: list[tuple[list[bytes], list[bytes]]] = field(default_factory=list)

    @contextmanager
    def opened(self) -> Iterator[None]:
        places = {"/pfs": [b"pfs"], WORKSPACE: []}
        seen = {self.workspace.seen_at, self.workspace.seen_at.resolve()} if self.workspace.seen_at else set()
        for work in {self.workspace.work, self.workspace.alias / "work", self.workspace.work.resolve(), *seen}:
            places[str(work)] = []
        # '/tmp' last: without a sandbox the workspace itself may be below the machine's
        beside: dict[bytes, Path] = {}
        if self.workspace.lends:
            for mount in self.workspace.mounts:
                places[mount] = [_MOUNTS, *_names(os.fsencode(mount))]
            for tmp in (self.workspace.tmp, self.workspace.alias / "tmp", Path("/tmp")):  # noqa: S108 - the private one
                places[str(tmp)] = [_TMP]
            beside = {_TMP: self.workspace.tmp}
            if self.workspace.mounts:
                beside[_MOUNTS] = self.workspace.top / "mounts"
        self._spellings = [(_names(os.fsencode(place)), below) for place, below in places.items()]
        with ExitStack() as stack:
            self._top = _held(stack, self.workspace.work)
            self._beside = {name: _held(stack, path) for name, path in beside.items()}
            yield

    def fault(self, path: bytes, what: str, hint: str) -> OutputError:
        return OutputError(self.label, path, what, hint=hint)

    def directory(self, place: list[bytes], path: bytes, above: list[tuple[int, int]]) -> Entry | None:
        """The tree of the directory at `place`, to stand at `path`; None if there is no file in it.

        `above` are the directories being read, by device and inode: one that holds itself would never end.
        """
        if len(above) > _DEEPEST:
            raise self.fault(path, f"is nested deeper than {_DEEPEST} directories", "write a flatter directory")
        with self._open(place, path, os.O_DIRECTORY) as descriptor:
            seen = os.fstat(descriptor)
            here = (seen.st_dev, seen.st_ino)
            if here in above:
                raise self.fault(path, "is a link to a directory that holds it", "write files, not links")
            try:
                with os.scandir(descriptor) as found:
                    names = sorted((os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in found)
            except FileNotFoundError:
                raise self.fault(path, "changed while it was read", _STILL_RUNNING) from None
        entries: list[tuple[bytes, Entry]] = []
        for name, status in names:
            below = path + b"/" + name if path else name
            entry = self._entry([*place, name], below, status, [*above, here])
            if entry is not None:
                entries.append((name, entry))
        return Entry(MODE_TREE, self.writer.write("tree", format_tree(entries))) if entries else None

    def _entry(
        self, place: list[bytes], path: bytes, status: os.stat_result, above: list[tuple[int, int]]
    ) -> Entry | None:
        if is_reserved(path.rpartition(b"/")[2]):
            raise self.fault(path, "has a name that git keeps for itself", "write it under another name")
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            return self._link(place, path, above)
        if kind == stat.S_IFDIR:
            return self.directory(place, path, above)
        if kind == stat.S_IFREG:
            return self._file(place, path)
        what = _KINDS.get(kind, "of an unknown kind")
        raise self.fault(path, f"is {what}", "only files and directories can be results; remove it before the end")

    def _link(self, place: list[bytes], path: bytes, above: list[tuple[int, int]]) -> Entry | None:
        target, status = self._follow(place, path)
        if stat.S_ISDIR(status.st_mode):
            return self.directory(target, path, above)
        if _is_input(target) and self.workspace.withheld(b"/".join(target[1:])) is None:
            entry = self._reference(target, path, status.st_size)
            if entry is not None:
                self.files += 1
                self.size += status.st_size
                return entry
        if not stat.S_ISREG(status.st_mode):
            raise self.fault(path, "is a link to something that is no file", "link only to files and directories")
        return self._file(target, path)

    def _reference(self, place: list[bytes], path: bytes, size: int) -> Entry | None:
        """The input's own entry, if the file is untouched and git would store it the same way at `path`."""
        found = self.workspace.untouched(b"/".join(place[1:]))
        if found is None:
            return None
        entry, by_pointer = found
        return entry if by_pointer == (size >= SMALL and self.is_tracked(path)) else None

    def _follow(self, place: list[bytes], path: bytes) -> tuple[list[bytes], os.stat_result]:
        """Where a link leads in the end: in an input, in the output, in the temporary directory or among code."""
        text = b""

        def outside(what: str) -> OutputError:
            return self.fault(
                path,
                f"is a link to '{printable(text)}', {what}",
                "copy the file, or link to /pfs/<input>, /pfs/out, /tmp or 'code'",
            )

        at, pending = place[:-1], [place[-1]]
        links = 0
        while True:
            name = pending.pop(0)
            if name == b"..":
                if self._is_top(at):
                    raise outside("which is outside the workspace")
                at = at[:-1]
                status = None
            else:
                status = self._status(at, name)
                if status is None:
                    raise outside("which does not exist or cannot be read")
                if stat.S_ISLNK(status.st_mode):
                    links += 1
                    if links > _MOST_LINKS:
                        raise outside("which leads round in a circle")
                    target = self._read_link(at, name)
                    text = text or target
                    names = _names(target)
                    if target.startswith(b"/"):
                        inside = self._strip(names)
                        if inside is None:
                            raise outside("which is outside the workspace")
                        start = 1 if inside and inside[0] in self._beside else 0
                        at, names = inside[:start], inside[start:]
                    pending = names + pending
                else:
                    at = [*at, name]
            if not pending:
                break
        if self._is_top(at) or at == [b"pfs"] or not (at[0] == b"pfs" or self.workspace.lends):
            raise outside("which is neither an input nor an output")
        found = self._status(at[:-1], at[-1])
        assert found is not None
        return at, found

    def _is_top(self, place: Sequence[bytes]) -> bool:
        """Whether a place is one of the directories that everything else is below."""
        return not place or (len(place) == 1 and place[0] in self._beside)

    def _strip(self, names: list[bytes]) -> list[bytes] | None:
        """The names below the top of the workspace for an absolute path, None if it is elsewhere."""
        for prefix, below in self._spellings:
            if names[: len(prefix)] == prefix:
                return below + names[len(prefix) :]
        return None

    def _status(self, place: list[bytes], name: bytes) -> os.stat_result | None:
        try:
            with self._descend(place) as descriptor:
                return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            return None

    def _read_link(self, place: list[bytes], name: bytes) -> bytes:
        with self._descend(place) as descriptor:
            return os.readlink(name, dir_fd=descriptor)

    @contextmanager
    def _descend(self, place: Sequence[bytes]) -> Iterator[int]:
        """A descriptor of the directory at `place`, reached without following a link."""
        beside = self._beside.get(place[0]) if place else None
        descriptor = os.dup(self._top if beside is None else beside)
        try:
            for name in place if beside is None else place[1:]:
                inner = os.open(name, _READ | os.O_DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _open(self, place: list[bytes], path: bytes, flags: int) -> Iterator[int]:
        """A descriptor for what is at `place`; raise `OutputError` if it cannot be read."""
        try:
            with self._descend(place[:-1]) as parent:
                descriptor = os.open(place[-1], _READ | os.O_NONBLOCK | flags, dir_fd=parent)
        except FileNotFoundError:
            if not path:
                raise self.fault(b"", "'/pfs/out' is gone", "write into the directory, do not remove it") from None
            raise self.fault(path, "disappeared while it was read", _STILL_RUNNING) from None
        except OSError as error:
            if not path:
                raise self.fault(b"", f"'/pfs/out' cannot be read: {error.strerror}", "leave it a directory") from None
            hint = "make it readable before the command ends"
            raise self.fault(path, f"cannot be read: {error.strerror}", hint) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _whole(self, place: list[bytes], path: bytes) -> Entry | None:
        """The entry for an input file that a task was not given the bytes of, None if it is another kind of file."""
        entry = self.workspace.withheld(b"/".join(place[1:])) if _is_input(place) else None
        if entry is None:
            return None
        with self.workspace.content(entry) as found:
            self.files += 1
            self.size += found.size
            in_chunks = found.size >= SMALL and self.is_tracked(path)
            if found.is_pointer == in_chunks:
                return entry
            if in_chunks:
                stored = store_content(found.pieces, self.writer, size=found.size)
                self.pointers[path] = (stored.pointer.manifest, stored.data_tree)
                return Entry(entry.mode, self.writer.write("blob", format_pointer(stored.pointer)))
            if found.size >= SMALL:
                self.plain_large.append((path, found.size))
            return Entry(entry.mode, self.writer.write_stream("blob", found.size, found.pieces))

    def _file(self, place: list[bytes], path: bytes) -> Entry:
        whole = self._whole(place, path)
        if whole is not None:
            return whole
        with self._open(place, path, 0) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self.fault(path, "changed while it was read", _STILL_RUNNING)
            mode = MODE_EXECUTABLE if status.st_mode & stat.S_IXUSR else MODE_FILE
            oid = self._store(descriptor, path, status.st_size)
            after = os.fstat(descriptor)
            if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise self.fault(path, "changed while it was read", _STILL_RUNNING)
        self.files += 1
        self.size += status.st_size
        return Entry(mode, oid)

    def _store(self, descriptor: int, path: bytes, size: int) -> Oid:
        pieces = self._pieces(descriptor, path, size)
        if size < SMALL:
            data = b"".join(pieces)
            if size <= MAX_POINTER_SIZE and is_pointer(data):
                hint = "write the content itself: gitml makes the pointer"
                raise self.fault(path, "is the text of a gitml pointer", hint)
            return self.writer.write("blob", data)
        if not self.is_tracked(path):
            self.plain_large.append((path, size))
            return self.writer.write_stream("blob", size, pieces)
        stored = store_content(pieces, self.writer, size=size)
        self.pointers[path] = (stored.pointer.manifest, stored.data_tree)
        return self.writer.write("blob", format_pointer(stored.pointer))

    def _pieces(self, descriptor: int, path: bytes, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes; raise `OutputError` if the file has fewer or cannot be read."""
        left = size
        while left:
            try:
                piece = os.read(descriptor, min(left, _PIECE))
            except OSError as error:
                raise self.fault(path, f"cannot be read: {error.strerror}", "check the disk") from None
            if not piece:
                raise self.fault(path, "changed while it was read", _STILL_RUNNING)
            left -= len(piece)
            if size >= _PASSING and left % _PASSING_STEP < len(piece) and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, size - left, os.POSIX_FADV_DONTNEED)
            yield piece


_STILL_RUNNING = "let the command wait for everything that it starts"


def _held(stack: ExitStack, directory: Path) -> int:
    """A descriptor of a directory, closed with `stack`."""
    descriptor = os.open(directory, _READ | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


def _is_input(place: Sequence[bytes]) -> bool:
    return place[0] == b"pfs" and place[1] != b"out"


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in {b"", b"."}]


def merge_outputs(trees: Sequence[tuple[str, Oid]], reader: ObjectReader, writer: ObjectWriter) -> Oid:
    """The union of the outputs of datums, each a label for messages and a tree.

    Only directories that several datums wrote to are read. Raise `DuplicateOutputError` if two of them wrote the
    same path, with equal content too, or one a file where another has a directory.
    """
    empty = empty_tree(reader.format)
    filled = [(label, tree) for label, tree in trees if tree != empty]
    return _merge(filled, b"", reader, writer) if filled else writer.write("tree", b"")


def _merge(trees: Sequence[tuple[str, Oid]], path: bytes, reader: ObjectReader, writer: ObjectWriter) -> Oid:
    if len(trees) == 1:
        return trees[0][1]
    found: dict[bytes, list[tuple[str, Entry]]] = {}
    for label, tree in trees:
        for name, entry in parse_tree(reader.read(tree)[1], reader.format.size):
            found.setdefault(name, []).append((label, entry))
    entries: list[tuple[bytes, Entry]] = []
    for name, sides in found.items():
        label, entry = sides[0]
        if len(sides) > 1:
            below = path + b"/" + name if path else name
            for other, theirs in sides[1:]:
                if not (entry.is_tree and theirs.is_tree):
                    raise DuplicateOutputError(below, (label, other), clash=entry.is_tree != theirs.is_tree)
            entry = Entry(MODE_TREE, _merge([(who, side.oid) for who, side in sides], below, reader, writer))
        entries.append((name, entry))
    return writer.write("tree", format_tree(entries))
