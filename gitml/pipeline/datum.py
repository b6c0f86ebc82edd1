"""Datums: how inputs and globs split the work of a stage."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

from gitml.pipeline.glob import Glob, compile_glob, expand_entry
from gitml.pipeline.sources import Entries
from gitml.pipeline.spec.model import CrossInput, GroupInput, Input, JoinInput, PfsInput, Stage, UnionInput, leaves
from gitml.provenance.codec import printable
from gitml.record import replace
from gitml.store.tree import Entry, Snapshot


class DatumInput(NamedTuple):
    """One matched path of one input, as a task will see it below `/pfs/<name>`."""

    name: str
    source: bytes
    """Repository path of the input (its root)."""
    path: bytes
    """Path below the root that the glob matched; `b""` is the whole input."""
    entry: Entry
    """What the tree has at `source/path`: a blob or a whole directory."""
    join_on: str | None = None
    """What a join matches, None if the input has none. A task sees it."""
    group_by: str | None = None
    """What a group puts together, None if the input has none. A task sees it."""
    outer_join: bool = False
    """Whether a join keeps it without a match."""
    empty_files: bool = False
    """Whether a task sees its files without their bytes."""
    reference: bool = False
    """Whether the content plays no part in the task key."""
    origin: bytes | None = None
    """Where the input is, as git writes it (`branch:path`), if another one of the stage has its name; else None."""

    @property
    def full_path(self) -> bytes:
        """Repository path of what was matched."""
        return self.source + b"/" + self.path if self.source and self.path else self.source or self.path


class Datum(NamedTuple):
    """The inputs of one task, in the order of the specification's sorted names."""

    inputs: tuple[DatumInput, ...]

    @property
    def id(self) -> str:
        """Which datum this is, whatever its content: 64 hex digits over names, paths and origins of the inputs.

        Tasks may see it, so it depends on nothing that is not in the task key. Pre-image in
        `docs/format.md`, 'Keys and records'.
        """
        digest = hashlib.sha256(b"gitml/datum/1\n")
        for part in self.inputs:
            name = part.name.encode("utf-8", "surrogateescape")
            digest.update(b"%d:%s,%d:%s," % (len(name), name, len(part.path), part.path))
            if part.origin is not None:
                digest.update(b"@%d:%s," % (len(part.origin), part.origin))
        return digest.hexdigest()

    @property
    def label(self) -> str:
        """The datum in words, safe for a terminal: `input/a.csv × model`."""
        return " × ".join(printable(part.full_path) or "." for part in self.inputs) or "no input"


_Parts = tuple[DatumInput, ...]
_Origins = Mapping[PfsInput, bytes]


def datums(stage: Stage, snapshot: Snapshot, entries: Entries | None = None) -> list[Datum]:
    """The datums of `stage` at the tree of `snapshot`, in order; the semantics are Pachyderm's.

    A pfs input gives one datum for each path its glob picks, in path order; a cross every combination (none
    if a side is empty; the last input varies fastest), a union one after the other (what several of its inputs
    give only once). A join crosses, for each key, the files that have it, if every input has some; else only
    those of inputs with `outer_join` are left. A group puts all files with one key into one datum. Both go by
    the order of their keys. Inputs are taken in the order of their names. A stage without input has one datum
    without inputs.

    `entries` says what the inputs hold, where that is not what the tree has at their paths.
    """
    if stage.input is None:
        return [Datum(())]
    if entries is None:
        entries = {leaf: entry for leaf in stage.inputs if (entry := snapshot.get(leaf.path)) is not None}
    return [Datum(parts) for parts in _parts(stage.input, snapshot, entries, _origins(stage))]


def _origins(stage: Stage) -> _Origins:
    """The origin of each input that shares its name with one from elsewhere.

    In a union several may be called the same. Equal paths of them are datums of their own, as in Pachyderm, whose ids
    hold repository and branch: a task that puts its id into the names of its results must not get that of another.
    """
    named: defaultdict[str, dict[bytes, None]] = defaultdict(dict)
    origins = {leaf: (leaf.branch or leaf.commit).encode() + b":" + leaf.path for leaf in stage.inputs}
    for leaf, origin in origins.items():
        named[leaf.name][origin] = None
    return {leaf: origin for leaf, origin in origins.items() if len(named[leaf.name]) > 1}


def _first_name(node: Input) -> str:
    return next((leaf.name for leaf in leaves(_in_order(node))), "")


def _in_order(node: Input) -> Input:
    """`node` with the inputs of everything that combines sorted by the name of their first leaf, stably."""
    if isinstance(node, PfsInput):
        return node
    return replace(node, inputs=tuple(sorted(map(_in_order, node.inputs), key=_first_name)))


def _parts(node: Input, snapshot: Snapshot, entries: Entries, origins: _Origins) -> Sequence[_Parts]:
    if isinstance(node, PfsInput):
        return _pfs(node, snapshot, entries.get(node), origins.get(node))
    ordered = sorted(map(_in_order, node.inputs), key=_first_name)
    sides = [_parts(inner, snapshot, entries, origins) for inner in ordered]
    match node:
        case UnionInput():
            return list(dict.fromkeys(parts for side in sides for parts in side))
        case CrossInput():
            return [tuple(part for parts in combination for part in parts) for combination in product(*sides)]
        case JoinInput():
            return _join([_by_key(side, "join_on") for side in sides])
        case GroupInput():
            return _group([_by_key(side, "group_by") for side in sides])


def _pfs(node: PfsInput, snapshot: Snapshot, root: Entry | None, origin: bytes | None) -> list[_Parts]:
    if root is None:
        return []
    found = expand_entry(snapshot, node.path, root, node.glob)
    name, source, outer, empty, reference = node.name, node.path, node.outer_join, node.empty_files, node.reference
    if not node.join_on and not node.group_by:  # the rule, and there may be many
        return [
            (DatumInput(name, source, path, entry, None, None, outer, empty, reference, origin),)
            for path, entry in found
        ]
    glob = compile_glob(node.glob)
    keys = [
        [_key(glob, path or _own_name(node, entry), template) for template in (node.join_on, node.group_by)]
        for path, entry in found
    ]
    return [
        (DatumInput(name, source, path, entry, join_on, group_by, outer, empty, reference, origin),)
        for (path, entry), (join_on, group_by) in zip(found, keys, strict=True)
    ]


def _own_name(node: PfsInput, entry: Entry) -> bytes:
    """What the glob matched for an input that is one file."""
    return b"" if entry.is_tree else node.path.rpartition(b"/")[2]


def _key(glob: Glob, path: bytes, template: str) -> str | None:
    return glob.replace(path, template) if template and not glob.is_root else None


def _by_key(side: Sequence[_Parts], field: Literal["join_on", "group_by"]) -> dict[str, list[DatumInput]]:
    """The inputs of the datums of one side by their key. Each counts alone, also out of a cross or a join."""
    found: defaultdict[str, dict[DatumInput, None]] = defaultdict(dict)
    for part in (part for parts in side for part in parts):
        key = part.join_on if field == "join_on" else part.group_by
        found[key or ""][part] = None
    return {key: list(parts) for key, parts in found.items()}


def _join(sides: list[dict[str, list[DatumInput]]]) -> list[_Parts]:
    joined: dict[_Parts, None] = {}
    for key in sorted({key for side in sides for key in side}):
        there = [side[key] for side in sides if key in side]
        if len(there) < len(sides):
            there = [kept for side in there if (kept := [part for part in side if part.outer_join])]
        if there:
            joined |= dict.fromkeys(product(*there))
    return list(joined)


def _group(sides: list[dict[str, list[DatumInput]]]) -> list[_Parts]:
    keys = sorted({key for side in sides for key in side})
    return [tuple(part for side in sides for part in side.get(key, ())) for key in keys]
