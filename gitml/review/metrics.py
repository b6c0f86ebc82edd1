"""Which numbers changed, and whether for the better."""

import math
from collections.abc import Iterator, Mapping

from gitml.pipeline.spec.model import Metric, Stage
from gitml.review.comparison import MetricChange, Verdict


def metric_changes(
    stage: Stage,
    old: Mapping[str, float],
    new: Mapping[str, float],
    *,
    fresh: bool,
    tolerances: Mapping[str, float] | None = None,
    noise: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {}),
) -> Iterator[MetricChange]:
    """Every metric of a stage that either side has, in the order of the files, judged as the new side declares.

    A gate whose metric results do not have is broken: a slip in its name must not open it.

    `tolerances` overrides what the specification says of changes that are none: by name, and `""` for all others.
    `noise` are the standard errors of both sides, by name.
    """
    tolerances = tolerances or {}
    rules = {metric.name: metric for metric in stage.metrics if metric.name is not None}
    gated = [name for name, rule in rules.items() if fresh and rule.gate != (None, None)]
    for name in dict.fromkeys([*new, *old, *gated]):
        rule = rules.get(name, Metric(path=""))
        tolerance = tolerances.get(name, tolerances.get("", rule.tolerance))
        value = new.get(name)
        told = name in tolerances or "" in tolerances
        band = None if told else noise_band(noise[0].get(name), noise[1].get(name))
        yield MetricChange(
            stage=stage.name, name=name, old=old.get(name), new=value, goal=rule.goal, tolerance=tolerance,
            noise=band, gate=rule.gate, fresh=fresh,
            verdict=_verdict(old.get(name), value, rule.goal, max(tolerance, band or 0.0)),
            breaks_gate=_is_outside(value, rule.gate) if value is not None else name in gated,
        )  # fmt: skip


def noise_band(old: float | None, new: float | None) -> float | None:
    """How much two results differ by chance, from the standard errors of both; None if neither is known.

    Twice the standard error of the difference: of equal results, about one pair in twenty differs by more. A side whose
    error is not known, or is no size, counts as exact.
    """
    known = [each for each in (old, new) if each is not None and math.isfinite(each) and each >= 0]
    return 2 * math.hypot(*known) if known else None


def _verdict(old: float | None, new: float | None, goal: str | None, tolerance: float) -> Verdict:
    if new is None:
        return Verdict.GONE
    if old is None:
        return Verdict.NEW
    if old == new or (math.isnan(old) and math.isnan(new)):
        return Verdict.SAME
    if math.isnan(old) or math.isnan(new):
        # a number that is none any more is worse than any other
        return Verdict.CHANGED if goal is None else Verdict.WORSE if math.isnan(new) else Verdict.BETTER
    # a change of exactly the tolerance is none, also where the difference of two decimal numbers is a little larger
    if abs(new - old) <= tolerance or math.isclose(abs(new - old), tolerance, rel_tol=1e-9, abs_tol=0.0):
        return Verdict.SAME
    if goal is None:
        return Verdict.CHANGED
    return Verdict.BETTER if (new > old) == (goal == "max") else Verdict.WORSE


def _is_outside(value: float, gate: tuple[float | None, float | None]) -> bool:
    low, high = gate
    if low is None and high is None:
        return False
    return math.isnan(value) or (low is not None and value < low) or (high is not None and value > high)
