"""`git ml logs`."""

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.egress import in_words, standing
from gitml.cli.output import day, paint, safe, show, talk
from gitml.errors import ExitCode, UserError
from gitml.pipeline.choice import no_such_stage
from gitml.pipeline.failure import told_once
from gitml.pipeline.livelogs import LiveLogs, Piece


def logs(
    stage: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="Only this stage.")] = None,
    datum: Annotated[
        str | None, typer.Option("--datum", metavar="TEXT", help="Only datums whose name has TEXT.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Of this run instead of the latest.")] = None,
    lines: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="Only the last N lines of each.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only datums that failed.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as long as the run does; each line says whose it is.")
    ] = False,
) -> int:
    """Print what the commands of the latest run wrote, datum by datum."""
    with open_context() as context:
        if follow and (failed or run is not None):
            raise UserError("--follow is about the run under way", hint="leave --failed and --run out")
        if follow and context.lease.is_held():
            return _follow(context, stage, datum, lines)
        name = run or _latest(context, stage, failed=failed)
        tasks = context.cache.tasks_of(name)
        if not tasks and context.cache.run(name) is None:
            raise UserError(f"there is no run '{name}'", hint="git ml status")
        if stage is not None and all(task["stage"] != stage for task in tasks):
            _, pipeline = context.survey()
            if stage not in [each.name for each in pipeline.stages]:
                raise no_such_stage(pipeline, stage)
        _introduce(context, name)
        texts = context.cache.logs(name)
        shown = 0
        hints: dict[str, None] = {}
        for task in sorted(tasks, key=lambda task: (str(task["stage"]), str(task["datum"]))):
            chosen = _is_meant(task, stage, failed=failed) and (datum is None or datum in task["datum"])
            text = texts.get(task["key"])
            if chosen and text is not None:
                if shown:
                    show()
                state = task["state"]
                title = f"── {task['stage']} · {task['datum']} · {state}"
                show(paint(safe(title), "31" if state == "failed" else "1"))
                told = told_once(text.decode("utf-8", "replace").splitlines())
                for line in told if lines is None else told[-lines:]:
                    show(safe(line))
                if state == "failed" and task.get("hint"):
                    hints[str(task["hint"])] = None
                shown += 1
        for hint in hints:
            talk(f"{paint('hint:', '33', sys.stderr)} {safe(hint)}")
        if run is None and datum is None:
            shown += _egress(context, stage, failed=failed)
        if not shown:
            _explain_nothing(context, name, stage)
        if follow:
            talk("gitml: no run is under way")
    return ExitCode.OK


def _egress(context: Context, stage: str | None, *, failed: bool) -> int:
    """Say where copies of results stand; give how many there are."""
    try:
        survey, _ = context.survey()
    except UserError:
        return 0  # a run of a commit that has a pipeline: its logs can be read in any case
    lines = [
        (status.stage.name, found)
        for status in survey.statuses
        if (stage is None or status.stage.name == stage) and (found := standing(context, status)) is not None
    ]
    told = [(name, found) for name, found in lines if not failed or found["state"] == "failed"]
    for name, found in told:
        show(paint(f"── {safe(name)} · egress to {in_words(found)}", "31" if found["state"] == "failed" else "1"))
    return len(told)


def _follow(context: Context, stage: str | None, datum: str | None, lines: int | None) -> int:
    """Print what comes until the runner is done; Ctrl-C only ends this."""
    lease = context.lease
    following: LiveLogs | None = None
    begun: dict[str, tuple[Piece, bytes]] = {}
    """Of each task the line that has not ended yet."""
    try:
        while True:
            alive = lease.is_held()
            state = lease.read_state()
            if state is not None and (following is None or following.run != state.run):
                following = LiveLogs(lease.run_dir(state.run), state.run, context.cache)
            for piece in following.more(ended=not alive) if following is not None else ():
                if (stage is None or piece.stage == stage) and (datum is None or datum in piece.datum):
                    first = piece.key not in begun
                    text = begun.get(piece.key, (piece, b""))[1] + piece.data
                    whole, newline, rest = text.rpartition(b"\n")
                    begun[piece.key] = piece, rest
                    _print_of(piece, whole + newline, lines if first else None)
            if not alive:
                for piece, rest in begun.values():
                    _print_of(piece, rest, None)
                return ExitCode.OK
            sys.stdout.flush()
            time.sleep(0.2)
    except KeyboardInterrupt:
        talk("gitml: detached, the run goes on; git ml stop ends it")
        return ExitCode.INTERRUPTED


def _print_of(piece: Piece, text: bytes, lines: int | None) -> None:
    whose = f"{piece.stage} · {piece.datum}" if piece.stage else piece.key[:12]
    for line in _tail(text, lines):
        show(f"{paint(safe(whose), '36')} │ {safe(line)}")


def _introduce(context: Context, run: str) -> None:
    """Which run this is, as talk: the logs themselves are the data."""
    record = context.cache.run(run) or {}
    state = context.lease.read_state(run)
    # of a run that was killed only its state may tell
    source = str(record.get("source", "")) or (state.tip if state is not None else "")
    started = float(record.get("started", state.started if state is not None else 0.0))
    done = context.repo.git.run("log", "-1", "--format=%h %s", source, check=False)
    commit = done.stdout.decode("utf-8", "replace").strip() if source and done.returncode == 0 else source[:10]
    when = f" of {day(started)}" if started else ""
    talk(f"run {safe(run)}{when}, of {safe(commit) or 'a commit that is not known here'}")
    if state is not None and context.lease.is_lost(state):
        talk("it ended without a word; git ml resume goes on where it stopped")


def _latest(context: Context, stage: str | None, *, failed: bool) -> str:
    """The latest run, or the one in which the stage ran, or failed, if that was an earlier one; says so."""
    state = context.lease.read_state()
    runs = context.cache.runs()
    if state is not None and context.cache.tasks_of(state.run):
        latest = state.run
    else:
        known = [(record.get("started", 0), run) for run in runs if (record := context.cache.run(run))]
        if not known:
            raise UserError("nothing has run yet", hint="commit something, or: git ml run")
        latest = max(known)[1]
    if any(_is_meant(task, stage, failed=failed) for task in context.cache.tasks_of(latest)):
        return latest
    if failed:
        earlier = _failed_runs(context, stage)
    elif stage is not None:
        earlier = [
            run for run in runs if any(_is_meant(task, stage, failed=False) for task in context.cache.tasks_of(run))
        ]
    else:
        earlier = []
    if not earlier:
        return latest
    found = max(earlier, key=lambda run: (context.cache.run(run) or {}).get("started", 0))
    what = f"'{stage}'" if stage is not None else "anything that failed"
    talk(f"the latest run, {safe(latest)}, did not run {safe(what)}; this is the latest that did:")
    return found


def _is_meant(task: Mapping[str, Any], stage: str | None, *, failed: bool) -> bool:
    return (stage is None or task["stage"] == stage) and (not failed or task["state"] == "failed")


def _failed_runs(context: Context, stage: str | None) -> list[str]:
    """The runs in which stages failed that have not succeeded since."""
    try:
        survey, _ = context.survey()
    except UserError:
        return []
    keys = [
        status.key
        for status in survey.statuses
        if status.failure is not None and status.key is not None and stage in (None, status.stage.name)
    ]
    runs = (str((context.cache.failure_record(key) or {}).get("run", "")) for key in keys)
    return [run for run in runs if run and context.cache.tasks_of(run)]


def _tail(text: bytes, lines: int | None) -> list[str]:
    listed = text.decode("utf-8", "replace").splitlines()
    return listed if lines is None else listed[-lines:]


def _explain_nothing(context: Context, run: str, stage: str | None) -> None:
    ran = sorted({str(task["stage"]) for task in context.cache.tasks_of(run)})
    what = f"of stage '{safe(stage)}' " if stage else ""
    talk(f"no logs {what}in run {safe(run)}" + (f", which ran: {safe(', '.join(ran))}" if ran else ""))
