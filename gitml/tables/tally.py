"""What is counted of the columns of a table while its batches go by, with polars and in bounded memory.

While a column has few distinct cells they are kept with their counts, and only those that are new are looked at. Of a
column with many, the smallest hashes of cells are kept (see `profile`), and expressions over whole batches do the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gitml.tables.delimited import BOOLEAN, INTEGER, NUMBER, is_boolean, is_integer, is_number
from gitml.tables.diff import Cell
from gitml.tables.frames import is_one_to_one, is_plain_number, series_as_text
from gitml.tables.hashing import distinct, joined, mixed_all
from gitml.tables.profile import (
    MOST_CATEGORIES,
    SAMPLE,
    SKETCH,
    Profile,
    deviation_of,
    estimate,
    is_numeric,
    is_summed,
)
from gitml.tables.table import Rows

if TYPE_CHECKING:
    import polars

_KINDS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("integers", INTEGER, is_integer), ("numbers", NUMBER, is_number), ("booleans", BOOLEAN, is_boolean),
)  # fmt: skip


class Tally:
    """The columns of one version of a table."""

    def __init__(self, names: Sequence[str]) -> None:
        self._columns = {name: _Column() for name in names}
        self._sample = _Sample()

    def add(self, row: int, frame: "polars.DataFrame") -> None:
        """Count a batch of all columns, whose first row has this number, with cells as their source has them."""
        # names of columns are no expressions: polars takes some for patterns
        cells = frame.clone()
        cells.columns = list(map(str, range(cells.width)))
        chosen = self._sample.choose(row, cells.height)
        _add(dict(zip(cells.columns, self._columns.values(), strict=True)), cells, chosen)
        kept = self._sample.reduce()
        if kept is not None:
            for column in self._columns.values():
                column.keep(kept)

    def profiles(self, types: Mapping[str, str]) -> dict[str, Profile]:
        """What it came to; the types of those columns that are not among these are inferred."""
        return {name: column.profile(types.get(name)) for name, column in self._columns.items()}


class _Sample:
    """Which rows are in the sample: those whose mixed numbers are below a limit that falls as rows come."""

    def __init__(self) -> None:
        self._level = 64
        self._mixed: Any = None

    def choose(self, row: int, count: int) -> Rows:
        """Of so many rows from `row` on, those that are chosen, counted from there."""
        import numpy as np

        mix = mixed_all(np.arange(row, row + count, dtype=np.uint64))
        chosen = np.arange(count) if self._level == 64 else np.flatnonzero(mix >> np.uint64(self._level) == 0)
        mix = mix[chosen]
        self._mixed = mix if self._mixed is None else np.concatenate([self._mixed, mix])
        return chosen

    def reduce(self) -> Rows | None:
        """Which of all that were chosen stay, None for all."""
        import numpy as np

        if len(self._mixed) <= SAMPLE:
            return None
        kept = np.arange(len(self._mixed))
        while len(kept) > SAMPLE:
            self._level -= 1
            kept = kept[self._mixed[kept] >> np.uint64(self._level) == 0]
        self._mixed = self._mixed[kept]
        return kept


class _Column:
    """What is gathered of a column."""

    def __init__(self) -> None:
        self.kinds = {kind: True for kind, _, _ in _KINDS}
        """Whether all cells are of it; an integer is a number."""
        self.missing = self.not_finite = self.count = self.filled = 0
        self.mean = self.squares = 0.0
        self.least: Cell = None
        self.greatest: Cell = None
        self.low: tuple[float, str] | None = None
        self.high: tuple[float, str] | None = None
        self.categories: dict[str, int] | None = {}
        self._smallest: Any = None
        """Hashes of cells, sorted, once there are too many for categories."""
        self._known: Any = None
        """Most of those at the places that their last bits say: sorting them again and again would take longest."""
        self._pruned = False
        self._sampled: list[Any] = []

    def add_categories(self, counts: "polars.DataFrame") -> bool:
        """Count distinct cells, while they are few: False once they are not, and then nothing of these was counted."""
        assert self.categories is not None
        if counts.height > 2 * MOST_CATEGORIES:
            found: dict[Cell, int] = {}
        else:
            cells = series_as_text(counts.to_series(0))
            found = dict(zip(cells.to_list(), counts.to_series(1).to_list(), strict=True))
            found.pop(None, None)
        fresh = [cell for cell in found if cell is not None and cell not in self.categories]
        if counts.height > 2 * MOST_CATEGORIES or len(self.categories) + len(fresh) > MOST_CATEGORIES:
            known, self.categories = list(self.categories), None
            self.add_hashes(hashes_of(known))
            return False
        for cell, count in found.items():
            if cell is not None:
                self.categories[cell] = self.categories.get(cell, 0) + count
        if fresh:
            self.add_extremes(min(fresh), max(fresh))
            for kind, _, holds in _KINDS:
                self.kinds[kind] = self.kinds[kind] and all(map(holds, fresh))
        return True

    def add_extremes(self, least: Cell, greatest: Cell) -> None:
        """Take note of the first and the last of some cells, by code points."""
        if least is not None and greatest is not None:
            self.least = least if self.least is None else min(self.least, least)
            self.greatest = greatest if self.greatest is None else max(self.greatest, greatest)

    def add_hashes(self, found: Any) -> None:
        """Count distinct cells by their hashes."""
        import numpy as np

        if self._pruned:
            found = found[found < self._smallest[-1]]
        elif self._known is not None:
            found = found[self._known[found & np.uint64(_LAST)] != found]
        if not len(found):
            return
        before = () if self._smallest is None else (self._smallest,)
        self._smallest = _smallest(np.concatenate([*before, found]))
        if len(self._smallest) > SKETCH:
            self._smallest, self._pruned, self._known = self._smallest[:SKETCH].copy(), True, None
        else:
            # where nothing is known, a hash that does not belong there
            self._known = np.arange(1, _LAST + 2, dtype=np.uint64)
            self._known[self._smallest & np.uint64(_LAST)] = self._smallest

    def add_numbers(self, numbers: "polars.Series", cells: "polars.Series", chosen: Rows) -> None:
        """Count numbers; missing cells are null. `cells` are the same, as text or as they are."""
        import numpy as np

        values = numbers.to_numpy()
        self._sampled.append(values[chosen])
        finite = np.isfinite(values)
        whole = bool(finite.all())
        self.not_finite += 0 if whole else int(len(values) - finite.sum()) - numbers.null_count()
        values = values if whole else values[finite]
        if not len(values):
            return
        with np.errstate(over="ignore", invalid="ignore"):
            count, mean = len(values), float(values.mean())
            squares = float(np.square(values - mean).sum())
            # Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979
            total, delta = self.count + count, mean - self.mean
            self.squares += squares + delta * delta * self.count * count / total
            self.mean += delta * count / total
            self.count = total
        low, high = float(values.min()), float(values.max())
        if self.low is None or low <= self.low[0]:
            found = low, _least(cells.filter(numbers == low))
            self.low = found if self.low is None else min(self.low, found)
        if self.high is None or high >= self.high[0]:
            found = high, _least(cells.filter(numbers == high))
            self.high = found if self.high is None or high > self.high[0] else (high, min(self.high[1], found[1]))

    def keep(self, places: Rows) -> None:
        """Reduce the sample to these."""
        if self.kinds["numbers"]:
            self._sampled = [joined(self._sampled)[places]]

    def profile(self, given: str | None) -> Profile:
        """What it came to, for a column of a type that is given, or to be inferred."""
        numeric = bool(self.filled) and self.kinds["numbers"] and (given is None or is_numeric(given))
        is_boolean = self.kinds["booleans"] and not numeric
        kind = "integer" if self.kinds["integers"] else "number" if numeric else "boolean" if is_boolean else "text"
        values, others = self._values() if numeric else ([], 0)
        low, high = (self.low, self.high) if numeric else (None, None)
        summed = numeric and is_summed(low, high)
        return Profile(
            type=given or (kind if self.filled else "empty"), missing=self.missing, distinct=self._distinct(),
            exact=not self._pruned,
            least=(low and low[1]) if numeric else self.least,
            greatest=(high and high[1]) if numeric else self.greatest,
            not_finite=self.not_finite if numeric else None, mean=self.mean if summed and self.count else None,
            deviation=deviation_of(self.count, self.squares) if summed else None, values=values, others=others,
            categories=self.categories if self.filled and not numeric else None,
        )  # fmt: skip

    def _values(self) -> tuple[list[float], int]:
        import numpy as np

        sampled = joined(self._sampled)
        finite = np.isfinite(sampled)
        return np.sort(sampled[finite]).tolist(), int(len(sampled) - finite.sum())

    def _distinct(self) -> int:
        if self.categories is not None:
            return len(self.categories)
        if self._smallest is None:
            return 0
        return estimate(int(self._smallest[-1])) if self._pruned else len(self._smallest)


def hashes_of(cells: Sequence[str]) -> Any:
    """Hashes for the count of distinct cells: always the same, so that an estimate is the same the next time."""
    import polars as pl

    return pl.Series(cells, dtype=pl.String).hash(_FIXED).to_numpy()


_FIXED = 0
_LAST = 4 * SKETCH - 1


def _add(columns: Mapping[str, _Column], cells: "polars.DataFrame", chosen: Rows) -> None:
    """Count the cells of a batch, in as few and as large expressions as can be: polars then does them in parallel."""
    import polars as pl

    for name, column in columns.items():
        missing = cells[name].null_count()
        column.missing += missing
        column.filled += cells.height - missing
    plain = {name: column for name, column in columns.items() if is_plain_number(cells[name].dtype)}
    if plain:
        _add_plain_numbers(plain, cells, chosen)
    others = [name for name in columns if name not in plain]
    few = [name for name in others if columns[name].categories is not None]
    if few:
        # text is made only of distinct cells, where that comes to the same
        counted = pl.DataFrame(
            [cells[name] if is_one_to_one(cells[name].dtype) else series_as_text(cells[name]) for name in few]
        )
        counts = counted.select(pl.col(name).value_counts().implode() for name in few)
        few = [name for name in few if columns[name].add_categories(counts[name].explode().struct.unnest())]
    text = pl.DataFrame(
        [series_as_text(cells[name]) for name in others if name not in few or columns[name].kinds["numbers"]]
    )
    many = {name: columns[name] for name in others if name not in few}
    if many:
        _add_many(many, text)
    numeric = [name for name in text.columns if columns[name].kinds["numbers"]]
    if numeric:
        numbers = text.select(pl.col(numeric).cast(pl.Float64, strict=False))
        for name in numeric:
            columns[name].add_numbers(numbers[name], text[name], chosen)


def _add_plain_numbers(columns: Mapping[str, _Column], cells: "polars.DataFrame", chosen: Rows) -> None:
    """Count the cells of columns that hold numbers, not text."""
    import polars as pl

    numbers = cells.select(pl.col(list(columns)).cast(pl.Float64))
    _add_hashes(columns, cells)
    for name, column in columns.items():
        column.categories = None
        column.add_numbers(numbers[name], cells[name], chosen)


def _add_many(columns: Mapping[str, _Column], cells: "polars.DataFrame") -> None:
    """Count the cells of columns that have many distinct ones."""
    import polars as pl

    wanted: list[polars.Expr] = []
    for name, column in columns.items():
        wanted += [pl.col(name).min().alias(f"{name} least"), pl.col(name).max().alias(f"{name} greatest")]
        # what was an integer so far is first asked whether it stays one
        wanted += [
            _all_are(name, pattern).alias(f"{name} {kind}")
            for kind, pattern, _ in _KINDS
            if column.kinds[kind] and not (kind == "numbers" and column.kinds["integers"])
        ]
    found = cells.select(wanted).row(0, named=True)
    late: list[polars.Expr] = []
    for name, column in columns.items():
        integers = column.kinds["integers"]
        for kind, _, _ in _KINDS:
            column.kinds[kind] = bool(found.get(f"{name} {kind}", False))
        if column.kinds["integers"]:
            column.kinds["numbers"] = True
        elif integers:
            late.append(_all_are(name, NUMBER))
        column.add_extremes(found[f"{name} least"], found[f"{name} greatest"])
    if late:
        for name, holds in cells.select(late).row(0, named=True).items():
            columns[name].kinds["numbers"] = bool(holds)
    _add_hashes(columns, cells)


def _add_hashes(columns: Mapping[str, _Column], cells: "polars.DataFrame") -> None:
    import polars as pl

    hashes = cells.select(pl.col(list(columns)).hash(_FIXED))
    for name, column in columns.items():
        given = hashes[name]
        column.add_hashes((given.filter(cells[name].is_not_null()) if cells[name].null_count() else given).to_numpy())


def _all_are(name: str, pattern: str) -> "polars.Expr":
    import polars as pl

    return pl.col(name).str.contains(f"^(?:{pattern})$").all()


def _smallest(hashes: Any) -> Any:
    """The distinct ones among hashes, sorted; of very many only the smallest, but more than `SKETCH`."""
    import numpy as np

    if len(hashes) > 4 * SKETCH:
        # if all are distinct, about twice as many as are needed are below this
        few = distinct(hashes[hashes < np.uint64(2 * SKETCH * (1 << 64) // len(hashes))])
        if len(few) > SKETCH:
            return few
    return distinct(hashes)


def _least(cells: "polars.Series") -> str:
    import polars as pl

    found = (cells if cells.dtype == pl.String else series_as_text(cells.unique())).min()
    assert isinstance(found, str)
    return found
