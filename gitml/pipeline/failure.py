"""Why a stage failed, as it is kept and shown; what the end of a log says of it."""

import re
from collections.abc import Sequence

from gitml.record import record

_TRACEBACK = "Traceback (most recent call last):"
_OF_INTERPRETERS = ("Execution halted", "make: ***")
"""Last lines that only say that something ended."""
_LONGEST = 160
_ATTEMPT = re.compile(r"--- attempt (\d+) of (\d+): ")
_WORKSPACE = re.compile(r"/tasks/[0-9a-f]{8}-\d+/")
"""What tells the workspaces of two attempts apart, where a task sees its own under its own path."""


@record
class FailureInfo:
    """Why a stage failed."""

    datum: str
    """Label of the datum; empty if the failure was none of a datum's."""
    message: str
    """What went wrong, with the datum if it was one's."""
    last_lines: tuple[str, ...] = ()
    """The end of the datum's log."""
    failed: int = 0
    """How many datums failed."""
    hint: str = ""
    """What to do about it; empty if only the log may tell."""


def last_words(log: Sequence[str]) -> str:
    """The line of a log that says why its command failed, as far as one does: an exception, or the last line."""
    lines = [line.rstrip() for line in log]
    begin = next((at for at in reversed(range(len(lines))) if lines[at].strip() == _TRACEBACK), None)
    if begin is not None:
        indent = len(lines[begin]) - len(_TRACEBACK)
        for line in lines[begin + 1 :]:
            if line.strip() and not line[indent:].startswith((" ", "--- ")):
                return _shortened(line)
    said = (line for line in reversed(lines) if line and not line.startswith(("--- ", *_OF_INTERPRETERS)))
    return _shortened(next(said, ""))


def _shortened(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def told_once(log: Sequence[str]) -> list[str]:
    """A log in which attempts that printed the same, one after the other, stand once, with a line that says so."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in log:
        if _ATTEMPT.match(line):
            parts.append((line, []))
        else:
            parts[-1][1].append(line)
    told = list(parts[0][1])
    alike = 1
    for at, (head, body) in enumerate(parts[1:], 1):
        command = _ATTEMPT.sub("", head)
        if (
            at + 1 < len(parts)
            and _anywhere(parts[at + 1][1]) == _anywhere(body)
            and _ATTEMPT.sub("", parts[at + 1][0]) == command
        ):
            alike += 1
            continue
        told += [head, *body]
        if alike > 1:
            told.append(f"--- {alike} attempts printed this, each the same")
        alike = 1
    return told


def _anywhere(lines: Sequence[str]) -> list[str]:
    return [_WORKSPACE.sub("/", line) for line in lines]
