"""`git ml status`."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.egress import in_words, standing
from gitml.cli.options import Json, Revision
from gitml.cli.output import GLYPHS, count, paint, safe, show, show_json, table, talk
from gitml.cli.pending import Pending, pending, what_waits
from gitml.cli.watch import Board, Line, progress_text
from gitml.errors import ExitCode, UserError
from gitml.install import is_installed
from gitml.pipeline.cache import RUNS_REF
from gitml.pipeline.standing import RUNNING, Standing
from gitml.pipeline.survey import Survey
from gitml.provenance.codec import text_of


def status(
    json: Json = False,
    rev: Revision = "HEAD",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 unless every stage is fresh.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again whenever it changes, until Ctrl-C.")
    ] = False,
) -> int:
    """Say where every stage of the pipeline stands.

    States: fresh, held (rolled back, or by decision), edited (by hand), missing (known, will be restored),
    stale, failed, running, lost (its runner was killed).
    """
    with open_context() as context:
        if watch:
            if json or exit_code:
                raise UserError("--watch goes on, so it has neither --json nor --exit-code", hint="git ml watch --json")
            return _watch(context, rev)
        survey, pipeline = context.survey(rev)
        rows = context.standings(survey)
        copies = {
            status.stage.name: found for status in survey.statuses if (found := standing(context, status)) is not None
        }
        changed = pending(context.repo, survey) if rev == "HEAD" else []
        if json:
            show_json(
                {
                    "schema": "gitml/status/1",
                    "head": survey.commit.hex(),
                    "uncommitted": [text_of(each.path) for each in changed],
                    "stages": [_as_json(row, copies.get(row.name)) for row in rows],
                }
            )
        else:
            _print(context, rev, rows, changed, copies)
            for notice in pipeline.notices:
                talk(f"note: {safe(notice)}")
    return ExitCode.DIFFERENT if exit_code and any(row.state != "fresh" for row in rows) else ExitCode.OK


def _watch(context: Context, rev: str) -> int:
    """Show the states again and again. The commit is evaluated anew when it, or what is known of runs, is another."""
    board, seen, next_look = Board(), "", 0.0
    survey: Survey | None = None
    try:
        while True:
            now = time.monotonic()
            mark = f"{context.commit(rev)} {context.repo.try_resolve(RUNS_REF)}"
            if survey is None or (mark != seen and now >= next_look):
                context.cache.refresh()
                survey, seen = context.survey(rev)[0], mark
                # a run adds to what is known all the time: looking must not take more time than running
                next_look = time.monotonic() + max(1.0, 4 * (time.monotonic() - now))
            rows = context.standings(survey)
            run = context.lease.read_state()
            going = run.stages if run is not None and run.status == "running" else {}
            lines = [
                Line(
                    row.name,
                    row.state,
                    progress_text(going[row.name], time.time())
                    if row.state == RUNNING
                    else ", ".join(part for part in (_counts(row), row.reason) if part),
                )
                for row in rows
            ]
            board.draw(context.repo.git.line("log", "-1", "--format=%h %s", survey.commit.hex()), lines)
            time.sleep(0.5)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _as_json(row: Standing, copy: dict[str, object] | None) -> dict[str, object]:
    return {
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "output": row.output,
        "datums": {"total": row.total, "done": row.done, "failed": row.failed},
        "hint": row.hint or None,
        "egress": copy,
    }


def _print(
    context: Context, rev: str, rows: list[Standing], changed: Sequence[Pending], copies: dict[str, dict[str, object]]
) -> None:
    place = context.repo.git.run("symbolic-ref", "--quiet", "--short", "HEAD", check=False).stdout.decode().strip()
    where = f"branch {place}" if place and rev == "HEAD" else rev if rev != "HEAD" else "a detached HEAD"
    subject = context.repo.git.line("log", "-1", "--format=%h %s", context.commit(rev).hex())
    show(f"On {safe(where)}, {safe(subject)}")
    show()
    width = max((len(row.state) for row in rows), default=0)
    lines = table((safe(row.name), _counts(row), safe(row.reason)) for row in rows)
    for row, line in zip(rows, lines, strict=True):
        glyph, colour = GLYPHS[row.state]
        show(f"  {paint(f'{glyph} {row.state.ljust(width)}', colour)}{line}")
        if row.hint:
            show(f"    {safe(row.hint)}")
    if not rows:
        show("  no stages in pipeline.json")
    for name, copy in copies.items():
        show(f"  {safe(name)} → {in_words(copy)}")
    advice = _advice(rows, installed=is_installed(context.repo))
    if changed:
        advice.append(f"  ({what_waits(changed)})")
    if any(copy["state"] in ("behind", "failed") for copy in copies.values()):
        advice.append('  (use "git ml egress" to copy results out again)')
    for line in ["", *advice] if advice else []:
        show(line)


def _counts(row: Standing) -> str:
    if row.state == "fresh":
        return count(row.total, "datum")
    text = f"{row.done}/{count(row.total, 'datum')}"
    return f"{text}, {row.failed} failed" if row.failed else text


def _advice(rows: list[Standing], *, installed: bool) -> list[str]:
    states = {row.state for row in rows}
    advice = []
    if not installed:
        advice.append('  (this clone is not set up, nothing runs by itself: "git ml install")')
    if any(row.unreviewed for row in rows):
        advice.append('  (what came from elsewhere does not run by itself: "git ml trust --show", then "git ml trust")')
    elif states & {"stale", "missing", "lost"} and "running" not in states:
        advice.append('  (use "git ml run" to bring results up to date)')
    if "failed" in states:
        advice.append('  (use "git ml logs" to see why; a fix in a new commit, or "git ml retry", tries again)')
    if "held" in states:
        advice.append('  (held results stay, "git ml unhold STAGE" ends the hold)')
    if "edited" in states:
        advice.append('  (edited results are kept; "git ml restore" replaces, "git ml accept" records them)')
    if "running" in states:
        advice.append('  (use "git ml watch" to follow, "git ml stop" to end it)')
    return advice
