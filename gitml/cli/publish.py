"""`git ml publish`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import safe, show, show_json, talk
from gitml.cli.running import conclude, perform
from gitml.errors import ExitCode, UserError
from gitml.git.publish import Parked, Published, sign_tip
from gitml.git.refs import RefUpdate, update_refs
from gitml.git.state import worktrees
from gitml.pipeline.runreport import RunOptions, RunReport
from gitml.review.replay import is_only_a_result


def publish(
    wait: Annotated[
        float | None, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait (ml.publishWait).")
    ] = None,
    to: Annotated[
        str, typer.Option("--to", metavar="BRANCH", help="On a new branch at HEAD, which may be detached.")
    ] = "",
    sign: Annotated[
        bool, typer.Option("--sign", help="Sign, whatever ml.sign says; a passphrase may be asked for.")
    ] = False,
    json: Json = False,
) -> int:
    """Commit results that are known and not committed: those that were parked, on every branch; nothing is computed.

    With --sign a result at the tip of a branch that is not signed, and not pushed, is replaced by a signed one.
    Exit code 4 if something is still in the way.
    """
    with open_context() as context:
        here = context.repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip()
        parked = context.lease.parked()
        if to:
            branches = [_new_branch(context, to)]
        elif not here and not parked:
            raise UserError("HEAD is detached, there is no branch to commit on", hint="git ml publish --to NAME")
        else:
            branches = list(dict.fromkeys([*parked, *([here] if here else [])]))
        seconds = wait if wait is not None else context.repo.config_int("ml.publishWait", 30)
        options = RunOptions(explicit=True, known_only=True, publish_wait=seconds, sign=sign)
        done: list[dict[str, object]] = []
        for branch in branches:
            if context.repo.try_resolve(branch) is None:
                context.lease.unpark(branch)  # deleted meanwhile
                continue
            if len(branches) > 1 and not json:
                talk(f"gitml: {safe(branch.removeprefix('refs/heads/'))}")
            report = perform(context, options, branch)
            if sign and report.published is None and not report.parked and not report.stopped:
                _sign(context, branch, report)
            published = report.published.hex() if report.published is not None else None
            done.append({"branch": branch, "published": published, "parked": report.parked or None})
            if not json:
                conclude(report, json=False)
            if report.stopped:
                return ExitCode.INTERRUPTED
        if to:
            _end(context, branches[0], json=json)
    if json:
        show_json({"schema": "gitml/publish/1", "branches": done})
    return ExitCode.BUSY if any(each["parked"] for each in done) else ExitCode.OK


def _new_branch(context: Context, name: str) -> str:
    """The full name of a branch at HEAD, which is made if it is not there; raise `UserError`."""
    branch = f"refs/heads/{name}"
    if not context.repo.git.succeeds("check-ref-format", "--branch", name):
        raise UserError(f"'{name}' is no name for a branch", hint="git check-ref-format --branch NAME says which are")
    head, there = context.commit(), context.repo.try_resolve(branch)
    if there is None:
        update_refs(context.repo.git, [RefUpdate(branch, head, None)], message="gitml: branch for results")
    elif there != head:
        raise UserError(
            f"branch '{name}' is at {there.hex()[:10]}, not at the commit checked out",
            hint=f"git switch {name}, or another name",
        )
    return branch


def _end(context: Context, branch: str, *, json: bool) -> None:
    """Name the branch, or take it away where nothing came onto it."""
    repo, head = context.repo, context.commit()
    name = branch.removeprefix("refs/heads/")
    if repo.try_resolve(branch) != head:
        if not json:
            show(f"on branch {safe(name)}: git switch {safe(name)}")
    elif branch not in context.lease.parked() and all(place.branch != branch for place in worktrees(repo)):
        update_refs(repo.git, [RefUpdate(branch, None, head)])


def _sign(context: Context, branch: str, report: RunReport) -> None:
    """Put a signed commit in the place of an unsigned result that nobody else has."""
    tip = context.repo.resolve(branch)
    if not is_only_a_result(context.repo, context.odb, tip):
        return
    outcome = sign_tip(context.repo, context.odb, branch, tip)
    if isinstance(outcome, Published):
        report.published = outcome.commit
    elif isinstance(outcome, Parked):
        report.parked = outcome.reason
