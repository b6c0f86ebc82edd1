import math

import pytest

from gitml.pipeline.spec.model import Metric, Stage, Transform
from gitml.review.comparison import MetricChange, Verdict
from gitml.review.metrics import metric_changes

NAN = math.nan


def stage(*metrics: Metric) -> Stage:
    return Stage(name="model", transform=Transform(cmd=("true",)), input=None, output=b"model", metrics=metrics)


def one(metric: Metric, old: float | None, new: float | None, **options: float) -> MetricChange:
    name = metric.name or "x"
    before, now = ({} if value is None else {name: value} for value in (old, new))
    (found,) = metric_changes(stage(metric), before, now, fresh=True, tolerances=options or None)
    return found


@pytest.mark.parametrize(
    ("goal", "old", "new", "verdict"),
    [
        ("max", 0.5, 0.6, Verdict.BETTER),
        ("max", 0.6, 0.5, Verdict.WORSE),
        ("min", 0.5, 0.6, Verdict.WORSE),
        ("min", 0.6, 0.5, Verdict.BETTER),
        (None, 0.6, 0.5, Verdict.CHANGED),
        ("max", 0.5, 0.5, Verdict.SAME),
        ("max", None, 0.5, Verdict.NEW),
        ("max", 0.5, None, Verdict.GONE),
        ("max", 0.5, NAN, Verdict.WORSE),
        ("min", NAN, 0.5, Verdict.BETTER),
        (None, 0.5, NAN, Verdict.CHANGED),
        ("max", NAN, NAN, Verdict.SAME),
        ("min", math.inf, math.inf, Verdict.SAME),
        ("min", math.inf, 1.0, Verdict.BETTER),
    ],
)
def test_verdicts(goal: str | None, old: float | None, new: float | None, verdict: Verdict) -> None:
    assert one(Metric(path="m.json", name="x", goal=goal), old, new).verdict is verdict


@pytest.mark.parametrize(("new", "verdict"), [(0.904, Verdict.SAME), (0.905, Verdict.SAME), (0.9051, Verdict.BETTER)])
def test_a_change_up_to_the_tolerance_is_none(new: float, verdict: Verdict) -> None:
    # 0.905 - 0.9 is a little more than 0.005
    assert one(Metric(path="m.json", name="x", goal="max", tolerance=0.005), 0.9, new).verdict is verdict


def test_tolerances_of_the_command_win() -> None:
    metric = Metric(path="m.json", name="x", goal="max", tolerance=0.005)
    assert one(metric, 0.9, 0.95, x=0.1).verdict is Verdict.SAME
    assert one(metric, 0.9, 0.95, **{"": 0.1}).verdict is Verdict.SAME
    assert one(metric, 0.9, 0.902, x=0.0).verdict is Verdict.BETTER


@pytest.mark.parametrize(
    ("gate", "new", "broken"),
    [
        ((0.9, None), 0.9, False),
        ((0.9, None), 0.89, True),
        ((None, 10.0), 10.5, True),
        ((0.9, 1.0), 0.95, False),
        ((0.9, None), NAN, True),
        ((None, None), NAN, False),
        ((0.9, None), None, True),
    ],
)
def test_gates(gate: tuple[float | None, float | None], new: float | None, broken: bool) -> None:
    assert one(Metric(path="m.json", name="x", gate=gate), 0.95, new).breaks_gate is broken


def test_metrics_without_rules_are_shown_and_not_judged() -> None:
    found = list(metric_changes(stage(Metric(path="m.json")), {"a": 1, "b": 2}, {"b": 3, "c": 4}, fresh=False))
    assert [(each.name, each.verdict) for each in found] == [
        ("b", Verdict.CHANGED), ("c", Verdict.NEW), ("a", Verdict.GONE)
    ]  # fmt: skip
    assert not any(each.fresh for each in found)


@pytest.mark.parametrize(
    ("errors", "new", "verdict"),
    [
        ((0.003, 0.004), 0.91, Verdict.SAME),
        ((0.003, 0.004), 0.9101, Verdict.BETTER),
        ((0.003, 0.004), 0.8899, Verdict.WORSE),
        ((None, 0.004), 0.9079, Verdict.SAME),
        ((0.003, None), 0.9061, Verdict.BETTER),
        ((0.0, 0.0), 0.9001, Verdict.BETTER),
        ((NAN, math.inf), 0.9001, Verdict.BETTER),
        ((-1.0, None), 0.9001, Verdict.BETTER),
    ],
)
def test_a_change_within_twice_its_standard_error_is_chance(
    errors: tuple[float | None, float | None], new: float, verdict: Verdict
) -> None:
    rule = stage(Metric(path="m.json", name="x", goal="max", noise="e"))
    old_noise, new_noise = ({} if error is None else {"x": error} for error in errors)
    (found,) = metric_changes(rule, {"x": 0.9}, {"x": new}, fresh=True, noise=(old_noise, new_noise))
    assert found.verdict is verdict


def test_noise_and_tolerance() -> None:
    rule = stage(Metric(path="m.json", name="x", goal="max", noise="e", tolerance=0.02))

    def verdict(new: float, error: float, tolerances: dict[str, float] | None = None) -> Verdict:
        noise: tuple[dict[str, float], dict[str, float]] = ({"x": error}, {"x": error})
        (found,) = metric_changes(rule, {"x": 0.9}, {"x": new}, fresh=True, tolerances=tolerances, noise=noise)
        return found.verdict

    # both allow for what they know of; what the command line says stands alone
    assert verdict(0.915, 0.001) is Verdict.SAME
    assert verdict(0.93, 0.02) is Verdict.SAME
    assert verdict(0.93, 0.001) is Verdict.BETTER
    assert verdict(0.93, 0.02, {"x": 0.0}) is Verdict.BETTER
    assert verdict(0.93, 0.02, {"": 0.0}) is Verdict.BETTER
    assert verdict(0.93, 0.02, {"y": 0.0}) is Verdict.SAME


def test_a_gate_is_a_bound_of_the_number_itself() -> None:
    rule = stage(Metric(path="m.json", name="x", goal="max", noise="e", gate=(0.9, None)))
    (found,) = metric_changes(rule, {"x": 0.9}, {"x": 0.899}, fresh=True, noise=({"x": 0.1}, {"x": 0.1}))
    assert (found.verdict, found.breaks_gate) == (Verdict.SAME, True)


def test_a_gate_whose_metric_is_not_there_is_broken() -> None:
    slip = Metric(path="m.json", name="acuracy", goal="max", gate=(0.9, None))
    found = {metric.name: metric for metric in metric_changes(stage(slip), {}, {"accuracy": 0.95}, fresh=True)}
    assert found["acuracy"].breaks_gate
    assert (found["acuracy"].new, found["acuracy"].verdict) == (None, Verdict.GONE)
    assert list(metric_changes(stage(slip), {}, {}, fresh=False)) == [], "nothing was computed yet"
