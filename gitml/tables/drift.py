"""How far the distribution of a column moved: the population stability index, over bins that both versions share.

    PSI = sum over the bins of (new - old) * ln(new / old)

where old and new are the shares of the bin in the two versions. It is the symmetrised Kullback-Leibler divergence
(Kullback and Leibler, On Information and Sufficiency, 1951), under this name in use for credit scores (Lewis, An
Introduction to Credit Scoring, 1994; Siddiqi, Credit Risk Scorecards, 2006), where below 0.1 counts as stable and above
0.25 as moved. Numbers: ten bins between the deciles of the old version, open at both ends, fewer where deciles
coincide. Text: a bin for each category of either version. Both: one more bin for cells that are missing or not finite.
So that an empty bin is no infinity, half a cell is added to each bin.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

_BINS = 10


def of_numbers(old: Sequence[float], new: Sequence[float], others: tuple[int, int] = (0, 0)) -> float | None:
    """The index for two sorted sequences of finite numbers; `others`: how many cells of each are none.

    None if a version has no cell, or the old one no number.
    """
    if not old or not len(new) + others[1]:
        return None
    edges = sorted({old[len(old) * each // _BINS] for each in range(1, _BINS)})
    return _index([*_counts(old, edges), others[0]], [*_counts(new, edges), others[1]])


def of_categories(old: Mapping[str, int], new: Mapping[str, int], others: tuple[int, int] = (0, 0)) -> float | None:
    """The index for counts by category; None if a version has no cell."""
    if not sum(old.values()) + others[0] or not sum(new.values()) + others[1]:
        return None
    names = sorted(old.keys() | new.keys())
    return _index(
        [*(old.get(each, 0) for each in names), others[0]], [*(new.get(each, 0) for each in names), others[1]]
    )


def _counts(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    ends = [bisect_right(values, edge) for edge in edges]
    return [end - start for start, end in zip([0, *ends], [*ends, len(values)], strict=True)]


def _index(old: Sequence[int], new: Sequence[int]) -> float:
    # a bin that is empty in both says nothing, and is not to be smoothed into saying something
    bins = [(one, two) for one, two in zip(old, new, strict=True) if one or two]
    totals = [sum(side) + len(bins) / 2 for side in zip(*bins, strict=True)]
    shares = [((one + 0.5) / totals[0], (two + 0.5) / totals[1]) for one, two in bins]
    return math.fsum((two - one) * math.log(two / one) for one, two in shares)
