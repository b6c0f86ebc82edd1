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
) -> Iterator[MetricChange]:
    """Every metric of a stage that either side has, in the order of the files, judged as the new side declares.

    `tolerances` overrides those of the specification: by name, and `""` for all others.
    """
    tolerances = tolerances or {}
    rules = {metric.name: metric for metric in stage.metrics if metric.name is not None}
    for name in dict.fromkeys([*new, *old]):
        rule = rules.get(name, Metric(path=""))
        tolerance = tolerances.get(name, tolerances.get("", rule.tolerance))
        value = new.get(name)
        yield MetricChange(
            stage=stage.name, name=name, old=old.get(name), new=value, goal=rule.goal, tolerance=tolerance,
            gate=rule.gate, fresh=fresh, verdict=_verdict(old.get(name), value, rule.goal, tolerance),
            breaks_gate=value is not None and _is_outside(value, rule.gate),
        )  # fmt: skip


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
