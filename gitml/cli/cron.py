"""`git ml cron`: commit the ticks of cron inputs, once or for as long as it runs."""

from collections.abc import Collection
from datetime import UTC, datetime
from threading import Event
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.interrupt import stopping
from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, talk
from gitml.errors import BusyError, ExitCode, UserError
from gitml.pipeline.launch import runs_by_itself, start_runner
from gitml.pipeline.ticks import Clock, CronLine, Ticked

_LONGEST_PAUSE = 30.0
"""Seconds after which --watch looks again: the pipeline, the branch or the clock may have changed."""

cron = typer.Typer(invoke_without_command=True)


@cron.callback()
def due_ticks(
    context: typer.Context,
    listing: Annotated[bool, typer.Option("--list", "-l", help="Only show the cron inputs and their ticks.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and commit each tick when it is due.")] = False,
    json: Json = False,
) -> int:
    """Commit the ticks of cron inputs that are due, and start the runner.

    Let a timer of the system call it, or leave --watch running. Ticks that were missed are caught up, in order.
    Exit code 4 if they cannot be committed now; they stay due.
    """
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    if watch:
        return _watch()
    with open_context() as opened:
        if listing:
            return _list(opened, json=json)
        _say(_tick(opened), json=json)
    return ExitCode.OK


@cron.command("tick")
def tick(
    stages: Annotated[list[str], typer.Argument(metavar="STAGE...", help="Stages with cron inputs.")],
    json: Json = False,
) -> int:
    """Make the cron inputs of stages tick now, whatever their schedules say."""
    with open_context() as context:
        known = {line.stage for line in _lines(context)}
        for name in stages:
            if name not in known:
                hint = f"stages that have: {', '.join(sorted(known))}" if known else "see docs/pipeline.md, 'Ticks'"
                raise UserError(f"there is no stage '{name}' with a cron input", hint=hint)
        _say(_tick(context, frozenset(stages)), json=json)
    return ExitCode.OK


def _lines(context: Context) -> list[CronLine]:
    return Clock(context.repo, context.odb).lines(context.commit(), datetime.now(UTC))


def _tick(context: Context, forced: Collection[str] = ()) -> Ticked | None:
    with context.lease.acquire() as mine:
        if not mine:
            raise BusyError("a run is under way", hint="ticks stay due: git ml cron, once it has ended (git ml wait)")
        wait = context.repo.config_int("ml.publishWait", 30)
        ticked = Clock(context.repo, context.odb).tick(datetime.now(UTC), forced=forced, wait=wait)
        if ticked is not None and runs_by_itself(context.repo):
            context.lease.request(ticked.branch)
    if context.lease.requests():
        start_runner(context.repo)
    return ticked


def _say(ticked: Ticked | None, *, json: bool) -> None:
    if json:
        ticks = [{"stage": stage, "time": _shown(moment)} for stage, moment in ticked.ticks] if ticked else []
        show_json({"schema": "gitml/ticks/1", "commit": ticked.commit.hex() if ticked else None, "ticks": ticks})
    elif ticked is None:
        talk("gitml: no tick is due")
    else:
        names = ", ".join(dict.fromkeys(safe(stage) for stage, _ in ticked.ticks))
        show(f"{count(len(ticked.ticks), 'tick')} of {names}: committed as {ticked.commit.hex()[:10]}")


def _list(context: Context, *, json: bool) -> int:
    lines = _lines(context)
    if json:
        entries = [
            {
                "stage": line.stage,
                "input": line.name,
                "path": line.path.decode("utf-8", "replace"),
                "spec": line.spec,
                "last": _shown(line.last),
                "due": len(line.due),
                "next": _shown(line.next),
            }
            for line in lines
        ]
        show_json({"schema": "gitml/cron/1", "inputs": entries})
        return ExitCode.OK
    for line in lines:
        late = f", {count(len(line.due), 'tick')} due" if line.due else ""
        show(
            f"{safe(line.stage)} /pfs/{safe(line.name)} '{safe(line.spec)}': last {_shown(line.last) or 'never'}, "
            f"next {_shown(line.next) or 'never'}{late}"
        )
    if not lines:
        talk("gitml: no stage has a cron input")
    return ExitCode.OK


def _shown(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None


def _watch() -> int:
    with stopping("ticks that are not committed stay due") as stop:
        while not stop.is_set():
            with open_context() as context:
                try:
                    ticked = _tick(context)
                except BusyError as error:
                    talk(f"gitml: {error.message}")
                    pause = 1.0
                else:
                    if ticked is not None:
                        _say(ticked, json=False)
                    pause = _pause(_lines(context))
            _wait(stop, pause)
    return ExitCode.OK


def _pause(lines: list[CronLine]) -> float:
    """Seconds until something is due."""
    now = datetime.now(UTC)
    coming = [(line.next - now).total_seconds() for line in lines if line.next is not None]
    return 0.0 if any(line.due for line in lines) else min([_LONGEST_PAUSE, *coming])


def _wait(stop: Event, pause: float) -> None:
    stop.wait(max(pause, 0.05))
