"""Where blocks of a CSV file can be cut, and whether the records in them are plain enough for any parser.

Looks at bytes only: quotes, delimiters and line ends. A block is regular if every parser sees the same records in it as
Python's `csv` module does: quotes stand around cells, every record is as long as the names, and no line is blank.
"""

from typing import Any

from gitml.record import record
from gitml.tables.table import Rows

_LINE, _RETURN, _QUOTE = b'\n\r"'


@record
class Cut:
    """The whole records at the start of a block."""

    end: int
    """Bytes; 0 if the block holds no whole record."""
    rows: int | None
    """How many they are if they are regular, else None."""


class Cutter:
    """Cuts blocks of one file whose records are as long as `width`."""

    def __init__(self, delimiter: str, width: int) -> None:
        self._delimiter, self._width = delimiter.encode()[0], width
        self._mask: Any = None

    def cut(self, data: bytes, *, is_last: bool) -> Cut | None:
        """The whole records of a block that starts with one; None if quotes do not tell where records end."""
        import numpy as np

        around = np.frombuffer(data, np.uint8)
        quotes = self._positions(around, _QUOTE) if b'"' in data else np.empty(0, np.int64)
        end = len(data) if is_last else _last_end(data, quotes)
        if not self._is_well_quoted(around, quotes, end) or (is_last and len(quotes) % 2):
            return None
        if end == 0:
            return Cut(0, None)
        # NUL is what some parsers end a text at
        if b"\0" in data:
            return Cut(end, None)
        return Cut(end, self._regular_rows(around[:end], quotes[: quotes.searchsorted(end)], returns=b"\r" in data))

    def _positions(self, data: Any, byte: int) -> Rows:
        import numpy as np

        # one mask for all: to get memory for another takes longer than to compare
        if self._mask is None or len(self._mask) < len(data):
            self._mask = np.empty(len(data), bool)
        mask = self._mask[: len(data)]
        np.equal(data, byte, out=mask)
        return np.flatnonzero(mask)

    def _is_well_quoted(self, data: Any, quotes: Rows, end: int) -> bool:
        """Whether quotes up to `end` stand only around cells, and double in them; then they tell what is inside."""
        import numpy as np

        if not len(quotes):
            return True
        before, after = data.take(quotes - 1, mode="wrap"), data.take(quotes + 1, mode="clip")
        if quotes[0] == 0:
            before[0] = _LINE
        if quotes[-1] == len(data) - 1:
            after[-1] = _LINE
        opens, closes = quotes[0::2], quotes[1::2]
        good = (before[0::2] == _LINE) | (before[0::2] == self._delimiter)
        good[1:] |= opens[1:] == closes[: len(opens) - 1] + 1
        if not good[: opens.searchsorted(end)].all():
            return False
        after = after[1::2]
        good = np.logical_or.reduce([after == each for each in (_RETURN, _LINE, self._delimiter)])
        again = min(len(closes), len(opens) - 1)
        good[:again] |= opens[1 : again + 1] == closes[:again] + 1
        return bool(good[: closes.searchsorted(end)].all())

    def _regular_rows(self, data: Any, quotes: Rows, *, returns: bool) -> int | None:
        """How many rows these whole, well quoted records are; None if they are not all alike, and simple."""
        import numpy as np

        ends = self._positions(data, _LINE)
        if data[0] in (_LINE, _RETURN) or (ends[1:] == ends[:-1] + 1).any():
            return None
        if returns:
            found = self._positions(data, _RETURN)
            if len(found) and (found[-1] == len(data) - 1 or (data[found + 1] != _LINE).any()):
                return None
            if (data[ends[ends < len(data) - 1] + 1] == _RETURN).any():
                return None
        if data[-1] != _LINE:
            ends = np.append(ends, len(data))
        ends = _outside(ends, quotes)
        between = _outside(self._positions(data, self._delimiter), quotes)
        width = self._width
        if len(between) != len(ends) * (width - 1):
            return None
        if width > 1:
            first, last = between[:: width - 1], between[width - 2 :: width - 1]
            if not ((first[1:] > ends[:-1]).all() and (last < ends).all()):
                return None
        return len(ends)


def _last_end(data: bytes, quotes: Rows) -> int:
    """Where the last line ends that does not end in quotes; 0 if none does."""
    at = len(data)
    while (at := data.rfind(b"\n", 0, at)) >= 0:
        before = int(quotes.searchsorted(at))
        if before % 2 == 0:
            return at + 1
        # nothing between the opening quote and here ends a record
        at = int(quotes[before - 1])
    return 0


def _outside(positions: Rows, quotes: Rows) -> Rows:
    """Those positions that are not inside of quotes."""
    opens, closes = quotes[0::2], quotes[1::2]
    wide = closes > opens + 1
    opens, closes = opens[wide], closes[wide]
    if len(opens) and (positions.searchsorted(closes) > positions.searchsorted(opens)).any():
        return positions[quotes.searchsorted(positions) % 2 == 0]
    return positions
