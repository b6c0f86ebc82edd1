"""Comparing tables with polars: batches in, hashes and bounded summaries kept.

Hashes stay in memory for each row, of its key and of its content: `matching` joins rows by them. Which columns changed
is found in a second reading of the rows that are concerned (`rereading`).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gitml.tables.diff import Cell
from gitml.tables.frames import DelimitedSource, Source, as_text, is_one_to_one, rows_of
from gitml.tables.hashing import between, cell_hashes, row_hashes
from gitml.tables.matching import Hashes, by_content, by_key, rows_among
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
        self.is_apart = source.is_apart
        self.warnings = list(source.warnings)
        self.rows = 0
        self.profiles: dict[str, Profile] = {}
        self.hashes = Hashes()
        """Of each row; where no key was asked for, the content is the key."""
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
                yield chosen, self._comparable(rows_of(frame, chosen - row))

    def agree(self, other: "FrameTable") -> None:
        """Have both tables leave cells as they are where that makes no difference."""
        mine, others = self._source.dtypes(), other._source.dtypes()
        alike = {name for name, dtype in mine.items() if others.get(name) == dtype and is_one_to_one(dtype)}
        self._as_they_are = other._as_they_are = frozenset(alike)

    def may_be_key(self, name: str) -> bool:
        """Whether no cell is missing and none occurs twice among the first rows, many thousand of them."""
        for _, frame in self._source.batches([name]):
            column = frame.to_series()
            return not column.null_count() and column.n_unique() == len(column)
        return False

    def scan(self, compared: Sequence[str], key: Sequence[str] | None) -> None:
        """Read the file once: profiles, unless they are known, and the hashes of rows; no key: by content."""
        tally = None if self.profiles else Tally(self.names)
        self.hashes = Hashes()
        needed = list(dict.fromkeys([*compared, *(key or ())]))
        for row, frame in self._source.batches(self.names if tally is not None else needed):
            if tally is not None:
                tally.add(row, frame)
            hashes = cell_hashes(self._comparable(frame[needed]))
            content = row_hashes(hashes, compared, frame.height)
            self.hashes.add(content if key is None else row_hashes(hashes, key, frame.height), content)
        self.rows = self.hashes.rows
        if tally is None:
            return
        self.profiles = tally.profiles(self._source.types())
        if isinstance(self._source, DelimitedSource) and self._source.ragged:
            self.warnings.append(f"{self._source.ragged} rows are longer or shorter than the names")

    def _comparable(self, frame: "polars.DataFrame") -> "polars.DataFrame":
        return as_text(frame, self._as_they_are)

    def forget(self) -> None:
        """Let go of hashes that nobody matched."""
        self.hashes = Hashes()


def scan(tables: tuple[FrameTable, FrameTable], compared: Sequence[str], key: Sequence[str] | None) -> None:
    """Read both files once: profiles, and the hashes of rows in the compared columns and in this key."""
    tables[0].agree(tables[1])
    # both at once: polars and numpy mostly leave a second processor idle
    with ThreadPoolExecutor(len(tables)) as threads:
        for _ in threads.map(lambda table: table.scan(compared, key), tables):
            pass


def match(old: FrameTable, new: FrameTable, *, keyed: bool, unique: bool = False) -> Match | None:
    """Which rows of two scanned tables belong together: by the key they were scanned for, or by content.

    With `unique` None if a key occurs more than once in a table.
    """
    return by_key(old.hashes, new.hashes, unique=unique) if keyed else by_content(old.hashes, new.hashes)


def shared(train: FrameTable, test: FrameTable, most: int) -> tuple[int, list[dict[str, Cell]]]:
    """How many rows of a table, scanned by content, appear in another one, and the first of them."""
    rows = rows_among(test.hashes, train.hashes)
    found = dict(whole_rows(test, rows[:most]))
    return len(rows), [found[row] for row in rows[:most].tolist()]
