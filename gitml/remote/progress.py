"""Progress as git shows it, on standard error, where git asks for it."""

import sys
import time
from threading import Lock
from types import TracebackType
from typing import Self

_QUIET = 0.5
"""Seconds before the first line: what is done by then needs none."""
_INTERVAL = 0.2


class Progress:
    """`label: 45% (450.00 MiB/1.00 GiB), 98.00 MiB/s` while bytes come or go; a context manager."""

    def __init__(self, label: str, total: int, *, shown: bool) -> None:
        self._label = label
        self._total = total
        self._shown = shown
        self._done = 0
        self._moved = 0
        self._start = time.monotonic()
        self._next = self._start + _QUIET
        self._drawn = False
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write(f"\r{self.describe()}{', done.' if kind is None else ''}\n")
            sys.stderr.flush()

    def skip(self, size: int) -> None:
        """So many bytes need not travel."""
        with self._lock:
            self._done += size

    def advance(self, size: int) -> None:
        """So many bytes have travelled."""
        with self._lock:
            self._done += size
            self._moved += size
            now = time.monotonic()
            if not self._shown or now < self._next:
                return
            self._next = now + _INTERVAL
            self._drawn = True
            sys.stderr.write(f"\r{self.describe()}   ")
            sys.stderr.flush()

    def describe(self) -> str:
        """The line."""
        elapsed = max(time.monotonic() - self._start, 0.001)
        percent = 100 * self._done // self._total if self._total else 100
        done = f"{percent:3}% ({_size(self._done)}/{_size(self._total)})"
        return f"{self._label}: {done}, {_size(self._moved / elapsed)}/s"


def _size(number: float) -> str:
    """Bytes as git writes them: `12.30 MiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.2f} {unit}"
        number /= 1024
    return f"{number:.2f} GiB"
