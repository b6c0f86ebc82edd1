"""Git trees as values: parsing, writing, looking up by path, and edits that rewrite only what changed.

Paths are bytes with `/` between names, no leading or trailing slash; `b""` is the root. A missing path and
an empty directory are the same thing to git, and so they are here.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from typing import NamedTuple

from gitml.errors import CorruptError
from gitml.oid import ObjectFormat, Oid
from gitml.store.odb import ObjectReader, ObjectWriter

_SHARED_ENTRIES = 300_000
"""Entries of shared trees that are kept, some 200 bytes each: a run cache with 100,000 tasks and its project are."""

MODE_TREE = 0o040000
MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_LINK = 0o120000
MODE_GITLINK = 0o160000


class Entry(NamedTuple):
    """What a tree says of one name: its mode and the oid of the object."""

    mode: int
    oid: Oid

    @property
    def is_tree(self) -> bool:
        """Whether it is a directory."""
        return self.mode == MODE_TREE

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, executable or not."""
        return self.mode & 0o170000 == 0o100000


def sort_key(name: bytes, mode: int) -> bytes:
    """Git's order of tree entries: bytewise, directories as if their name ended in a slash."""
    return name + b"/" if mode == MODE_TREE else name


_WRITTEN = {b"%o" % mode: mode for mode in (MODE_TREE, MODE_FILE, MODE_EXECUTABLE, MODE_LINK, MODE_GITLINK)}
_ENTRIES = {size: re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % size, re.DOTALL) for size in (20, 32)}
"""Entry after entry, by the size of oids."""


def parse_tree(data: bytes, oid_size: int) -> list[tuple[bytes, Entry]]:
    """The entries of a raw tree object in stored order; raise `CorruptError` if it is malformed."""
    # directories may have a hundred thousand entries: what git writes is taken apart by `re`, at twice the speed
    found = _ENTRIES[oid_size].findall(data) if oid_size in _ENTRIES else []
    if sum(len(mode) + len(name) for mode, name, _ in found) + len(found) * (oid_size + 2) == len(data):
        with suppress(KeyError):
            new_oid, new_entry = bytes.__new__, tuple.__new__  # the length is known to be right
            return [(name, new_entry(Entry, (_WRITTEN[mode], new_oid(Oid, oid)))) for mode, name, oid in found]
    return _parse_any(data, oid_size)


def _parse_any(data: bytes, oid_size: int) -> list[tuple[bytes, Entry]]:
    """As `parse_tree`, also of what git no longer writes; says what is wrong."""
    entries: list[tuple[bytes, Entry]] = []
    at, end = 0, len(data)
    try:
        while at < end:
            space = data.index(b" ", at)
            nul = data.index(b"\0", space)
            stop = nul + 1 + oid_size
            if stop > end:
                raise ValueError("truncated")
            entries.append((data[space + 1 : nul], Entry(int(data[at:space], 8), Oid(data[nul + 1 : stop]))))
            at = stop
    except ValueError as error:
        raise CorruptError(f"malformed tree object: {error}") from None
    return entries


def format_tree(entries: Iterable[tuple[bytes, Entry]]) -> bytes:
    """The raw tree object with `entries`, in git's order; names must be unique, non-empty, without `/` and NUL."""
    return _joined(_in_order(entries))


def _in_order(entries: Iterable[tuple[bytes, Entry]]) -> list[tuple[bytes, Entry]]:
    return sorted(entries, key=lambda item: sort_key(item[0], item[1].mode))


def _joined(entries: Iterable[tuple[bytes, Entry]]) -> bytes:
    return b"".join([b"%o %s\0%s" % (entry.mode, name, entry.oid) for name, entry in entries])


def empty_tree(object_format: ObjectFormat) -> Oid:
    """The oid of a tree without entries."""
    return object_format.oid_of("tree", b"")


class Trees:
    """Trees that were read or made, for the snapshots that share them; those used last are kept.

    Whoever edits a tree again and again, and looks at it in between, need not read what was just written.
    """

    def __init__(self, most: int = _SHARED_ENTRIES) -> None:
        self._most = most
        self._kept: OrderedDict[Oid, Mapping[bytes, Entry]] = OrderedDict()
        self._size = 0

    def get(self, tree: Oid) -> Mapping[bytes, Entry] | None:
        """Name to entry of a tree, in stored order; None if it is not kept."""
        found = self._kept.get(tree)
        if found is not None:
            self._kept.move_to_end(tree)
        return found

    def put(self, tree: Oid, entries: Mapping[bytes, Entry]) -> None:
        """Keep a tree, which must not be changed any more."""
        if tree in self._kept:
            return
        self._kept[tree] = entries
        self._size += len(entries)
        while self._size > self._most:
            self._size -= len(self._kept.popitem(last=False)[1])


class Snapshot:
    """One tree of the repository, seen by path. Reads tree objects once and keeps them, or shares `trees`."""

    def __init__(self, odb: ObjectReader, root: Oid, trees: Trees | None = None) -> None:
        self.odb = odb
        self.root = root
        self._trees: dict[Oid, Mapping[bytes, Entry]] = {}
        self._shared = trees

    def entries(self, tree: Oid) -> Mapping[bytes, Entry]:
        """Name to entry of a tree object, in stored order; raise `MissingObjectError`."""
        known = self._trees.get(tree)
        if known is None and self._shared is not None:
            known = self._shared.get(tree)
            if known is not None:
                self._trees[tree] = known
        if known is None:
            if tree == empty_tree(self.odb.format):
                return {}
            kind, data = self.odb.read(tree)
            if kind != "tree":
                raise CorruptError(f"object {tree} is a {kind}, expected a tree")
            known = self._trees[tree] = dict(parse_tree(data, self.odb.format.size))
            if self._shared is not None:
                self._shared.put(tree, known)
        return known

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`, None if there is none. The root is always there."""
        return self._find(path)

    def among(self, path: bytes, names: Set[bytes]) -> dict[bytes, Entry]:
        """Those of `names` that the directory at `path` has."""
        entry = self._find(path)
        if entry is None or not entry.is_tree:
            return {}
        listed = self.entries(entry.oid)
        return {name: listed[name] for name in names & listed.keys()}

    def _find(self, path: bytes) -> Entry | None:
        entry = Entry(MODE_TREE, self.root)
        for name in path.split(b"/") if path else ():
            if not entry.is_tree:
                return None
            found = self.entries(entry.oid).get(name)
            if found is None:
                return None
            entry = found
        return entry

    def list(self, path: bytes) -> Mapping[bytes, Entry]:
        """Name to entry of the directory at `path`, in stored order; empty if it is no directory."""
        entry = self.get(path)
        return self.entries(entry.oid) if entry is not None and entry.is_tree else {}

    def oid_at(self, path: bytes) -> Oid:
        """The oid at `path`; that of the empty tree if nothing is there."""
        entry = self.get(path)
        return entry.oid if entry is not None else empty_tree(self.odb.format)

    def read(self, path: bytes) -> bytes:
        """The blob at `path` whole (for small files); raise `KeyError` if there is no file."""
        entry = self.get(path)
        if entry is None or entry.is_tree:
            raise KeyError(path)
        return self.odb.read(entry.oid)[1]

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
        """Every non-directory below `path` with its full path, bytewise by path."""
        entry = self.get(path)
        if entry is None:
            return
        if not entry.is_tree:
            yield path, entry
            return
        for name, child in self.entries(entry.oid).items():
            below = path + b"/" + name if path else name
            if child.is_tree:
                yield from self.walk(below)
            else:
                yield below, child


def edit_tree(
    reader: ObjectReader,
    writer: ObjectWriter,
    root: Oid,
    changes: Mapping[bytes, Entry | None],
    trees: Trees | None = None,
) -> Oid:
    """The tree `root` with every path of `changes` set to its entry, or removed where that is None.

    Directories left empty disappear; a file in the way of a directory is replaced by it. Only trees on the
    changed paths are read and written. What was written is among `trees` then, though `writer` may not be done yet.
    """
    return _edit(Snapshot(reader, root, trees), writer, root, dict(changes), trees)


def _edit(
    snapshot: Snapshot,
    writer: ObjectWriter,
    tree: Oid,
    changes: Mapping[bytes, Entry | None],
    trees: Trees | None,
) -> Oid:
    if b"" in changes:
        whole = changes[b""]
        return whole.oid if whole is not None else empty_tree(snapshot.odb.format)
    entries = dict(snapshot.entries(tree))
    below: dict[bytes, dict[bytes, Entry | None]] = {}
    for path, entry in changes.items():
        name, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(name, {})[rest] = entry
        elif entry is None:
            entries.pop(name, None)
        else:
            entries[name] = entry
    empty = empty_tree(snapshot.odb.format)
    for name, inner in below.items():
        current = entries.get(name)
        if current is None and not any(inner.values()):
            continue
        subtree = current.oid if current is not None and current.is_tree else empty
        edited = _edit(snapshot, writer, subtree, inner, trees)
        if edited == empty:
            entries.pop(name, None)
        else:
            entries[name] = Entry(MODE_TREE, edited)
    ordered = _in_order(entries.items())
    written = writer.write("tree", _joined(ordered))
    if trees is not None:
        trees.put(written, dict(ordered))
    return written
