"""`git ml status`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json, Revision
from gitml.cli.output import GLYPHS, count, paint, safe, show, show_json, table, talk
from gitml.errors import ExitCode
from gitml.install import is_installed
from gitml.pipeline.standing import Standing, standings


def status(
    json: Json = False,
    rev: Revision = "HEAD",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 unless every stage is fresh.")] = False,
) -> int:
    """Say where every stage of the pipeline stands.

    States: fresh, held (rolled back), edited (by hand), missing (known, will be restored), stale, failed,
    running, lost (its runner was killed).
    """
    with open_context() as context:
        survey, pipeline = context.survey(rev)
        rows = standings(survey, context.lease)
        if json:
            show_json(
                {"schema": "gitml/status/1", "head": survey.commit.hex(), "stages": [_as_json(row) for row in rows]}
            )
        else:
            _print(context, rev, rows)
            for notice in pipeline.notices:
                talk(f"note: {safe(notice)}")
    return ExitCode.DIFFERENT if exit_code and any(row.state != "fresh" for row in rows) else ExitCode.OK


def _as_json(row: Standing) -> dict[str, object]:
    return {
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "output": row.output,
        "datums": {"total": row.total, "done": row.done, "failed": row.failed},
    }


def _print(context: Context, rev: str, rows: list[Standing]) -> None:
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
    if not rows:
        show("  no stages in pipeline.json")
    for advice in _advice(rows, installed=is_installed(context.repo)):
        show(advice)


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
    if states & {"stale", "missing", "lost"}:
        advice.append('  (use "git ml run" to bring results up to date)')
    if "failed" in states:
        advice.append('  (use "git ml logs" to see why; a fix in a new commit, or "git ml run", tries again)')
    if "held" in states:
        advice.append('  (held results stay until their inputs change; "git ml run STAGE" ends the hold now)')
    if "edited" in states:
        advice.append('  (edited results are kept; "git ml run STAGE --force" replaces them)')
    if "running" in states:
        advice.append('  (use "git ml wait" to follow)')
    return ["", *advice] if advice else []
