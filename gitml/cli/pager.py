"""What is printed to a terminal goes through the pager that git would use: git's rules, so nothing has to be set twice.

`GIT_PAGER`, `core.pager` and `PAGER` name it, and git tells which one counts; `git --no-pager ml`, `git -p ml` and
`pager.ml` are dealt with by git itself before it starts us. The pager starts when there is something to show, so a
command that fails, or that works for a while first, has the terminal to itself until then.
"""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

PAGED = ("dag", "diff", "log", "report", "show", "why")
"""Commands whose output is there to be read; others tell what they did."""
IN_USE = "GIT_PAGER_IN_USE"
"""Git's word to what it starts that standard output is a pager, which shows colours."""
_DEFAULTS = {"LESS": "FRX", "LV": "-c"}
"""What git sets where the user has not: quit if it fits on one screen, show colours, leave the screen as it is."""
_OF_THE_SHELL = "|&;<>()$`\\\"' \t\n*?[#~=%"
"""Characters for which git has the shell start a command."""


@contextmanager
def paged(command: str) -> Iterator[None]:
    """Have what `command` prints go through the pager, if it is one of `PAGED` and somebody sits at a terminal."""
    terminal = sys.stdout
    if command not in PAGED or not terminal.isatty() or (pager := _wanted(os.environ)) is None:
        yield
        return
    pipe = _Pipe(pager, terminal)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(pipe), encoding=terminal.encoding, errors=terminal.errors, line_buffering=True
    )
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout = terminal
        pipe.finish()


def _wanted(environment: Mapping[str, str]) -> str | None:
    """The pager that git would use, None for none."""
    if environment.get(IN_USE) or environment.get("TERM", "dumb") == "dumb":
        return None
    done = subprocess.run(["git", "var", "GIT_PAGER"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = os.fsdecode(done.stdout).strip()
    return None if done.returncode or found in ("", "cat") else found


class _Pipe(io.RawIOBase):
    """What goes to a pager that starts with the first byte; to the terminal if it cannot be started."""

    def __init__(self, pager: str, terminal: TextIO) -> None:
        self._pager, self._terminal = pager, terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._to: int | None = None
        self._finished = False

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """True: a person reads it, and colours and widths are chosen for one."""
        return True

    def write(self, data: "memoryview | bytes", /) -> int:  # type: ignore[override] # any buffer, as io gives it
        """Hand bytes on; raise `BrokenPipeError` once the reader has quit."""
        if self._finished:
            return len(data)  # what nobody read is flushed when the stream is forgotten
        return os.write(self._start() if self._to is None else self._to, data)

    def finish(self) -> None:
        """Wait until the reader has read enough."""
        self._finished = True
        if self._process is None:
            return
        # an interrupt is for the pager: with less it ends a search, and only 'q' ends the reading
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
        finally:
            signal.signal(signal.SIGINT, before)

    def _start(self) -> int:
        command = ["sh", "-c", self._pager] if set(self._pager) & set(_OF_THE_SHELL) else [self._pager]
        self._terminal.flush()
        self._to = self._terminal.fileno()
        try:
            # bufsize: what is written is there at once, and nothing is left to be written when the reader has gone
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=self._to, env=_DEFAULTS | os.environ, bufsize=0
            )
        except OSError:
            return self._to
        assert self._process.stdin is not None
        self._to = self._process.stdin.fileno()
        return self._to
