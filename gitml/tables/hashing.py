"""Hashes of cells and rows in 64 bits, with polars and numpy, and what is asked of arrays of them.

Seeds are drawn at random in every process, so that no file can be made to collide.
"""

import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from gitml.tables.profile import mixed
from gitml.tables.table import Rows

if TYPE_CHECKING:
    import polars


@cache
def _seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


def cell_hashes(text: "polars.DataFrame") -> "polars.DataFrame":
    """A hash of each cell; of a missing one too."""
    import polars as pl

    return text.select(pl.all().hash(_seed()))


def row_hashes(hashes: "polars.DataFrame", columns: Sequence[str], height: int) -> Any:
    """A hash of each of `height` rows from those of its cells: their sum, each times an odd number of its own."""
    import numpy as np

    total = np.zeros(height, np.uint64)
    for place, name in enumerate(columns):
        total += hashes[name].to_numpy() * np.uint64(mixed(_seed() ^ place) | 1)
    return total


def joined(parts: Sequence[Any]) -> Any:
    """Arrays of hashes as one."""
    import numpy as np

    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def mixed_all(rows: Any) -> Any:
    """`profile.mixed` of an array."""
    import numpy as np

    word = (rows + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)


def distinct(values: Any) -> Any:
    """These values sorted, each once; many times as fast as `numpy.unique`, which hashes."""
    import numpy as np

    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def merged(one: Rows, two: Rows) -> Rows:
    """The values of two sorted arrays of distinct ones, sorted, each once."""
    import numpy as np

    few, many = sorted((one, two), key=len)
    if len(few):
        places = many.searchsorted(few)
        fresh = many[np.minimum(places, len(many) - 1)] != few
        few, places = few[fresh], places[fresh]
    # there may be ten million and more: they are copied once, and only where there is need
    return np.insert(many, places, few) if len(few) else many


def place_of(ordered: Rows, number: int) -> int:
    """Where in sorted numbers those begin that are not less than `number`."""
    # of the same type: otherwise numpy makes a copy of all of them in one that both have
    return int(ordered.searchsorted(ordered.dtype.type(number)))


def between(wanted: Rows, start: int, end: int) -> Rows:
    """Of sorted numbers those from `start` up to `end`."""
    return wanted[place_of(wanted, start) : place_of(wanted, end)]
