"""Comparing CSV and TSV files with the standard library alone: slower, and with the same results.

Of each row two hashes stay in memory, of its key and of its content; rows themselves are read again where they are
needed. Strings hash with a key that Python chooses at random at its start, so no file is made to collide.
"""

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import blake2b
from itertools import islice

from gitml.tables.delimited import DelimitedFile, fitted, is_boolean, is_integer, is_number
from gitml.tables.diff import Cell
from gitml.tables.profile import MOST_CATEGORIES, SAMPLE, SKETCH, Profile, deviation_of, estimate, is_summed, mixed
from gitml.tables.table import Match, Place, Samples

_WORD = (1 << 64) - 1


class PlainTable:
    """A CSV or TSV file, read row by row."""

    def __init__(self, file: DelimitedFile) -> None:
        self._file = file
        self.names = file.names
        self.warnings = list(file.warnings)
        self.rows = 0
        self.profiles: dict[str, Profile] = {}
        self.content = array("Q")
        """A hash of the compared cells of each row."""
        self.keys = array("Q")
        """A hash of the key of each row, if there was one to scan for."""

    def head(self, count: int) -> list[list[Cell]]:
        """The first rows."""
        return [cells for _, cells in islice(self.read(), count)]

    def read(self) -> Iterator[tuple[int, list[Cell]]]:
        """All rows, with their numbers."""
        width = len(self.names)
        for row, record in enumerate(self._file.records(self._file.start)):
            yield row, fitted(record, width)

    def cells(self, columns: Sequence[str]) -> dict[str, list[Cell]]:
        """Whole columns."""
        places = self._places(columns)
        found: list[list[Cell]] = [[] for _ in columns]
        for _, row in self.read():
            for column, place in zip(found, places, strict=True):
                column.append(row[place])
        return dict(zip(columns, found, strict=True))

    def may_be_key(self, name: str) -> bool:  # noqa: ARG002 - as the other engine
        """Whether the first rows leave it open: those of `head` are all that are looked at before a scan."""
        return True

    def scan(self, compared: Sequence[str], key: Sequence[str] | None) -> None:
        """Read the file once: profiles, unless they are known, and the hashes of rows; no key: by content."""
        self.forget()
        pick = _picker(self._places(compared))
        pick_key = None if key is None else _picker(self._places(key))
        for cells in self._cells_seen():
            self.content.append(hash(pick(cells)) & _WORD)
            if pick_key is not None:
                self.keys.append(hash(pick_key(cells)) & _WORD)
        self.rows = len(self.content)

    def _cells_seen(self) -> Iterator[list[Cell]]:
        """All rows; whoever goes through them for the first time leaves the profiles behind."""
        if self.profiles:
            yield from (cells for _, cells in self.read())
            return
        width = len(self.names)
        columns = [_Column() for _ in self.names]
        level, sampled = 64, list[tuple[int, int]]()
        ragged = 0
        for row, record in enumerate(self._file.records(self._file.start)):
            ragged += len(record) != width
            cells = fitted(record, width)
            mix = mixed(row)
            chosen = not mix >> level
            for column, cell in zip(columns, cells, strict=True):
                column.add(cell, len(sampled) if chosen else None)
            if chosen:
                sampled.append((mix, row))
                while len(sampled) > SAMPLE:
                    level -= 1
                    kept = [place for place, (other, _) in enumerate(sampled) if not other >> level]
                    sampled = [sampled[place] for place in kept]
                    for column in columns:
                        column.keep(kept)
            yield cells
        self.profiles = {name: column.profile() for name, column in zip(self.names, columns, strict=True)}
        if ragged:
            self.warnings.append(f"{ragged} rows are longer or shorter than the names")

    def forget(self) -> None:
        """Let go of the hashes."""
        self.content, self.keys = array("Q"), array("Q")

    def _places(self, names: Sequence[str]) -> list[int]:
        return [self.names.index(name) for name in names]


def scan(tables: tuple[PlainTable, PlainTable], compared: Sequence[str], key: Sequence[str] | None) -> None:
    """Read both files once: profiles, and the hashes of rows in the compared columns and in this key."""
    for table in tables:
        table.scan(compared, key)


def match(old: PlainTable, new: PlainTable, *, keyed: bool, unique: bool = False) -> Match | None:
    """Which rows of two scanned tables belong together: by the key they were scanned for, or by content.

    With `unique` None if a key occurs more than once in a table.
    """
    if not keyed:
        return Match(added=_surplus(new, old, None), removed=_surplus(old, new, None))
    if unique and any(len(set(table.keys)) < table.rows for table in (old, new)):
        return None
    repeated = [{each for each, count in Counter(table.keys).items() if count > 1} for table in (old, new)]
    by_content = repeated[0] | repeated[1]
    before = {each: row for row, each in enumerate(old.keys) if each not in by_content}
    changed: list[tuple[int, int]] = []
    added: list[int] = []
    for row, each in enumerate(new.keys):
        if each in by_content:
            continue
        partner = before.pop(each, None)
        if partner is None:
            added.append(row)
        elif old.content[partner] != new.content[row]:
            changed.append((partner, row))
    chosen = [
        [row for row, each in enumerate(table.keys) if each in by_content] if by_content else [] for table in (old, new)
    ]
    return Match(
        added=sorted([*added, *_surplus(new, old, (chosen[1], chosen[0]))]),
        removed=sorted([*before.values(), *_surplus(old, new, (chosen[0], chosen[1]))]),
        changed_old=[one for one, _ in changed],
        changed_new=[two for _, two in changed],
        repeated=(len(repeated[0]), len(repeated[1])),
    )


def examine(
    old: PlainTable, new: PlainTable, found: Match, compared: Sequence[str], order: Sequence[Place], most: int
) -> Samples:
    """How often each column changed, and the first rows of each kind."""
    partners = dict(zip(found.changed_new, found.changed_old, strict=True))
    # the rows of the smaller table wait for those of the other: only changed ones, and only what is compared
    waiting = set(found.changed_old)
    pick_old = _picker([old.names.index(name) for name in compared])
    pick_new = _picker([new.names.index(name) for name in compared])
    hashes = {row: tuple(map(hash, pick_old(cells))) for row, cells in old.read() if row in waiting} if waiting else {}
    counts = [0] * len(compared)
    if partners:
        for row, cells in new.read():
            if row in partners:
                pairs = zip(hashes[partners[row]], map(hash, pick_new(cells)), strict=True)
                for place, (one, two) in enumerate(pairs):
                    counts[place] += one != two
    new_rows = _first(new, partners, order, most)
    old_rows = _rows(old, {partners[row] for row, _ in new_rows})
    return Samples(
        changes=dict(zip(compared, counts, strict=True)),
        added=[_named(new, cells) for _, cells in _first(new, set(found.added), order, most)],
        removed=[_named(old, cells) for _, cells in _first(old, set(found.removed), order, most)],
        changed=[(_named(old, old_rows[partners[row]]), _named(new, cells)) for row, cells in new_rows],
    )


def shared(train: PlainTable, test: PlainTable, most: int) -> tuple[int, list[dict[str, Cell]]]:
    """How many rows of a scanned table appear in another one, and the first of them."""
    known = set(train.content)
    rows = [row for row, each in enumerate(test.content) if each in known]
    found = _rows(test, set(rows[:most]))
    return len(rows), [_named(test, found[row]) for row in rows[:most]]


class _Column:
    """What a scan gathers of a column."""

    def __init__(self) -> None:
        self.missing = self.not_finite = self.count = 0
        self.integers = self.numbers = self.booleans = True
        self.mean = self.squares = 0.0
        self.hashes: set[int] | None = set()
        self.limit = _WORD
        self.pruned = False
        self.least: Cell = None
        self.greatest: Cell = None
        self.low: tuple[float, str] | None = None
        self.high: tuple[float, str] | None = None
        self.categories: dict[str, int] | None = {}
        self.sampled: list[float | None] = []

    def add(self, cell: Cell, place: int | None) -> None:
        """Count a cell; `place`: where its row stands in the sample."""
        number: float | None = None
        if cell is None:
            self.missing += 1
        else:
            self._count(cell)
            if self.numbers:
                number = self._number(cell)
        if place is not None:
            self.sampled.append(number)

    def keep(self, places: Sequence[int]) -> None:
        """Reduce the sample to these."""
        self.sampled = [self.sampled[place] for place in places]

    def profile(self) -> Profile:
        """What it came to."""
        distinct, exact = self._distinct()
        filled = self.least is not None
        numeric = filled and self.numbers
        kind = "text"
        if not filled:
            kind = "empty"
        elif numeric:
            kind = "integer" if self.integers else "number"
        elif self.booleans:
            kind = "boolean"
        values = sorted(each for each in self.sampled if each is not None) if numeric else []
        low, high = (self.low, self.high) if numeric else (None, None)
        summed = numeric and is_summed(low, high)
        return Profile(
            type=kind, missing=self.missing, distinct=distinct, exact=exact,
            least=(low and low[1]) if numeric else self.least,
            greatest=(high and high[1]) if numeric else self.greatest,
            not_finite=self.not_finite if numeric else None, mean=self.mean if summed and self.count else None,
            deviation=deviation_of(self.count, self.squares) if summed else None, values=values,
            others=len(self.sampled) - len(values) if numeric else 0,
            categories=None if numeric or not filled else self.categories,
        )  # fmt: skip

    def _count(self, cell: str) -> None:
        if self.least is None or cell < self.least:
            self.least = cell
        if self.greatest is None or cell > self.greatest:
            self.greatest = cell
        self.integers = self.integers and is_integer(cell)
        self.numbers = self.numbers and (self.integers or is_number(cell))
        self.booleans = self.booleans and is_boolean(cell)
        if self.categories is not None:
            self.categories[cell] = self.categories.get(cell, 0) + 1
            if len(self.categories) > MOST_CATEGORIES:
                self.categories = None
        assert self.hashes is not None
        # not `hash`: an estimate is to be the same the next time
        hashed = int.from_bytes(blake2b(cell.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        if hashed <= self.limit:
            self.hashes.add(hashed)
            if len(self.hashes) > 2 * SKETCH:
                self._prune()

    def _number(self, cell: str) -> float | None:
        number = float(cell)
        if not math.isfinite(number):
            self.not_finite += 1
            return None
        self.count += 1
        delta = number - self.mean
        self.mean += delta / self.count
        self.squares += delta * (number - self.mean)
        if self.low is None or (number, cell) < self.low:
            self.low = number, cell
        # of equal numbers the text that is less, as at the other end
        if self.high is None or number > self.high[0] or (number == self.high[0] and cell < self.high[1]):
            self.high = number, cell
        return number

    def _prune(self) -> None:
        assert self.hashes is not None
        kept = heapq.nsmallest(SKETCH, self.hashes)
        self.hashes, self.limit, self.pruned = set(kept), kept[-1], True

    def _distinct(self) -> tuple[int, bool]:
        assert self.hashes is not None
        if len(self.hashes) > SKETCH:
            self._prune()
        return (estimate(self.limit), False) if self.pruned else (len(self.hashes), True)


def _picker(places: Sequence[int]) -> Callable[[Sequence[Cell]], tuple[Cell, ...]]:
    return lambda cells: tuple([cells[place] for place in places])


def _surplus(these: PlainTable, those: PlainTable, chosen: tuple[Sequence[int], Sequence[int]] | None) -> list[int]:
    """Rows of `these` beyond as many of the same content as `those` have; among all rows, or among `chosen` ones."""
    mine, other = chosen or (range(these.rows), range(those.rows))
    left = Counter(those.content[row] for row in other)
    found: list[int] = []
    for row in mine:
        content = these.content[row]
        if left[content]:
            left[content] -= 1
        else:
            found.append(row)
    return found


def _first(
    table: PlainTable, rows: Collection[int], order: Sequence[Place], most: int
) -> list[tuple[int, Sequence[Cell]]]:
    """The first of these rows by `order`, and by their numbers."""
    if not rows or not most:
        return []
    places = [(table.names.index(each.name), each.numeric) for each in order]

    def rank(item: tuple[int, Sequence[Cell]]) -> tuple[object, ...]:
        ranks = (_rank(item[1][place], numeric) for place, numeric in places)
        return (*ranks, item[0])

    return heapq.nsmallest(most, (item for item in table.read() if item[0] in rows), key=rank)


def _rank(cell: Cell, numeric: bool) -> tuple[object, ...]:
    if cell is None:
        return (1,)
    number = float(cell) if numeric else 0.0
    # NaN has no place of its own: after all numbers
    return (0, math.isnan(number), 0.0 if math.isnan(number) else number, cell)


def _rows(table: PlainTable, rows: Collection[int]) -> dict[int, Sequence[Cell]]:
    return {row: cells for row, cells in table.read() if row in rows} if rows else {}


def _named(table: PlainTable, cells: Sequence[Cell]) -> dict[str, Cell]:
    return dict(zip(table.names, cells, strict=True))
