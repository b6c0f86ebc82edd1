"""The commits of a staged chain: each keeps the content of one file that no commit holds yet.

Its tree has the data tree of the file at the file's path, its message the oid of the manifest and the path.
"""

import time
from typing import NamedTuple

from gitml.git.commits import Commit, Signature, format_commit
from gitml.oid import Oid
from gitml.store.odb import ObjectWriter
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, format_tree

POINTER = b".pointer"
"""What follows the name of a file in the name of its pointer."""

_UNNAMED = b"content"


class Staged(NamedTuple):
    """One commit of a staged chain."""

    path: bytes
    manifest: Oid
    tree: Oid


def write_staged(
    writer: ObjectWriter, path: bytes, manifest: Oid, data_tree: Oid, parent: Oid | None, pointer: Oid | None = None
) -> Oid:
    """Write the commit of a staged chain that keeps the content with this manifest and data tree; give its oid.

    With `pointer` it also keeps that blob: git writes it, but refers to it only when the whole index is written.
    """
    tree = data_tree
    for name in reversed(_names(path)):
        entries = [(name, Entry(MODE_TREE, tree))]
        if pointer is not None and tree == data_tree:
            entries.append((name + POINTER, Entry(MODE_FILE, pointer)))
        tree = writer.write("tree", format_tree(entries))
    return write_staged_tree(writer, Staged(path, manifest, tree), parent)


def objects_of_staged(path: bytes) -> int:
    """How many objects `write_staged` writes for a new content at `path`, its pointer among them."""
    return len(_names(path)) + 2


def write_staged_tree(writer: ObjectWriter, item: Staged, parent: Oid | None) -> Oid:
    """Write the commit of a staged chain that comes after `parent`; give its oid."""
    who = Signature(b"gitml", b"gitml@localhost", int(time.time()))
    message = b"staged %s\n\n%s" % (item.manifest.hex().encode(), item.path)
    parents = () if parent is None else (parent,)
    return writer.write("commit", format_commit(Commit(item.tree, parents, who, who, message)))


def parse_staged(commit: Commit) -> Staged:
    """What a commit of a staged chain holds; raise `ValueError` for any other commit."""
    subject, _, path = commit.message.partition(b"\n\n")
    return Staged(path, Oid.parse(subject.removeprefix(b"staged ")), commit.tree)


def _names(path: bytes) -> list[bytes]:
    """The names of the trees that lead to a content."""
    # dulwich gives no path, and a foreign program might give one that no tree can hold
    names = path.split(b"/")
    fits = all(name not in (b"", b".", b"..") and name.lower() != b".git" for name in names)
    return names if fits else [_UNNAMED]
