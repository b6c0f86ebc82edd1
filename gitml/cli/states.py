"""What is said of stages: where they stand, and what a run did. Reading this module costs little."""

from collections.abc import Iterable, Iterator, Sequence

from gitml.cli.output import GLYPHS, count, paint, safe, table
from gitml.cli.pending import Pending, what_waits
from gitml.pipeline.shown import StageReport, Standing
from gitml.provenance.codec import text_of


def standing_lines(
    where: str,
    subject: str,
    rows: Sequence[Standing],
    *,
    copies: Sequence[tuple[str, str]] = (),
    behind: bool = False,
    changed: Sequence[Pending] = (),
    installed: bool,
) -> Iterator[str]:
    """The lines of `git ml status`.

    `copies` says of stages how far they are copied out, `behind` that some are not. `changed` is what no commit
    has.
    """
    yield f"On {safe(where)}, {safe(subject)}"
    yield ""
    width = max((len(row.state) for row in rows), default=0)
    lines = table((safe(row.name), standing_counts(row), safe(row.reason)) for row in rows)
    for row, line in zip(rows, lines, strict=True):
        glyph, colour = GLYPHS[row.state]
        yield f"  {paint(f'{glyph} {row.state.ljust(width)}', colour)}{line}"
        if row.hint:
            yield f"    {safe(row.hint)}"
    if not rows:
        yield "  no stages in pipeline.json"
    for name, words in copies:
        yield f"  {safe(name)} → {words}"
    advice = _advice(rows, installed=installed)
    if changed:
        advice.append(f"  ({what_waits(changed)})")
    if behind:
        advice.append('  (use "git ml egress" to copy results out again)')
    yield from ["", *advice] if advice else []


def standing_document(
    head: str,
    rows: Iterable[Standing],
    copies: dict[str, dict[str, object]] | None = None,
    *,
    changed: Sequence[Pending] = (),
) -> dict[str, object]:
    """The same for programs; `head` is the commit."""
    return {
        "schema": "gitml/status/1",
        "head": head,
        "uncommitted": [text_of(each.path) for each in changed],
        "stages": [
            {
                "name": row.name,
                "state": row.state,
                "reason": row.reason,
                "hint": row.hint or None,
                "output": row.output,
                "datums": {"total": row.total, "done": row.done, "failed": row.failed},
                "egress": (copies or {}).get(row.name),
            }
            for row in rows
        ],
    }


def standing_counts(row: Standing) -> str:
    """How many datums a stage has, and how many of them have a result."""
    if row.state == "fresh":
        return count(row.total, "datum")
    text = f"{row.done}/{count(row.total, 'datum')}"
    return f"{text}, {row.failed} failed" if row.failed else text


def report_line(stage: StageReport) -> str:
    """What a run did for a stage."""
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


def _advice(rows: Sequence[Standing], *, installed: bool) -> list[str]:
    states = {row.state for row in rows}
    advice = []
    if not installed:
        advice.append('  (this clone is not set up, nothing runs by itself: "git ml install")')
    if any(row.unreviewed for row in rows):
        advice.append('  (what came from elsewhere does not run by itself: "git ml trust --show", then "git ml trust")')
    elif "running" not in states and any(row.state in ("stale", "missing", "lost") and not row.waits for row in rows):
        advice.append('  (use "git ml run" to bring results up to date)')
    if "failed" in states:
        advice.append(
            '  (use "git ml logs --failed" to see why; a fix in a new commit, or "git ml retry", tries again)'
        )
    if "held" in states:
        advice.append('  (held results stay, "git ml unhold STAGE" ends the hold)')
    if "edited" in states:
        advice.append('  (edited results are kept; "git ml restore" replaces, "git ml accept" records them)')
    if "running" in states:
        advice.append('  (use "git ml watch" to follow, "git ml stop" to end it)')
    return advice
