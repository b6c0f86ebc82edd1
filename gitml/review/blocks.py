"""What a report is made of: blocks of title, table and notes.

Words of ours and names of others are told apart, so that a renderer knows what may hold anything.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from gitml.record import field, record
from gitml.review.comparison import Graph, Picture, PlotChange
from gitml.review.history import MetricHistory

ABSENT = "-"
"""What is not there on a side."""
MOST_WARNINGS = 10
MOST_NAMED = 20
"""Files, columns or tensors that are named; the largest differences first."""
_MOST_ROWS = 200
"""Rows of any other table."""


class Tone(StrEnum):
    """What a cell tells at a glance."""

    PLAIN = ""
    GOOD = "good"
    BAD = "bad"
    QUIET = "quiet"


@record
class Cell:
    """Text in a table. A `name` was chosen by somebody else: it may hold anything."""

    text: str
    name: bool = False
    tone: Tone = Tone.PLAIN


@record(kw_only=True)
class Block:
    """One part of the report."""

    key: str
    """What `--only` calls it."""
    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    notes: tuple[Cell, ...] = ()
    folded: bool = False
    """Whether it is a detail."""
    text: tuple[str, ...] = ()
    """Lines of a log or commands, as they are."""
    graph: Graph | None = None
    """What the rows say, for whoever can draw it."""
    history: MetricHistory | None = None
    """As `graph`."""
    plot: PlotChange | None = None
    """As `graph`."""
    pictures: Mapping[str, Picture | None] = field(default_factory=dict)
    """What is shown beside each other, each with what it is called: before, now, difference."""


@record(kw_only=True)
class Report:
    """The verdict in one line, and the blocks."""

    verdict: tuple[Cell, ...]
    blocks: tuple[Block, ...]


def number(value: float | None) -> str:
    """A metric for people: six digits, as many as float32 has."""
    return ABSENT if value is None else f"{value:.6g}"


def first_rows(cells: Iterable[tuple[Cell, ...]], total: int, most: int = _MOST_ROWS) -> tuple[tuple[Cell, ...], ...]:
    """The first rows, and how many more there are."""
    listed: list[tuple[Cell, ...]] = []
    for each in cells:
        if len(listed) == most:
            listed.append((Cell(f"and {total - most} more", tone=Tone.QUIET), *(Cell("") for _ in each[1:])))
            break
        listed.append(each)
    return tuple(listed)


def count(number_of: int, noun: str) -> str:
    """A number with its noun: `1 row`, `3 rows`."""
    return f"1 {noun}" if number_of == 1 else f"{number_of:,} {noun}s"
