"""`git ml run`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import safe, show, table, talk
from gitml.cli.pending import pending, what_waits
from gitml.cli.running import conclude, perform
from gitml.errors import UserError
from gitml.git.refs import RefMovedError, RefUpdate, update_refs
from gitml.pipeline.choice import Choice
from gitml.pipeline.journal import read_metrics
from gitml.pipeline.override import Override, commit_with
from gitml.pipeline.runreport import RunOptions, RunReport
from gitml.pipeline.spec.running import EXECUTORS
from gitml.record import replace
from gitml.store.tree import Snapshot


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
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="NAME", help="Compute datums here (local), or with dask.")
    ] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Keep results in the cache, commit nothing.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("-S", "--set", metavar="FILE:KEY=VALUE", help="With another value, into the cache; repeatable."),
    ] = None,
    new_branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="With -S: commit it on this new branch.")
    ] = None,
    json: Json = False,
) -> int:
    """Bring results up to date now and commit them; what is known comes from the cache.

    Failed stages are tried again. A stage named here ends its hold. Ctrl-C stops; finished datums are kept.
    Exit code 2 if a stage failed, 4 if another run does not end.
    """
    for flag, given in (("--force", force), ("--single", single), ("--downstream", downstream)):
        if given and not stages:
            raise UserError(f"{flag} needs the stages that it is about", hint=f"git ml run STAGE {flag}")
    if executor is not None and executor not in EXECUTORS:
        raise UserError(f"unknown executor '{executor}'", hint="use local or dask")
    choice = Choice(
        stages=frozenset(stages) if stages else None,
        single=single,
        downstream=downstream,
        until=frozenset(until) if until else None,
    )
    if new_branch is not None and (not settings or dry_run or no_publish or datums):
        raise UserError(
            "--branch is for results with -S that are committed", hint="git ml run -S FILE:KEY=VALUE --branch NAME"
        )
    with open_context() as context:
        survey, pipeline = context.survey()
        choice.check(pipeline)
        waiting = pending(context.repo, survey.places)
        if waiting:
            talk(f"note: {what_waits(waiting)}")
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
            executor=executor,
        )
        if settings:
            return _try(context, replace(options, publish=new_branch is not None), settings, new_branch, json=json)
        report = perform(context, options)
    return conclude(report, json=json, dry_run=dry_run)


def _try(context: Context, options: RunOptions, settings: list[str], new_branch: str | None, *, json: bool) -> int:
    """Run HEAD with other parameters: into the cache, or on a new branch."""
    overrides = [Override.parse(each) for each in settings]
    tip = context.commit()
    commit = commit_with(context.repo, context.odb, tip, context.surveyor.tree_of(tip), overrides)
    if new_branch is None:
        report = perform(context, replace(options, at=commit))
        report.parked = ""
    else:
        if not context.repo.git.succeeds("check-ref-format", "--branch", new_branch):
            raise UserError(f"'{new_branch}' cannot be the name of a branch", hint="git check-ref-format --branch NAME")
        branch = f"refs/heads/{new_branch}"
        try:
            update_refs(context.repo.git, [RefUpdate(branch, commit, None)], message="gitml: run -S")
        except RefMovedError:
            raise UserError(
                f"there is a branch '{new_branch}'", hint="take another name, or git branch -D it"
            ) from None
        report = perform(context, options, branch)
    code = conclude(report, json=json, dry_run=True)
    if not json and not options.dry_run:
        for line in _metrics(context, report):
            show(line)
        if new_branch is None:
            show("kept in the run cache, nothing is committed; --branch NAME commits it")
    return code


def _metrics(context: Context, report: RunReport) -> list[str]:
    """The metrics at HEAD and here."""
    if report.tree is None:
        return []
    _, pipeline = context.survey()
    here = context.surveyor.tree_of(context.commit())
    before, after = (Snapshot(context.odb, tree) for tree in (here, report.tree))
    rows = []
    for stage in pipeline.stages:
        old, new = (read_metrics(side, stage.output, stage.metrics) for side in (before, after))
        rows += [
            (safe(stage.name), safe(name), f"{old[name]:.6g}" if name in old else "-", "→", f"{new[name]:.6g}")
            for name in new
        ]
    return table(rows)
