"""Datums: how inputs and globs split the work of a stage."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from gitml.pipeline.glob import expand
from gitml.pipeline.spec.model import CrossInput, Input, PfsInput, Stage, UnionInput, leaves
from gitml.provenance.codec import printable
from gitml.store.tree import Entry, Snapshot


@dataclass(frozen=True, slots=True)
class DatumInput:
    """One matched path of one input, as a task will see it below `/pfs/<name>`."""

    name: str
    source: bytes
    """Repository path of the input (its root)."""
    path: bytes
    """Path below the root that the glob matched; `b""` is the whole input."""
    entry: Entry
    """What the tree has at `source/path`: a blob or a whole directory."""

    @property
    def full_path(self) -> bytes:
        """Repository path of what was matched."""
        return self.source + b"/" + self.path if self.source and self.path else self.source or self.path


@dataclass(frozen=True, slots=True)
class Datum:
    """The inputs of one task, in the order of the specification's sorted names."""

    inputs: tuple[DatumInput, ...]

    @property
    def id(self) -> str:
        """Which datum this is, whatever its content: 64 hex digits over the inputs' names and paths.

        Tasks may see it, so it depends on nothing that is not in the task key. Pre-image in
        `docs/format.md`, 'Keys and records'.
        """
        digest = hashlib.sha256(b"gitml/datum/1\n")
        for part in self.inputs:
            name = part.name.encode("utf-8", "surrogateescape")
            digest.update(b"%d:%s,%d:%s," % (len(name), name, len(part.path), part.path))
        return digest.hexdigest()

    @property
    def label(self) -> str:
        """The datum in words, safe for a terminal: `input/a.csv × model`."""
        return " × ".join(printable(part.full_path) or "." for part in self.inputs) or "no input"


def datums(stage: Stage, snapshot: Snapshot) -> list[Datum]:
    """The datums of `stage` at the tree of `snapshot`, in order; the semantics are Pachyderm's.

    A pfs input gives one datum for each path its glob picks, in path order; a cross every combination (none
    if a side is empty; the last input varies fastest), a union one after the other. Inputs of both are taken
    in the order of their names. A stage without input has one datum without inputs.
    """
    if stage.input is None:
        return [Datum(())]
    return [Datum(parts) for parts in _parts(stage.input, snapshot)]


def _first_name(node: Input) -> str:
    return next((leaf.name for leaf in leaves(_in_order(node))), "")


def _in_order(node: Input) -> Input:
    """`node` with the inputs of every cross and union sorted by the name of their first leaf, stably."""
    if isinstance(node, PfsInput):
        return node
    ordered = tuple(sorted(map(_in_order, node.inputs), key=_first_name))
    return CrossInput(inputs=ordered) if isinstance(node, CrossInput) else UnionInput(inputs=ordered)


def _parts(node: Input, snapshot: Snapshot) -> Sequence[tuple[DatumInput, ...]]:
    if isinstance(node, PfsInput):
        picked = expand(snapshot, node.path, node.glob)
        return [(DatumInput(node.name, node.path, path, entry),) for path, entry in picked]
    sides = [_parts(inner, snapshot) for inner in sorted(map(_in_order, node.inputs), key=_first_name)]
    if isinstance(node, UnionInput):
        return [parts for side in sides for parts in side]
    return [tuple(part for parts in combination for part in parts) for combination in product(*sides)]
