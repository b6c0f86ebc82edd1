"""How values are shown: JSON, colour, tables. Data goes to standard output, talk to standard error."""

import json
import os
import signal
import sys
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
    "│": "|", "○": "o",
}  # fmt: skip


def wants_colour(stream: IO[str]) -> bool:
    """Whether `stream` gets colour: a terminal that can, and nobody said no."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE"):
        return True
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, code: str, stream: IO[str] | None = None) -> str:
    """`text` in the colour `code` (an SGR number) where the stream shows colour."""
    return f"\x1b[{code}m{text}\x1b[0m" if code and wants_colour(stream or sys.stdout) else text


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


def table(rows: Iterable[Sequence[str]], *, indent: str = "  ", gap: str = "  ") -> list[str]:
    """Rows as lines with aligned columns; the last column is not padded."""
    listed = [list(row) for row in rows]
    if not listed:
        return []
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]) - 1)]
    return [
        (indent + gap.join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])).rstrip()
        for row in listed
    ]


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
