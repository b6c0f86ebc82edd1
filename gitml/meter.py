"""Progress in a terminal: how much is done, how fast, how long it still takes. Nothing anywhere else."""

import sys
import time
from threading import Event
from types import TracebackType
from typing import Self, TextIO

_QUIET = 1.0
"""Seconds before the first line: what is done by then needs none."""
_INTERVAL = 0.1
_LARGE = 100_000_000
"""Bytes of a file that is worth a percentage of its own."""

_silenced = Event()


def silence() -> None:
    """Show nothing from now on in this process: the git that started it was told to be quiet."""
    _silenced.set()


def is_shown(wanted: bool | None = None, stream: TextIO | None = None) -> bool:
    """Whether progress is shown on `stream` (default: standard error); where nobody says so (None), in a terminal."""
    if wanted is not None:
        return wanted
    return not _silenced.is_set() and (sys.stderr if stream is None else stream).isatty()


class Meter:
    """One line on standard error while bytes come into place; a context manager that leaves the terminal clean."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._terminal = is_shown(stream=self._stream)
        self._start = time.monotonic()
        self._next = self._start + _QUIET
        self._drawn = False
        self._files = self._total = self._done = 0
        self._before: int | None = None
        """Bytes that were done when the current file began, where nobody knows how many files will come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def expect(self, files: int, size: int) -> None:
        """So much is going to be done, or where negative is not after all; `size` in bytes."""
        self._files += files
        self._total += size

    def begin(self, size: int) -> None:
        """A file of `size` bytes begins; which files will come after it is not known."""
        self._before = self._done
        self._files += 1
        self._total = self._done + size

    def advance(self, size: int) -> None:
        """So many bytes more are done; draws if it is time to."""
        self._done += size
        if not self._terminal:
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL
            self._stream.write(f"\r\x1b[K{self._label}: {self.describe(now - self._start)}")
            self._stream.flush()
            self._drawn = True

    def describe(self, elapsed: float) -> str:
        """The line after its label, when `elapsed` seconds have gone by."""
        rate = self._done / elapsed if elapsed else 0.0
        files = f"{self._files} file{'' if self._files == 1 else 's'}"
        if self._before is not None:
            text = f"{format_size(self._done)} in {files}, {format_size(rate)}/s"
            size = self._total - self._before
            if size < _LARGE or not rate:
                return text
            percent = 100 * (self._done - self._before) // size
            return f"{text}; {percent}% of this one ({format_size(size)}), {self._left(rate)}"
        percent = 100 * self._done // self._total if self._total else 100
        text = f"{percent}% ({format_size(self._done)} of {format_size(self._total)} in {files}), {format_size(rate)}/s"
        return f"{text}, {self._left(rate)}" if rate else text

    def _left(self, rate: float) -> str:
        return f"{_duration(max(self._total - self._done, 0) / rate)} left"

    def close(self) -> None:
        """Take the line away; it comes back if there is more to do."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False


def format_size(number: float) -> str:
    """Bytes for people: `12.3 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
