"""Comparing tables with polars: batches in, hashes and bounded summaries kept.

Two hashes of 64 bits stay in memory for each row, of its key and of its content: `matching` joins rows by them. Which
columns changed is found in a second reading of the rows that are concerned (`rereading`).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

from gitml.tables.diff import Cell
from gitml.tables.frames import DelimitedSource, Source, as_text, is_one_to_one
from gitml.tables.hashing import between, cell_hashes, joined, row_hashes
from gitml.tables.matching import Sorted, by_content, by_key, rows_among
from gitml.tables.profile import Profile
from gitml.tables.rereading import examine, whole_rows
from gitml.tables.table import Match, Rows
from gitml.tables.tally import Tally

if TYPE_CHECKING:
    import polars

__all__ = ["FrameTable", "examine", "match", "scan", "shared"]


class FrameTable:
    """A table of any format."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.names = source.names
        self.warnings = list(source.warnings)
        self.rows = 0
        self.profiles: dict[str, Profile] = {}
        self.content: Any = None
        """A hash of the compared cells of each row: an array."""
        self.keys: list[Sorted] = []
        """For each key that was asked for, a hash of it for each row."""
        self._as_they_are: frozenset[str] = frozenset()
        """Columns that are compared without making text of their cells: they are of one type in both versions."""

    def head(self, count: int) -> list[list[Cell]]:
        """The first rows."""
        import numpy as np

        found: list[list[Cell]] = []
        for _, text in self.texts(np.arange(count)):
            found += map(list, text.head(count - len(found)).rows())
            if len(found) >= count:
                break
        return found

    def texts(
        self, wanted: Rows | None = None, columns: Sequence[str] | None = None
    ) -> "Iterator[tuple[int, polars.DataFrame]]":
        """Batches with cells as text, each with the number of its first row."""
        for row, frame in self._source.batches(self.names if columns is None else columns, wanted):
            yield row, as_text(frame)

    def cells(self, columns: Sequence[str]) -> dict[str, list[Cell]]:
        """Whole columns; where cells repeat, equal ones are one object."""
        found: dict[str, list[Cell]] = {name: [] for name in columns}
        for _, text in self.texts(columns=columns):
            for name in columns:
                column = text[name].to_list()
                pool: dict[Cell, Cell] = {}
                repeats = len({*column[:1000]}) < len(column[:1000]) // 2
                found[name] += map(pool.setdefault, column, column) if repeats else column
        return found

    def pick(self, wanted: Rows, columns: Sequence[str] | None = None) -> "Iterator[tuple[Rows, polars.DataFrame]]":
        """The rows with these (sorted) numbers, in order, in batches; cells as text or as they are: see `agree`."""
        if not len(wanted):
            return
        for row, frame in self._source.batches(self.names if columns is None else columns, wanted):
            chosen = between(wanted, row, row + frame.height)
            if len(chosen):
                yield chosen, self._comparable(frame if len(chosen) == frame.height else frame[chosen - row])

    def agree(self, other: "FrameTable") -> None:
        """Have both tables leave cells as they are where that makes no difference."""
        mine, others = self._source.dtypes(), other._source.dtypes()
        alike = {name for name, dtype in mine.items() if others.get(name) == dtype and is_one_to_one(dtype)}
        self._as_they_are = other._as_they_are = frozenset(alike)

    def scan(self, compared: Sequence[str], keys: Sequence[Sequence[str]]) -> None:
        """Read the file once: profiles, and the hashes of rows."""
        tally = Tally(self.names)
        content: list[Any] = []
        found: list[list[Any]] = [[] for _ in keys]
        needed = list(dict.fromkeys([*compared, *chain.from_iterable(keys)]))
        for row, frame in self._source.batches(self.names):
            tally.add(row, frame)
            hashes = cell_hashes(self._comparable(frame[needed]))
            content.append(row_hashes(hashes, compared, frame.height))
            for each, key in zip(found, keys, strict=True):
                each.append(row_hashes(hashes, key, frame.height))
            self.rows += frame.height
        self.content = joined(content)
        content.clear()
        while found:
            self.keys.append(Sorted(joined(found.pop(0))))
        self.profiles = tally.profiles(self._source.types())
        if isinstance(self._source, DelimitedSource) and self._source.ragged:
            self.warnings.append(f"{self._source.ragged} rows are longer or shorter than the names")

    def _comparable(self, frame: "polars.DataFrame") -> "polars.DataFrame":
        return as_text(frame, self._as_they_are)

    def is_unique(self, key: int) -> bool:
        """Whether no two rows have this key."""
        return not self.keys[key].has_repeated()

    def forget(self) -> None:
        """Let go of the hashes."""
        self.content = None
        self.keys = []


def scan(tables: tuple[FrameTable, FrameTable], compared: Sequence[str], keys: Sequence[Sequence[str]]) -> None:
    """Read both files once: profiles, and the hashes of rows in the compared columns and in each of these keys."""
    tables[0].agree(tables[1])
    # both at once: polars and numpy mostly leave a second processor idle
    with ThreadPoolExecutor(len(tables)) as threads:
        for _ in threads.map(lambda table: table.scan(compared, keys), tables):
            pass


def match(old: FrameTable, new: FrameTable, key: int | None) -> Match:
    """Which rows of two scanned tables belong together: by a key they were scanned for, or by content."""
    if key is None:
        return by_content(old.content, new.content)
    return by_key((old.keys[key], new.keys[key]), (old.content, new.content))


def shared(train: FrameTable, test: FrameTable, most: int) -> tuple[int, list[dict[str, Cell]]]:
    """How many rows of a scanned table appear in another one, and the first of them."""
    rows = rows_among(test.content, train.content)
    found = dict(whole_rows(test, rows[:most]))
    return len(rows), [found[row] for row in rows[:most].tolist()]
