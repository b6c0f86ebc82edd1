"""`git ml why`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import count, day, paint, safe, show, show_json, table, talk
from gitml.cli.pending import pending, what_waits
from gitml.cli.place import place
from gitml.errors import UserError
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.spec.model import Pipeline
from gitml.pipeline.survey import Survey
from gitml.provenance.codec import text_of
from gitml.review.causes import (
    MOST_COMMITS,
    Cause,
    Causes,
    Change,
    Made,
    Reached,
    as_json,
    change_as_json,
    reached_as_json,
)
from gitml.review.staleness import Difference, difference_as_json, differences

_MOST = 20
"""Files of one stage that are named."""


def why(
    what: Annotated[str, typer.Argument(metavar="STAGE|[REV:]PATH|REV", help="A stage, a file or directory.")],
    reaches: Annotated[
        bool, typer.Option("--reaches", help="What it went into, instead of what it was made from; also of a commit.")
    ] = False,
    most_commits: Annotated[
        int,
        typer.Option("--max-commits", metavar="N", min=1, help="Search N changes of a file for who set a parameter."),
    ] = MOST_COMMITS,
    json: Json = False,
) -> None:
    """Show what something was made from, up to the commits of people, or what it went into.

    Of a stage that is not fresh it first says what keeps it from being so: files, lines of parameters and code, fields.
    """
    with open_context() as context:
        revision, path = _place(context, what, reaches=reaches)
        survey, pipeline = context.survey(revision)
        waiting = pending(context.repo, survey.places) if revision == "HEAD" and not json else []
        if waiting:
            talk(f"note: {what_waits(waiting)}")
        causes = Causes(context.repo, context.odb, context.cache, survey, pipeline, most_commits=most_commits)
        if reaches:
            _reaches(context, causes, path, what, json=json)
            return
        assert path is not None
        status = next((each for each in survey.statuses if each.stage.output == path), None)
        state = (str(status.state), status.reason) if status is not None else None
        unsettled = _unsettled(survey, status)
        output = causes.is_output(path)
        recorded = output and (status is None or status.record is not None)
        made = causes.of(path) if recorded else None
        change = None if output else causes.of_data(path)
        if json:
            show_json(
                {
                    "schema": "gitml/why/1",
                    "commit": survey.commit.hex(),
                    "path": text_of(path),
                    "state": None if state is None else {"state": state[0], "reason": state[1]},
                    "differences": {
                        each.stage.name: [difference_as_json(one) for one in differences(causes, survey, each)]
                        for each in unsettled
                    },
                    "made": None if made is None else as_json(made),
                    "changed_by": change_as_json(change),
                }
            )
            return
        if state is not None and state[0] != "fresh":
            show(f"{safe(text_of(path))} is {paint(state[0], '33')}: {safe(state[1])}")
        for each in unsettled:
            for line in _differences(each, differences(causes, survey, each), alone=len(unsettled) == 1):
                show(line)
        if made is not None:
            for line in _lines(made):
                show(line)
        elif change is not None:
            show(f"{safe(text_of(path))}  {_said(change)}")
            show("  no stage makes it; what it went into: git ml why --reaches")
        elif not output:
            show(f"{safe(text_of(path))}: history here does not reach the commit that changed it")


def _unsettled(survey: Survey, status: StageStatus | None) -> list[StageStatus]:
    """The stage, if something of it is not as its record says, after those that it waits for."""
    if status is None or status.state is State.FRESH:
        return []
    wanted = {status.stage.name}
    for each in reversed(survey.statuses):
        if each.stage.name in wanted:
            wanted.update(each.waits_for)
    return [each for each in survey.statuses if each.stage.name in wanted]


def _differences(status: StageStatus, found: Iterable[Difference], *, alone: bool) -> Iterator[str]:
    rows = []
    for each in islice(found, _MOST + 1):
        place = f"{each.file}:{each.line}" if each.file and each.line else each.name
        name = "" if each.kind in ("input", "code") else each.name + " "
        counts = f" (+{each.lines[0]} -{each.lines[1]})" if each.lines is not None else ""
        text = f": {each.text.strip()[:60]}" if each.text.strip() else ""
        who = _said(each.changed_by) if each.changed_by is not None else ""
        rows.append((each.kind, safe(place), safe(f"{name}{each.what}{counts}{text}"), who))
    if rows and not alone:
        yield f"{paint(safe(status.stage.name), '1')} is {status.state}, as this is not what its result was made from:"
    yield from table(rows[:_MOST], fit=True)
    if len(rows) > _MOST:
        yield "  and more; all of them: --json"


def _place(context: Context, what: str, *, reaches: bool) -> tuple[str, bytes | None]:
    """Revision and path; no path for a commit as a whole."""
    pipeline = context.survey()[1]
    stage = _output_of(pipeline, what)
    if stage is not None:
        return "HEAD", stage
    revision, path = place(context.repo, what)
    if context.repo.try_resolve(f"{revision}:{os.fsdecode(path)}") is not None:
        return revision, path
    if ":" not in what and context.repo.try_resolve(f"{what}^{{commit}}") is not None:
        if reaches:
            return "HEAD", None
        raise UserError(
            f"'{what}' is a commit, and 'why' explains what stages and files were made from",
            hint=f"a file of that commit: git ml why {what}:PATH\nwhat it went into: git ml why --reaches {what}\n"
            f"what it changed: git ml diff {what}^..{what}",
        )
    raise UserError(
        f"'{what}' is no stage, path or commit",
        hint=f"stages: {', '.join(each.name for each in pipeline.stages)}; REV:PATH looks into another commit",
    )


def _output_of(pipeline: Pipeline, name: str) -> bytes | None:
    return next((stage.output for stage in pipeline.stages if stage.name == name), None)


def _reaches(context: Context, causes: Causes, path: bytes | None, what: str, *, json: bool) -> None:
    if path is not None:
        changed: Mapping[bytes, Change | None] = {path: None}
    else:
        changed = causes.changed_by(context.commit(what))
    replaced = {each: change for each, change in changed.items() if change is not None}
    reached = causes.reached_from(each for each in changed if each not in replaced)
    if json:
        show_json(
            {
                "schema": "gitml/reaches/1",
                "paths": [text_of(each) for each in changed if each not in replaced],
                "replaced": {text_of(each): change_as_json(change) for each, change in replaced.items()},
                "reached": reached_as_json(reached),
            }
        )
        return
    for each, change in list(replaced.items())[:_MOST]:
        show(f"{safe(text_of(each))} was changed again: {_said(change)}")
    if not reached:
        show("it went into no result")
    for stage in reached:
        for line in _reached_lines(stage):
            show(line)


def _reached_lines(reached: Reached) -> Iterator[str]:
    through = ", ".join(safe(text_of(path)) for path in reached.through)
    yield f"{paint(safe(reached.stage), '1')}  through {through}: {reached.datums} of {count(reached.of, 'datum')}"
    if reached.state != "fresh":
        yield f"  {reached.state}: what stands there is not made of it yet"
        return
    for path in reached.outputs[:_MOST]:
        yield f"  {safe(text_of(path))}"
    if len(reached.outputs) > _MOST:
        yield f"  and {count(len(reached.outputs) - _MOST, 'more file')}; all of them: --json"
    if reached.partly:
        yield "  of some datums it is not known here what they wrote (git ml fetch brings runs)"


def _lines(made: Made, indent: str = "") -> Iterator[str]:
    datum = f", datum {made.datum}" if made.datum is not None else ""
    run = f", run {safe(made.run)}" if made.run is not None else ""
    yield f"{indent}{paint(safe(text_of(made.path)), '1')}  made by '{safe(made.stage)}'{datum}{run}"
    if made.edited:
        yield f"{indent}  edited since: what stands there is not what the run made"
    if made.accepted is not None:
        yield f"{indent}  accepted: no run made it" + (f"; {safe(made.accepted)}" if made.accepted else "")
    if made.told:
        yield f"{indent}  as above"
        return
    rows = [("result", "", _said(made.result))]
    rows += [_cause(cause) for cause in made.causes if cause.made is None]
    yield from table(rows, indent=indent + "  ", fit=True)
    for cause in made.causes:
        if cause.made is not None:
            yield from _lines(cause.made, indent + "  ")


def _cause(cause: Cause) -> tuple[str, str, str]:
    value = f" = {safe(cause.value)}" if cause.value else ""
    if cause.line is not None:
        value += f" (line {cause.line})"
    if cause.changed_by is not None:
        who = _said(cause.changed_by)
    elif cause.searched is not None:
        of = "the last change" if cause.searched == 1 else f"the last {cause.searched} changes"
        who = f"before {of} of its file; further back: --max-commits {10 * cause.searched}"
    else:
        who = "nothing here says who changed it"
    return cause.kind, safe(cause.name) + value, who


def _said(change: Change) -> str:
    return safe(f"{change.commit.hex()[:7]} {day(change.when)[:10]} {change.author}: {change.subject}")
