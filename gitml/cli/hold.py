"""`git ml accept`, `git ml hold`, `git ml unhold`."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import safe, show, show_json, talk
from gitml.cli.pending import pending
from gitml.cli.running import conclude, perform
from gitml.errors import BusyError, ExitCode, UserError
from gitml.pipeline import decision
from gitml.pipeline.choice import Choice
from gitml.pipeline.decision import Decided
from gitml.pipeline.plan import State
from gitml.pipeline.runreport import RunOptions

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the record and the commit.")]


def accept(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="These; by default all edited ones.")
    ] = None,
    reason: Reason = "",
    json: Json = False,
) -> int:
    """Declare what is committed at an output to be the result for its inputs, though no run made it.

    The record says so, for everyone who reads it; nothing is computed. A stage that is named may also be stale or
    failed.
    """
    with open_context() as context:
        _check(context, stages or [])
        done = _decide(
            context,
            lambda wait: decision.accept(
                context.repo, context.odb, context.surveyor, stages or [], reason.strip(), wait=wait
            ),
        )
        nothing = "no output was edited"
        survey = context.survey()[0]
        places = tuple(status.stage.output + b"/" for status in survey.statuses)
        found = pending(context.repo, survey.places) if done is None else []
        changed = [each.path for each in found if not each.untracked and each.path.startswith(places)]
        if changed:
            name = safe(changed[0].decode("utf-8", "surrogateescape"))
            nothing += f" in a commit; changes to '{name}' count once they are committed"
    return _say("accept", done, nothing, json=json)


def hold(
    stages: Annotated[list[str], typer.Argument(metavar="STAGE...", help="The stages whose outputs stay.")],
    until: Annotated[
        str, typer.Option("--until", metavar="YYYY-MM-DD|change", help="A day, or 'change': the inputs are others.")
    ] = "",
    reason: Reason = "",
    json: Json = False,
) -> int:
    """Keep outputs as they stand, whatever becomes of their inputs, until 'git ml unhold'; later stages use them.

    It is a line in the record, as a commit, so that reviewers and other clones see it.
    """
    day = until if until != "change" else ""
    if day and not _is_day(day):
        raise UserError(f"'{until}' is no day", hint="--until 2027-01-31, or --until change")
    if day and date.fromisoformat(day) <= datetime.now(UTC).date():
        raise UserError(f"a hold until '{until}' would end at once", hint="name a day that is to come (UTC)")
    with open_context() as context:
        _check(context, stages)
        done = _decide(
            context,
            lambda wait: decision.hold(
                context.repo, context.odb, context.surveyor, stages, reason.strip(), until=day,
                while_inputs_stay=until == "change", wait=wait,
            ),
        )  # fmt: skip
    return _say("hold", done, "they are on hold already", json=json)


def unhold(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="These; by default all that are on hold.")
    ] = None,
    json: Json = False,
) -> int:
    """End a hold: one that 'git ml hold' made, and of a stage that is named also that of a rolled back result.

    The latter brings the known result back. What is stale then runs with the next commit or 'git ml run'.
    """
    with open_context() as context:
        _check(context, stages or [])
        done = _decide(
            context,
            lambda wait: decision.unhold(context.repo, context.odb, context.surveyor, stages or [], wait=wait),
        )
        survey, _ = context.survey()
        back = frozenset(
            status.stage.name
            for status in survey.statuses
            if status.state is State.HELD and not status.pinned and status.stage.name in (stages or ())
        )
        if back:
            options = RunOptions(
                choice=Choice(stages=back, single=True),
                explicit=True,
                known_only=True,
                publish_wait=context.repo.config_int("ml.publishWait", 30),
            )
            report = perform(context, options)
            report.stages = {name: line for name, line in report.stages.items() if name in back}
            return conclude(report, json=json)
        stale = [
            status.stage.name
            for status in survey.statuses
            if done is not None and status.stage.name in done.stages and status.state is State.STALE
        ]
    code = _say("unhold", done, "no stage is on hold", json=json)
    if stale:
        talk(f"hint: {safe(', '.join(stale))} can run now: git ml run")
    return code


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check(context: Context, stages: list[str]) -> None:
    Choice(stages=frozenset(stages)).check(context.survey()[1])


def _decide(context: Context, do: Callable[[float], Decided | None]) -> Decided | None:
    with context.lease.acquire() as mine:
        if not mine:
            raise BusyError(
                "a run is under way, and its results would get in between", hint="git ml wait, or git ml stop"
            )
        return do(context.repo.config_int("ml.publishWait", 30))


_PAST = {"accept": "accepted", "hold": "on hold", "unhold": "no longer on hold"}


def _say(verb: str, done: Decided | None, nothing: str, *, json: bool) -> int:
    if json:
        commit = done.commit.hex() if done is not None else None
        stages = list(done.stages) if done is not None else []
        show_json({"schema": "gitml/decision/1", "decision": verb, "commit": commit, "stages": stages})
    elif done is None:
        talk(f"gitml: {nothing}")
    else:
        show(f"{_PAST[verb]}: {safe(', '.join(done.stages))}; committed as {done.commit.hex()[:10]}")
    return ExitCode.OK
