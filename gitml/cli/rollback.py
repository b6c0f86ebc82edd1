"""`git ml rollback`."""

import sys
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import DryRun, Json
from gitml.cli.output import count, day, safe, show, show_json, table, talk
from gitml.cli.running import serve_hooks, was_stopped
from gitml.errors import BusyError, ExitCode, UserError
from gitml.oid import Oid
from gitml.review.rollback import Move, Plan, check_ready, plan_rollback, roll_back


def rollback(
    target: Annotated[
        str, typer.Argument(metavar="RUN|[STAGE:]METRIC|REV", help="A run, a metric that got worse, or a commit.")
    ],
    with_cause: Annotated[
        bool, typer.Option("--with-cause", help="Also revert the commits that led to the result.")
    ] = False,
    mainline: Annotated[
        int | None, typer.Option("--mainline", "-m", metavar="N", min=1, help="Of a merge: the parent to go back to.")
    ] = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    json: Json = False,
) -> int:
    """Show what would be reverted, ask, then do it with 'git revert': all of it or nothing.

    A run: its results; the inputs stay, so the stages are held. A metric: the results since it got worse. A commit:
    what it changed; results that are known come back from the cache. Exit code 1 if you say no.
    """
    with open_context() as context:
        context.commit()
        plan = plan_rollback(context.repo, context.odb, context.surveyor, target, with_cause=with_cause)
        if not json:
            _print(plan)
        if dry_run:
            if json:
                show_json(_as_json(plan, None))
            return ExitCode.OK
        check_ready(context.repo, plan, mainline)
        if not yes and not _asked(plan, json=json):
            talk("nothing was changed")
            return ExitCode.DIFFERENT
        head, said = _do(context, plan, mainline)
        if said and not json:
            talk("\n".join(safe(line) for line in said.splitlines()))
        if json:
            show_json(_as_json(plan, head))
        else:
            show(f"{count(len(plan.reverts), 'commit')} reverted, HEAD is {head.hex()[:10]}")
            if not context.repo.has_filter:
                talk("hint: git ml run brings results up to date")
    return ExitCode.OK


def _asked(plan: Plan, *, json: bool) -> bool:
    """Whether a person at the terminal says yes; raise `UserError` where nobody can be asked."""
    if json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError("nobody is here to be asked", hint="-y does it without asking, -n only shows what it would do")
    return typer.confirm(f"Revert {count(len(plan.reverts), 'commit')}?", err=True)


def _do(context: Context, plan: Plan, mainline: int | None) -> tuple[Oid, str]:
    stopped, waiting = was_stopped(context), context.lease.requests()
    with context.lease.acquire() as mine:
        if not mine:
            raise BusyError("a run is under way, and its results would get in between", hint="git ml wait")
        done = roll_back(context.repo, plan, mainline)
    serve_hooks(context, waiting, stopped=stopped)
    return done


def _print(plan: Plan) -> None:
    show(f"to revert for {plan.kind} {safe(plan.name)}:")
    for line in table(
        (each.commit.hex()[:10], day(each.when), each.why, count(each.files, "file"), safe(each.subject))
        for each in plan.reverts
    ):
        show(line)
    if plan.moves:
        rows = [("stage", "metric", "now", "after")]
        rows += [(safe(each.stage), safe(each.name), _number(each.now), _number(each.after)) for each in plan.moves]
        show()
        for line in table(rows):
            show(line)
    whys = {each.why for each in plan.reverts}
    if whys == {"result"}:
        talk("note: the inputs stay, so these stages are held until their inputs change or 'git ml run STAGE'")
    elif whys == {"commit"}:
        talk("note: results follow: those that are known from the cache, others by a run")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _as_json(plan: Plan, head: Oid | None) -> dict[str, Any]:
    def move(each: Move) -> dict[str, Any]:
        return {"stage": each.stage, "name": each.name, "now": each.now, "after": each.after}

    return {
        "schema": "gitml/rollback/1",
        "kind": plan.kind,
        "name": plan.name,
        "reverts": [
            {
                "commit": each.commit.hex(),
                "why": each.why,
                "subject": each.subject,
                "time": each.when,
                "files": each.files,
                "merge": each.is_merge,
            }
            for each in plan.reverts
        ],
        "metrics": [move(each) for each in plan.moves],
        "head": head.hex() if head is not None else None,
    }
