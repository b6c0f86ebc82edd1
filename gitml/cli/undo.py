"""`git ml undo`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.output import safe, show, talk
from gitml.cli.running import serve_hooks, was_stopped
from gitml.errors import BusyError, ExitCode, UserError
from gitml.oid import Oid
from gitml.review.rollback import check_ready, plan_rollback, roll_back, take_off
from gitml.review.runs import last_result


def undo(
    reset: Annotated[
        bool, typer.Option("--reset", help="Take the commit off the branch instead, if it is the last and not pushed.")
    ] = False,
) -> int:
    """Take the last result commit back, with 'git revert': its stages are held until inputs change or 'git ml unhold'.

    With --reset as if it had not been committed: the result stays in the cache, and the next run commits it again.
    """
    with open_context() as context:
        context.commit()
        result = last_result(context.repo, context.odb)
        if result is None:
            raise UserError("there is no result in the history of HEAD that could be taken back", hint="git ml log")
        stopped, waiting = was_stopped(context), context.lease.requests()
        with context.lease.acquire() as mine:
            if not mine:
                raise BusyError(
                    "a run is under way, and its results would get in between", hint="git ml wait, or git ml stop"
                )
            head = _reset(context, result) if reset else _revert(context, result)
        serve_hooks(context, waiting, stopped=stopped)
        subject = context.repo.git.line("log", "-1", "--format=%h %s", result.hex())
    show(f"{'taken off' if reset else 'reverted'}: {safe(subject)}; HEAD is {head.hex()[:10]}")
    return ExitCode.OK


def _revert(context: Context, result: Oid) -> Oid:
    plan = plan_rollback(context.repo, context.odb, context.surveyor, result.hex())
    check_ready(context.repo, plan, None)
    head, said = roll_back(context.repo, plan)
    if said:
        talk("\n".join(safe(line) for line in said.splitlines()))
    return head


def _reset(context: Context, result: Oid) -> Oid:
    return take_off(context.repo, result)
