"""Predictions that changed: how many, which way, in which slices, and whether that may be chance."""

from collections.abc import Iterator

from gitml.provenance.codec import text_of
from gitml.review.blocks import ABSENT, MOST_WARNINGS, Block, Cell, Tone, count, number
from gitml.review.comparison import Comparison
from gitml.tables.outcome import Example, PredictionDiff, Slice

_CHANCE = 0.05
"""Probability below which a difference is taken for more than chance."""


def prediction_blocks(comparison: Comparison) -> Iterator[Block]:
    """A block for each file of predictions, and one for its largest regressions."""
    for each in comparison.predictions:
        title = f"Predictions: {text_of(each.path)}"
        if each.diff is None or each.diff.opaque:
            why = each.problem if each.diff is None else f"opaque: {each.diff.opaque}"
            yield Block(key="predictions", title=title, notes=(Cell(why, name=True),))
            continue
        diff = each.diff
        notes = [] if each.fresh else [Cell("stale: not those of this commit's inputs", tone=Tone.BAD)]
        notes += [*_prediction_notes(diff), *(Cell(each, name=True) for each in diff.warnings[:MOST_WARNINGS])]
        yield Block(
            key="predictions", title=title, columns=("slice", "examples", "before", "now", "change"),
            rows=tuple(_slice(part, diff.kind) for part in diff.slices), notes=tuple(notes),
        )  # fmt: skip
        if diff.samples:
            yield Block(
                key="predictions", title=f"{title}, largest regressions", folded=True,
                columns=("example", "true", "before", "now", "score before", "now"),
                rows=tuple(map(_regression, diff.samples)),
            )  # fmt: skip


def _prediction_notes(diff: PredictionDiff) -> Iterator[Cell]:
    text = f"{count(diff.common, 'example')} in both: {diff.changed:,} predicted differently"
    others = ((diff.added, "added"), (diff.removed, "removed"), (sum(diff.repeated), "ids repeated, not compared"))
    yield Cell("; ".join([text, *(f"{count:,} {what}" for count, what in others if count)]))
    yield Cell(f"examples by {diff.id}", name=True)
    if diff.kind:
        words = ("right → wrong", "wrong → right") if diff.kind == "classes" else ("further off", "closer")
        yield Cell(f"{diff.broken:,} {words[0]}, {diff.fixed:,} {words[1]}", tone=_tone(diff))
    for place, measure in enumerate(diff.measures):
        difference = 0.0 if measure.old is None or measure.new is None else measure.new - measure.old
        change = f" ({difference:+.4g})" if difference else ""
        sure = _sure(diff) if place == 0 else ""
        yield Cell(f"{measure.name} {number(measure.old)} → {number(measure.new)}{change}{sure}")
    if diff.untested and diff.measures:
        yield Cell(diff.untested, tone=Tone.QUIET)
    if diff.relabelled:
        yield Cell(f"labels of {count(diff.relabelled, 'example')} changed: the new ones judge both", tone=Tone.BAD)


def _sure(diff: PredictionDiff) -> str:
    found = diff.significance
    if found is None:
        return ""
    text = f", 95 % interval {found.low:+.3g} to {found.high:+.3g}"
    text += "" if found.p_value is None else f", McNemar p = {found.p_value:.2g}"
    return text + ("" if _is_clear(diff) else ": may be chance")


def _is_clear(diff: PredictionDiff) -> bool:
    """Whether the difference is more than chance, as far as the tests tell."""
    found = diff.significance
    if found is None:
        return False
    return (found.low > 0 or found.high < 0) and (found.p_value is None or found.p_value < _CHANCE)


def _tone(diff: PredictionDiff) -> Tone:
    if not _is_clear(diff):
        return Tone.PLAIN
    assert diff.significance is not None
    rises = diff.significance.difference > 0
    return Tone.GOOD if rises == (diff.kind == "classes") else Tone.BAD


def _slice(part: Slice, kind: str) -> tuple[Cell, ...]:
    change = 0.0 if part.old is None or part.new is None else part.new - part.old
    worse = change < 0 if kind == "classes" else change > 0
    return (
        Cell(f"{part.column}={ABSENT if part.value is None else part.value}", name=True), Cell(f"{part.count:,}"),
        Cell(number(part.old)), Cell(number(part.new)),
        Cell(f"{change:+.4g}" if change else "", tone=Tone.BAD if worse else Tone.GOOD if change else Tone.PLAIN),
    )  # fmt: skip


def _regression(example: Example) -> tuple[Cell, ...]:
    named = (
        Cell(ABSENT if each is None else each, name=each is not None)
        for each in (example.id, example.label, example.old, example.new)
    )
    return *named, *(Cell(number(each)) for each in (example.old_score, example.new_score))
