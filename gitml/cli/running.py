"""A run in the foreground, as several commands have it: wait for one's turn, show progress, say what was done."""

from collections.abc import Collection

from gitml.cli.context import Context
from gitml.cli.interrupt import stopping
from gitml.cli.output import safe, show, show_json, talk
from gitml.cli.progress import Display, follow
from gitml.cli.states import report_line
from gitml.errors import BusyError, ExitCode, UserError
from gitml.pipeline.background import run_branch
from gitml.pipeline.launch import start_runner
from gitml.pipeline.runreport import DETACHED, RunOptions, RunReport
from gitml.remote.egress import Egress


def perform(context: Context, options: RunOptions, branch: str | None = None) -> RunReport:
    """Run `branch` (a full ref name), by default what is checked out here; waits for a run that is under way."""
    waited = False
    while True:
        with context.lease.acquire(stops=True) as mine:
            if mine:
                context.cache.refresh()  # what the other run left
                report = _run(context, options, branch)
                if context.repo.worktree is not None and report.published is not None:
                    context.surveyor.survey(report.published)  # so that the next command need not
                break
        if options.dry_run:
            raise BusyError("a run is under way", hint="git ml wait")
        if not waited:
            talk("gitml: waiting for the run that is under way")
            waited = True
        follow(context.lease, None)
    if context.lease.requests() and not report.stopped:
        start_runner(context.repo)  # a commit was made meanwhile, and its hook relied on us
    return report


def was_stopped(context: Context) -> bool:
    """Whether the latest run was ended by `git ml stop` or Ctrl-C, and nothing went on since."""
    state = context.lease.read_state()
    return state is not None and state.status == "stopped" and not context.lease.is_held()


def serve_hooks(context: Context, before: Collection[str], *, stopped: bool) -> None:
    """Have the runner do what hooks asked for while we held the lease; `before` are the branches that waited already.

    What somebody has `stopped` stays so: nobody wants it back who then takes a commit back.
    """
    asked = context.lease.requests()
    if stopped:
        for branch in asked:
            if branch not in before:
                context.lease.withdraw(branch)
        talk("note: the run that was stopped stays so; git ml resume goes on")
    elif asked:
        start_runner(context.repo)


def _run(context: Context, options: RunOptions, branch: str | None) -> RunReport:
    display = Display()
    try:
        with stopping("finished datums are kept") as stop:
            return run_branch(
                context.repo, context.odb, context.lease, options, report=display.draw, stop=stop, branch=branch,
                carrier=Egress(context.repo, context.odb), surveyor=context.surveyor,
            )  # fmt: skip
    finally:
        display.close()


def conclude(report: RunReport, *, json: bool, dry_run: bool = False) -> int:
    """Say what a run did; give the exit code."""
    if json:
        show_json(_as_json(report))
    else:
        _print(report, dry_run=dry_run)
    if report.asked and not any(report.asked.values()):
        names = sorted(report.asked)
        raise UserError(f"--datum means no datum of {' and '.join(names)}", hint=f"git ml ls datums {names[0]}")
    if report.stopped:
        return ExitCode.INTERRUPTED
    return ExitCode.STAGE_FAILED if report.failed or report.undelivered else ExitCode.OK


def _as_json(report: RunReport) -> dict[str, object]:
    return {
        "schema": "gitml/run/1",
        "run": report.run,
        "published": report.published.hex() if report.published is not None else None,
        "parked": report.parked or None,
        "tree": report.tree.hex() if report.tree is not None else None,
        "undelivered": report.undelivered,
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
        show(report_line(stage))
        if stage.hint:
            show(f"    {safe(stage.hint)}")
    if report.published is not None:
        show(f"results committed as {report.published.hex()[:10]}")
    elif report.parked:
        new = "'git ml publish --to NAME' does it, on a new branch"
        how = new if report.parked == DETACHED else "the next commit or 'git ml publish' does it"
        talk(f"not committed yet: {safe(report.parked)}; {how}")
    elif not dry_run and not report.failed and not report.stopped:
        show("nothing to commit")
    if report.stopped and not dry_run:
        talk("gitml: stopped; git ml resume goes on")
    for path in report.kept:
        talk(f"warning: '{safe(path.decode('utf-8', 'replace'))}' has changes of yours and was left as it is")
