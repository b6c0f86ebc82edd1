"""Showing a run while it goes on: one line that changes in a terminal, few lines elsewhere."""

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from gitml.cli.output import GLYPHS, count, paint, safe, talk
from gitml.pipeline.lease import Lease, RunState, StageProgress

START_GRACE = 2.0
"""Seconds for a runner that was asked for to appear among the processes."""
_PLAIN_INTERVAL = 30.0
"""Seconds between lines where there is no terminal."""
_COLOUR = re.compile(r"(\x1b\[\d*m)")


class Display:
    """Draws the state of a run on standard error; a run goes on though nobody can read that any more."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._drawn = False
        self._finished: set[str] = set()
        self._last = 0.0

    def draw(self, state: RunState) -> None:
        """Show what is new in `state`."""
        with suppress(OSError):
            self._draw(state)

    def close(self) -> None:
        """Leave the terminal clean."""
        with suppress(OSError):
            self._clear()

    def _draw(self, state: RunState) -> None:
        for name, progress in state.stages.items():
            if progress.state in ("fresh", "failed") and name not in self._finished and _did_something(progress):
                self._finished.add(name)
                self._line(describe(name, progress))
        running = [(name, progress) for name, progress in state.stages.items() if progress.state == "running"]
        if not running:
            return
        if self._terminal:
            text = " · ".join(describe(name, progress) for name, progress in running)
            # a line that the terminal breaks could not be drawn over; a size of 0 is one that nobody told it
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            sys.stderr.write(f"\r\x1b[K{_fitted(text, columns - 1)}")
            sys.stderr.flush()
            self._drawn = True
        elif time.monotonic() - self._last >= _PLAIN_INTERVAL:
            if self._last:
                for name, progress in running:
                    talk(describe(name, progress))
            self._last = time.monotonic()

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def _line(self, text: str) -> None:
        self._clear()
        talk(text)


class Counting:
    """One line in a terminal for what takes more than a second and is counted. As a context manager it ends clean."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 1
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def draw(self, label: str, done: int, total: int) -> None:
        """Show how far it is, not more than ten times a second."""
        now = time.monotonic()
        if now < self._next or not sys.stderr.isatty():
            return
        self._next = now + 0.1
        sys.stderr.write(f"\r\x1b[K{safe(label)[:100]}: {done} of {total}")
        sys.stderr.flush()
        self._drawn = True

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


def _fitted(text: str, columns: int) -> str:
    """As much of a line as `columns` have room for; colours take none."""
    kept = []
    for at, piece in enumerate(_COLOUR.split(text)):
        kept.append(piece if at % 2 else piece[:columns])
        columns -= 0 if at % 2 else len(kept[-1])
    return "".join(kept)


def _did_something(progress: StageProgress) -> bool:
    return bool(progress.done or progress.failed or progress.reason)


def counts(progress: StageProgress) -> list[str]:
    """What became of datums besides those that were run, in words."""
    numbers = {"from cache": progress.cached, "failed": progress.failed, "recovered": progress.recovered}
    return [f"{number} {what}" for what, number in numbers.items() if number]


def describe(name: str, progress: StageProgress) -> str:
    """One stage of a run in one line."""
    glyph, colour = GLYPHS.get(progress.state, ("·", ""))
    head = paint(f"{glyph} {safe(name)}", colour, sys.stderr)
    parts = []
    if progress.state == "running":
        parts.append(f"{progress.done + progress.cached + progress.failed}/{count(progress.total, 'datum')}")
    elif progress.done:
        parts.append(f"{count(progress.done, 'datum')} run")
    parts += counts(progress)
    if progress.reason:
        parts.append(safe(progress.reason))
    return f"{head}  {', '.join(parts)}".rstrip()


def follow(lease: Lease, end: float | None, *, about: Callable[[RunState], bool] = lambda _: False) -> bool:
    """Show the runner's progress until it is done; False if `end` (monotonic seconds) came first.

    A run that had ended before is shown if it is what the user asks `about`.
    """
    display = Display()
    idle_since = time.monotonic()
    seen = ""
    try:
        while True:
            alive, waits = lease.activity()
            state = lease.read_state()
            if alive and state is not None and state.status == "running":
                display.draw(state)
                seen = state.run
            if not alive and not waits:
                if state is not None and state.status != "running" and (state.run == seen or about(state)):
                    display.draw(state)
                return True
            if alive or lease.is_starting():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > START_GRACE:
                return True  # asked for, but nobody came: status and doctor say more
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(0.1)
    finally:
        display.close()


def summarise(state: RunState) -> None:
    """How a run ended, in one line, after a line for each warning."""
    for warning in state.warnings:
        talk(f"{paint('warning:', '33', sys.stderr)} {safe(warning)}")
    if state.status == "published" and state.published:
        talk(f"gitml: results committed as {state.published[:10]}")
    elif state.message:
        talk(f"gitml: {safe(state.message)}")
