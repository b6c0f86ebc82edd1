"""Which rows of two versions belong together, from hashes of their keys and contents alone: hashes in, a `Match` out.

A row takes 16 bytes. Rows lie in buckets by the first bits of their keys, so those that belong together are in buckets
of one number: a few buckets of each version are sorted and walked side by side at a time, and nothing of the size of a
table is ever sorted. That takes less memory than a hash table, and is as fast.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from typing import Any, Self

from gitml.record import record
from gitml.tables.diff import TableError
from gitml.tables.hashing import distinct, merged, mixed_all
from gitml.tables.table import Match, Rows

_BUCKETS = 256
_TOGETHER = 400_000
"""Rows of both versions that are looked at at a time, as far as buckets allow."""
_MOST_ROWS = (1 << 32) - 2
_NUMBER = (1 << 32) - 1


class Hashes:
    """A hash of the key, one of the content and the number of each row of a table, in 16 bytes.

    All 64 bits of the key count, eight of them as the number of its bucket. Of the content 40 bits are kept: they are
    only asked whether two rows of one key are alike.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._batches: list[tuple[Any, Any, Any]] = []
        """Each in the order of its buckets: key and the first bits of content; other bits of that and number; where
        each bucket begins, and where the last ends."""

    def add(self, keys: Any, contents: Any) -> None:
        """Hashes of the next rows; raise `TableError` if these are too many to be numbered."""
        import numpy as np

        if self.rows + len(keys) > _MOST_ROWS:
            raise TableError(f"it has more than {_MOST_ROWS:,} rows")
        bucket = (keys >> np.uint64(56)).astype(np.uint8)
        order = np.argsort(bucket, kind="stable")  # of bytes numpy counts how many there are of each: no comparisons
        ends = np.cumsum(np.bincount(bucket, minlength=_BUCKETS))
        chosen = contents[order]
        first, second = _memory(len(keys)), _memory(len(keys))
        first[:] = keys[order] << np.uint64(8) | chosen >> np.uint64(56)
        second[:] = (chosen >> np.uint64(24)) << np.uint64(32) | (order + self.rows).astype(np.uint64)
        self._batches.append((first, second, np.concatenate([[0], ends])))
        self.rows += len(keys)

    def use_up(self) -> None:
        """Let go of all hashes."""
        self._batches.clear()

    def part(self, buckets: range) -> "Sorted":
        """What is in these buckets."""
        import numpy as np

        keys, seconds, firsts = [], [], []
        for first, second, starts in self._batches:
            bounds = starts[buckets.start : buckets.stop + 1]
            piece = slice(bounds[0], bounds[-1])
            numbers = np.repeat(np.arange(buckets.start, buckets.stop, dtype=np.uint64), np.diff(bounds))
            keys.append(first[piece] >> np.uint64(8) | numbers << np.uint64(56))
            firsts.append(first[piece])
            seconds.append(second[piece])
        if not keys:
            return Sorted(np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint64))
        key, last = np.concatenate(keys), np.concatenate(seconds)
        content = (np.concatenate(firsts) & np.uint64(0xFF)) << np.uint64(32) | last >> np.uint64(32)
        return Sorted.of(key, (last & np.uint64(_NUMBER)).astype(np.uint32), content)


def by_content(old: Hashes, new: Hashes) -> Match:
    """Rows beyond as many of the same content as the other version has, where keys are the contents."""
    found = _Gathered(old, new)
    found.go_through(found.add_surplus)
    return found.match()


def by_key(old: Hashes, new: Hashes, *, unique: bool = False) -> Match | None:
    """Pairs of rows with one key whose contents differ; rows whose keys occur more than once are matched by content.

    With `unique` None if a key occurs more than once in a version.
    """
    found = _Gathered(old, new)

    def look(before: Sorted, now: Sorted) -> None:
        repeated = before.repeated(), now.repeated()
        several = merged(*repeated)
        if len(several):
            if unique:
                found.stopped = True
                return
            (before, left_before), (now, left_now) = before.split(several), now.split(several)
            found.add_surplus(left_before.by_all(), left_now.by_all(), (len(repeated[0]), len(repeated[1])))
        found.add_pairs(before, now)

    found.go_through(look)
    return None if found.stopped else found.match()


def rows_among(mine: Hashes, others: Hashes) -> Rows:
    """The rows whose keys occur among others, sorted."""
    found = _Gathered(others, mine)

    def look(before: Sorted, now: Sorted) -> None:
        found.added[now.rows[_is_in(now.hashes, before.hashes)]] = True

    found.go_through(look)
    return found.match().added


@record
class Sorted:
    """Hashes in order, and the rows that they are of, with what is known of their contents."""

    hashes: Any
    rows: Rows
    contents: Any

    @classmethod
    def of(cls, hashes: Any, rows: Rows, contents: Any) -> Self:
        """Of hashes in any order."""
        import numpy as np

        order = np.argsort(hashes)
        return cls(hashes[order], rows[order], contents[order])

    def repeated(self) -> Any:
        """The hashes that occur more than once, each once."""
        return distinct(self.hashes[1:][self.hashes[1:] == self.hashes[:-1]])

    def by_all(self) -> "Sorted":
        """The same rows by key and content together."""
        return Sorted.of(mixed_all(self.hashes) + self.contents, self.rows, self.contents)

    def split(self, some: Any) -> tuple["Sorted", "Sorted"]:
        """What is not among `some` distinct hashes, and what is."""
        import numpy as np

        starts, ends = self.hashes.searchsorted(some, "left"), self.hashes.searchsorted(some, "right")
        here = ends > starts
        steps = np.zeros(len(self.hashes) + 1, np.int8)
        steps[starts[here]] += 1
        steps[ends[here]] -= 1
        chosen = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
        return self._only(~chosen), self._only(chosen)

    def _only(self, mask: Any) -> "Sorted":
        return Sorted(self.hashes[mask], self.rows[mask], self.contents[mask])


_Look = Callable[[Sorted, Sorted], None]


class _Gathered:
    """What becomes of the rows of two versions, bucket by bucket: each row is in one bucket, so threads do not meet."""

    def __init__(self, old: Hashes, new: Hashes) -> None:
        import numpy as np

        self._old, self._new = old, new
        self.added, self.removed = np.zeros(new.rows, bool), np.zeros(old.rows, bool)
        self._partners = np.zeros(new.rows, np.uint32)
        """For each new row that changed 1 more than the number of the old one, 0 for others."""
        self._repeated: list[tuple[int, int]] = []
        self.stopped = False
        """Nobody wants to know more."""

    def go_through(self, look: _Look) -> None:
        """Have `look` see a few buckets of both versions at a time, sorted; two at once: sorting leaves Python free."""
        with ThreadPoolExecutor(2) as threads:
            for _ in threads.map(lambda buckets: self._look(look, buckets), self._portions()):
                pass
        self._old.use_up()
        self._new.use_up()

    def _portions(self) -> Iterator[range]:
        step = max(1, min(_BUCKETS, _BUCKETS * _TOGETHER // max(1, self._old.rows + self._new.rows)))
        for start in range(0, _BUCKETS, step):
            yield range(start, min(start + step, _BUCKETS))

    def _look(self, look: _Look, buckets: range) -> None:
        if not self.stopped:
            look(self._old.part(buckets), self._new.part(buckets))

    def add_pairs(self, old: Sorted, new: Sorted) -> None:
        """Of rows whose keys occur once in both versions."""
        import numpy as np

        there, known = _is_in(new.hashes, old.hashes), _is_in(old.hashes, new.hashes)
        self.added[new.rows[~there]] = True
        self.removed[old.rows[~known]] = True
        # the same keys in the same order
        differ = old.contents[known] != new.contents[there]
        self._partners[new.rows[there][differ]] = old.rows[known][differ] + np.uint32(1)

    def add_surplus(self, old: Sorted, new: Sorted, repeated: tuple[int, int] = (0, 0)) -> None:
        """Of rows that are matched by what they are sorted by: those that are too many in a version, the last ones."""
        self.removed[_surplus(old, new)] = True
        self.added[_surplus(new, old)] = True
        self._repeated.append(repeated)

    def match(self) -> Match:
        """What it came to."""
        changed = _numbers(self._partners != 0)
        return Match(
            added=_numbers(self.added), removed=_numbers(self.removed),
            changed_old=self._partners[changed] - 1, changed_new=changed,
            repeated=(sum(one for one, _ in self._repeated), sum(two for _, two in self._repeated)),
        )  # fmt: skip


def _memory(count: int) -> Any:
    """An array of hashes that goes back to the system when it is let go of; with malloc most of it would stay."""
    import numpy as np

    return np.frombuffer(mmap(-1, 8 * count), np.uint64) if count else np.empty(0, np.uint64)


def _numbers(mask: Any) -> Rows:
    import numpy as np

    # there are ten million and more: half of the memory
    return np.flatnonzero(mask).astype(np.uint32)


def _is_in(mine: Any, ordered: Any) -> Any:
    """For each of `mine` whether it is among ordered hashes; fast if `mine` are in order too."""
    import numpy as np

    if not len(ordered):
        return np.zeros(len(mine), bool)
    places = ordered.searchsorted(mine)
    np.minimum(places, len(ordered) - 1, out=places)
    return ordered[places] == mine


def _surplus(mine: Sorted, other: Sorted) -> Rows:
    """The rows of `mine` beyond as many of one hash as `other` has, the last ones."""
    import numpy as np

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
    return np.concatenate(rows)
