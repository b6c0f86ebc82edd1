"""`git ml log`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json, Revision
from gitml.cli.output import day, paint, safe, show, show_json, table
from gitml.errors import UserError
from gitml.pipeline.journal import JournalEntry, journal
from gitml.pipeline.spec.model import Metric, Pipeline, Stage


def log(
    stage: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="Only this stage.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="Only this metric.")] = None,
    limit: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="At most N results of a stage.")] = None,
    json: Json = False,
    rev: Revision = "HEAD",
) -> None:
    """Show how results went over the commits: metrics, and the commit that brought each change. Newest first."""
    with open_context() as context:
        _, pipeline = context.survey(rev)
        stages = _stages(pipeline, stage, metric)
        entries = {each.name: journal(context.repo, context.odb, context.commit(rev), each, limit) for each in stages}
        if json:
            show_json(
                {"schema": "gitml/log/1", "stages": [_as_json(each, entries[each.name], metric) for each in stages]}
            )
            return
        for number, each in enumerate(stages):
            if number:
                show()
            _print(context, each, entries[each.name], metric)


def _stages(pipeline: Pipeline, name: str | None, metric: str | None) -> list[Stage]:
    if name is not None:
        try:
            return [pipeline.stage(name)]
        except KeyError:
            raise UserError(
                f"there is no stage '{name}'", hint=f"stages: {', '.join(each.name for each in pipeline.stages)}"
            ) from None
    return [each for each in pipeline.stages if metric is None or each.metrics]


def _as_json(stage: Stage, entries: list[JournalEntry], metric: str | None) -> dict[str, object]:
    return {
        "name": stage.name,
        "results": [
            {
                "commit": entry.commit.hex(),
                "time": entry.when,
                "subject": entry.subject,
                "source": entry.source,
                "key": entry.record.key if entry.record else None,
                "output": entry.record.output_tree.hex() if entry.record else None,
                "metrics": {name: value for name, value in entry.metrics.items() if metric in (None, name)},
            }
            for entry in entries
        ],
    }


def _print(context: Context, stage: Stage, entries: list[JournalEntry], metric: str | None) -> None:
    names = list(dict.fromkeys(name for entry in entries for name in entry.metrics if metric in (None, name)))
    if metric is not None and not names:
        known = sorted({name for entry in entries for name in entry.metrics})
        raise UserError(
            f"no result of '{stage.name}' has a metric '{metric}'",
            hint=f"metrics: {', '.join(known)}" if known else 'declare them: "metrics": ["metrics.json"] in the stage',
        )
    show(paint(safe(stage.name), "1"))
    if not entries:
        show("  no results yet")
        return
    rows = [["commit", "date", *(safe(name) for name in names), "because of"]]
    for number, entry in enumerate(entries):
        before = entries[number + 1].metrics if number + 1 < len(entries) else {}
        values = [_cell(entry.metrics, before, name, _judge(stage, name)) for name in names]
        short = context.repo.git.line("rev-parse", "--short", entry.commit.hex())
        rows.append(
            [short, day(entry.when), *values, safe(entry.source) + ("" if entry.record else "  (result removed)")]
        )
    for line in table(rows):
        show(line)


def _judge(stage: Stage, name: str) -> Metric | None:
    return next((metric for metric in stage.metrics if metric.name == name), None)


def _cell(now: dict[str, float] | object, before: object, name: str, metric: Metric | None) -> str:
    assert isinstance(now, dict)
    assert isinstance(before, dict)
    value = now.get(name)
    if value is None:
        return "-"
    text = f"{value:.5g}"
    low, high = metric.gate if metric is not None else (None, None)
    if (low is not None and value < low) or (high is not None and value > high):
        text += " (gate!)"
    old = before.get(name)
    tolerance = metric.tolerance if metric is not None else 0.0
    if old is None or abs(value - old) <= tolerance:
        return text
    arrow = "▲" if value > old else "▼"
    goal = metric.goal if metric is not None else None
    word = "" if goal is None else " better" if (value > old) == (goal == "max") else " worse"
    return f"{text} {arrow}{word}"
