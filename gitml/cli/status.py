"""`git ml status`."""

import time
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.egress import in_words, standing
from gitml.cli.options import Json, Revision
from gitml.cli.output import safe, show, show_json, talk
from gitml.cli.pending import pending
from gitml.cli.states import standing_counts, standing_document, standing_lines
from gitml.cli.watch import Board, Line, progress_text
from gitml.errors import ExitCode, UserError
from gitml.pipeline.cache import RUNS_REF
from gitml.pipeline.standing import RUNNING
from gitml.pipeline.survey import Survey


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
        changed = pending(context.repo, survey.places) if rev == "HEAD" else []
        if json:
            show_json(standing_document(survey.commit.hex(), rows, copies, changed=changed))
        else:
            lines = standing_lines(
                *_place(context, rev), rows, copies=[(name, in_words(copy)) for name, copy in copies.items()],
                behind=any(copy["state"] in ("behind", "failed") for copy in copies.values()), changed=changed,
                installed=context.repo.has_filter,
            )  # fmt: skip
            for line in lines:
                show(line)
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
                    else ", ".join(part for part in (standing_counts(row), row.reason) if part),
                )
                for row in rows
            ]
            board.draw(context.repo.git.line("log", "-1", "--format=%h %s", survey.commit.hex()), lines)
            time.sleep(0.5)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _place(context: Context, rev: str) -> tuple[str, str]:
    """What was looked at, in words, and the line that stands for its commit."""
    place = context.repo.git.run("symbolic-ref", "--quiet", "--short", "HEAD", check=False).stdout.decode().strip()
    where = f"branch {place}" if place and rev == "HEAD" else rev if rev != "HEAD" else "a detached HEAD"
    return where, context.repo.git.line("log", "-1", "--format=%h %s", context.commit(rev).hex())
