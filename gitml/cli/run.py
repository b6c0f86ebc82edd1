"""`git ml run`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.interrupt import stopping
from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, talk
from gitml.cli.progress import Display, follow
from gitml.errors import BusyError, ExitCode, UserError
from gitml.pipeline.background import run_branch
from gitml.pipeline.launch import start_runner
from gitml.pipeline.run import RunOptions, RunReport, StageReport


def run(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="These, with what they need; by default all.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Compute the named stages again.")] = False,
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
    with open_context() as context:
        _check_names(context, stages or [])
        if force and not stages:
            raise UserError("--force needs the stages to compute again", hint="git ml run STAGE --force")
        options = RunOptions(
            stages=frozenset(stages) if stages else None,
            force=force,
            explicit=True,
            dry_run=dry_run,
            publish=not no_publish,
            publish_wait=context.repo.config_int("ml.publishWait", 30),
            parallel=jobs,
        )
        report = _run(context, options)
        if context.lease.requests():
            start_runner(context.repo)  # a commit was made meanwhile, and its hook relied on us
    if json:
        show_json(_as_json(report))
    else:
        _print(report, dry_run=dry_run)
    if report.stopped:
        return ExitCode.INTERRUPTED
    return ExitCode.STAGE_FAILED if report.failed else ExitCode.OK


def _check_names(context: Context, stages: list[str]) -> None:
    _, pipeline = context.survey()
    known = [stage.name for stage in pipeline.stages]
    for name in stages:
        if name not in known:
            raise UserError(f"there is no stage '{name}'", hint=f"stages: {', '.join(known)}")


def _run(context: Context, options: RunOptions) -> RunReport:
    waited = False
    while True:
        with context.lease.acquire() as mine:
            if mine:
                display = Display()
                try:
                    with stopping("finished datums are kept") as stop:
                        return run_branch(
                            context.repo, context.odb, context.lease, options, report=display.draw, stop=stop
                        )
                finally:
                    display.close()
        if options.dry_run:
            raise BusyError("a run is under way", hint="git ml wait")
        if not waited:
            talk("gitml: waiting for the run that is under way")
            waited = True
        follow(context.lease, None)


def _as_json(report: RunReport) -> dict[str, object]:
    return {
        "schema": "gitml/run/1",
        "run": report.run,
        "published": report.published.hex() if report.published is not None else None,
        "parked": report.parked or None,
        "stages": [
            {
                "name": stage.name,
                "state": stage.state,
                "ran": stage.ran,
                "cached": stage.cached,
                "failed": stage.failed,
                "recovered": stage.recovered,
            }
            for stage in report.stages.values()
        ],
    }


def _print(report: RunReport, *, dry_run: bool) -> None:
    for notice in report.notices:
        talk(f"note: {safe(notice)}")
    for stage in report.stages.values():
        show(_line(stage))
    if report.published is not None:
        show(f"results committed as {report.published.hex()[:10]}")
    elif report.parked:
        talk(f"not committed yet: {safe(report.parked)}; the next commit or 'git ml run' does it")
    elif not dry_run and not report.failed and not report.stopped:
        show("nothing to commit")
    for path in report.kept:
        talk(f"warning: '{safe(path.decode('utf-8', 'replace'))}' has changes of yours and was left as it is")


def _line(stage: StageReport) -> str:
    parts = []
    if stage.ran:
        parts.append(f"{count(stage.ran, 'datum')} run")
    if stage.cached:
        parts.append(f"{stage.cached} from cache")
    if stage.failed:
        parts.append(f"{stage.failed} failed")
    if stage.recovered:
        parts.append(f"{stage.recovered} recovered")
    if stage.reason:
        parts.append(safe(stage.reason))
    return f"  {safe(stage.name)}: {stage.state}" + (f" ({', '.join(parts)})" if parts else "")
