"""`git ml run`."""

from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.options import Json
from gitml.cli.running import conclude, perform
from gitml.errors import UserError
from gitml.pipeline.choice import Choice
from gitml.pipeline.run import RunOptions


def run(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="These, with what they need; by default all.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Compute the named stages again.")] = False,
    single: Annotated[
        bool, typer.Option("--single", "-s", help="Only the named stages, on their inputs as they stand.")
    ] = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Also the stages that read the named ones, directly or not.")
    ] = False,
    until: Annotated[
        list[str] | None, typer.Option("--until", metavar="STAGE", help="Nothing beyond this stage; may be repeated.")
    ] = None,
    datums: Annotated[
        list[str] | None,
        typer.Option("--datum", metavar="GLOB", help="Only these datums, into the cache; may be repeated."),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going/--fail-fast", help="Whether a failure leaves other datums and stages running."),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")] = False,
    jobs: Annotated[
        int | None, typer.Option("-j", metavar="N", min=1, help="Datums at once, whatever stages say.")
    ] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Keep results in the cache, commit nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Bring results up to date now and commit them; what is known comes from the cache.

    Failed stages are tried again. A stage named here ends its hold. Ctrl-C stops; finished datums are kept.
    Exit code 2 if a stage failed, 4 if another run does not end.
    """
    for flag, given in (("--force", force), ("--single", single), ("--downstream", downstream)):
        if given and not stages:
            raise UserError(f"{flag} needs the stages that it is about", hint=f"git ml run STAGE {flag}")
    choice = Choice(
        stages=frozenset(stages) if stages else None,
        single=single,
        downstream=downstream,
        until=frozenset(until) if until else None,
    )
    with open_context() as context:
        choice.check(context.survey()[1])
        options = RunOptions(
            choice=choice,
            datums=tuple(datums or ()),
            force=force,
            explicit=True,
            dry_run=dry_run,
            publish=not no_publish and not datums,
            publish_wait=context.repo.config_int("ml.publishWait", 30),
            parallel=jobs,
            fail_fast=not keep_going,
        )
        report = perform(context, options)
    return conclude(report, json=json, dry_run=dry_run)
