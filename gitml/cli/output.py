"""How values are shown: JSON, colour, tables. Data goes to standard output, talk to standard error."""

import json
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Any

from gitml.errors import MachineError
from gitml.meter import format_size

GLYPHS = {
    "fresh": ("✓", "32"),
    "running": ("●", "34"),
    "stale": ("~", "33"),
    "held": ("⟲", "35"),
    "edited": ("✎", "35"),
    "failed": ("!", "31"),
    "lost": ("?", "31"),
    "missing": ("?", "33"),
}
_ASCII = {
    "✓": "+", "●": "*", "⟲": "<", "✎": "e", "·": "-", "→": "->", "×": "x", "▲": "^", "▼": "v", "└": "`", "├": "|",
    "│": "|", "○": "o", "…": "~",
}  # fmt: skip


def wants_colour(stream: IO[str]) -> bool:
    """Whether `stream` gets colour: a terminal that can, and nobody said no."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE"):
        return True
    return is_read(stream) and os.environ.get("TERM", "dumb") != "dumb"


def is_read(stream: IO[str]) -> bool:
    """Whether a person sees what is written to `stream`: a terminal, or the pager of git that started us."""
    return stream.isatty() or (stream is sys.stdout and bool(os.environ.get("GIT_PAGER_IN_USE")))


def paint(text: str, code: str, stream: IO[str] | None = None) -> str:
    """`text` in the colour `code` (an SGR number) where the stream shows colour."""
    if not code or not wants_colour(stream or sys.stdout):
        return text
    # line by line: pagers forget colours at the end of one
    return "\n".join(f"\x1b[{code}m{line}\x1b[0m" for line in text.split("\n"))


def safe(text: str) -> str:
    """`text` without anything that steers a terminal: control characters and lone surrogates as escapes."""
    return "".join(char if char.isprintable() or char in "\t " else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a name that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode()


def show(text: str = "", *, stream: IO[str] | None = None) -> None:
    """Print a line; what the stream's encoding lacks is written in ASCII."""
    out = stream or sys.stdout
    encoding = getattr(out, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeError:
        text = "".join(_ASCII.get(char, char) for char in text).encode(encoding, "backslashreplace").decode(encoding)
    print(text, file=out)


def talk(text: str) -> None:
    """A line for the person at the terminal, on standard error."""
    show(text, stream=sys.stderr)


def show_json(value: Any) -> None:
    """Print a JSON document."""
    show(json.dumps(value, indent=2, ensure_ascii=True))


def table(rows: Iterable[Sequence[str]], *, indent: str = "  ", gap: str = "  ", fit: bool = False) -> list[str]:
    """Rows as lines with aligned columns; the last column is not padded.

    Where a person reads them they `fit` the terminal: the widest cells are cut, and the last one of a row goes on in
    further lines of the same string.
    """
    listed = [list(row) for row in rows]
    if not listed:
        return []
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]) - 1)]
    longest = max(len(row[-1]) for row in listed)
    left = longest
    if fit and is_read(sys.stdout):
        room = shutil.get_terminal_size().columns - len(indent) - len(gap) * len(widths)
        widths = _fitted(widths, room - min(longest, room // 3))
        left = max(room - sum(widths), _NARROW)
    lines = []
    for row in listed:
        start = indent + "".join(_cut(cell, width).ljust(width) + gap for cell, width in zip(row, widths, strict=False))
        more = "\n" + " " * len(start)
        lines.append((start + (row[-1] if len(row[-1]) <= left else more.join(_wrapped(row[-1], left)))).rstrip())
    return lines


_NARROW = 8
"""Characters that every column keeps; a terminal with less room for them breaks lines."""


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Widths of columns that come to no more than `room`: the widest are made narrower, so that others stay whole."""
    most = max(widths, default=0)
    while most > _NARROW and sum(min(width, most) for width in widths) > room:
        most -= 1
    return [min(width, most) for width in widths]


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False)


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 datum`, `3 datums`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(number: float) -> str:
    """Bytes for people: `12.3 MB` (powers of 1000)."""
    return format_size(number)


def day(seconds: float) -> str:
    """A moment as date and time, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def reader_left() -> int:
    """The exit code after whoever read us has gone (`| head`): without a word, as git leaves."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def complain(message: str, hint: str | None) -> None:
    """An error, and what to do about it."""
    for line in message.splitlines() or [""]:
        talk(f"{paint('error:', '31', sys.stderr)} {safe(line)}")
    for line in (hint or "").splitlines():
        talk(f"{paint('hint:', '33', sys.stderr)} {safe(line)}")


def machine_failed(error: OSError) -> int:
    """Say what the machine could not do; give the exit code."""
    machine = MachineError(error)
    complain(machine.message, machine.hint)
    try:
        sys.stdout.flush()
    except OSError:  # it was our output: Python would try once more at its end, in words of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return machine.exit_code
