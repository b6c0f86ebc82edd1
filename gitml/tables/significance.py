"""Whether a difference between two versions is more than chance. All of it is scipy's.

Two predictions for one example belong together, so both tests are of pairs: McNemar's (Psychometrika 12, 1947), in its
exact form, for how often only one of them is right; and an interval for the mean difference. That is the percentile
bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), with a fixed seed, so that the
same files give the same numbers; for more than 50,000 examples, where both hardly differ, it is Student's t.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from gitml.tables.outcome import Significance

NEEDS_SCIPY = "whether that is chance needs pip install 'gitml[data]'"
_CONFIDENCE = 0.95
_RESAMPLES = 2000
_MOST_RESAMPLED = 50_000
_BATCH = 4_000_000
"""Numbers that are drawn at a time: 64 MiB."""


def has_scipy() -> bool:
    """Whether scipy is installed."""
    return find_spec("scipy") is not None


def of_pairs(differences: Sequence[float], discordant: tuple[int, int] | None = None) -> Significance | None:
    """How sure the mean of these differences is; None if there are none, or all are 0.

    `discordant` are the examples that only the old, and only the new version has right.
    """
    import numpy as np
    from scipy import stats

    values = np.asarray(differences, float)
    if not values.any():
        return None
    p_value = None
    if discordant is not None:
        p_value = float(stats.binomtest(discordant[0], sum(discordant), 0.5).pvalue)
    if values.min() == values.max():
        low = high = values[0]
        method = "bootstrap"
    elif len(values) <= _MOST_RESAMPLED:
        found = stats.bootstrap(
            (values,), np.mean, n_resamples=_RESAMPLES, batch=max(1, _BATCH // len(values)), method="percentile",
            confidence_level=_CONFIDENCE, vectorized=True, random_state=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        low, high, method = found.low, found.high, "bootstrap"
    else:
        found = stats.ttest_1samp(values, 0.0).confidence_interval(_CONFIDENCE)
        low, high, method = found.low, found.high, "t"
    return Significance(
        difference=float(values.mean()), low=float(low), high=float(high), method=method, p_value=p_value
    )
