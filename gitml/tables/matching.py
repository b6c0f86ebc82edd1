"""Which rows of two versions belong together, from hashes of their keys and contents alone: arrays in, a `Match` out.

Hashes of each version are sorted once, both versions at the same time, and the sorted arrays walked side by side: that
takes less memory than a hash table, and is as fast.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gitml.tables.hashing import distinct, merged
from gitml.tables.table import Match, Rows


def by_content(old: Any, new: Any) -> Match:
    """Rows beyond as many of the same content as the other version has."""
    removed, added = _surplus(_both(Sorted, (old, new)))
    return Match(added=added, removed=removed)


def by_key(keys: tuple["Sorted", "Sorted"], contents: tuple[Any, Any]) -> Match:
    """Pairs of rows with one key whose contents differ; rows whose keys occur more than once are matched by content."""
    repeated = [each.repeated() for each in keys]
    several = merged(*repeated)
    if not len(several):
        return _pairs(keys, contents)
    parts = [each.split(several) for each in keys]
    found = _pairs([alone for alone, _ in parts], contents)
    left = _surplus([Sorted(content[rows], rows) for content, (_, rows) in zip(contents, parts, strict=True)])
    return Match(
        added=merged(found.added, left[1]), removed=merged(found.removed, left[0]), changed_old=found.changed_old,
        changed_new=found.changed_new, repeated=(len(repeated[0]), len(repeated[1])),
    )  # fmt: skip


def rows_among(hashes: Any, others: Any) -> Rows:
    """The rows whose hashes occur among others, sorted."""
    mine, other = _both(Sorted, (hashes, others))
    return _in_order(mine.rows[_is_in(mine.hashes, other.hashes)], len(hashes))


class Sorted:
    """Hashes in order, and the rows that they are of."""

    def __init__(self, hashes: Any, rows: Rows | None = None) -> None:
        import numpy as np

        order = np.argsort(hashes)
        self.hashes = hashes[order]
        self.rows = order.astype(np.uint32) if len(order) < 1 << 32 else order
        if rows is not None:
            self.rows = rows[self.rows]

    @classmethod
    def of(cls, hashes: Any, rows: Rows) -> "Sorted":
        """From what is in order already."""
        found = cls.__new__(cls)
        found.hashes, found.rows = hashes, rows
        return found

    def has_repeated(self) -> bool:
        """Whether a hash occurs more than once."""
        return bool((self.hashes[1:] == self.hashes[:-1]).any())

    def repeated(self) -> Any:
        """The hashes that occur more than once, each once."""
        return distinct(self.hashes[1:][self.hashes[1:] == self.hashes[:-1]])

    def split(self, some: Any) -> tuple["Sorted", Rows]:
        """What is not among `some` distinct hashes; and the rows of what is, sorted."""
        import numpy as np

        starts, ends = self.hashes.searchsorted(some, "left"), self.hashes.searchsorted(some, "right")
        here = ends > starts
        steps = np.zeros(len(self.hashes) + 1, np.int8)
        steps[starts[here]] += 1
        steps[ends[here]] -= 1
        chosen = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
        return Sorted.of(self.hashes[~chosen], self.rows[~chosen]), np.sort(self.rows[chosen])


def _both(work: Callable[..., Any], given: Sequence[Any]) -> list[Any]:
    """`work` for two versions at once: sorting leaves the interpreter free."""
    with ThreadPoolExecutor(len(given)) as threads:
        return list(threads.map(work, given))


def _is_in(mine: Any, ordered: Any) -> Any:
    """For each of `mine` whether it is among ordered hashes; fast if `mine` are in order too."""
    import numpy as np

    if not len(ordered):
        return np.zeros(len(mine), bool)
    places = ordered.searchsorted(mine)
    np.minimum(places, len(ordered) - 1, out=places)
    return ordered[places] == mine


def _pairs(ordered: Sequence[Sorted], contents: tuple[Any, Any]) -> Match:
    """Of rows whose keys occur once in both versions: added, removed, and pairs that changed, by the new row."""
    import numpy as np

    old, new = ordered
    there = _is_in(new.hashes, old.hashes)
    known = _is_in(old.hashes, new.hashes)
    # the same keys in the same order
    partners, mine = old.rows[known], new.rows[there]
    differ = contents[0][partners] != contents[1][mine]
    # sorting by the new row, as each occurs once
    pairs = np.full(len(contents[1]), -1, np.int64)
    pairs[mine[differ]] = partners[differ]
    changed = np.flatnonzero(pairs >= 0)
    return Match(
        added=_in_order(new.rows[~there], len(contents[1])), removed=_in_order(old.rows[~known], len(contents[0])),
        changed_old=pairs[changed], changed_new=changed,
    )  # fmt: skip


def _in_order(rows: Rows, count: int) -> Rows:
    """Rows out of `count`, each of which occurs once, sorted."""
    import numpy as np

    if not len(rows):
        return np.empty(0, np.int64)
    mask = np.zeros(count, bool)
    mask[rows] = True
    return np.flatnonzero(mask)


def _surplus(ordered: Sequence[Sorted]) -> tuple[Rows, Rows]:
    """Of rows by content: in each version those beyond as many as the other has, the last ones; sorted."""
    import numpy as np

    found = []
    for mine, other in (ordered, ordered[::-1]):
        starts = np.flatnonzero(np.concatenate([[True], mine.hashes[1:] != mine.hashes[:-1]])[: len(mine.hashes)])
        counts = np.diff(starts, append=len(mine.hashes))
        values = mine.hashes[starts]
        kept = other.hashes.searchsorted(values, "right") - other.hashes.searchsorted(values, "left")
        rows = [mine.rows[np.repeat(kept == 0, counts)]]
        some = (kept > 0) & (kept < counts)
        if some.any():
            chosen = mine.rows[np.repeat(some, counts)]
            runs = np.repeat(np.arange(int(some.sum())), counts[some])
            chosen = chosen[np.lexsort((chosen, runs))]
            place = np.arange(len(chosen)) - np.repeat(np.cumsum(counts[some]) - counts[some], counts[some])
            rows.append(chosen[place >= np.repeat(kept[some], counts[some])])
        found.append(np.sort(np.concatenate(rows)).astype(np.int64))
    return found[0], found[1]
