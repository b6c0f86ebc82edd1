"""Models that are new or changed: parameters, features, tensors, and what to know before loading them."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from gitml.formats.compare import ModelDiff, TensorChange
from gitml.formats.summary import Scalar
from gitml.provenance.codec import text_of
from gitml.review.blocks import ABSENT, MOST_NAMED, MOST_WARNINGS, Block, Cell, Tone, count, first_rows, number
from gitml.review.comparison import Comparison


def model_blocks(comparison: Comparison) -> Iterator[Block]:
    """A block for each model."""
    for model in comparison.models:
        title = f"Model: {text_of(model.path)}"
        if model.diff is None or model.diff.new.opaque:
            why = model.problem if model.diff is None else f"opaque: {model.diff.new.opaque}"
            warnings = () if model.diff is None else tuple(_warnings(model.diff))
            yield Block(key="model", title=title, notes=(Cell(why, name=True), *warnings))
            continue
        rows = [*_rows(model.diff)]
        yield Block(
            key="model", title=title, columns=("", "", "before", "now"), notes=tuple(_notes(model.diff)),
            rows=first_rows(iter(rows), len(rows), MOST_NAMED),
        )  # fmt: skip


def _notes(diff: ModelDiff) -> Iterator[Cell]:
    same_format = diff.old.format in (diff.new.format, "none")
    yield Cell(diff.new.format if same_format else f"{diff.old.format} → {diff.new.format}")
    if "class" in diff.new.facts:
        yield Cell(diff.new.facts["class"], name=True)
    if diff.new.tensors or diff.old.tensors:
        numbers = sum(tensor.count for tensor in diff.new.tensors)
        changed = sum(each.old is not None and each.new is not None for each in diff.tensors)
        text = f"{count(len(diff.new.tensors), 'tensor')}, {numbers:,} numbers"
        if diff.old.format != "none":
            text += f": {changed} changed, {diff.same} the same"
            text += f", {diff.unread} not compared" if diff.unread else ""
        yield Cell(text)
    yield from _warnings(diff)


def _warnings(diff: ModelDiff) -> Iterator[Cell]:
    warnings = [each for each in diff.new.warnings if each not in diff.old.warnings]
    for warning in warnings[:MOST_WARNINGS]:
        yield Cell(warning, name=True, tone=Tone.BAD)
    if len(warnings) > MOST_WARNINGS:
        # those that come first need not be the worst
        yield Cell(f"and {len(warnings) - MOST_WARNINGS} more warnings", tone=Tone.BAD)


def _rows(diff: ModelDiff) -> Iterator[tuple[Cell, ...]]:
    if diff.old.format == "none":
        return
    for name, (old, new) in diff.parameters.items():
        yield Cell("parameter"), Cell(name, name=True), _value(old), _value(new)
    for name, (before, now) in diff.facts.items():
        yield Cell("fact"), Cell(name, name=True), _value(before), _value(now)
    for what, (came, went) in (("feature", diff.features), ("uses", diff.globals)):
        for name in came:
            yield Cell(what), Cell(name, name=True), Cell(ABSENT), Cell("added")
        for name in went:
            yield Cell(what), Cell(name, name=True), Cell("removed"), Cell(ABSENT)
    patterns = _patterns(diff.tensors) if len(diff.tensors) > MOST_NAMED else {}
    for tensor in sorted(diff.tensors, key=lambda each: -(each.relative or 0.0)):
        if _pattern(tensor) not in patterns:
            yield Cell("tensor"), Cell(tensor.name, name=True), Cell(tensor.old or ABSENT), Cell(_tensor(tensor))
    for (name, _), what in patterns.items():
        yield Cell("tensors"), Cell(name, name=True), Cell(""), Cell(what)


def _pattern(tensor: TensorChange) -> tuple[str, str]:
    """A name without its numbers, and what became of the tensor; empty for one whose numbers tell more than that."""
    kind = "added" if tensor.old is None else "removed" if tensor.new is None else "of another shape or type"
    return ("", "") if tensor.old == tensor.new else (re.sub(r"\d+", "*", tensor.name), kind)


def _patterns(tensors: Sequence[TensorChange]) -> dict[tuple[str, str], str]:
    """What to say of tensors that differ from others only by a number in their names, such as those of 100 trees."""
    counts = Counter(map(_pattern, tensors))
    return {pattern: f"{total:,} {pattern[1]}" for pattern, total in counts.items() if pattern[1] and total > 3}


def _tensor(tensor: TensorChange) -> str:
    if tensor.new is None or tensor.old != tensor.new:
        return tensor.new or ABSENT
    if tensor.not_finite:
        return f"changed: {count(tensor.not_finite, 'number')} NaN or infinite"
    if tensor.norm is None:
        return "changed"
    parts = [f"changed by {number(tensor.norm)}"]
    if tensor.relative is not None:
        parts[0] += f" ({100 * tensor.relative:.3g} %)"
    parts.append(f"at most {number(tensor.largest)}")
    if tensor.cosine is not None:
        parts.append(f"cosine {tensor.cosine:.4f}")
    return ", ".join(parts)


def _value(value: Scalar) -> Cell:
    return Cell(ABSENT) if value is None else Cell(str(value)[:200], name=True)
