"""Comparing tables with polars: batches in, hashes and bounded summaries kept, hash joins between them.

Two hashes of 64 bits stay in memory for each row, of its key and of its content, with seeds that are drawn at random so
that no file is made to collide. Which columns changed is found in a second reading of the rows that are concerned:
side by side if they stand in the same order in both versions, else some columns at a time.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from gitml.tables.delimited import BOOLEAN, INTEGER, NUMBER
from gitml.tables.diff import Cell
from gitml.tables.frames import DelimitedSource, Source, as_text
from gitml.tables.profile import (
    MOST_CATEGORIES,
    SAMPLE,
    SKETCH,
    Profile,
    deviation_of,
    estimate,
    is_numeric,
    is_summed,
    mixed,
)
from gitml.tables.table import Match, Place, Rows, Samples

if TYPE_CHECKING:
    import polars

_BUDGET = 256 << 20
"""Bytes of hashes of cells that are held to compare rows in another order."""


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
        self.keys: list[Any] = []
        """For each key that was asked for, a hash of it for each row."""

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
        """The rows with these (sorted) numbers, in order, in batches."""
        if not len(wanted):
            return
        for row, text in self.texts(wanted, columns):
            chosen = _between(wanted, row, row + text.height)
            if len(chosen):
                yield chosen, text[chosen - row]

    def scan(self, compared: Sequence[str], keys: Sequence[Sequence[str]]) -> None:
        """Read the file once: profiles, and the hashes of rows."""
        import numpy as np

        columns = {name: _Column(name, self._source.is_text) for name in self.names}
        sample = _Sample()
        content: list[Any] = []
        found: list[list[Any]] = [[] for _ in keys]
        for row, frame in self._source.batches(self.names):
            text = as_text(frame)
            hashes = _hashes(text)
            chosen = sample.choose(row, text.height)
            _add(columns, text, chosen)
            kept = sample.reduce()
            if kept is not None:
                for column in columns.values():
                    column.keep(kept)
            content.append(_combined(hashes, compared, text.height))
            for each, key in zip(found, keys, strict=True):
                each.append(_combined(hashes, key, text.height))
            self.rows += text.height
        self.content = _joined(content)
        self.keys = [_joined(each) for each in found]
        types = self._source.types()
        self.profiles = {name: column.profile(types.get(name)) for name, column in columns.items()}
        if isinstance(self._source, DelimitedSource) and self._source.ragged:
            self.warnings.append(f"{self._source.ragged} rows are longer or shorter than the names")
        assert np.uint64 == self.content.dtype

    def is_unique(self, key: int) -> bool:
        """Whether no two rows have this key."""
        return not _has_repeated(self.keys[key])

    def forget(self) -> None:
        """Let go of the hashes."""
        self.content = None
        self.keys = []


def match(old: FrameTable, new: FrameTable, key: int | None) -> Match:
    """Which rows of two scanned tables belong together: by a key they were scanned for, or by content."""
    import numpy as np

    if key is None:
        everywhere = np.arange(old.rows), np.arange(new.rows)
        return Match(
            added=_surplus(new.content, old.content, everywhere[1]),
            removed=_surplus(old.content, new.content, everywhere[0]),
        )
    keys = old.keys[key], new.keys[key]
    repeated = _repeated(keys[0]), _repeated(keys[1])
    by_content = _distinct(np.concatenate(repeated))
    chosen = [np.isin(each, by_content) if len(by_content) else np.zeros(len(each), bool) for each in keys]
    alone = [np.flatnonzero(~each) for each in chosen]
    added, removed, changed_old, changed_new = _paired(old, new, keys, alone)
    if len(by_content):
        rows = [np.flatnonzero(each) for each in chosen]
        contents = old.content[rows[0]], new.content[rows[1]]
        added = _merged(added, _surplus(contents[1], contents[0], rows[1]))
        removed = _merged(removed, _surplus(contents[0], contents[1], rows[0]))
    return Match(
        added=added, removed=removed, changed_old=changed_old, changed_new=changed_new,
        repeated=(len(repeated[0]), len(repeated[1])),
    )  # fmt: skip


def examine(
    old: FrameTable, new: FrameTable, found: Match, compared: Sequence[str], order: Sequence[Place], most: int
) -> Samples:
    """How often each column changed, and the first rows of each kind."""
    import numpy as np

    added, removed = _First(new, order, most, found.added), _First(old, order, most, found.removed)
    changed = _First(new, order, most, found.changed_new)
    counts = np.zeros(len(compared), np.int64)
    if not len(found.changed_new):
        for _ in _read(new, [added], None, ()):
            pass
        for _ in _read(old, [removed], None, ()):
            pass
    elif (found.changed_old[1:] > found.changed_old[:-1]).all():
        one = _read(old, [removed], found.changed_old, compared)
        two = _read(new, [added, changed], found.changed_new, compared)
        for left, right in _in_step(one, two):
            counts += [int((left[name] != right[name]).sum()) for name in compared]
    else:
        counts = _out_of_step(old, new, found, compared, ([removed], [added, changed]))
    partners = changed.rows()
    old_rows = [int(found.changed_old[np.searchsorted(found.changed_new, row)]) for row, _ in partners]
    old_cells = dict(_rows(old, old_rows))
    return Samples(
        changes=dict(zip(compared, counts.tolist(), strict=True)),
        added=[cells for _, cells in added.rows()],
        removed=[cells for _, cells in removed.rows()],
        changed=[(old_cells[row], cells) for row, (_, cells) in zip(old_rows, partners, strict=True)],
    )


def shared(train: FrameTable, test: FrameTable, most: int) -> tuple[int, list[dict[str, Cell]]]:
    """How many rows of a scanned table appear in another one, and the first of them."""
    import numpy as np

    rows = np.flatnonzero(np.isin(test.content, train.content))
    found = dict(_rows(test, rows[:most].tolist()))
    return len(rows), [found[row] for row in rows[:most].tolist()]


class _Sample:
    """Which rows are in the sample: those whose mixed numbers are below a limit that falls as rows come."""

    def __init__(self) -> None:
        self._level = 64
        self._mixed: Any = None

    def choose(self, row: int, count: int) -> Rows:
        """Of so many rows from `row` on, those that are chosen, counted from there."""
        import numpy as np

        mix = _mixed(np.arange(row, row + count, dtype=np.uint64))
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
    """What a scan gathers of a column."""

    def __init__(self, name: str, inferred: bool) -> None:
        self.name = name
        self.inferred = inferred
        self.integers = self.numbers = self.booleans = True
        self.missing = self.not_finite = self.count = self.filled = 0
        self.mean = self.squares = 0.0
        self.least: Cell = None
        self.greatest: Cell = None
        self.low: tuple[float, str] | None = None
        self.high: tuple[float, str] | None = None
        self.categories: dict[str, int] | None = {}
        self._smallest: Any = None
        self._pruned = False
        self._sampled: list[Any] = []

    def add_distinct(self, hashes: "polars.Series", text: "polars.Series") -> None:
        """Count distinct cells, and categories while they are few."""
        import numpy as np

        if text.null_count():
            present = text.is_not_null()
            hashes, text = hashes.filter(present), text.filter(present)
        found = hashes.to_numpy()
        if self._pruned:
            found = found[found < self._smallest[-1]]
        if len(found):
            known = () if self._smallest is None else (self._smallest,)
            self._smallest = _smallest(np.concatenate([*known, found]))
            if len(self._smallest) > SKETCH:
                self._smallest, self._pruned = self._smallest[:SKETCH].copy(), True
        if self.categories is None or not len(text):
            return
        if self._pruned or len(self._smallest) > MOST_CATEGORIES:
            self.categories = None
            return
        counts = text.alias("cell").value_counts()
        for cell, count in zip(counts.to_series(0).to_list(), counts.to_series(1).to_list(), strict=True):
            self.categories[cell] = self.categories.get(cell, 0) + count

    def add_numbers(self, numbers: "polars.Series", text: "polars.Series", chosen: Rows) -> None:
        """Count numbers; missing cells are null."""
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
            found = low, _least(text.filter(numbers == low))
            self.low = found if self.low is None else min(self.low, found)
        if self.high is None or high >= self.high[0]:
            found = high, _least(text.filter(numbers == high))
            self.high = found if self.high is None or high > self.high[0] else (high, min(self.high[1], found[1]))

    def keep(self, places: Rows) -> None:
        """Reduce the sample to these."""
        if self.numbers:
            self._sampled = [_joined(self._sampled)[places]]

    def profile(self, given: str | None) -> Profile:
        """What it came to, for a column of a type that is given, or to be inferred."""
        numeric = bool(self.filled) and self.numbers and (given is None or is_numeric(given))
        is_boolean = self.booleans and not numeric
        kind = "integer" if self.integers else "number" if numeric else "boolean" if is_boolean else "text"
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

        sampled = _joined(self._sampled)
        finite = np.isfinite(sampled)
        return np.sort(sampled[finite]).tolist(), int(len(sampled) - finite.sum())

    def _distinct(self) -> int:
        if self._smallest is None:
            return 0
        return estimate(int(self._smallest[-1])) if self._pruned else len(self._smallest)


class _First:
    """The first of some rows of a table in an order, found while they go by."""

    def __init__(self, table: FrameTable, order: Sequence[Place], most: int, among: Rows) -> None:
        self.among = among if order else among[:most]
        """The rows, as far as they have to be looked at."""
        self._table, self._order, self._most = table, order, most
        self._by = [*chain.from_iterable((f"f{n}", f"t{n}") for n in range(len(order))), "i"]
        self._best: polars.DataFrame | None = None

    def add(self, rows: Rows, text: "polars.DataFrame") -> None:
        """Look at some of them."""
        import polars as pl

        if not self._most or not len(rows):
            return
        ranks = [pl.Series("i", rows).cast(pl.Int64)]
        for number, place in enumerate(self._order):
            cells = text[place.name]
            ranks.append(
                cells.cast(pl.Float64, strict=False).alias(f"f{number}")
                if place.numeric
                else pl.Series(f"f{number}", [0.0]).new_from_index(0, text.height)
            )
            ranks.append(cells.alias(f"t{number}"))
        frame = pl.DataFrame(ranks)
        if self._best is not None:
            if self._order and self._best.height == self._most:
                by = "f0" if self._order[0].numeric else "t0"
                worst = self._best[by][-1]
                if worst is not None:
                    frame = frame.filter(pl.col(by) <= worst)
            frame = pl.concat([self._best, frame])
        self._best = frame.sort(self._by, nulls_last=True).head(self._most)

    def rows(self) -> list[tuple[int, dict[str, Cell]]]:
        """Their numbers and cells, in order."""
        if self._best is None:
            return []
        found = self._best["i"].to_list()
        cells = dict(_rows(self._table, found))
        return [(row, cells[row]) for row in found]


@cache
def _seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


def _hashes(text: "polars.DataFrame") -> "polars.DataFrame":
    import polars as pl

    return text.select(pl.all().hash(_seed()))


def _combined(hashes: "polars.DataFrame", columns: Sequence[str], height: int) -> Any:
    """A hash of each row from those of its cells: their sum, each times an odd number of its own."""
    import numpy as np

    total = np.zeros(height, np.uint64)
    for place, name in enumerate(columns):
        total += hashes[name].to_numpy() * np.uint64(mixed(_seed() ^ place) | 1)
    return total


def _joined(parts: Sequence[Any]) -> Any:
    import numpy as np

    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _mixed(rows: Any) -> Any:
    """`profile.mixed` of an array."""
    import numpy as np

    word = (rows + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)


def _add(columns: "dict[str, _Column]", text: "polars.DataFrame", chosen: Rows) -> None:
    """Count the cells of a batch."""
    import polars as pl

    # not those of rows: an estimate is to be the same the next time
    marks = text.select(pl.all().hash(0))
    # names of columns are no expressions: polars takes some for patterns
    text = text.clone()
    text.columns = list(map(str, range(text.width)))
    wanted: list[polars.Expr] = []
    for number, column in enumerate(columns.values()):
        cells = pl.col(str(number))
        wanted += [cells.min().alias(f"{number} least"), cells.max().alias(f"{number} greatest")]
        for flag, pattern in (("integers", INTEGER), ("numbers", NUMBER), ("booleans", BOOLEAN)):
            # an integer is a number: what was one so far is first asked whether it stays one
            if getattr(column, flag) and not (flag == "numbers" and column.integers):
                wanted.append(cells.str.contains(f"^(?:{pattern})$").all().alias(f"{number} {flag}"))
    found = text.select(wanted).row(0, named=True)
    late = []
    for number, column in enumerate(columns.values()):
        column.integers, was = bool(found.get(f"{number} integers", False)), column.integers
        column.booleans = bool(found.get(f"{number} booleans", False))
        if was and not column.integers:
            late.append(pl.col(str(number)).str.contains(f"^(?:{NUMBER})$").all())
    if late:
        for place, holds in text.select(late).row(0, named=True).items():
            found[f"{place} numbers"] = holds
    for number, column in enumerate(columns.values()):
        column.numbers = column.integers or bool(found.get(f"{number} numbers", False))
    numeric = [str(number) for number, column in enumerate(columns.values()) if column.numbers]
    numbers = text.select(pl.col(numeric).cast(pl.Float64, strict=False)) if numeric else None
    for number, column in enumerate(columns.values()):
        series = text.to_series(number)
        least, greatest = found[f"{number} least"], found[f"{number} greatest"]
        column.missing += series.null_count()
        column.filled += text.height - series.null_count()
        if least is not None:
            column.least = least if column.least is None else min(column.least, least)
            column.greatest = greatest if column.greatest is None else max(column.greatest, greatest)
        column.add_distinct(marks.to_series(number), series)
        if column.numbers and numbers is not None:
            column.add_numbers(numbers[str(number)], series, chosen)


def _smallest(hashes: Any) -> Any:
    """The distinct ones among hashes, sorted; of very many only the smallest, but more than `SKETCH`."""
    import numpy as np
    import polars as pl

    if len(hashes) > 4 * SKETCH:
        # if all are distinct, about twice as many as are needed are below this
        few = _distinct(hashes[hashes < np.uint64(2 * SKETCH * (1 << 64) // len(hashes))])
        if len(few) > SKETCH:
            return few
    return np.sort(pl.Series(hashes).unique().to_numpy())


def _least(cells: "polars.Series") -> str:
    found = cells.min()
    assert isinstance(found, str)
    return found


def _between(wanted: Rows, start: int, end: int) -> Rows:
    return wanted[wanted.searchsorted(start) : wanted.searchsorted(end)]


def _distinct(values: Any) -> Any:
    """These values sorted, each once; many times as fast as `numpy.unique`, which hashes."""
    import numpy as np

    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _merged(one: Rows, two: Rows) -> Rows:
    """The values of two sorted arrays, sorted, each once."""
    import numpy as np

    if not len(one) or not len(two):
        return two if not len(one) else one
    # stable: a merge of the two runs
    ordered = np.sort(np.concatenate([one, two]), kind="stable")
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]


def _has_repeated(keys: Any) -> bool:
    import numpy as np

    ordered = np.sort(keys)
    return bool((ordered[1:] == ordered[:-1]).any())


def _repeated(keys: Any) -> Any:
    """Those that occur more than once."""
    import numpy as np

    ordered = np.sort(keys)
    return _distinct(ordered[1:][ordered[1:] == ordered[:-1]])


def _surplus(mine: Any, other: Any, rows: Rows) -> Rows:
    """Of rows with these contents, those beyond as many of the same content as there are among `other`; sorted."""
    import numpy as np

    # sorted, as a hash table of ten million rows would be what takes most memory; stable, so that the last are beyond
    order = np.argsort(mine, kind="stable")
    ordered, other = mine[order], np.sort(other)
    counts = other.searchsorted(ordered, "right")
    counts -= other.searchsorted(ordered, "left")
    counts += ordered.searchsorted(ordered, "left")
    return rows[np.sort(order[np.arange(len(order)) >= counts])]


def _paired(
    old: FrameTable, new: FrameTable, keys: Sequence[Any], rows: Sequence[Rows]
) -> tuple[Rows, Rows, Rows, Rows]:
    """Of rows whose keys occur once: added, removed, and pairs that changed, by the new row."""
    import numpy as np

    # sorted keys next to each other: less memory than a hash table, and as fast
    orders = [np.argsort(each[chosen]) for each, chosen in zip(keys, rows, strict=True)]
    ordered = [each[chosen][order] for each, chosen, order in zip(keys, rows, orders, strict=True)]
    places = np.searchsorted(ordered[0], ordered[1])
    there = np.zeros(len(places), bool)
    inside = places < len(ordered[0])
    there[inside] = ordered[0][places[inside]] == ordered[1][inside]
    partners, mine = rows[0][orders[0][places[there]]], rows[1][orders[1][there]]
    left = np.ones(len(rows[0]), bool)
    left[orders[0][places[there]]] = False
    differ = old.content[partners] != new.content[mine]
    partners, mine = partners[differ], mine[differ]
    order = np.argsort(mine)
    return np.sort(rows[1][orders[1][~there]]), np.sort(rows[0][left]), partners[order], mine[order]


def _read(
    table: FrameTable, firsts: Sequence[_First], changed: Rows | None, compared: Sequence[str]
) -> "Iterator[polars.DataFrame]":
    """Read the rows that are concerned: show them to `firsts`, and give the hashes of those that changed (sorted)."""
    import numpy as np

    wanted = np.empty(0, np.int64) if changed is None else changed
    for each in firsts:
        wanted = _merged(wanted, each.among)
    for rows, text in table.pick(wanted):
        start, end = int(rows[0]), int(rows[-1]) + 1
        for each in firsts:
            mine = _between(each.among, start, end)
            if len(mine):
                each.add(mine, text[rows.searchsorted(mine)])
        if changed is not None:
            mine = _between(changed, start, end)
            if len(mine):
                yield _hashes(text[list(compared)][rows.searchsorted(mine)])


def _in_step(
    one: "Iterator[polars.DataFrame]", two: "Iterator[polars.DataFrame]"
) -> "Iterator[tuple[polars.DataFrame, polars.DataFrame]]":
    """Frames of equal height from two sequences with as many rows."""
    left, right = next(one, None), next(two, None)
    while left is not None and right is not None:
        height = min(left.height, right.height)
        yield left.head(height), right.head(height)
        left = left[height:] if left.height > height else next(one, None)
        right = right[height:] if right.height > height else next(two, None)


def _out_of_step(
    old: FrameTable, new: FrameTable, found: Match, compared: Sequence[str],
    firsts: tuple[Sequence[_First], Sequence[_First]],
) -> Any:  # fmt: skip
    """How often each column changed, where rows stand in another order."""
    import numpy as np
    import polars as pl

    counts = np.zeros(len(compared), np.int64)
    ordered = np.sort(found.changed_old)
    places = ordered.searchsorted(found.changed_old)
    step = max(1, _BUDGET // (16 * len(ordered)))
    for start in range(0, len(compared), step):
        names = compared[start : start + step]
        if start == 0:
            parts = list(_read(old, firsts[0], ordered, names)), list(_read(new, firsts[1], found.changed_new, names))
        else:
            parts = (
                [_hashes(text) for _, text in old.pick(ordered, names)],
                [_hashes(text) for _, text in new.pick(found.changed_new, names)],
            )
        left, right = (pl.concat(each) for each in parts)
        for number, name in enumerate(names, start):
            counts[number] = (left[name].to_numpy()[places] != right[name].to_numpy()).sum()
    return counts


def _rows(table: FrameTable, rows: Sequence[int]) -> Iterator[tuple[int, dict[str, Cell]]]:
    """These rows with all their cells, in the order of the table."""
    import numpy as np

    for numbers, text in table.pick(np.unique(np.array(rows, np.int64))):
        yield from zip(numbers.tolist(), text.to_dicts(), strict=True)
