"""A comparison in words: its blocks, the most important first. Every renderer shows these."""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from gitml.meter import format_size
from gitml.pipeline.reason import shown
from gitml.provenance.codec import text_of
from gitml.review.blocks import ABSENT, MOST_NAMED, Block, Cell, Report, Tone, count, first_rows, number
from gitml.review.comparison import (
    Comparison,
    Cost,
    CostChange,
    FileChange,
    MadeBy,
    MetricChange,
    ParamChange,
    StageChange,
    Verdict,
)
from gitml.review.files import by_role
from gitml.review.words.graphs import lineage_blocks
from gitml.review.words.models import model_blocks
from gitml.review.words.plots import plot_blocks
from gitml.review.words.predictions import prediction_blocks
from gitml.review.words.tables import table_blocks

_SEPARATOR = " · "


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
    for verdict, total in counts.items():
        if total:
            yield Cell(f"{total} {words.get(verdict, verdict)}", tone=tones.get(verdict, Tone.PLAIN))
    broken = comparison.broken_gates
    if broken:
        yield Cell("gate broken: " + ", ".join(f"{each.name} {_gate(each)}" for each in broken), tone=Tone.BAD)
    anew = sum(stage.what == "made anew" for stage in comparison.stages)
    if anew:
        yield Cell(f"{anew} of {count(comparison.stages_total, 'stage')} made anew")
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
        yield Block(key="metrics", title="Metrics", columns=columns, rows=first_rows(map(_metric, told), len(told)))
    if quiet:
        yield Block(
            key="metrics", title=f"{count(len(quiet), 'metric')} unchanged", columns=columns,
            rows=first_rows(map(_metric, quiet), len(quiet)), folded=True,
        )  # fmt: skip


def _metric(metric: MetricChange) -> tuple[Cell, ...]:
    words = [str(metric.verdict)]
    if metric.noise is not None and metric.change:
        words.append(f"{'within ' if abs(metric.change) <= metric.noise else ''}noise ± {number(metric.noise)}")
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


def _stages(comparison: Comparison) -> Iterator[Block]:
    shown_ones = [stage for stage in comparison.stages if stage.what or stage.state not in ("", "fresh")]
    if shown_ones:
        yield Block(
            key="stages", title="Stages", columns=("stage", "", "now", "because"),
            rows=first_rows(map(_stage, shown_ones), len(shown_ones)),
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
            rows=first_rows(map(_param, comparison.params), len(comparison.params)),
        )  # fmt: skip


def _param(param: ParamChange) -> tuple[Cell, ...]:
    old, new = (Cell(ABSENT) if each is None else Cell(shown(each[0]), name=True) for each in (param.old, param.new))
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
            rows=first_rows(map(_file, listed), len(files), MOST_NAMED),
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
    old, new = (ABSENT if size is None else format_size(size) for size in (file.old_size, file.new_size))
    return Cell(path, name=True), Cell(kind), Cell(old), Cell(new)


def _costs(comparison: Comparison) -> Iterator[Block]:
    if comparison.costs:
        yield Block(
            key="cost", title="Cost", columns=("stage", "computed", "time", "processor time", "memory", "stored"),
            rows=first_rows(map(_cost, comparison.costs), len(comparison.costs)),
            notes=(Cell(_SEPARATOR.join(_bill(comparison))),), folded=True,
        )  # fmt: skip


def _bill(comparison: Comparison) -> Iterator[str]:
    """What all stages took together, as far as it is known."""
    costs = [each for each in comparison.costs if each.new is not None]
    tasks = sum(each.new.tasks for each in costs if each.new is not None)
    reused = sum(each.reused or 0 for each in costs)
    yield f"{tasks - reused} of {count(tasks, 'datum')} computed, {reused} reused"
    known = [each.stored for each in comparison.costs if each.stored is not None]
    if known:
        yield f"{format_size(sum(known))} of new content stored"


def _cost(cost: CostChange) -> tuple[Cell, ...]:
    tasks = None if cost.new is None else cost.new.tasks
    computed = ABSENT if tasks is None or cost.reused is None else f"{tasks - cost.reused} of {tasks}"
    cells = (
        computed, _moved(cost, lambda each: f"{each.seconds:.1f} s"),
        _moved(cost, lambda each: None if each.cpu_seconds is None else f"{each.cpu_seconds:.1f} s"),
        _moved(cost, lambda each: None if each.memory is None else format_size(each.memory)),
        ABSENT if cost.stored is None else format_size(cost.stored),
    )  # fmt: skip
    return Cell(cost.stage, name=True), *map(Cell, cells)


def _moved(cost: CostChange, told: Callable[[Cost], str | None]) -> str:
    """Something of the cost before and now; what is not known of both sides is left out."""
    old, new = (None if side is None else told(side) for side in (cost.old, cost.new))
    if old is None or new is None:
        return new or (f"{old} → {ABSENT}" if old else ABSENT)
    return f"{old} → {new}"


def _makers(comparison: Comparison) -> Iterator[Block]:
    if comparison.makers:
        yield Block(
            key="provenance", title="Made by", columns=("run", "from commit", "started", "on", "stages"),
            rows=first_rows(map(_maker, comparison.makers), len(comparison.makers)), folded=True,
        )  # fmt: skip


def _maker(made: MadeBy) -> tuple[Cell, ...]:
    when = ABSENT if made.started is None else f"{datetime.fromtimestamp(made.started, UTC):%Y-%m-%d %H:%M}"
    facts = [
        made.host,
        f"sandbox {made.sandbox}" if made.sandbox else "",
        f"Python {made.python}" if made.python else "",
    ]
    place = ", ".join(fact for fact in facts if fact)
    return (
        Cell(made.run, name=True), Cell(made.source[:10] or ABSENT, name=True), Cell(when),
        Cell(place or "not recorded in this clone", name=bool(place)), Cell(", ".join(made.stages), name=True),
    )  # fmt: skip


def _libraries(comparison: Comparison) -> Iterator[Block]:
    if comparison.libraries:
        yield Block(
            key="environment", title="Environment", columns=("library", "before", "now"),
            rows=tuple(
                (Cell(name, name=True), *(Cell(version or ABSENT, name=version is not None) for version in versions))
                for name, versions in comparison.libraries.items()
            ),
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
            more = Cell(f"and {count(stage.failed - len(stage.failures), 'datum')} more")
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
    "tables": table_blocks,
    "predictions": prediction_blocks,
    "model": model_blocks,
    "plots": plot_blocks,
    "provenance": _makers,
    "environment": _libraries,
    "cost": _costs,
    "lineage": lineage_blocks,
    "failures": _failures,
}

KEYS = (*_BLOCKS, "reproduce")
"""What `--only` takes."""


def limited(found: Report, only: Sequence[str]) -> Report:
    """The report with these blocks only; all of them if none is named."""
    if not only:
        return found
    return Report(verdict=found.verdict, blocks=tuple(block for block in found.blocks if block.key in only))
