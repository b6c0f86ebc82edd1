"""What a pack holds beside contents that are pushed: the commits that kept them from when they were added.

`git ml add` and the filter write a staged chain (gitml.git.stagedchain) into the very pack of the contents, and nobody
needs it once a data commit holds them. Writing a pack of gigabytes again without it takes ten times what sending it
as it is takes.
"""

from collections.abc import Collection, Mapping

from gitml.git.commits import parse_commit
from gitml.git.stagedchain import POINTER, parse_staged
from gitml.oid import Oid
from gitml.store.datatree import MANIFEST_NAME
from gitml.store.odb import ObjectReader
from gitml.store.tree import parse_tree


def is_scaffold(extra: Collection[Oid], needed: Mapping[Oid, bytes], objects: ObjectReader) -> bool:
    """Whether objects are nothing but staged commits of contents that are `needed`, with their trees and pointers.

    `needed` has names as `git rev-list --objects` gives them: a staged commit may tell of no path that these do not.
    """
    left = set(extra)
    for oid in extra:
        kind, data = objects.read(oid)
        if kind != "commit":
            continue
        try:
            staged = parse_staged(parse_commit(data))
        except ValueError:
            return False
        if needed.get(staged.manifest) != b"%s/%s" % (staged.path, MANIFEST_NAME):
            return False
        left.discard(oid)
        left -= _trees(staged.tree, staged.path, extra, needed, objects)
    return not left


def _trees(
    tree: Oid, path: bytes, extra: Collection[Oid], needed: Mapping[Oid, bytes], objects: ObjectReader
) -> set[Oid]:
    """Trees of a staged commit down to the data tree, and the pointer beside that; none if there is more in them."""
    found: set[Oid] = set()
    names = path.split(b"/")
    for depth, name in enumerate(names, 1):
        if tree not in extra:
            break
        entries = dict(parse_tree(objects.read(tree)[1], len(tree)))
        pointer = entries.pop(name + POINTER, None) if depth == len(names) else None
        if entries.keys() != {name}:
            return set()
        found.add(tree)
        if pointer is not None:
            found.add(pointer.oid)
        tree = entries[name].oid
    return found if tree in needed else set()
