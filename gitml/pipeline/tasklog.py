"""The log of one task: what its commands printed, attempt by attempt, with its middle left out if it is long."""

import contextlib
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

LIMIT = 1 << 20
"""Most bytes of a log, but for the line that says how many were left out."""


class Filter(Protocol):
    """Changes what is logged, in pieces as they come."""

    def feed(self, data: bytes) -> bytes:
        """What to log now; some of `data` may be held back."""
        ...

    def end(self) -> bytes:
        """What was held back."""
        ...


class Log(Protocol):
    """Takes what commands print, and notes about them."""

    def note(self, text: str) -> None:
        """Add a line of our own."""
        ...

    def write(self, data: bytes) -> None:
        """Add what a command printed."""
        ...


class TaskLog:
    """Writes a log file, all of it through `through` if that is given; use it in `with`.

    The first half of `limit` bytes is on disk at once, the last half when the log is closed. A disk that is full
    ends the log, not the task.
    """

    def __init__(self, path: Path, limit: int = LIMIT, through: Filter | None = None) -> None:
        self._through = through
        self._file = path.open("wb", buffering=0)
        self._head = limit - limit // 2
        self._keep = limit // 2
        self._tail: deque[bytes] = deque()
        self._held = 0
        self._dropped = 0
        self._fresh_line = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def note(self, text: str) -> None:
        """Write a line of our own between the output of commands."""
        line = b"--- " + text.encode("utf-8", "backslashreplace") + b"\n"
        if self._through is not None:
            self._write(self._through.end())  # the output of a command does not go on after a note
        self.write(line if self._fresh_line else b"\n" + line)

    def write(self, data: bytes) -> None:
        """Add what a command printed."""
        self._write(data if self._through is None else self._through.feed(data))

    def _write(self, data: bytes) -> None:
        if not data:
            return
        self._fresh_line = data.endswith(b"\n")
        head, rest = data[: self._head], data[self._head :]
        if head:
            self._head -= len(head)
            self._put(head)
        if not rest:
            return
        self._tail.append(rest)
        self._held += len(rest)
        while self._held - len(self._tail[0]) >= self._keep:
            first = self._tail.popleft()
            self._held -= len(first)
            self._dropped += len(first)

    def close(self) -> None:
        """Write the end of the log and close the file."""
        if self._file.closed:
            return
        if self._through is not None:
            self._write(self._through.end())
        end = b"".join(self._tail)
        self._tail.clear()
        if len(end) > self._keep:
            self._dropped += len(end) - self._keep
            end = end[len(end) - self._keep :]
        if self._dropped:
            end = b"\n--- %d bytes left out\n" % self._dropped + end
        self._put(end)
        self._file.close()

    def _put(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._file.write(data)
