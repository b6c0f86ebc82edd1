"""`git ml watch`, and what `git ml status --watch` has in common with it: stages that change, shown while they do."""

import json as text
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.output import GLYPHS, count, paint, safe, show, talk
from gitml.cli.progress import START_GRACE, counts, summarise
from gitml.errors import ExitCode
from gitml.pipeline.lease import RunState, StageProgress
from gitml.pipeline.notify import document
from gitml.record import record

_PAUSE = 0.25
"""Seconds between looks."""


@record
class Line:
    """One stage, as it is shown."""

    name: str
    state: str
    text: str


class Board:
    """Lines that are drawn again in place in a terminal; elsewhere each is printed when it changes."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._drawn = 0
        self._last: dict[str, Line] = {}

    def draw(self, head: str, lines: Sequence[Line]) -> None:
        """Show the lines as they are now; `head` stands above them in a terminal."""
        width = max((len(line.state) for line in lines), default=0)
        names = max((len(safe(line.name)) for line in lines), default=0)
        if not self._terminal:
            for line in lines:
                if self._last.get(line.name) != line:
                    show(f"{safe(line.name)} {line.state} {safe(line.text)}".rstrip())
            self._last = {line.name: line for line in lines}
            sys.stdout.flush()
            return
        columns, rows = shutil.get_terminal_size()
        shown = lines[: max(rows - 3, 1)]
        drawn = [head[: columns - 1]]
        for line in shown:
            glyph, colour = GLYPHS.get(line.state, ("·", ""))
            start = f"  {glyph} {line.state.ljust(width)}  "
            rest = f"{safe(line.name).ljust(names)}  {safe(line.text)}"
            drawn.append(paint(start, colour) + rest[: max(columns - 1 - len(start), 0)].rstrip())
        if len(shown) < len(lines):
            drawn.append(f"  and {len(lines) - len(shown)} more stages")
        back = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        sys.stdout.write(back + "".join(f"{line}\n" for line in drawn))
        sys.stdout.flush()
        self._drawn = len(drawn)


def watch(
    json: Annotated[bool, typer.Option("--json", help="One JSON document a line, for every change.")] = False,
) -> int:
    """Show how far every stage of the run under way is, until it ends: datums, rate, time left. Ctrl-C only ends this.

    In a terminal the lines are drawn again in place, elsewhere each change is a line. Exit code 2 if a stage failed, 4
    if the runner was lost.
    """
    with open_context() as context:
        lease, board = context.lease, Board()
        last: RunState | None = None
        idle_since = time.monotonic()
        try:
            while True:
                alive, waits = lease.activity()
                state = lease.read_state()
                if alive or lease.is_starting():
                    idle_since = time.monotonic()
                waiting = waits and time.monotonic() - idle_since < START_GRACE
                over = not alive and not waiting
                if state is not None and (alive or over) and (state != last or not json):
                    if json:
                        show(text.dumps({"schema": "gitml/watch/1", **document(state)}))
                        sys.stdout.flush()
                    else:
                        board.draw(_head(state), progress_lines(state, time.time()))
                    last = state
                if over:
                    break
                time.sleep(_PAUSE)
        except KeyboardInterrupt:
            talk("gitml: detached, the run goes on; git ml stop ends it")
            return ExitCode.INTERRUPTED
        if state is None:
            talk("gitml: nothing has run yet")
            return ExitCode.OK
        if lease.is_lost(state):
            talk("gitml: the runner is gone; git ml resume goes on where it stopped")
            return ExitCode.BUSY
        if not json:
            summarise(state)
        return ExitCode.STAGE_FAILED if state.status in ("failed", "error") else ExitCode.OK


def _head(state: RunState) -> str:
    branch = (state.branch or "a detached HEAD").removeprefix("refs/heads/")
    return f"run {safe(state.run)} of {state.tip[:10]} on {safe(branch)}: {state.status}"


def progress_lines(state: RunState, now: float) -> list[Line]:
    """The stages of a run; `now` in seconds since the epoch."""
    return [Line(name, progress.state, progress_text(progress, now)) for name, progress in state.stages.items()]


def progress_text(progress: StageProgress, now: float) -> str:
    """How far a stage is, in words."""
    executed = progress.done + progress.failed
    parts = []
    if progress.state == "running":
        parts.append(f"{executed + progress.cached}/{count(progress.total, 'datum')}")
    elif progress.total:
        parts.append(count(progress.total, "datum"))
    if progress.done:
        parts.append(f"{progress.done} done")
    parts += counts(progress)
    if progress.state == "running" and executed and now > progress.since > 0:
        rate = executed / (now - progress.since)
        parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min")
        left = progress.total - progress.cached - executed
        if left:
            parts.append(f"{duration(left / rate)} left")
    if progress.reason:
        parts.append(progress.reason)
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time span for people, in its two largest units at most."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"
