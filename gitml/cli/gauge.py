"""Progress in bytes on a terminal: how much, how fast, how long still. Nothing anywhere else."""

import sys
import time
from types import TracebackType
from typing import Self

from gitml.cli.output import size

_QUIET = 1.0
"""Seconds before the first line: what is done by then needs none."""
_INTERVAL = 0.2


class Gauge:
    """Call it with the bytes done and the bytes in all. As a context manager it leaves the terminal clean."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._last = self._start + _QUIET - _INTERVAL
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __call__(self, done: int, total: int) -> None:
        """Draw, if it is time to."""
        now = time.monotonic()
        if not self._terminal or now - self._last < _INTERVAL:
            return
        self._last = now
        rate = done / (now - self._start)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and total else ""
        share = f"{100 * done // total} %" if total else ""
        sys.stderr.write(f"\r\x1b[K{self._label}: {share} ({size(done)} of {size(total)}), {size(rate)}/s{left}")
        sys.stderr.flush()
        self._drawn = True
