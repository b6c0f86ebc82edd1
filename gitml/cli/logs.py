"""`git ml logs`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.output import day, paint, safe, show, talk
from gitml.errors import UserError


def logs(
    stage: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="Only this stage.")] = None,
    datum: Annotated[
        str | None, typer.Option("--datum", metavar="TEXT", help="Only datums whose name has TEXT.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Of this run instead of the latest.")] = None,
    lines: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="Only the last N lines of each.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only datums that failed.")] = False,
) -> None:
    """Print what the commands of the latest run wrote, datum by datum."""
    with open_context() as context:
        name = run or _latest(context)
        tasks = context.cache.tasks_of(name)
        if not tasks and context.cache.run(name) is None:
            raise UserError(f"there is no run '{name}'", hint="git ml status")
        if stage is not None and all(task["stage"] != stage for task in tasks):
            _, pipeline = context.survey()
            known = [each.name for each in pipeline.stages]
            if stage not in known:
                raise UserError(f"there is no stage '{stage}'", hint=f"stages: {', '.join(known)}")
        _introduce(context, name)
        texts = context.cache.logs(name)
        shown = 0
        for task in sorted(tasks, key=lambda task: (str(task["stage"]), str(task["datum"]))):
            chosen = (
                (stage is None or task["stage"] == stage)
                and (datum is None or datum in task["datum"])
                and (not failed or task["state"] == "failed")
            )
            text = texts.get(task["key"])
            if chosen and text is not None:
                if shown:
                    show()
                state = task["state"]
                title = f"── {task['stage']} · {task['datum']} · {state}"
                show(paint(safe(title), "31" if state == "failed" else "1"))
                for line in _tail(text, lines):
                    show(safe(line))
                shown += 1
        if not shown:
            _explain_nothing(context, name, stage)


def _introduce(context: Context, run: str) -> None:
    """Which run this is, as talk: the logs themselves are the data."""
    record = context.cache.run(run) or {}
    source = str(record.get("source", ""))
    done = context.repo.git.run("log", "-1", "--format=%h %s", source, check=False)
    commit = done.stdout.decode("utf-8", "replace").strip() if source and done.returncode == 0 else source[:10]
    when = f" of {day(float(record['started']))}" if "started" in record else ""
    talk(f"run {safe(run)}{when}, of {safe(commit) or 'a commit that is not known here'}")


def _latest(context: Context) -> str:
    state = context.lease.read_state()
    if state is not None and context.cache.tasks_of(state.run):
        return state.run
    known = [(record.get("started", 0), run) for run in context.cache.runs() if (record := context.cache.run(run))]
    if not known:
        raise UserError("nothing has run yet", hint="commit something, or: git ml run")
    return max(known)[1]


def _tail(text: bytes, lines: int | None) -> list[str]:
    listed = text.decode("utf-8", "replace").splitlines()
    return listed if lines is None else listed[-lines:]


def _explain_nothing(context: Context, run: str, stage: str | None) -> None:
    ran = sorted({str(task["stage"]) for task in context.cache.tasks_of(run)})
    what = f"of stage '{safe(stage)}' " if stage else ""
    talk(f"no logs {what}in run {safe(run)}" + (f", which ran: {safe(', '.join(ran))}" if ran else ""))
