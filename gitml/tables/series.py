"""Columns of numbers to be drawn: what was read of them, thinned, as plain values and as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gitml.record import record

_MOST_POINTS = 400
"""Points of a line: more than one for each pixel shows nothing."""


@record(kw_only=True)
class Series:
    """One column; `least` and `greatest` are those of all its finite numbers."""

    name: str
    points: tuple[tuple[float, float | None], ...] = ()
    """Where, and what; None where there is no finite number. Of many rows the least and greatest of each stretch."""
    first: float | None = None
    last: float | None = None
    least: float | None = None
    greatest: float | None = None


@record(kw_only=True)
class SeriesFile:
    """The columns of one file."""

    rows: int = 0
    series: tuple[Series, ...] = ()
    warnings: tuple[str, ...] = ()
    opaque: str = ""
    """Why nothing is known."""

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        series = [
            {
                "name": each.name, "points": [list(point) for point in each.points], "first": each.first,
                "last": each.last, "least": each.least, "greatest": each.greatest,
            }
            for each in self.series
        ]  # fmt: skip
        return {
            "schema": "gitml/series/1", "rows": self.rows, "series": series, "warnings": list(self.warnings),
            "opaque": self.opaque,
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        series = tuple(
            Series(**{**each, "points": tuple((x, y) for x, y in each["points"])}) for each in value["series"]
        )
        return cls(rows=value["rows"], series=series, warnings=tuple(value["warnings"]), opaque=value["opaque"])


def read_series(path: Path, name: str, x: str | None, y: Sequence[str]) -> SeriesFile:
    """The columns `y` over the column `x`, or over the number of the row if that is None or no number everywhere.

    `name` is what the file is called in the repository.
    """
    from gitml.tables.compare import guarded  # noqa: PLC0415 - who asks a child needs the values only

    return guarded(lambda: _read(path, name, x, y), lambda reason: SeriesFile(opaque=reason))


def _read(path: Path, name: str, x: str | None, y: Sequence[str]) -> SeriesFile:
    from gitml.tables.compare import finite_number, format_of, single  # noqa: PLC0415 - as above

    table = single(path, format_of(path, name))
    wanted = [each for each in dict.fromkeys([*([x] if x is not None else []), *y]) if each in table.names]
    cells = {each: [*map(finite_number, column)] for each, column in table.cells(wanted).items()}
    warnings = [f"there is no column {each!a}" for each in [*([x] if x is not None else []), *y] if each not in cells]
    rows = len(next(iter(cells.values()), []))
    across: Sequence[float | None] = range(rows)
    if x is not None and x in cells:
        if None in cells[x]:
            warnings.append(f"column {x!a} is no finite number everywhere: drawn by row")
        else:
            across = cells[x]
    series = tuple(_series(each, across, cells[each]) for each in y if each in cells)
    return SeriesFile(rows=rows, series=series, warnings=tuple(warnings))


def _series(name: str, across: Sequence[float | None], values: Sequence[float | None]) -> Series:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return Series(name=name)
    points = tuple((across[row] or 0.0, values[row]) for row in _thinned(values))
    return Series(
        name=name, points=points, first=numbers[0], last=numbers[-1], least=min(numbers), greatest=max(numbers)
    )


def _thinned(values: Sequence[float | None]) -> list[int]:
    """Rows to be drawn, in order."""
    if len(values) <= _MOST_POINTS:
        return list(range(len(values)))
    chosen = {0, len(values) - 1}
    stretches = _MOST_POINTS // 2 - 1
    for number in range(stretches):
        start, end = number * len(values) // stretches, (number + 1) * len(values) // stretches
        known = [row for row in range(start, end) if values[row] is not None]
        if known:
            chosen |= {min(known, key=lambda row: values[row] or 0.0), max(known, key=lambda row: values[row] or 0.0)}
        else:
            chosen.add(start)  # a gap stays one
    return sorted(chosen)
