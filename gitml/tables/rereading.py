"""The second reading of two tables: only the rows that are concerned, to see which columns changed and to show some.

Where changed rows stand in the same order in both versions, cells are compared as both files go by. In another order,
hashes of the cells of the old version are held, for as many columns as memory is given for, while the new one goes by.
Then others have their turn. Where that means to read all of a file again, a sum of each of them is made on the way that
tells whether it changed at all: most did not.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from gitml.record import record
from gitml.tables.diff import Cell
from gitml.tables.frames import as_text, is_plain_number, rows_of, series_as_text
from gitml.tables.hashing import between, cell_hashes, merged, mixed_all, place_of
from gitml.tables.table import Match, Place, Rows, Samples

if TYPE_CHECKING:
    import polars

_BUDGET = 512 << 20
"""Bytes of hashes of cells that are held to compare rows in another order."""


class Rereadable(Protocol):
    """A table that can be read once more."""

    names: tuple[str, ...]
    is_apart: bool
    """Each column is read on its own: the fewer of them, the sooner."""

    def pick(self, wanted: Rows, columns: Sequence[str] | None = None) -> "Iterator[tuple[Rows, polars.DataFrame]]":
        """The rows with these (sorted) numbers, in order, in batches; cells as text, or so that they compare alike."""
        ...


def examine(
    old: Rereadable, new: Rereadable, found: Match, compared: Sequence[str], order: Sequence[Place], most: int
) -> Samples:
    """How often each column changed, and the first rows of each kind."""
    added, removed = _First(new, order, most, found.added), _First(old, order, most, found.removed)
    changed = _First(new, order, most, found.changed_new)
    firsts: tuple[list[_First], list[_First]] = [removed], [added, changed]
    # in a key pairs are alike
    key = {place.name for place in order}
    names = [name for name in compared if name not in key]
    if not len(found.changed_new):
        for table, each in ((old, removed), (new, added)):
            for _ in _read(table, [each], None, ()):
                pass
        counts = {}
    elif (found.changed_old[1:] > found.changed_old[:-1]).all():
        counts = _in_step(
            _read(old, firsts[0], found.changed_old, names), _read(new, firsts[1], found.changed_new, names), names
        )
    else:
        counts = _out_of_step(old, new, found, names, firsts)
    partners = changed.rows()
    old_rows = [int(found.changed_old[place_of(found.changed_new, row)]) for row, _ in partners]
    old_cells = dict(whole_rows(old, old_rows))
    return Samples(
        changes={name: counts.get(name, 0) for name in compared},
        added=[cells for _, cells in added.rows()],
        removed=[cells for _, cells in removed.rows()],
        changed=[(old_cells[row], cells) for row, (_, cells) in zip(old_rows, partners, strict=True)],
    )


def whole_rows(table: Rereadable, rows: Sequence[int]) -> Iterator[tuple[int, dict[str, Cell]]]:
    """These rows with all their cells, in the order of the table."""
    import numpy as np

    for numbers, frame in table.pick(np.unique(np.array(rows, np.int64))):
        yield from zip(numbers.tolist(), as_text(frame).to_dicts(), strict=True)


class _First:
    """The first of some rows of a table in an order, found while they go by."""

    def __init__(self, table: Rereadable, order: Sequence[Place], most: int, among: Rows) -> None:
        self.among = among if order else among[:most]
        """The rows, as far as they have to be looked at."""
        self.columns = [place.name for place in order]
        """The columns that are looked at."""
        self._table, self._order, self._most = table, order, most
        self._by = [*chain.from_iterable((f"f{n}", f"t{n}") for n in range(len(order))), "i"]
        self._best: polars.DataFrame | None = None

    def add(self, rows: Rows, frame: "polars.DataFrame") -> None:
        """Look at some of them."""
        import polars as pl

        if not self._most or not len(rows):
            return
        rows, frame = self._hopeful(rows, frame)
        text = as_text(frame[self.columns])
        ranks = [pl.Series("i", rows).cast(pl.Int64)]
        for number, place in enumerate(self._order):
            cells = text[place.name]
            ranks.append(
                cells.cast(pl.Float64, strict=False).alias(f"f{number}")
                if place.numeric
                else pl.Series(f"f{number}", [0.0]).new_from_index(0, len(rows))
            )
            ranks.append(cells.alias(f"t{number}"))
        ranked = pl.DataFrame(ranks)
        if self._best is not None:
            ranked = pl.concat([self._best, ranked])
        self._best = ranked.sort(self._by, nulls_last=True).head(self._most)

    def _hopeful(self, rows: Rows, frame: "polars.DataFrame") -> "tuple[Rows, polars.DataFrame]":
        """Those that may be among the first, as far as one column tells: of millions a few."""
        import polars as pl

        if not self._order or self._best is None or self._best.height < self._most:
            return rows, frame
        place = self._order[0]
        worst = self._best["f0" if place.numeric else "t0"][-1]
        if worst is None:
            return rows, frame
        cells = frame[place.name]
        if not (place.numeric and is_plain_number(cells.dtype)):
            cells = series_as_text(cells)
        is_hopeful = (cells.cast(pl.Float64, strict=False) if place.numeric else cells) <= worst
        chosen = is_hopeful.fill_null(value=False)
        return rows[chosen.to_numpy()], frame.filter(chosen)

    def rows(self) -> list[tuple[int, dict[str, Cell]]]:
        """Their numbers and cells, in order."""
        if self._best is None:
            return []
        found = self._best["i"].to_list()
        cells = dict(whole_rows(self._table, found))
        return [(row, cells[row]) for row in found]


def _read(
    table: Rereadable, firsts: Sequence[_First], changed: Rows | None, columns: Sequence[str]
) -> "Iterator[polars.DataFrame]":
    """Read the rows that are concerned: show them to `firsts`, and give those columns of the ones that changed."""
    import numpy as np

    wanted = np.empty(0, np.int64) if changed is None else changed
    for each in firsts:
        if each.among is not changed:  # to find out that ten million are the same ten million takes a gigabyte
            wanted = merged(wanted, each.among)
    needed = dict.fromkeys([*columns, *chain.from_iterable(each.columns for each in firsts)])
    # a frame without columns has no rows
    for rows, frame in table.pick(wanted, list(needed) or table.names[:1]):
        start, end = int(rows[0]), int(rows[-1]) + 1
        for each in firsts:
            mine = between(each.among, start, end)
            if len(mine):
                each.add(mine, _chosen(frame, rows, mine))
        if changed is not None:
            mine = between(changed, start, end)
            if len(mine):
                yield _chosen(frame[list(columns)], rows, mine)


def _chosen(frame: "polars.DataFrame", rows: Rows, mine: Rows) -> "polars.DataFrame":
    return frame if len(mine) == len(rows) else rows_of(frame, rows.searchsorted(mine))


def _in_step(
    one: "Iterator[polars.DataFrame]", two: "Iterator[polars.DataFrame]", names: Sequence[str]
) -> dict[str, int]:
    """How often each column differs between two sequences of frames with as many rows."""
    counts = dict.fromkeys(names, 0)
    left: polars.DataFrame | None = None
    right: polars.DataFrame | None = None
    with ThreadPoolExecutor(2) as threads:
        while True:
            # both at once: polars and numpy mostly leave a second processor idle
            waiting = [threads.submit(next, each, None) for each, has in ((one, left), (two, right)) if has is None]
            fresh = [each.result() for each in waiting]
            if left is None:
                left = fresh[0]
            if right is None:
                right = fresh[-1]
            if left is None or right is None:
                return counts
            height = min(left.height, right.height)
            for name in names:
                counts[name] += int(left[name].head(height).ne_missing(right[name].head(height)).sum())
            left = left[height:] if left.height > height else None
            right = right[height:] if right.height > height else None


def _out_of_step(
    old: Rereadable, new: Rereadable, found: Match, names: Sequence[str],
    firsts: tuple[Sequence[_First], Sequence[_First]],
) -> dict[str, int]:  # fmt: skip
    """How often each column changed, where rows stand in another order."""
    is_apart = old.is_apart and new.is_apart
    pairs = _Pairs(old, new, found.changed_new, *_ranked(found.changed_old, others_too=is_apart))
    counts: dict[str, int] = {}
    if is_apart:
        # a few columns at a time and two times at once, each column read once; small batches leave room for more
        most = max(1, _BUDGET * 5 // 4 // (8 * len(found.changed_new)))
        step = max(1, min(most // 2, -(-len(names) // 2)))
        parts = [names[start : start + step] for start in range(0, len(names), step)]
        shown = [firsts, *[((), ())] * len(parts)]
        with ThreadPoolExecutor(min(2, most)) as threads:
            for part in threads.map(lambda part, first: pairs.compare(part, (), first)[0], parts, shown):
                counts |= part
        return counts
    left, most = list(names), max(1, _BUDGET // (8 * len(found.changed_new)))
    while left:
        fresh, left = pairs.compare(left[:most], left[most:], firsts)
        counts |= fresh
        firsts = ((), ())
    return counts


@record
class _Pairs:
    """Rows that belong together, in another order in each version."""

    old: Rereadable
    new: Rereadable
    changed_new: Rows
    changed_old: Rows
    """In the order of the old version; others may be among them if no sums are made."""
    places: Rows
    """For each new row where the old one is among these."""

    def compare(
        self, names: Sequence[str], others: Sequence[str], firsts: tuple[Sequence[_First], Sequence[_First]]
    ) -> tuple[dict[str, int], list[str]]:
        """How often each of `names` changed, and which of the others did; both versions are read once."""
        import numpy as np

        held = {name: np.empty(len(self.changed_old), np.uint64) for name in names}
        sums: list[dict[str, Any]] = []
        start = 0
        for frame in _read(self.old, firsts[0], self.changed_old, [*names, *others]):
            hashes, end = cell_hashes(frame), start + frame.height
            for name in names:
                held[name][start:end] = hashes[name].to_numpy()
            sums.append(_sums(hashes, others, np.arange(start, end)))
            start = end
        before, sums, start = _added_up(sums), [], 0
        counts = dict.fromkeys(names, 0)
        for frame in _read(self.new, firsts[1], self.changed_new, [*names, *others]):
            hashes = cell_hashes(frame)
            # in the type that numpy takes, and without a look at whether they are within bounds: they are
            mine = self.places[start : start + frame.height].astype(np.intp)
            for name in names:
                counts[name] += int((held[name].take(mine, mode="clip") != hashes[name].to_numpy()).sum())
            sums.append(_sums(hashes, others, mine))
            start += frame.height
        after = _added_up(sums)
        return counts, [name for name in others if before[name] != after[name]]


def _ranked(rows: Rows, *, others_too: bool) -> tuple[Rows, Rows]:
    """Distinct numbers in order, and for each of them where it is there; with others between them if these are few."""
    import numpy as np

    if others_too and len(rows) > 0.9 * int(rows.max()):
        return np.arange(int(rows.max()) + 1, dtype=np.uint32), rows
    # many times as fast as sorting ten million and more of them
    there = np.zeros(int(rows.max()) + 1, bool)
    there[rows] = True
    ranks = np.cumsum(there, dtype=np.uint32)
    ranks -= np.uint32(1)
    places = ranks[rows]
    del ranks
    return np.flatnonzero(there).astype(np.uint32), places


def _sums(hashes: "polars.DataFrame", names: Sequence[str], pairs: Rows) -> dict[str, Any]:
    """For each column the sum of the hashes of cells, each times an odd number of its pair: in no order."""
    import numpy as np

    if not names:
        return {}
    factors = mixed_all(pairs.astype(np.uint64)) | np.uint64(1)
    return {name: (hashes[name].to_numpy() * factors).sum(dtype=np.uint64) for name in names}


def _added_up(sums: Sequence[dict[str, Any]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in sums:
        for name, value in each.items():
            total[name] = (total.get(name, 0) + int(value)) % (1 << 64)
    return total
