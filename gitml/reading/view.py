"""One tree of one repository as directories and files, as a checkout would show it, without one.

Symbolic links are followed inside the tree; pointers show the size of their content. Hides how paths are resolved and
what kind of stream a file gets.
"""

import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Self, cast

from gitml.errors import CorruptError, UserError
from gitml.git.commits import parse_commit
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.reading.content import BUFFER, ChunkedContent
from gitml.reading.source import ContentDamagedError, ContentMissingError, ReadingError, Source
from gitml.record import record
from gitml.store.odb import MissingObjectError
from gitml.store.pointer import MAX_POINTER_SIZE, Pointer, is_pointer, parse_pointer
from gitml.store.tree import MODE_GITLINK, MODE_LINK, MODE_TREE, Entry, Snapshot

_MOST_LINKS = 40
_IN_MEMORY = 4 << 20
"""Bytes up to which a plain blob is held in memory; a longer one is spooled to a temporary file."""


class NoRepositoryError(ReadingError, FileNotFoundError):
    """There is no repository at the place given."""

    number = errno.ENOENT


class UnknownRevisionError(ReadingError, FileNotFoundError):
    """A revision names nothing in the repository."""

    number = errno.ENOENT


class NoSuchFileError(ReadingError, FileNotFoundError):
    """There is nothing at a path of the revision."""

    number = errno.ENOENT


class DirectoryError(ReadingError, IsADirectoryError):
    """A path is that of a directory, where a file is wanted."""

    number = errno.EISDIR


class NotDirectoryError(ReadingError, NotADirectoryError):
    """A path is that of a file, where a directory is wanted."""

    number = errno.ENOTDIR


class LinkLoopError(ReadingError):
    """Symbolic links of the tree lead in a circle."""

    number = errno.ELOOP


@record
class Found:
    """What a path names: where it is once links are followed, and the tree's entry there."""

    path: bytes
    entry: Entry

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory; a submodule is one, without anything in it."""
        return self.entry.mode in (MODE_TREE, MODE_GITLINK)


@record
class File:
    """What is known of a file without reading its content.

    `size` in bytes is that of the content; `pointer` is set if that is stored as chunks, and `malformed` says why a
    pointer cannot be read.
    """

    size: int
    pointer: Pointer | None = None
    malformed: str = ""


class ContentFile(io.BufferedReader):
    """A file of a revision: binary, seekable, read-only. `size` in bytes. Close it, or use it in `with`."""

    def __init__(self, raw: io.RawIOBase, name: str, size: int, owned: "View | None") -> None:
        super().__init__(raw, BUFFER)
        self._name = name
        self._size = size
        self._owned = owned

    @property
    def name(self) -> str:
        """Revision and path."""
        return self._name

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self._size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    def bring(self, ranges: list[tuple[int, int]]) -> None:
        """Have the bytes of these ranges (from, to) here, what is missing in one request."""
        if isinstance(self.raw, ChunkedContent):
            self.raw.bring(ranges)

    def close(self) -> None:
        """Close the file; what was opened for it alone goes with it."""
        super().close()
        owned, self._owned = getattr(self, "_owned", None), None
        if owned is not None:
            owned.close()


class View:
    """One tree of a repository. Threads may share it. Close it, or use it in `with`.

    `revision` is as the user gave it, for messages; `commit` is None where it names a bare tree.
    """

    def __init__(self, source: Source, revision: str, commit: Oid | None, tree: Oid, below: bytes) -> None:
        self.source = source
        self.revision = revision
        self.commit = commit
        self.tree = tree
        self._below = below
        self._snapshot = Snapshot(source, tree)

    @classmethod
    def open(cls, repo: str | os.PathLike[str] = ".", rev: str = "HEAD", *, fetch: bool = True) -> Self:
        """The tree of `rev` in the repository that the directory `repo` is in (`.` as for git commands).

        With `fetch`, what is not here is fetched when it is read. Raise `NoRepositoryError`, `UnknownRevisionError`.
        """
        start = Path(repo)
        try:
            # without a place, GIT_DIR counts, as hooks and `git -C` set it
            found = Repository.discover(None if start == Path() else start)
        except OSError as error:
            raise NoRepositoryError(f"cannot open repository '{start}': {error.strerror}") from error
        except UserError as error:
            raise NoRepositoryError(f"cannot open repository '{start}': {error.message}", hint=error.hint) from error
        source = Source(found, fetch=fetch)
        try:
            commit, tree = _resolve(source, rev)
        except BaseException:
            source.close()
            raise
        return cls(source, rev, commit, tree, _prefix(found, start))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was started to read; reading again starts it anew."""
        self.source.close()

    def path_from(self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
        """`path` from the top of the repository, as git reads `REV:PATH`: `./x` and `../x` are from where we stand."""
        given = os.fsencode(path)
        relative = given in (b".", b"..") or given.startswith((b"./", b"../"))
        whole = os.path.normpath(b"/" + given.lstrip(b"/") if not relative else b"/" + self._below + b"/" + given)
        if given.startswith(b"/") or (relative and _climbs(self._below, given)):
            raise NoSuchFileError(
                f"path '{_shown(given)}' is outside the repository", hint="give the path from the top of the repository"
            )
        return whole.strip(b"/")

    def find(self, path: bytes, *, follow: bool = True) -> Found:
        """What a path from the top names; raise `NoSuchFileError`, `LinkLoopError`.

        Links on the way are followed, and with `follow` one at its end too.
        """
        at: list[bytes] = []
        entry = Entry(MODE_TREE, self.tree)
        waiting = [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
        links = 0
        while waiting:
            name = waiting.pop()
            if name == b"..":
                if not at:
                    raise self._no_such(path, "it leads out of the repository")
                at.pop()
                entry = self._snapshot.get(b"/".join(at)) or entry
                continue
            if entry.mode != MODE_TREE:
                raise self._no_such(path)
            child = self._entries(entry.oid).get(name)
            if child is None:
                raise self._no_such(path)
            if child.mode == MODE_LINK and (follow or waiting):
                links += 1
                if links > _MOST_LINKS:
                    raise LinkLoopError(f"too many symbolic links at '{_shown(path)}'")
                target = self._blob(child.oid)
                if target.startswith(b"/"):
                    raise self._no_such(path, f"a symbolic link leads to '{_shown(target)}'")
                waiting += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
                continue
            at.append(name)
            entry = child
        return Found(b"/".join(at), entry)

    def list(self, path: bytes) -> Mapping[bytes, Entry]:
        """Name to entry of a directory; raise `NoSuchFileError`, `NotDirectoryError`."""
        found = self.find(path)
        if not found.is_directory:
            raise NotDirectoryError(f"'{_shown(path)}' is not a directory in {self.revision}")
        return self._entries(found.entry.oid) if found.entry.mode == MODE_TREE else {}

    def target(self, entry: Entry) -> bytes:
        """What a symbolic link says."""
        return self._blob(entry.oid)

    def describe(self, tree: Oid, *, recursive: bool = False) -> dict[Oid, File]:
        """The files of a tree, with `recursive` also those below it, by the oid of their blobs."""
        command = ["ls-tree", "-z", *(["-r"] if recursive else []), tree.hex()]
        # in a partial clone git would fetch blobs one by one to tell their sizes
        self.source.bring(_blobs(self.source.repo.git.output(*command)))
        sizes = dict(_sizes(self.source.repo.git.output(*command[:2], "-l", *command[2:])))
        return {oid: self._describe(oid, size) for oid, size in sizes.items()}

    def describe_file(self, found: Found) -> File:
        """What is known of one file."""
        with self.source.odb().open(found.entry.oid) as (_, size, pieces):
            if size > MAX_POINTER_SIZE:
                return File(size)
            return _file(b"".join(pieces))

    def open_file(self, path: bytes, *, owned: bool = False) -> ContentFile:
        """A file as a stream; with `owned` this view is closed with it.

        Raise `NoSuchFileError`, `DirectoryError`, `ContentMissingError`, `ContentDamagedError`.
        """
        found = self.check_file(path)
        name = f"{self.revision}:{_shown(path)}"
        raw, size = self._raw(found)
        return ContentFile(raw, name, size, self if owned else None)

    def check_file(self, path: bytes) -> Found:
        """What a path names, if it is a file; raise `NoSuchFileError`, `DirectoryError`."""
        found = self.find(path)
        if found.entry.mode == MODE_GITLINK:
            raise DirectoryError(f"'{_shown(path)}' is a submodule", hint="open its files in its own repository")
        if found.is_directory:
            raise DirectoryError(
                f"'{_shown(path) or '.'}' is a directory in {self.revision}",
                hint=f"see what is in it: git ls-tree '{self.revision}:{_shown(path)}'",
            )
        return found

    def changed(self, path: bytes, *, first: bool = False) -> int | None:
        """When the newest commit (or with `first` the oldest) that changed a path was made, in seconds since 1970.

        None where the view is of a bare tree.
        """
        if self.commit is None:
            return None
        options = ["--diff-filter=A", "--reverse"] if first else ["--max-count=1"]
        listed = self.source.repo.git.output(
            "--literal-pathspecs", "log", "--format=%ct", *options, self.commit.hex(), "--", os.fsdecode(path or b".")
        ).split()
        return int(listed[0]) if listed else None

    def _raw(self, found: Found) -> tuple[io.RawIOBase, int]:
        oid = found.entry.oid
        try:
            if not self.source.has(oid):
                self.source.bring([oid])
            with self.source.odb().open(oid) as (_, size, pieces):
                if size > _IN_MEMORY:
                    return _spooled(self.source, oid, size, pieces), size
                data = b"".join(pieces)
        except MissingObjectError as error:
            raise ContentMissingError(f"blob '{oid}' of '{_shown(found.path)}' is not here") from error
        except CorruptError as error:
            raise ContentDamagedError(error.message, hint=error.hint) from error
        if self.source.format.oid_of("blob", data) != oid:
            raise ContentDamagedError(f"the bytes of blob '{oid}' are damaged", hint="see: git fsck")
        if not is_pointer(data):
            return cast("io.RawIOBase", io.BytesIO(data)), len(data)
        file = _file(data)
        if file.pointer is None:
            raise ContentDamagedError(
                f"'{_shown(found.path)}' in {self.revision}: {file.malformed}",
                hint="another commit may have a sound one: git log -- PATH",
            )
        return ChunkedContent(self.source, file.pointer, self.source.manifest(file.pointer)), file.size

    def _describe(self, oid: Oid, size: int) -> File:
        return _file(self._blob(oid)) if size <= MAX_POINTER_SIZE else File(size)

    def _blob(self, oid: Oid) -> bytes:
        return self._object(oid, "blob")

    def _entries(self, tree: Oid) -> Mapping[bytes, Entry]:
        try:
            return self._snapshot.entries(tree)
        except MissingObjectError as error:
            raise ContentMissingError(f"tree '{tree}' is not here", hint="see: git fsck") from error
        except CorruptError as error:
            raise ContentDamagedError(error.message, hint=error.hint) from error

    def _object(self, oid: Oid, expected: str) -> bytes:
        try:
            kind, data = self.source.read(oid)
        except MissingObjectError as error:
            raise ContentMissingError(f"{expected} '{oid}' is not here", hint="see: git fsck") from error
        except CorruptError as error:
            raise ContentDamagedError(error.message, hint=error.hint) from error
        if kind != expected:
            raise ContentDamagedError(f"object '{oid}' is a {kind}, expected a {expected}")
        return data

    def _no_such(self, path: bytes, why: str = "") -> NoSuchFileError:
        where = f"there is no '{_shown(path)}' in {self.revision}" + (f": {why}" if why else "")
        below = self._below + b"/" + path
        if self._below and not why and self._snapshot.get(below) is not None:
            return NoSuchFileError(where, hint=f"paths are from the top of the repository: '{_shown(below)}'")
        return NoSuchFileError(where, hint=f"list what is there: git ls-tree {self.revision}")


def _resolve(source: Source, rev: str) -> tuple[Oid | None, Oid]:
    try:
        commit = source.lookup(f"{rev}^{{commit}}")
        tree = source.lookup(f"{rev}^{{tree}}") if commit is None else None
    except CorruptError as error:
        raise ContentDamagedError(error.message, hint=error.hint) from error
    if commit is not None:
        return commit[0], parse_commit(commit[2]).tree
    if tree is not None:
        return None, tree[0]
    if rev == "HEAD":
        raise UnknownRevisionError("there is no commit yet", hint="git add . && git commit")
    raise UnknownRevisionError(f"unknown revision '{rev}'", hint="see what there is: git branch -a; git tag")


def _prefix(repo: Repository, start: Path) -> bytes:
    """Where `start` is below the top of the worktree."""
    if repo.worktree is None:
        return b""
    below = os.path.relpath(start.resolve(), repo.worktree.resolve())
    return b"" if below == "." or below.startswith("..") else os.fsencode(below)


def _climbs(below: bytes, relative: bytes) -> bool:
    depth = below.count(b"/") + 1 if below else 0
    for name in relative.split(b"/"):
        if name == b"..":
            depth -= 1
        elif name not in (b"", b"."):
            depth += 1
        if depth < 0:
            return True
    return False


def _file(data: bytes) -> File:
    if not is_pointer(data):
        return File(len(data))
    try:
        pointer = parse_pointer(data)
    except CorruptError as error:
        return File(len(data), malformed=error.message)
    return File(pointer.size, pointer)


def _blobs(listing: bytes) -> Iterator[Oid]:
    """The blobs that `ls-tree` lists."""
    for line in listing.split(b"\0"):
        fields = line.partition(b"\t")[0].split()
        if len(fields) == 3 and fields[1] == b"blob":
            yield Oid.parse(fields[2])


def _sizes(listing: bytes) -> Iterator[tuple[Oid, int]]:
    """Oid and size of the blobs that `ls-tree -l` lists."""
    for line in listing.split(b"\0"):
        fields = line.partition(b"\t")[0].split()
        if len(fields) == 4 and fields[1] == b"blob":
            yield Oid.parse(fields[2]), int(fields[3])


def _spooled(source: Source, oid: Oid, size: int, pieces: Iterator[bytes]) -> io.RawIOBase:
    """A plain blob, which git can only give from its start, in a temporary file without a name; verified."""
    digest = hashlib.new(source.format.value, b"blob %d\0" % size, usedforsecurity=False)
    file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is what is returned
    try:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        if digest.digest() != oid:
            raise ContentDamagedError(f"the bytes of blob '{oid}' are damaged", hint="see: git fsck")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return cast("io.RawIOBase", file)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
