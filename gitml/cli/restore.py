"""`git ml restore`, `git ml publish`."""

from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.options import DryRun, Json
from gitml.cli.output import safe, show_json, talk
from gitml.cli.running import conclude, perform
from gitml.errors import ExitCode, UserError
from gitml.pipeline.choice import Choice
from gitml.pipeline.run import RunOptions


def restore(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="These; by default all edited or missing ones.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Put the known result back where an output was edited or is missing, as a commit; nothing is computed.

    A held stage that is named gets the result of its inputs back. Exit code 1 if no result is known for a stage that
    is named.
    """
    with open_context() as context:
        choice = Choice(stages=frozenset(stages) if stages else None, single=True)
        choice.check(context.survey()[1])
        options = RunOptions(
            choice=choice,
            explicit=True,
            known_only=True,
            restore=True,
            dry_run=dry_run,
            publish_wait=context.repo.config_int("ml.publishWait", 30),
        )
        report = perform(context, options)
    if choice.stages is not None:
        report.stages = {name: line for name, line in report.stages.items() if name in choice.stages}
    code = conclude(report, json=json, dry_run=dry_run)
    unknown = [line for line in report.stages.values() if line.state in ("stale", "failed") and choice.names(line.name)]
    return code or (ExitCode.DIFFERENT if unknown else ExitCode.OK)


def publish(
    wait: Annotated[
        float | None, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait (ml.publishWait).")
    ] = None,
    json: Json = False,
) -> int:
    """Commit results that are known and not committed: those that were parked, on every branch; nothing is computed.

    Exit code 4 if something is still in the way.
    """
    with open_context() as context:
        branches = context.lease.parked()
        here = context.repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip()
        if not here and not branches:
            raise UserError("HEAD is detached, there is no branch to commit on", hint="git switch -c NAME")
        seconds = wait if wait is not None else context.repo.config_int("ml.publishWait", 30)
        options = RunOptions(explicit=True, known_only=True, publish_wait=seconds)
        done: list[dict[str, object]] = []
        for branch in dict.fromkeys([*branches, *([here] if here else [])]):
            if context.repo.try_resolve(branch) is None:
                context.lease.unpark(branch)  # deleted meanwhile
                continue
            if len(branches) > 1 and not json:
                talk(f"gitml: {safe(branch.removeprefix('refs/heads/'))}")
            report = perform(context, options, branch)
            published = report.published.hex() if report.published is not None else None
            done.append({"branch": branch, "published": published, "parked": report.parked or None})
            if not json:
                conclude(report, json=False)
            if report.stopped:
                return ExitCode.INTERRUPTED
    if json:
        show_json({"schema": "gitml/publish/1", "branches": done})
    return ExitCode.BUSY if any(each["parked"] for each in done) else ExitCode.OK
