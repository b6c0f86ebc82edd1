"""What is known of one column of one version, and the few rules by which both engines come to the same.

Hides how counts stay bounded. Distinct cells: the smallest hashes are kept (Bar-Yossef et al., Counting Distinct
Elements in a Data Stream, 2002); while there are no more than `SKETCH`, they are all of them, and the count is exact.
Bins of drift: from up to `SAMPLE` rows that a mix of the row number chooses, so engines choose the same ones.
Categories: counted up to `MOST_CATEGORIES`, else not at all.
"""

import math
from collections.abc import Mapping, Sequence

from gitml.record import record
from gitml.tables import drift
from gitml.tables.diff import MASK, Categories, Cell, Column, Statistics

SKETCH = 1 << 15
"""The standard error of the estimate is one divided by the square root of this."""
SAMPLE = 1 << 16
MOST_CATEGORIES = 1000
_MOST_FREQUENT = 10
_LONGEST = 100
_WORD = (1 << 64) - 1
_NUMERIC = ("integer", "number", "int", "uint", "float", "decimal")


@record(kw_only=True)
class Profile:
    """One column of one version, as an engine found it."""

    type: str
    missing: int
    distinct: int
    exact: bool
    least: Cell
    greatest: Cell
    not_finite: int | None = None
    mean: float | None = None
    deviation: float | None = None
    values: Sequence[float] = ()
    """The finite numbers of the rows of the sample, sorted."""
    others: int = 0
    """Cells of the rows of the sample that are missing or not finite."""
    categories: Mapping[str, int] | None = None

    def statistics(self, *, masked: bool) -> Statistics:
        """What of it is shown."""
        return Statistics(
            type=self.type, missing=self.missing, not_finite=self.not_finite, distinct=self.distinct, exact=self.exact,
            least=_shown(self.least, masked), greatest=_shown(self.greatest, masked),
            mean=None if masked else _rounded(self.mean), deviation=None if masked else _rounded(self.deviation),
        )  # fmt: skip


def column(name: str, old: Profile | None, new: Profile | None, *, changed: int, masked: bool) -> Column:
    """The difference of two versions of a column."""
    moved: float | None = None
    appeared = vanished = None
    if old is not None and new is not None:
        if old.not_finite is not None and new.not_finite is not None:
            moved = drift.of_numbers(old.values, new.values, (old.others, new.others))
        elif old.categories is not None and new.categories is not None:
            moved = drift.of_categories(old.categories, new.categories, (old.missing, new.missing))
            appeared = _only(new.categories, old.categories, masked)
            vanished = _only(old.categories, new.categories, masked)
    return Column(
        name=name,
        old=None if old is None else old.statistics(masked=masked),
        new=None if new is None else new.statistics(masked=masked),
        changed=changed, drift=moved, appeared=appeared, vanished=vanished,
    )  # fmt: skip


def is_numeric(type: str) -> bool:  # noqa: A002 - a field everywhere else
    """Whether all cells of a column of this type are numbers."""
    return all(each.rstrip("0123456789").startswith(_NUMERIC) for each in type.split("|"))


def estimate(largest: int) -> int:
    """How many distinct values there are if this is the last of the `SKETCH` smallest hashes of 64 bits."""
    return round((SKETCH - 1) / ((largest + 1) / (1 << 64)))


def mixed(row: int) -> int:
    """A number of 64 bits that looks random, from the number of a row (splitmix64 of Steele, Lea and Flood, 2014)."""
    word = (row + 1) * 0x9E3779B97F4A7C15 & _WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31


_LARGEST = 1e150
"""Of larger numbers the squares, or their sum, are beyond the largest double, depending on the order of adding up."""


def is_summed(low: "tuple[float, str] | None", high: "tuple[float, str] | None") -> bool:
    """Whether mean and deviation of numbers within these are what they are in any order."""
    return all(each is None or abs(each[0]) <= _LARGEST for each in (low, high))


def deviation_of(count: int, squares: float) -> float | None:
    """The standard deviation of so many numbers whose squared distances from the mean have that sum."""
    return math.sqrt(squares / (count - 1)) if count > 1 else None


def _rounded(value: float | None) -> float | None:
    """Without the last digits, which depend on the order of a sum."""
    return None if value is None else float(f"{value:.12g}")


def _shown(cell: Cell, masked: bool) -> Cell:
    if cell is None:
        return None
    if masked:
        return MASK
    return cell if len(cell) <= _LONGEST else cell[:_LONGEST] + "…"


def _only(these: Mapping[str, int], those: Mapping[str, int], masked: bool) -> Categories:
    found = sorted(((-count, text) for text, count in these.items() if text not in those))
    frequent = tuple((_shown(text, masked) or "", -count) for count, text in found[:_MOST_FREQUENT])
    return Categories(count=len(found), frequent=frequent)
