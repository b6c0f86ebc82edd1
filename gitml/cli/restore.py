"""`git ml restore`."""

from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.options import DryRun, Json
from gitml.cli.running import conclude, perform
from gitml.errors import ExitCode
from gitml.pipeline.choice import Choice
from gitml.pipeline.runreport import RunOptions


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
