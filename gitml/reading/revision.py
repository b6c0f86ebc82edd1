"""One commit of a repository as a place to read files in: what is at a path, and files to read.

Nothing is checked out and nothing of the worktree is looked at. Content that is not here is fetched, as little of it
as is touched. Hides how a path leads to content, and where content comes from.
"""

import errno
import io
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Literal, Self, cast

from gitml.errors import MissingDataError, UserError
from gitml.git.odb import GitOdb
from gitml.git.pack import ObjectIndex
from gitml.git.pointers import read_pointers
from gitml.git.promisor import fetch_missing
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.reading.content import ChunkedContent, ContentReader, PlainContent
from gitml.store.manifest import Manifest, missing_parts, read_manifest
from gitml.store.odb import MissingObjectError, ObjectReader
from gitml.store.pointer import MAX_POINTER_SIZE, Pointer, is_pointer, parse_pointer
from gitml.store.tree import MODE_FILE, MODE_GITLINK, MODE_LINK, MODE_TREE, Entry, Snapshot

IN_MEMORY = 16 << 20
"""Bytes up to which content that git stores whole is held in memory; more goes to a temporary file."""

_MAX_LINKS = 40

Kind = Literal["file", "directory", "link", "submodule"]


class _PathError(UserError, OSError):
    """A path of a revision is not what was asked for."""

    def __init__(self, number: int, path: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno, self.filename = number, path

    def __str__(self) -> str:
        return self.message


class NoSuchPathError(_PathError, FileNotFoundError):
    """There is nothing at a path. Carries it as `filename`."""

    def __init__(self, path: str, where: str) -> None:
        super().__init__(errno.ENOENT, path, f"there is no '{path}' in '{where}'", f"see: git ls-tree -r {where}")


class IsDirectoryPathError(_PathError, IsADirectoryError):
    """There is a directory at a path, where a file was asked for. Carries it as `filename`."""

    def __init__(self, path: str, where: str) -> None:
        super().__init__(errno.EISDIR, path, f"'{path}' in '{where}' is a directory", "name a file in it")


class NotDirectoryPathError(_PathError, NotADirectoryError):
    """There is a file at a path, where a directory was asked for. Carries it as `filename`."""

    def __init__(self, path: str, where: str) -> None:
        super().__init__(errno.ENOTDIR, path, f"'{path}' in '{where}' is no directory")


class NotHereError(MissingDataError, OSError):
    """Content is neither here nor on a remote. Carries the oids that are `missing`."""

    def __init__(self, missing: set[Oid]) -> None:
        first = min(missing)
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        super().__init__(
            f"object {first}{others} of the content is not here, and no remote has it",
            hint="push it from where it was added: git ml push; or: git push",
        )
        self.errno = errno.ENODATA
        self.missing = frozenset(missing)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Node:
    """What is at a path. `size` is that of the content, in bytes; 0 of what is no file."""

    path: str
    kind: Kind
    mode: int
    oid: Oid
    size: int = 0
    sha256: str | None = None
    """Of the content, 64 hex digits; None if git stores it whole."""


class Source:
    """Objects of a repository, those of remotes included."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo
        self.odb = GitOdb(repo.git, repo.format)
        self._index: ObjectIndex | None = None

    @property
    def reader(self) -> ObjectReader:
        """Reads what is here."""
        return self.odb

    def close(self) -> None:
        """End the git process; a later read starts another."""
        self.odb.close()

    def provide(self, oids: Iterable[Oid]) -> None:
        """Fetch those of the blobs that are not here; raise `NotHereError`, or `FetchError` without a connection."""
        if self._index is None:
            self._index = ObjectIndex(self.repo.objects_dir, self.repo.format)
        wanted = [oid for oid in oids if not self._index.has(oid)]
        if not wanted:
            return
        self._index.refresh()
        left = {oid for oid in wanted if not self._index.has(oid)}
        if left:
            left = fetch_missing(self.repo, left)
            self._index.refresh()
        if left:
            raise NotHereError(left)

    def manifest(self, pointer: Pointer) -> Manifest:
        """The manifest of a content, of which only the missing parts are fetched."""
        while True:
            try:
                return read_manifest(pointer.manifest, self.odb)
            except MissingObjectError:
                index = ObjectIndex(self.repo.objects_dir, self.repo.format)
                self.provide(missing_parts(pointer.manifest, self.odb, index.has))


class Revision:
    """The tree of one revision. Use it in `with`, or close it."""

    def __init__(self, source: Source, rev: str) -> None:
        self.name = rev
        self._source = source
        self._snapshot = Snapshot(source.odb, source.repo.resolve(f"{rev}^{{tree}}"))

    @classmethod
    def at(cls, repo: str | os.PathLike[str], rev: str) -> Self:
        """The revision `rev` of the repository that the directory `repo` is in; raise `UserError`."""
        where = Path(repo)
        if not where.is_dir():
            raise NoSuchPathError(os.fspath(where), "this machine")
        return cls(Source(Repository.discover(where)), rev)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the git process behind it."""
        self._source.close()

    def node(self, path: str | bytes | os.PathLike[str]) -> Node:
        """What is at `path`; raise `NoSuchPathError`."""
        name = self._clean(path)
        entry = self._snapshot.get(name)
        if entry is None:
            raise NoSuchPathError(os.fsdecode(name), self.name)
        return self._nodes({name: entry})[0]

    def children(self, path: str | bytes | os.PathLike[str]) -> list[Node]:
        """What is in the directory at `path`, by name; raise `NoSuchPathError`, `NotDirectoryPathError`."""
        name = self._clean(path)
        entry = self._snapshot.get(name)
        if entry is None:
            raise NoSuchPathError(os.fsdecode(name), self.name)
        if not entry.is_tree:
            raise NotDirectoryPathError(os.fsdecode(name), self.name)
        above = name + b"/" if name else b""
        return self._nodes({above + each: child for each, child in self._snapshot.entries(entry.oid).items()})

    def open(self, path: str | bytes | os.PathLike[str], *, closes: bool = False) -> ContentReader:
        """The file at `path`, to be read; with `closes`, closing it closes the revision too.

        Raise `NoSuchPathError`, `IsDirectoryPathError`, `PointerError`, `ManifestError`, `NotHereError`.
        """
        node = self.node(self._follow(self._clean(path)))
        if node.kind in ("directory", "submodule"):
            raise IsDirectoryPathError(node.path, self.name)
        done = self.close if closes else _nothing
        size, data = self._head(node.oid)
        if data is not None and is_pointer(data):
            pointer = parse_pointer(data)
            manifest = self._source.manifest(pointer)
            return ContentReader(ChunkedContent(node.path, pointer, manifest, self._source, done))
        file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the reader closes it
        if data is not None:
            file.write(data)
        else:
            with self._source.odb.open(node.oid) as (_, _, pieces):
                file.writelines(pieces)
        return ContentReader(PlainContent(node.path, size, cast("io.BufferedIOBase", file), done))

    def _follow(self, path: bytes) -> bytes:
        """Where `path` leads when symbolic links on the way are followed; they must stay in the tree."""
        for _ in range(_MAX_LINKS):
            names = path.split(b"/")
            for depth in range(1, len(names) + 1):
                above, entry = b"/".join(names[: depth - 1]), self._snapshot.get(b"/".join(names[:depth]))
                if entry is not None and entry.mode == MODE_LINK:
                    target = self._source.odb.read(entry.oid)[1]
                    path = posixpath.normpath(posixpath.join(above, target, *names[depth:]))
                    break
            else:
                return path
            if path.startswith(b"/") or path.split(b"/")[0] == b"..":
                raise NoSuchPathError(os.fsdecode(path), self.name)
        raise UserError(f"too many symbolic links at '{os.fsdecode(path)}'")

    def _head(self, blob: Oid) -> tuple[int, bytes | None]:
        """The size of a blob, and its bytes if it may be a pointer."""
        self._source.provide([blob])
        with self._source.odb.open(blob) as (_, size, pieces):
            return size, b"".join(pieces) if size <= MAX_POINTER_SIZE else None

    def _clean(self, path: str | bytes | os.PathLike[str]) -> bytes:
        """A path from the top of the repository as git has it."""
        names = [name for name in os.fsencode(path).split(b"/") if name not in (b"", b".")]
        if b".." in names:
            raise NoSuchPathError(os.fsdecode(path), self.name)
        return b"/".join(names)

    def _nodes(self, entries: dict[bytes, Entry]) -> list[Node]:
        blobs = [entry.oid for entry in entries.values() if not entry.is_tree and entry.mode != MODE_GITLINK]
        sizes = self._sizes(blobs)
        pointers = read_pointers(self._source.repo.git, (oid for oid in blobs if sizes.get(oid, 0) <= MAX_POINTER_SIZE))
        return [self._node(path, entry, sizes, pointers) for path, entry in entries.items()]

    def _node(self, path: bytes, entry: Entry, sizes: dict[Oid, int], pointers: dict[Oid, Pointer]) -> Node:
        kinds: dict[int, Kind] = {MODE_TREE: "directory", MODE_LINK: "link", MODE_GITLINK: "submodule"}
        kind = kinds.get(entry.mode, "file")
        pointer = pointers.get(entry.oid) if kind == "file" else None
        size = pointer.size if pointer is not None else sizes.get(entry.oid, 0)
        sha256 = pointer.sha256.hex() if pointer is not None else None
        return Node(os.fsdecode(path), kind, entry.mode or MODE_FILE, entry.oid, size, sha256)

    def _sizes(self, blobs: list[Oid]) -> dict[Oid, int]:
        if not blobs:
            return {}
        asked = b"".join(oid.hex().encode() + b"\n" for oid in blobs)
        listed = self._source.repo.git.output("cat-file", "--batch-check=%(objectname) %(objectsize)", input=asked)
        fields = (line.split() for line in listed.splitlines())
        return {Oid.parse(oid): int(size) for oid, size in fields if size.isdigit()}


def _nothing() -> None:
    """Leave the revision open: others read from it."""
