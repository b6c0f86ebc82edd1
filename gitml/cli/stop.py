"""`git ml stop`, `git ml resume`, `git ml retry`."""

import os
import signal
import time
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import talk
from gitml.cli.running import conclude, perform
from gitml.errors import BusyError, ExitCode, UserError
from gitml.pipeline.choice import Choice
from gitml.pipeline.plan import State
from gitml.pipeline.runreport import RunOptions
from gitml.record import replace


def stop(
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="Give up waiting for its end after this long.")
    ] = 60,
) -> int:
    """End the run that is under way here, from whatever terminal: its tasks get SIGTERM, after 5 s SIGKILL.

    Datums that finished are kept; 'git ml resume' goes on. Exit code 4 if it does not end.
    """
    with open_context() as context:
        pid = context.lease.runner()
        if pid is None:
            if context.lease.is_held():
                raise BusyError(
                    "what is under way cannot be stopped from here: it is no run, or runs on another machine",
                    hint="git ml wait",
                )
            talk("gitml: no run is under way")
            return ExitCode.OK
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return ExitCode.OK  # it ended just now
        except PermissionError:
            raise BusyError(f"the run is another user's process ({pid})") from None
        end = time.monotonic() + timeout
        while context.lease.runner() == pid:
            if time.monotonic() >= end:
                raise BusyError(f"the run did not end within {timeout:g} s", hint=f"kill -KILL {pid}")
            time.sleep(0.05)
        state = context.lease.read_state()
    if state is not None and state.pid == pid and state.status in ("published", "nothing"):
        talk("gitml: too late to stop it: the run has come to its end")
        return ExitCode.OK
    talk("gitml: stopped, finished datums are kept; git ml resume goes on")
    return ExitCode.OK


def resume(json: Json = False) -> int:
    """Go on with the run that was stopped, killed or ended by an error, on the branch and with the stages that it had.

    Finished datums are not run again. Exit codes as for 'git ml run'.
    """
    with open_context() as context:
        lease, options = context.lease, _options(context)
        state = lease.read_state()
        if lease.is_held():
            raise BusyError("a run is under way", hint="git ml wait")
        if state is not None and (state.status in ("stopped", "error") or lease.is_lost(state)):
            choice = Choice(stages=frozenset(state.asked) if state.asked is not None else None)
            if state.branch is not None:
                lease.withdraw(state.branch)
            return conclude(perform(context, replace(options, choice=choice), state.branch), json=json)
        branch = lease.take_request()
        if branch is None:
            talk("gitml: no run was stopped or killed; git ml run brings results up to date")
            return ExitCode.OK
        return conclude(perform(context, options, branch), json=json)


def retry(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="These; by default all that failed.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Not datums that were recovered, only those that failed.")
    ] = False,
    json: Json = False,
) -> int:
    """Try failed stages again for the same inputs, and then what waits for them.

    Of a stage that is named also datums that its error command recovered are run again. Other datums are kept.
    Exit codes as for 'git ml run'.
    """
    with open_context() as context:
        survey, pipeline = context.survey()
        choice = Choice(stages=frozenset(stages) if stages else None)
        choice.check(pipeline)
        states = {status.stage.name: status for status in survey.statuses}
        names = set(stages or (name for name, status in states.items() if status.state is State.FAILED))
        for name in stages or ():
            record = states[name].record
            recovered = record is not None and record.recovered > 0 and not failed
            if states[name].state is not State.FAILED and not recovered:
                raise UserError(
                    f"'{name}' did not fail, it is {states[name].state}",
                    hint=f"git ml run {name} brings it up to date, with --force it is computed again",
                )
        if not names:
            talk("gitml: no stage has failed")
            return ExitCode.OK
        options = replace(
            _options(context),
            choice=Choice(stages=frozenset(names), downstream=True),
            retry_recovered=bool(stages) and not failed,
        )
        return conclude(perform(context, options), json=json)


def _options(context: Context) -> RunOptions:
    return RunOptions(explicit=True, publish_wait=context.repo.config_int("ml.publishWait", 30))
