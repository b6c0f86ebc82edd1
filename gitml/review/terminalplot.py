"""Lines drawn with characters: a metric over its results, in a terminal or a pipe.

A character of Braille has two columns and four rows of dots (Unicode, block U+2800), so a line of 60 characters shows
120 points. Where those cannot be written, a point is a star.
"""

import math
from collections.abc import Sequence

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot, by row and column."""
_LEAST = 8
"""Characters that a plot is wide at least."""


def plot(values: Sequence[float], *, width: int, height: int, gate: float | None = None, plain: bool = False) -> str:
    """Lines of at most `width` characters, `height` of them, with the largest and smallest value at their left.

    `values` are the oldest first, at least one; NaN and infinite ones leave a gap. `gate` is drawn as a dotted line.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "no finite value"
    shown = [*finite, *([gate] if gate is not None and math.isfinite(gate) else [])]
    low, high = min(shown), max(shown)
    labels = [f"{high:.5g}", f"{low:.5g}"]
    margin = max(map(len, labels))
    across, down = (1, 1) if plain else (2, 4)
    columns, rows = max(width - margin - 1, _LEAST) * across, height * down
    canvas = _Canvas(columns, rows)

    def row_of(value: float) -> int:
        # differences of the largest doubles would overflow
        share = 0.5 if high == low else (value / 2 - low / 2) / (high / 2 - low / 2)
        return round((1 - share) * (rows - 1))

    def column_of(number: int) -> int:
        return round(number * (columns - 1) / max(len(values) - 1, 1))

    if gate is not None and math.isfinite(gate):
        for column in range(0, columns, 3 if plain else 4):
            canvas.set(column, row_of(gate), "-")
    last: tuple[int, int] | None = None
    for number, value in enumerate(values):
        if not math.isfinite(value):
            last = None
            continue
        point = column_of(number), row_of(value)
        if last is not None and not plain:
            canvas.line(last, point)
        canvas.set(*point, "*")
        last = point
    lines = canvas.plain() if plain else canvas.braille()
    titles = [labels[0], *[""] * (height - 2), labels[1]] if height > 1 else [labels[0]]
    return "\n".join(f"{title:>{margin}} {line}".rstrip() for title, line in zip(titles, lines, strict=True))


class _Canvas:
    def __init__(self, columns: int, rows: int) -> None:
        self._columns = columns
        self._marks: list[dict[int, str]] = [{} for _ in range(rows)]

    def set(self, column: int, row: int, mark: str) -> None:
        self._marks[row][column] = mark

    def line(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(steps + 1):
            self.set(
                start[0] + round(step * (end[0] - start[0]) / steps),
                start[1] + round(step * (end[1] - start[1]) / steps),
                "*",
            )

    def plain(self) -> list[str]:
        return ["".join(marks.get(column, " ") for column in range(self._columns)) for marks in self._marks]

    def braille(self) -> list[str]:
        return [
            "".join(
                chr(_BRAILLE + sum(
                    _DOTS[row][column]
                    for row in range(4) for column in range(2)
                    if left + column in self._marks[top + row]
                ))
                for left in range(0, self._columns, 2)
            ).rstrip(chr(_BRAILLE))
            for top in range(0, len(self._marks), 4)
        ]  # fmt: skip
