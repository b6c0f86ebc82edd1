"""A comparison in words: blocks of title, table and notes, the most important first. Every renderer shows these."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gitml.formats.compare import ModelDiff, TensorChange
from gitml.formats.pixels import NO_PILLOW, PixelDiff
from gitml.formats.summary import Scalar
from gitml.meter import format_size
from gitml.pipeline.reason import shown
from gitml.provenance.codec import text_of
from gitml.review.comparison import (
    Comparison,
    CostChange,
    FileChange,
    Graph,
    LeakageChange,
    MetricChange,
    ParamChange,
    Picture,
    PlotChange,
    StageChange,
    Verdict,
)
from gitml.review.files import by_role
from gitml.review.history import MetricHistory
from gitml.review.lineage import around
from gitml.review.lineage import limited as limited_graph
from gitml.tables.diff import Column, Overlap, Row, Statistics, TableDiff
from gitml.tables.outcome import Example, PredictionDiff, Slice
from gitml.tables.series import Series

_MOST_WARNINGS = 10
_MOST_FILES = 20
"""Files of a role that are named; the largest differences first."""
_MOST_ROWS = 200
"""Rows of any other table."""
_MOST_SAMPLES = 5
"""Rows of a table that are shown of each kind."""
_LONGEST_ROW = 300
"""Characters of such a row."""
_MOST_NODES = 60
"""Nodes of a graph: as many as a diagram in a forge can be read with."""
_LARGE_GRAPH = 12
"""Nodes from which on a graph is a detail."""
_DRIFT = 0.1
"""Population stability index from which on a column is said to have moved: below it is taken for none."""
_CHANCE = 0.05
"""Probability below which a difference is taken for more than chance."""
_SEPARATOR = " · "
_ABSENT = "-"


class Tone(StrEnum):
    """What a cell tells at a glance."""

    PLAIN = ""
    GOOD = "good"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Cell:
    """Text in a table. A `name` was chosen by somebody else: it may hold anything."""

    text: str
    name: bool = False
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One part of the report."""

    key: str
    """What `--only` calls it."""
    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    notes: tuple[Cell, ...] = ()
    folded: bool = False
    """Whether it is a detail."""
    text: tuple[str, ...] = ()
    """Lines of a log or commands, as they are."""
    graph: Graph | None = None
    """What the rows say, for whoever can draw it."""
    history: MetricHistory | None = None
    """As `graph`."""
    plot: PlotChange | None = None
    """As `graph`."""
    pictures: Mapping[str, Picture | None] = field(default_factory=dict)
    """What is shown beside each other, each with what it is called: before, now, difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The verdict in one line, and the blocks."""

    verdict: tuple[Cell, ...]
    blocks: tuple[Block, ...]


def report(comparison: Comparison, command: str) -> Report:
    """Put a comparison into words; `command` is what shows it again."""
    blocks = [block for make in _BLOCKS.values() for block in make(comparison)]
    blocks.append(Block(key="reproduce", title="Reproduce", text=tuple(_reproduce(comparison, command))))
    return Report(verdict=tuple(_verdict(comparison)), blocks=tuple(blocks))


def _verdict(comparison: Comparison) -> Iterator[Cell]:
    counts = dict.fromkeys(Verdict, 0)
    for metric in comparison.metrics:
        counts[metric.verdict] += 1
    tones = {Verdict.BETTER: Tone.GOOD, Verdict.WORSE: Tone.BAD, Verdict.GONE: Tone.BAD}
    words = {Verdict.SAME: "unchanged"}
    for verdict, number in counts.items():
        if number:
            yield Cell(f"{number} {words.get(verdict, verdict)}", tone=tones.get(verdict, Tone.PLAIN))
    broken = comparison.broken_gates
    if broken:
        yield Cell("gate broken: " + ", ".join(f"{each.name} {_gate(each)}" for each in broken), tone=Tone.BAD)
    anew = sum(stage.what == "made anew" for stage in comparison.stages)
    if anew:
        yield Cell(f"{anew} of {_count(comparison.stages_total, 'stage')} made anew")
    yield from _freshness(comparison)


def _freshness(comparison: Comparison) -> Iterator[Cell]:
    side = comparison.new
    where = "the worktree" if side.worktree else side.commit.hex()[:10]
    if side.problem:
        yield Cell(f"no results: {side.problem}", tone=Tone.BAD)
    elif not comparison.stages_total:
        yield Cell(f"no pipeline at {where}", tone=Tone.QUIET)
    elif comparison.unsettled:
        names = ", ".join(f"{stage.stage} ({stage.state})" for stage in comparison.unsettled[:5])
        more = len(comparison.unsettled) - 5
        yield Cell(f"NOT results of {where}: {names}{f' and {more} more' if more > 0 else ''}", tone=Tone.BAD)
    else:
        yield Cell(f"results of {where}: fresh", tone=Tone.GOOD)


def _metrics(comparison: Comparison) -> Iterator[Block]:
    told = [metric for metric in comparison.metrics if metric.verdict is not Verdict.SAME or metric.breaks_gate]
    quiet = [metric for metric in comparison.metrics if metric not in told]
    columns = ("stage", "metric", "before", "now", "change", "verdict")
    told.sort(key=lambda metric: (not metric.breaks_gate, metric.verdict is not Verdict.WORSE))
    if told:
        yield Block(key="metrics", title="Metrics", columns=columns, rows=_rows(map(_metric, told), len(told)))
    if quiet:
        yield Block(
            key="metrics", title=f"{_count(len(quiet), 'metric')} unchanged", columns=columns,
            rows=_rows(map(_metric, quiet), len(quiet)), folded=True,
        )  # fmt: skip


def _metric(metric: MetricChange) -> tuple[Cell, ...]:
    words = [str(metric.verdict)]
    if metric.breaks_gate:
        words.append(f"gate {_gate(metric)}")
    if not metric.fresh:
        words.append("stale")
    tone = Tone.PLAIN
    if metric.breaks_gate or metric.verdict in (Verdict.WORSE, Verdict.GONE):
        tone = Tone.BAD
    elif metric.verdict is Verdict.BETTER:
        tone = Tone.GOOD
    goal = {"max": " ↑", "min": " ↓"}.get(metric.goal or "", "")
    return (
        Cell(metric.stage, name=True), Cell(metric.name + goal, name=True), Cell(number(metric.old)),
        Cell(number(metric.new)), Cell(_change(metric)), Cell(", ".join(words), tone=tone),
    )  # fmt: skip


def _change(metric: MetricChange) -> str:
    change = metric.change
    if change is None or change == 0 or math.isnan(change):
        return ""
    text = ("+" if change > 0 else "") + number(change)
    if metric.old and math.isfinite(metric.old) and math.isfinite(change):
        text += f" ({100 * change / abs(metric.old):+.3g} %)"
    return text


def _gate(metric: MetricChange) -> str:
    low, high = metric.gate
    parts = [f"≥ {low:g}" if low is not None else "", f"≤ {high:g}" if high is not None else ""]
    return " and ".join(part for part in parts if part)


def number(value: float | None) -> str:
    """A metric for people: six digits, as many as float32 has."""
    return _ABSENT if value is None else f"{value:.6g}"


def _stages(comparison: Comparison) -> Iterator[Block]:
    shown_ones = [stage for stage in comparison.stages if stage.what or stage.state not in ("", "fresh")]
    if shown_ones:
        yield Block(
            key="stages", title="Stages", columns=("stage", "", "now", "because"),
            rows=_rows(map(_stage, shown_ones), len(shown_ones)),
        )  # fmt: skip


def _stage(stage: StageChange) -> tuple[Cell, ...]:
    same = stage.what == "made anew" and not stage.output_changed
    because = "; ".join(dict.fromkeys(each for each in (stage.causes, stage.reason) if each))
    tone = Tone.PLAIN if stage.state in ("", "fresh") else Tone.BAD
    return (
        Cell(stage.stage, name=True), Cell(stage.what + (", same output" if same else "")),
        Cell(stage.state, tone=tone), Cell(because, name=True),
    )  # fmt: skip


def _params(comparison: Comparison) -> Iterator[Block]:
    if comparison.params:
        yield Block(
            key="params", title="Parameters", columns=("parameter", "before", "now", "read by"),
            rows=_rows(map(_param, comparison.params), len(comparison.params)),
        )  # fmt: skip


def _param(param: ParamChange) -> tuple[Cell, ...]:
    old, new = (Cell(_ABSENT) if each is None else Cell(shown(each[0]), name=True) for each in (param.old, param.new))
    where = f"{param.path}:{param.key}" if param.key else param.path
    return Cell(where, name=True), old, new, Cell(", ".join(param.stages), name=True)


def _files(comparison: Comparison) -> Iterator[Block]:
    for role, files in by_role(comparison.files).items():
        listed = sorted(files, key=lambda file: (-abs((file.new_size or 0) - (file.old_size or 0)), file.path))
        kinds = [(sum(map(test, files)), word) for word, test in _KINDS.items()]
        notes = _SEPARATOR.join(f"{count} {word}" for count, word in kinds if count)
        before = sum(file.old_size or 0 for file in files)
        now = sum(file.new_size or 0 for file in files)
        yield Block(
            key="files", title=f"Files: {role}", columns=("file", "", "before", "now"),
            rows=_rows(map(_file, listed), len(files), _MOST_FILES),
            notes=(Cell(f"{notes}; {format_size(before)} → {format_size(now)}"),),
            folded=role.value in ("code", "parameters", "other"),
        )  # fmt: skip


_KINDS: dict[str, Callable[[FileChange], bool]] = {
    "added": lambda file: file.new,
    "changed": lambda file: not (file.new or file.gone or file.old_path),
    "renamed": lambda file: file.old_path is not None,
    "removed": lambda file: file.gone,
}


def _file(file: FileChange) -> tuple[Cell, ...]:
    kind = next(word for word, test in _KINDS.items() if test(file))
    path = text_of(file.path) if file.old_path is None else f"{text_of(file.old_path)} → {text_of(file.path)}"
    old, new = (_ABSENT if size is None else format_size(size) for size in (file.old_size, file.new_size))
    return Cell(path, name=True), Cell(kind), Cell(old), Cell(new)


def _tables(comparison: Comparison) -> Iterator[Block]:
    yield from _leakage(comparison)
    for each in comparison.tables:
        title = f"Table: {text_of(each.path)}"
        if each.diff is None or each.diff.opaque:
            why = each.problem if each.diff is None else f"opaque: {each.diff.opaque}"
            yield Block(key="tables", title=title, notes=(Cell(why, name=True),))
            continue
        for table in each.diff.tables:
            yield from _table(f"{title}, {table.name}" if table.name else title, table)
        for names, what in ((each.diff.added, "added"), (each.diff.removed, "removed")):
            if names:
                yield Block(
                    key="tables", title=f"{title}, {what}", notes=tuple(Cell(name, name=True) for name in names)
                )


def _leakage(comparison: Comparison) -> Iterator[Block]:
    if not comparison.leakage:
        return
    yield Block(
        key="tables", title="Leakage: rows to test on that are trained on", columns=("train", "test", "before", "now"),
        rows=tuple(map(_leak, comparison.leakage)),
    )  # fmt: skip
    for each in comparison.leakage:
        if each.new is not None and each.new.sample:
            title = f"Leakage: {text_of(each.test)}, some rows that are in {text_of(each.train)}"
            yield Block(key="tables", title=title, text=tuple(_samples("=", each.new.sample)), folded=True)


def _leak(change: LeakageChange) -> tuple[Cell, ...]:
    before = change.old.shared if change.old is not None and not change.old.opaque else 0
    known = change.new is not None and not change.new.opaque
    now = change.new.shared if change.new is not None and known else before
    tone = Tone.BAD if now > before or not known else Tone.GOOD if now < before else Tone.PLAIN
    names = (Cell(text_of(path), name=True) for path in (change.train, change.test))
    return *names, _shared(change.old), replace(_shared(change.new), tone=tone)


def _shared(found: Overlap | None) -> Cell:
    if found is None:
        return Cell(_ABSENT)
    if found.opaque:
        return Cell(f"opaque: {found.opaque}", name=True)
    return Cell(f"{found.shared:,} of {found.rows[1]:,} ({100 * found.share:.3g} %)")


def _table(title: str, table: TableDiff) -> Iterator[Block]:
    if table.opaque:
        yield Block(key="tables", title=title, notes=(Cell(f"opaque: {table.opaque}", name=True),))
        return
    kinds = ((table.added, "added"), (table.removed, "removed"), (table.changed, "changed"))
    counts = ", ".join(f"{count:,} {word}" for count, word in kinds if count) or "none changed"
    notes = [Cell(f"{table.rows[0]:,} → {_count(table.rows[1], 'row')}: {counts}")]
    if table.key:
        notes.append(Cell("rows by " + ", ".join(table.key), name=True))
    notes += [Cell("columns in another order")] if table.reordered else []
    notes += [Cell(warning, name=True) for warning in table.warnings[:_MOST_WARNINGS]]
    columns = [column for column in table.columns if _tells(column)]
    yield Block(
        key="tables", title=title, columns=("column", "before", "now", ""), notes=tuple(notes),
        rows=_rows(map(_column, columns), len(columns), _MOST_FILES),
    )  # fmt: skip
    samples = [*_samples("-", table.sample_removed), *_samples("+", table.sample_added)]
    for old, new in table.sample_changed[:_MOST_SAMPLES]:
        samples += [*_samples("-", [old]), *_samples("+", [new])]
    if samples:
        yield Block(key="tables", title=f"{title}, some rows", text=tuple(samples), folded=True)


def _tells(column: Column) -> bool:
    """Whether there is something to say of a column."""
    if column.old is None or column.new is None or column.old.type != column.new.type or column.changed:
        return True
    moved = column.drift is not None and column.drift >= _DRIFT
    categories = any(each is not None and each.count for each in (column.appeared, column.vanished))
    return moved or categories or column.old.missing != column.new.missing


def _column(column: Column) -> tuple[Cell, ...]:
    said = [f"changed in {_count(column.changed, 'row')}"] if column.changed else []
    if column.drift is not None and column.drift >= _DRIFT:
        said.append(f"drift {column.drift:.2f}")
    for found, word in ((column.appeared, "new"), (column.vanished, "gone")):
        if found is not None and found.count:
            names = ", ".join(text for text, _ in found.frequent[:3])
            said.append(f"{word}: {names}" + (f" and {found.count - 3} more" if found.count > 3 else ""))
    return Cell(column.name, name=True), _side(column.old), _side(column.new), Cell("; ".join(said), name=True)


def _side(found: Statistics | None) -> Cell:
    if found is None:
        return Cell(_ABSENT)
    said = [found.type]
    if found.mean is not None:
        said.append(f"mean {number(found.mean)}")
    if found.missing:
        said.append(f"{found.missing:,} missing")
    return Cell(", ".join(said))


def _samples(sign: str, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows[:_MOST_SAMPLES]:
        yield (
            f"{sign} "
            + ", ".join(f"{name}={'' if cell is None else cell}" for name, cell in row.items())[:_LONGEST_ROW]
        )


def _predictions(comparison: Comparison) -> Iterator[Block]:
    for each in comparison.predictions:
        title = f"Predictions: {text_of(each.path)}"
        if each.diff is None or each.diff.opaque:
            why = each.problem if each.diff is None else f"opaque: {each.diff.opaque}"
            yield Block(key="predictions", title=title, notes=(Cell(why, name=True),))
            continue
        diff = each.diff
        notes = [] if each.fresh else [Cell("stale: not those of this commit's inputs", tone=Tone.BAD)]
        notes += [*_prediction_notes(diff), *(Cell(each, name=True) for each in diff.warnings[:_MOST_WARNINGS])]
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
    text = f"{_count(diff.common, 'example')} in both: {diff.changed:,} predicted differently"
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
        yield Cell(f"labels of {_count(diff.relabelled, 'example')} changed: the new ones judge both", tone=Tone.BAD)


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
        Cell(f"{part.column}={_ABSENT if part.value is None else part.value}", name=True), Cell(f"{part.count:,}"),
        Cell(number(part.old)), Cell(number(part.new)),
        Cell(f"{change:+.4g}" if change else "", tone=Tone.BAD if worse else Tone.GOOD if change else Tone.PLAIN),
    )  # fmt: skip


def _regression(example: Example) -> tuple[Cell, ...]:
    named = (
        Cell(_ABSENT if each is None else each, name=each is not None)
        for each in (example.id, example.label, example.old, example.new)
    )
    return *named, *(Cell(number(each)) for each in (example.old_score, example.new_score))


def _models(comparison: Comparison) -> Iterator[Block]:
    for model in comparison.models:
        title = f"Model: {text_of(model.path)}"
        if model.diff is None or model.diff.new.opaque:
            why = model.problem if model.diff is None else f"opaque: {model.diff.new.opaque}"
            warnings = () if model.diff is None else tuple(_model_warnings(model.diff))
            yield Block(key="model", title=title, notes=(Cell(why, name=True), *warnings))
            continue
        rows = [*_model_rows(model.diff)]
        yield Block(
            key="model", title=title, columns=("", "", "before", "now"), rows=_rows(iter(rows), len(rows), _MOST_FILES),
            notes=tuple(_model_notes(model.diff)),
        )  # fmt: skip


def _model_notes(diff: ModelDiff) -> Iterator[Cell]:
    same_format = diff.old.format in (diff.new.format, "none")
    yield Cell(diff.new.format if same_format else f"{diff.old.format} → {diff.new.format}")
    if "class" in diff.new.facts:
        yield Cell(diff.new.facts["class"], name=True)
    if diff.new.tensors or diff.old.tensors:
        numbers = sum(tensor.count for tensor in diff.new.tensors)
        changed = sum(each.old is not None and each.new is not None for each in diff.tensors)
        text = f"{_count(len(diff.new.tensors), 'tensor')}, {numbers:,} numbers"
        if diff.old.format != "none":
            text += f": {changed} changed, {diff.same} the same"
            text += f", {diff.unread} not compared" if diff.unread else ""
        yield Cell(text)
    yield from _model_warnings(diff)


def _model_warnings(diff: ModelDiff) -> Iterator[Cell]:
    warnings = [each for each in diff.new.warnings if each not in diff.old.warnings]
    for warning in warnings[:_MOST_WARNINGS]:
        yield Cell(warning, name=True, tone=Tone.BAD)
    if len(warnings) > _MOST_WARNINGS:
        # those that come first need not be the worst
        yield Cell(f"and {len(warnings) - _MOST_WARNINGS} more warnings", tone=Tone.BAD)


def _model_rows(diff: ModelDiff) -> Iterator[tuple[Cell, ...]]:
    if diff.old.format == "none":
        return
    for name, (old, new) in diff.parameters.items():
        yield Cell("parameter"), Cell(name, name=True), _value(old), _value(new)
    for what, (came, went) in (("feature", diff.features), ("uses", diff.globals)):
        for name in came:
            yield Cell(what), Cell(name, name=True), Cell(_ABSENT), Cell("added")
        for name in went:
            yield Cell(what), Cell(name, name=True), Cell("removed"), Cell(_ABSENT)
    for tensor in sorted(diff.tensors, key=lambda each: -(each.relative or 0.0)):
        yield Cell("tensor"), Cell(tensor.name, name=True), Cell(tensor.old or _ABSENT), Cell(_tensor(tensor))
    for name, (before, now) in diff.facts.items():
        yield Cell("fact"), Cell(name, name=True), _value(before), _value(now)


def _tensor(tensor: TensorChange) -> str:
    if tensor.new is None or tensor.old != tensor.new:
        return tensor.new or _ABSENT
    if tensor.not_finite:
        return f"changed: {_count(tensor.not_finite, 'number')} NaN or infinite"
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
    return Cell(_ABSENT) if value is None else Cell(str(value)[:200], name=True)


def _plots(comparison: Comparison) -> Iterator[Block]:
    yield from _lines(comparison)
    yield from _pictures(comparison)


def _lines(comparison: Comparison) -> Iterator[Block]:
    for plot in comparison.plots:
        sides = (("before", plot.old), ("now", plot.new))
        notes = [] if plot.fresh else [Cell("stale: not that of this commit's inputs", tone=Tone.BAD)]
        for when, side in sides:
            if side is None or side.opaque:
                notes.append(Cell(f"{when}: {'it is not there' if side is None else side.opaque}", name=True))
            else:
                notes += [Cell(f"{when}: {warning}", name=True) for warning in side.warnings[:_MOST_WARNINGS]]
        rows = [
            (Cell(series.name, name=True), Cell(when), *(Cell(number(each)) for each in _ends(series)))
            for name in dict.fromkeys(series.name for _, side in sides if side for series in side.series)
            for when, side in sides
            for series in (side.series if side is not None else ())
            if series.name == name
        ]
        yield Block(
            key="plots", title=f"Plot: {plot.title}", columns=("line", "", "first", "last", "least", "greatest"),
            rows=_rows(iter(rows), len(rows)), notes=tuple(notes), plot=plot,
        )  # fmt: skip


def _pictures(comparison: Comparison) -> Iterator[Block]:
    lacks_pillow = False
    for change in comparison.pictures:
        notes = [] if change.fresh else [Cell("stale: not that of this commit's inputs", tone=Tone.BAD)]
        for when, picture in (("before", change.old), ("now", change.new)):
            if picture is None:
                notes.append(Cell(f"{when}: it is not there"))
            else:
                kind = picture.problem or picture.media.removeprefix("image/").upper()
                notes.append(Cell(f"{when}: {kind}, {format_size(picture.size)}"))
        pictures = {"before": change.old, "now": change.new}
        if change.difference is not None and not (lacks_pillow and change.difference.problem == NO_PILLOW):
            notes.append(_difference(change.difference))
            lacks_pillow = change.difference.problem == NO_PILLOW
            if change.difference.drawn:
                data = change.difference.drawn
                address = change.difference_address
                pictures["difference"] = Picture(size=len(data), media="image/png", data=data, address=address)
        yield Block(key="plots", title=f"Image: {text_of(change.path)}", notes=tuple(notes), pictures=pictures)


def _difference(found: PixelDiff) -> Cell:
    """What became of the pixels, in words."""
    if found.problem or found.old_size is None or found.new_size is None:
        return Cell(found.problem, name=found.problem != NO_PILLOW, tone=Tone.QUIET)
    if found.changed is None or found.share is None:
        before, now = (f"{width} × {height}" for width, height in (found.old_size, found.new_size))
        return Cell(f"{before} pixels before, {now} now: no difference is drawn of two sizes")
    if not found.changed:
        return Cell("no pixel changed")
    pixels = f"{found.changed:,} of {found.new_size[0] * found.new_size[1]:,}"
    return Cell(f"{100 * found.share:.3g} % of the pixels changed ({pixels}), by at most {found.largest} of 255")


def _ends(series: Series) -> tuple[float | None, ...]:
    return series.first, series.last, series.least, series.greatest


def _costs(comparison: Comparison) -> Iterator[Block]:
    if comparison.costs:
        yield Block(
            key="cost", title="Cost", columns=("stage", "time before", "now", "memory before", "now"),
            rows=_rows(map(_cost, comparison.costs), len(comparison.costs)), folded=True,
        )  # fmt: skip


def _cost(cost: CostChange) -> tuple[Cell, ...]:
    times = [_ABSENT if each is None else f"{each.seconds:.1f} s" for each in (cost.old, cost.new)]
    peaks = (None if each is None else each.memory for each in (cost.old, cost.new))
    memory = [_ABSENT if peak is None else format_size(peak) for peak in peaks]
    return Cell(cost.stage, name=True), *(Cell(each) for each in (*times, *memory))


def _libraries(comparison: Comparison) -> Iterator[Block]:
    if comparison.libraries:
        yield Block(
            key="environment", title="Environment", columns=("library", "before", "now"),
            rows=tuple(
                (Cell(name, name=True), *(Cell(version or _ABSENT, name=version is not None) for version in versions))
                for name, versions in comparison.libraries.items()
            ),
        )  # fmt: skip


def _lineage(comparison: Comparison) -> Iterator[Block]:
    graph, left = limited_graph(around(comparison.pipeline), _MOST_NODES)
    if graph.nodes:
        yield graph_block("lineage", "Lineage", graph, left, ("stage", "", "now", "reads"))


def graph_block(key: str, title: str, graph: Graph, left: int, columns: tuple[str, ...]) -> Block:
    """A graph, and its stages as rows; `left` nodes of it are not there.

    A column is one of stage, '' (what became of it), now, datums, because and reads.
    """
    reads: dict[int, list[str]] = {}
    for source, target in graph.edges:
        node = graph.nodes[source]
        reads.setdefault(target, []).append(node.name + (f" ({node.what})" if node.what and not node.stage else ""))
    rows = []
    for number_of, node in enumerate(graph.nodes):
        if node.stage:
            tone = Tone.PLAIN if node.state in ("", "fresh") else Tone.BAD
            cells = {
                "stage": Cell(node.name, name=True), "": Cell(node.what), "now": Cell(node.state, tone=tone),
                "datums": Cell(f"{node.done} of {node.datums}" if node.state else ""),
                "because": Cell(node.reason, name=True),
                "reads": Cell(", ".join(reads.get(number_of, [])), name=True),
            }  # fmt: skip
            rows.append(tuple(cells[column] for column in columns))
    notes = (Cell(f"and {left} more stages and inputs", tone=Tone.QUIET),) if left else ()
    return Block(
        key=key, title=title, columns=columns, rows=_rows(iter(rows), len(rows)), notes=notes, graph=graph,
        folded=len(graph.nodes) > _LARGE_GRAPH,
    )  # fmt: skip


def _failures(comparison: Comparison) -> Iterator[Block]:
    for stage in comparison.stages:
        for failure in stage.failures:
            notes = [Cell(stage.stage, name=True)]
            # a stage that has one datum is named by it well enough
            notes += [Cell(failure.datum, name=True)] if failure.datum and stage.failed > 1 else []
            notes += [Cell(failure.message, name=True, tone=Tone.BAD)]
            yield Block(
                key="failures", title="Failed", notes=tuple(notes), text=failure.last_lines, folded=True
            )  # fmt: skip
        if stage.failures and stage.failed > len(stage.failures):
            more = Cell(f"and {_count(stage.failed - len(stage.failures), 'datum')} more")
            yield Block(key="failures", title="Failed", notes=(Cell(stage.stage, name=True), more), folded=True)


def _reproduce(comparison: Comparison, command: str) -> Iterator[str]:
    yield command
    for stage in comparison.unsettled[:1]:
        yield "git ml run" if stage.state != "failed" else "git ml logs"


_BLOCKS: dict[str, Callable[[Comparison], Iterator[Block]]] = {
    "metrics": _metrics,
    "stages": _stages,
    "params": _params,
    "files": _files,
    "tables": _tables,
    "predictions": _predictions,
    "model": _models,
    "plots": _plots,
    "environment": _libraries,
    "cost": _costs,
    "lineage": _lineage,
    "failures": _failures,
}

KEYS = (*_BLOCKS, "reproduce")
"""What `--only` takes."""


def _rows(cells: Iterable[tuple[Cell, ...]], total: int, most: int = _MOST_ROWS) -> tuple[tuple[Cell, ...], ...]:
    """The first rows, and how many more there are."""
    listed: list[tuple[Cell, ...]] = []
    for each in cells:
        if len(listed) == most:
            listed.append((Cell(f"and {total - most} more", tone=Tone.QUIET), *(Cell("") for _ in each[1:])))
            break
        listed.append(each)
    return tuple(listed)


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}" if number_of == 1 else f"{number_of} {noun}s"


def limited(found: Report, only: Sequence[str]) -> Report:
    """The report with these blocks only; all of them if none is named."""
    if not only:
        return found
    return Report(verdict=found.verdict, blocks=tuple(block for block in found.blocks if block.key in only))
