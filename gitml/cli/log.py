"""`git ml log`."""

import csv
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, overload

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json, Revision
from gitml.cli.output import day, paint, safe, show, show_json, table, talk
from gitml.errors import UserError
from gitml.pipeline.journal import JournalEntry, journal
from gitml.pipeline.reason import between
from gitml.pipeline.spec.model import Metric, Pipeline, Stage
from gitml.provenance.codec import printable
from gitml.provenance.record import Record, record_path
from gitml.review.metrics import noise_band
from gitml.review.terminalplot import plot as draw

_HEIGHT = 8
"""Lines of a plot."""
_WIDTH = 80
_MOST_NAMED = 20
"""Characters of a plot that goes into a pipe, and at most."""


class Listed(Sequence[JournalEntry]):
    """The newest `limit` results of a stage, which know what they followed although that is not listed."""

    def __init__(self, entries: Sequence[JournalEntry], limit: int | None) -> None:
        self._all = {entry.commit: entry for entry in entries}
        self._listed = tuple(entries[:limit])

    @overload
    def __getitem__(self, index: int) -> JournalEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[JournalEntry]: ...
    def __getitem__(self, index: int | slice) -> JournalEntry | Sequence[JournalEntry]:
        return self._listed[index]

    def __len__(self) -> int:
        return len(self._listed)

    def before(self, entry: JournalEntry) -> JournalEntry | None:
        """The result that one of them followed, None if there is none or it is not here."""
        return None if entry.before is None else self._all.get(entry.before)


_Journals = Mapping[str, Listed]


def log(
    what: Annotated[str | None, typer.Argument(metavar="[STAGE|METRIC]", help="Only this stage, or metric.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="Only this metric.")] = None,
    limit: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="At most N results of a stage.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the metrics, oldest first.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="Show how history branched and merged.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table for other programs.")] = False,
    json: Json = False,
    rev: Revision = "HEAD",
) -> None:
    """Show how results went over the commits: metrics, what changed each time, and by which commit. Newest first."""
    if plot + graph + as_csv + json > 1:
        raise UserError("--plot, --graph, --csv and --json are one or the other")
    with open_context() as context:
        _, pipeline = context.survey(rev)
        start = context.commit(rev)
        entries: dict[str, Listed] = {}

        def read(stage: Stage) -> Listed:
            if stage.name not in entries:
                # one more, as the oldest that is shown is compared with what it followed; with branches that can be any
                read_to = None if limit is None or graph else limit + 1
                found = journal(context.repo, context.odb, start, stage, read_to, sides=graph, follow=True)
                entries[stage.name] = Listed(found, limit)
            return entries[stage.name]

        stages, metric = _chosen(pipeline, what, metric, read)
        journals = {each.name: read(each) for each in stages}
        if metric is not None:
            _require(metric, stages, journals)
        if (context.repo.common_dir / "shallow").exists():
            talk("this clone is shallow: results from before its history begins are not seen (git fetch --unshallow)")
        if json:
            show_json({"schema": "gitml/log/1", "stages": [_as_json(s, journals[s.name], metric) for s in stages]})
        elif as_csv:
            show(_as_csv(stages, journals, metric).removesuffix("\n"))
        elif plot:
            _plot(stages, journals, metric)
        else:
            for number, each in enumerate(stages):
                if number:
                    show()
                show(paint(safe(each.name), "1"))
                if not journals[each.name]:
                    show("  no results yet")
                elif graph:
                    _print_graph(context, rev, each, journals[each.name], metric, limit)
                else:
                    for line in table(_rows(each, journals[each.name], metric), fit=True):
                        show(line)


def _chosen(
    pipeline: Pipeline, what: str | None, metric: str | None, read: Callable[[Stage], Listed]
) -> tuple[list[Stage], str | None]:
    """The stages and the metric that are asked for; `what` is a stage, or else a metric of any."""
    measured = [each for each in pipeline.stages if each.metrics]
    if what is None:
        return (list(pipeline.stages) if metric is None else measured), metric
    stages = [each for each in pipeline.stages if each.name == what]
    if stages:
        return stages, metric
    having = [each for each in measured if what in _names(read(each), None)] if metric is None else []
    if not having:
        known = f"stages: {', '.join(each.name for each in pipeline.stages)}"
        metrics = dict.fromkeys(name for each in measured for name in _names(read(each), None))
        hint = f"{known}\nmetrics: {', '.join(list(metrics)[:_MOST_NAMED])}" if metrics else known
        raise UserError(f"there is no stage or metric '{what}'", hint=hint)
    return having, what


def _require(metric: str, stages: Sequence[Stage], journals: _Journals) -> None:
    known = sorted({name for each in stages for name in _names(journals[each.name], None)})
    if metric not in known:
        of = f"of '{stages[0].name}' " if len(stages) == 1 else ""
        raise UserError(
            f"no result {of}has a metric '{metric}'",
            hint=f"metrics: {', '.join(known)}" if known else 'declare them: "metrics": ["metrics.json"] in the stage',
        )


def _names(entries: Sequence[JournalEntry], metric: str | None) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in entry.metrics if metric in (None, name)))


def _changes(entries: Listed) -> list[list[str]]:
    """Why each result is not the one before, in words; nothing where one of them is not known."""
    return [list(_change(entries.before(entry), entry)) for entry in entries]


def _change(before: JournalEntry | None, entry: JournalEntry) -> Iterator[str]:
    if entry.reverts:
        # the result of before came back; that its inputs were others is not why
        for commit, made_from in entry.reverts:
            yield f"reverts {commit}, the result of '{made_from}'"
    elif before is not None and before.record is not None and entry.record is not None:
        yield from _renamed(before.record, entry.record)
        yield from between(before.record, entry.record)


def _renamed(before: Record, after: Record) -> Iterator[str]:
    if before.stage != after.stage:
        yield f"'{printable(before.stage)}' is called '{printable(after.stage)}' now"


def _as_json(stage: Stage, entries: Listed, metric: str | None) -> dict[str, object]:
    return {
        "name": stage.name,
        "results": [
            {
                "commit": entry.commit.hex(),
                "time": entry.when,
                "subject": entry.subject,
                "source": entry.source,
                "key": entry.record.key if entry.record else None,
                "stage": entry.record.stage if entry.record else None,
                "output": entry.record.output_tree.hex() if entry.record else None,
                "changed": changed,
                "metrics": {name: value for name, value in entry.metrics.items() if metric in (None, name)},
            }
            for entry, changed in zip(entries, _changes(entries), strict=True)
        ],
    }


def _as_csv(stages: Sequence[Stage], journals: _Journals, metric: str | None) -> str:
    """A row for each result of each stage; a column for each metric, empty where a result has not got it."""
    names = list(dict.fromkeys(name for each in stages for name in _names(journals[each.name], metric)))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["stage", "commit", "time", "because of", "changed", *map(_text, names)])
    for stage in stages:
        entries = journals[stage.name]
        for entry, changed in zip(entries, _changes(entries), strict=True):
            when = datetime.fromtimestamp(entry.when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            texts = [stage.name, entry.commit.hex(), when, entry.source, "; ".join(changed)]
            numbers = [repr(entry.metrics[name]) if name in entry.metrics else "" for name in names]
            writer.writerow([*map(_text, texts), *numbers])
    return out.getvalue()


def _text(text: str) -> str:
    # a spreadsheet would compute what begins like a formula, and messages of commits come from anybody
    return safe(f"'{text}" if text[:1] in ("=", "+", "-", "@") else text)


def _plot(stages: Sequence[Stage], journals: _Journals, metric: str | None) -> None:
    width = min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH) if sys.stdout.isatty() else _WIDTH
    plain = not _can_braille(getattr(sys.stdout, "encoding", None) or "ascii")
    drawn = 0
    for stage in stages:
        entries = journals[stage.name][::-1]
        for name in _names(entries, metric):
            values = [(entry.when, entry.metrics[name]) for entry in entries if name in entry.metrics]
            rule = _judge(stage, name)
            low, high = rule.gate if rule is not None else (None, None)
            if drawn:
                show()
            drawn += 1
            arrow = {"max": " ▲", "min": " ▼"}.get(rule.goal or "", "") if rule is not None else ""
            show(paint(f"{safe(stage.name)}: {safe(name)}{arrow}", "1"))
            gate = low if low is not None else high
            for line in draw([v for _, v in values], width=width, height=_HEIGHT, gate=gate, plain=plain).splitlines():
                show(line)
            first, last = (day(when)[:10] for when in (values[0][0], values[-1][0]))
            show(f"{len(values)} results, {first} to {last}; now {values[-1][1]:.5g}")
    if not drawn:
        raise UserError("no result has a metric to draw", hint='declare them: "metrics": ["metrics.json"] in the stage')


def _can_braille(encoding: str) -> bool:
    try:
        "⠁".encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _print_graph(
    context: Context, rev: str, stage: Stage, entries: Listed, metric: str | None, limit: int | None
) -> None:
    """The lines of `git log --graph`, with a result's row in the place of its commit."""
    head, *rows = table(_rows(stage, entries, metric), indent="")
    told = {entry.commit.hex(): row for entry, row in zip(entries, rows, strict=True)}
    arguments = [
        "log",
        "--graph",
        "--no-color",
        "--no-show-signature",
        "--simplify-merges",
        "--format=%x00%H%x00%h  %s",
    ]
    if limit is not None:
        arguments.append(f"--max-count={limit}")
    names = dict.fromkeys([stage.name, *(entry.record.stage for entry in entries if entry.record is not None)])
    paths = (f":(top,literal){record_path(name).decode()}" for name in names)
    lines = [line.partition("\0") for line in context.repo.git.lines(*arguments, rev, "--", *paths)]
    margin = max(len(lead) for lead, _, _ in lines)
    show(f"  {'':{margin}}{head}")
    for lead, found, rest in lines:
        oid, _, said = rest.partition("\0")
        show(f"  {lead:{margin}}{told.get(oid, safe(said)) if found else ''}".rstrip())


def _rows(stage: Stage, entries: Listed, metric: str | None) -> Iterator[list[str]]:
    names = _names(entries, metric)
    yield ["commit", "date", *(safe(name) for name in names), "because of"]
    for entry, changed in zip(entries, _changes(entries), strict=True):
        values = [_cell(entry, entries.before(entry), name, _judge(stage, name)) for name in names]
        because = safe(entry.source) + ("" if entry.record else "  (result removed)")
        yield [entry.short, day(entry.when), *values, because + (f": {safe('; '.join(changed))}" if changed else "")]


def _judge(stage: Stage, name: str) -> Metric | None:
    return next((metric for metric in stage.metrics if metric.name == name), None)


def _cell(now: JournalEntry, before: JournalEntry | None, name: str, metric: Metric | None) -> str:
    value = now.metrics.get(name)
    if value is None:
        return "-"
    text = f"{value:.5g}"
    low, high = metric.gate if metric is not None else (None, None)
    if (low is not None and value < low) or (high is not None and value > high):
        text += " (gate!)"
    old = before.metrics.get(name) if before is not None else None
    if before is None or old is None:
        return text
    tolerance = metric.tolerance if metric is not None else 0.0
    if abs(value - old) <= max(tolerance, noise_band(before.noise.get(name), now.noise.get(name)) or 0.0):
        return text
    arrow = "▲" if value > old else "▼"
    goal = metric.goal if metric is not None else None
    word = "" if goal is None else " better" if (value > old) == (goal == "max") else " worse"
    return f"{text} {arrow}{word}"
