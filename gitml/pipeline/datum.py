"""Datums: how inputs and globs split the work of a stage."""

from dataclasses import dataclass

from gitml.store.tree import Entry


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


@dataclass(frozen=True, slots=True)
class Datum:
    """The inputs of one task, in the order of the specification's sorted names."""

    inputs: tuple[DatumInput, ...]
