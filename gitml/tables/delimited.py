"""CSV and TSV files: their encoding, delimiter, names and records.

What is decided here, for every reader of such files:

- The first record that is not blank holds the names. A name that is empty becomes `column_3` by its place, one that
  is there already becomes `name_2`. Control characters stay as they are.
- Text is UTF-8, with or without a byte order mark; a file that is not UTF-8 from start to end is Latin-1. UTF-16, and
  files with zero bytes at the start, are no tables.
- A CSV file is delimited by what its first line has most of: comma, semicolon, tab or bar; a TSV file by tabs.
- Records are those of Python's `csv` module, so a cell in quotes may hold line ends, and a quote that is never closed
  takes the rest of the file. Blank lines are no records.
- A record that is too short lacks its last cells; of one that is too long the rest is dropped. Both are counted.
- An empty cell is missing, with or without quotes. Nothing else is: `NA`, `null` and `nan` are text or numbers.
- A cell is what it is as text: `1.0` and `1` differ, `007` is no number, integers may have any length.
- An empty file is a table without columns and rows.
"""

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gitml.tables.diff import Cell, TableError

_BLOCK = 1 << 20
_HEAD = 8192
_DELIMITERS = ",;\t|"
INTEGER = r"-?(?:0|[1-9][0-9]*)"
"""Like `NUMBER` and `BOOLEAN` in the dialect that Python and Rust share, for whole cells."""
NUMBER = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:[iI]nf|INF|[nN]a[nN]|NAN)"
BOOLEAN = r"[tT]rue|TRUE|[fF]alse|FALSE"
_INTEGER, _NUMBER, _BOOLEAN = map(re.compile, (INTEGER, NUMBER, BOOLEAN))


class DelimitedFile:
    """A CSV or TSV file: where its records start, and how they are read. Raise `TableError` if it is none."""

    def __init__(self, path: Path, format: str) -> None:  # noqa: A002 - a field everywhere else
        self.path = path
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise TableError("UTF-16 is not read: save it as UTF-8")
            if b"\0" in head:
                raise TableError("it is binary")
            start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
            file.seek(start)
            self.encoding = "utf-8" if _is_utf8(file) else "latin-1"
        self.delimiter = "\t" if format == "tsv" else _delimiter(head[start:].decode(self.encoding, "replace"))
        self.start = start
        """Where the first record after the names starts, in bytes."""
        self.names: tuple[str, ...] = ()
        self.warnings: list[str] = [] if self.encoding == "utf-8" else ["not UTF-8: read as Latin-1"]
        self._read_names()

    def records(self, start: int) -> Iterator[list[str]]:
        """Records from that byte on; raise `TableError` for what the `csv` module does not take."""
        with self.path.open("rb") as file:
            file.seek(start)
            with io.TextIOWrapper(file, self.encoding, newline="") as text:
                yield from self.parse(text)

    def parse(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Records of these lines."""
        # the limit belongs to the process: 128 KiB would make an embedding in a cell an error
        csv.field_size_limit(sys.maxsize)
        try:
            for record in csv.reader(lines, delimiter=self.delimiter):
                if record:
                    yield record
        except csv.Error as error:
            raise TableError(str(error)) from None

    def _read_names(self) -> None:
        consumed = 0

        def lines(text: Iterable[str]) -> Iterator[str]:
            nonlocal consumed
            for line in text:
                consumed += len(line.encode(self.encoding))
                yield line

        with self.path.open("rb") as file:
            file.seek(self.start)
            with io.TextIOWrapper(file, self.encoding, newline="") as text:
                header = next(self.parse(lines(text)), [])
        self.start += consumed
        self.names, warnings = column_names(header)
        self.warnings += warnings


def column_names(given: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Names for columns that are not empty and not repeated, with a warning for each that had to be made."""
    taken = set(given)
    found: list[str] = []
    warnings: list[str] = []
    seen: set[str] = set()
    for place, name in enumerate(given, 1):
        fresh = name or f"column_{place}"
        if fresh in seen or (not name and fresh in taken):
            stem, number = fresh, 2
            while (fresh := f"{stem}_{number}") in taken or fresh in seen:
                number += 1
        if fresh != name:
            what = "repeats the name of another" if name else "has no name"
            warnings.append(f"column {place} {what}: called {fresh!a}")
        seen.add(fresh)
        found.append(fresh)
    return tuple(found), warnings


def fitted(record: Sequence[str], width: int) -> list[Cell]:
    """A record as cells of a row of that width."""
    cells: list[Cell] = [cell or None for cell in record[:width]]
    return cells + [None] * (width - len(cells))


def is_integer(cell: str) -> bool:
    """Whether a cell is an integer without leading zeros."""
    return _INTEGER.fullmatch(cell) is not None


def is_number(cell: str) -> bool:
    """Whether a cell is a number, NaN or infinity."""
    return _NUMBER.fullmatch(cell) is not None


def is_boolean(cell: str) -> bool:
    """Whether a cell is true or false."""
    return _BOOLEAN.fullmatch(cell) is not None


def _is_utf8(file: io.BufferedReader) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    pending = False
    try:
        while block := file.read(_BLOCK):
            # far faster than decoding, and nearly every block is
            if pending or not block.isascii():
                decoder.decode(block)
                pending = bool(decoder.getstate()[0])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _delimiter(head: str) -> str:
    line = next((line for line in head.splitlines() if line.strip()), "")
    outside = "".join(line.split('"')[::2])
    return max(_DELIMITERS, key=lambda each: (outside.count(each), -_DELIMITERS.index(each)))
