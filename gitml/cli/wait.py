"""`git ml wait`."""

import time
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.output import safe, talk
from gitml.cli.progress import follow, summarise
from gitml.errors import BusyError, ExitCode
from gitml.pipeline.lease import RunState
from gitml.pipeline.plan import State

_UNFINISHED = (State.STALE, State.MISSING, State.FAILED)
"""States in which there is something to do: held and edited results stand as their owner wants them."""


def wait(
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Give up after this long (exit code 4).")
    ] = None,
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
) -> int:
    """Wait until the runner has nothing left to do, showing its progress; Ctrl-C only stops the waiting.

    The exit code is then that of the commit checked out, whatever ran last: 0 if there is nothing to do, 1 if a stage
    is not up to date, 2 if one failed, 3 if one waits for review; 4 after the time-out or if the runner was lost.
    """
    with open_context() as context:
        lease = context.lease
        end = None if timeout is None else time.monotonic() + timeout

        def is_ours(state: RunState) -> bool:
            here = context.repo.try_resolve("HEAD")  # results may have come meanwhile
            return attached or (here is not None and here.hex() in (state.tip, state.published))

        try:
            finished = follow(lease, end, about=is_ours)
        except KeyboardInterrupt:
            talk("gitml: detached, the run goes on; git ml wait joins it again, git ml status shows it")
            return ExitCode.INTERRUPTED
        if not finished:
            raise BusyError(f"the run did not end within {timeout:g} s", hint="git ml status")
        state = lease.read_state()
        if state is not None and lease.is_lost(state):
            raise BusyError(f"the runner of run {state.run} is gone", hint="git ml resume goes on where it stopped")
        head = context.repo.try_resolve("HEAD")
        if state is not None and (head is None or is_ours(state)):
            summarise(state)
            if state.status in ("failed", "error"):
                return ExitCode.STAGE_FAILED
        elif state is None:
            talk("gitml: nothing has run yet")
        else:
            talk("gitml: no run is under way")
        return _standing(context) if head is not None else ExitCode.OK


def _standing(context: Context) -> ExitCode:
    """The exit code that the stages of HEAD give, with a line for each that is not up to date."""
    survey = context.surveyor.survey(context.commit())
    code = ExitCode.OK
    for row in context.standings(survey):
        if row.state not in _UNFINISHED:
            continue
        talk(f"gitml: {safe(row.name)} is {row.state}: {safe(row.reason)}")
        if row.state == State.FAILED:
            code = ExitCode.STAGE_FAILED
        elif row.unreviewed and code != ExitCode.STAGE_FAILED:
            code = ExitCode.NOT_TRUSTED
        elif code == ExitCode.OK:
            code = ExitCode.DIFFERENT
    return code
