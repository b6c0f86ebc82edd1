"""What the two engines share in shape: how rows of two versions belong together, and what is shown of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from gitml.record import field, record
from gitml.tables.diff import Cell

Rows = Any
"""Numbers of rows, in the sequence that suits the engine: a list, or an array of numpy."""


@record
class Place:
    """A column that rows are put in order by: numbers by value, other cells by code points, missing ones last."""

    name: str
    numeric: bool


@record(kw_only=True)
class Match:
    """Rows of two versions by their numbers; `changed_old` and `changed_new` are pairs."""

    added: Rows = ()
    removed: Rows = ()
    changed_old: Rows = ()
    changed_new: Rows = ()
    repeated: tuple[int, int] = (0, 0)
    """Keys that occur more than once in each version."""


@record(kw_only=True)
class Samples:
    """How often each column changed, and the first rows of each kind with all their cells."""

    changes: Mapping[str, int] = field(default_factory=dict)
    added: Sequence[Mapping[str, Cell]] = ()
    removed: Sequence[Mapping[str, Cell]] = ()
    changed: Sequence[tuple[Mapping[str, Cell], Mapping[str, Cell]]] = ()
