"""`git ml wait`."""

import time
from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.output import talk
from gitml.cli.progress import follow, summarise
from gitml.errors import BusyError, ExitCode


def wait(
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Give up after this long (exit code 4).")
    ] = None,
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
) -> int:
    """Wait until the runner has nothing left to do, showing its progress; Ctrl-C only stops the waiting.

    Exit code 0 if the last run went well, 2 if a stage failed, 4 after the time-out or if the runner was lost.
    """
    with open_context() as context:
        lease = context.lease
        end = None if timeout is None else time.monotonic() + timeout
        try:
            finished = follow(lease, end)
        except KeyboardInterrupt:
            talk("gitml: detached, the run goes on; git ml wait joins it again, git ml status shows it")
            return ExitCode.INTERRUPTED
        if not finished:
            raise BusyError(f"the run did not end within {timeout:g} s", hint="git ml status")
        state = lease.read_state()
        if state is None:
            if not attached:
                talk("gitml: nothing has run yet")
            return ExitCode.OK
        if lease.is_lost(state):
            raise BusyError(f"the runner of run {state.run} is gone", hint="git ml run goes on where it stopped")
        summarise(state)
        return ExitCode.STAGE_FAILED if state.status in ("failed", "error") else ExitCode.OK
