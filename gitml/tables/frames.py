"""Tables of every format as polars frames, a batch of rows at a time.

Hides how a file is cut into batches, and that memory does not grow with the file: nothing is mapped or read as a whole.
CSV that `cutting` finds to be regular goes to polars; any other goes to the `csv` module, so both give the records of
`delimited`. Cells of formats with types become text: a number in the shortest form that reads
back as it is, without a fraction if it has none, so that a column of integers that became one of floats did not change;
bytes as hexadecimal digits; lists and structs as JSON. There an empty text is a cell, and only null is missing.
"""

import json
import math
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from glob import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gitml.record import record
from gitml.tables.cutting import Cutter
from gitml.tables.delimited import DelimitedFile, column_names, fitted
from gitml.tables.diff import Cell, TableError
from gitml.tables.hashing import place_of
from gitml.tables.table import Rows

if TYPE_CHECKING:
    import polars

_BLOCK = 8 << 20
"""Bytes of CSV in a batch."""
_LINES = 4 << 20
"""Bytes of JSON lines in a batch; as Python objects they are many times as much."""
_CELLS = 3_000_000
"""Cells in a batch of other formats."""
_MOST_ROWS = 500_000
"""Rows in a batch of few columns of formats that have columns apart."""
_RECORDS = 8192
"""Records that the `csv` module has read in a batch."""


class Source(Protocol):
    """A table that is read in batches, as often as is needed."""

    names: tuple[str, ...]
    warnings: list[str]
    is_text: bool
    """Types are to be inferred from the cells."""
    is_apart: bool
    """Columns lie apart from each other: what is not asked for is not read."""

    def batches(self, columns: Sequence[str], wanted: "Rows | None" = None) -> "Iterator[tuple[int, polars.DataFrame]]":
        """Number of the first row, and rows, in order; batches without a row of `wanted` (sorted) may be left out."""
        ...

    def types(self) -> dict[str, str]:
        """The type of each column; of those that are to be inferred, none."""
        ...

    def dtypes(self) -> dict[str, Any]:
        """How polars holds the columns whose cells come as they are; cells of others come as text."""
        ...


@record
class _Piece:
    """A batch of a CSV file: where it is, and what may read it."""

    start: int
    end: int
    rows: int
    regular: bool


class DelimitedSource:
    """A CSV or TSV file."""

    is_text = True
    is_apart = False

    def __init__(self, file: DelimitedFile) -> None:
        self._file = file
        self.names = file.names
        self.warnings = list(file.warnings)
        self.ragged = 0
        """Records of another length than the names, once all has been read."""
        self._pieces: list[_Piece] = []
        self._irregular: tuple[int, int] | None = None
        """Byte and row from which on quotes are not as they should be, so that no batch can be cut."""
        self._known = False

    def types(self) -> dict[str, str]:
        """None: they are inferred."""
        return {}

    def dtypes(self) -> dict[str, Any]:
        """None."""
        return {}

    def batches(self, columns: Sequence[str], wanted: Rows | None = None) -> "Iterator[tuple[int, polars.DataFrame]]":
        """See `Source`."""
        if not self.names:
            return
        row = 0
        with self._file.path.open("rb") as file:
            for piece, data in self._known_pieces(file, wanted) if self._known else self._cut(file):
                if data is not None:
                    yield row, self._parse(data, columns, regular=piece.regular)
                row += piece.rows
        if self._irregular is not None:
            yield from self._rest(columns)
        self._known = True

    def _known_pieces(self, file: Any, wanted: Rows | None) -> Iterator[tuple[_Piece, bytes | None]]:
        row = 0
        for piece in self._pieces:
            if wanted is None or _any_between(wanted, row, row + piece.rows):
                file.seek(piece.start)
                yield piece, file.read(piece.end - piece.start)
            else:
                yield piece, None
            row += piece.rows

    def _cut(self, file: Any) -> Iterator[tuple[_Piece, bytes]]:
        self._pieces.clear()
        self.ragged, self._irregular = 0, None
        cutter = Cutter(self._file.delimiter, len(self.names))
        at, size, row = self._file.start, _BLOCK, 0
        while True:
            file.seek(at)
            data = file.read(size)
            if not data:
                return
            found = cutter.cut(data, is_last=len(data) < size)
            if found is None:
                self._irregular = at, row
                return
            if found.end == 0:
                size *= 2  # one record is longer than the block
                continue
            data, rows, end = data[: found.end], found.rows, at + found.end
            if rows is None:
                records = list(self._records(data))
                rows = len(records)
                self.ragged += sum(len(record) != len(self.names) for record in records)
            piece = _Piece(at, end, rows, found.rows is not None)
            self._pieces.append(piece)
            yield piece, data
            at, size, row = end, _BLOCK, row + rows

    def _parse(self, data: bytes, columns: Sequence[str], *, regular: bool) -> "polars.DataFrame":
        import polars as pl

        if not regular:
            return self._frame((fitted(record, len(self.names)) for record in self._records(data)), columns)
        if self._file.encoding == "latin-1":
            data = data.decode("latin-1").encode()
        # versions of polars differ in whether chosen columns come as they were chosen or as they are in the file
        ordered = sorted(columns, key=self.names.index)
        frame = pl.read_csv(
            data, has_header=False, separator=self._file.delimiter, quote_char='"' if b'"' in data else None,
            schema=dict.fromkeys(map(str, range(len(self.names))), pl.String), infer_schema=False,
            columns=[self.names.index(name) for name in ordered],
        )  # fmt: skip
        frame.columns = ordered
        frame = frame[list(columns)]
        if b'""' in data:
            frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
        return frame

    def _records(self, data: bytes) -> Iterator[list[str]]:
        import io

        return self._file.parse(io.TextIOWrapper(io.BytesIO(data), self._file.encoding, newline=""))

    def _rest(self, columns: Sequence[str]) -> "Iterator[tuple[int, polars.DataFrame]]":
        assert self._irregular is not None
        start, row = self._irregular
        records = self._file.records(start)
        while batch := list(islice(records, _RECORDS)):
            if not self._known:
                self.ragged += sum(len(record) != len(self.names) for record in batch)
            yield row, self._frame((fitted(record, len(self.names)) for record in batch), columns)
            row += len(batch)

    def _frame(self, rows: Iterable[Sequence[Cell]], columns: Sequence[str]) -> "polars.DataFrame":
        import polars as pl

        cells = list(zip(*rows, strict=True)) or [()] * len(self.names)
        return pl.DataFrame([pl.Series(name, cells[self.names.index(name)], dtype=pl.String) for name in columns])


class ScannedSource:
    """A Parquet or Arrow file."""

    is_text = False
    is_apart = True

    def __init__(self, path: Path, format: str) -> None:  # noqa: A002 - a field everywhere else
        import polars as pl

        self._scan = pl.scan_parquet(path, glob=False) if format == "parquet" else pl.scan_ipc(escape(str(path)))
        schema = self._scan.collect_schema()
        self._dtypes = schema.dtypes()
        self._given = tuple(schema.names())
        self.names, self.warnings = column_names(self._given)
        self._rows = int(self._scan.select(pl.len()).collect().item()) if self.names else 0

    def types(self) -> dict[str, str]:
        """As polars calls them."""
        return {name: str(dtype).lower() for name, dtype in self.dtypes().items()}

    def dtypes(self) -> dict[str, Any]:
        """Of all columns."""
        return dict(zip(self.names, self._dtypes, strict=True))

    def batches(self, columns: Sequence[str], wanted: Rows | None = None) -> "Iterator[tuple[int, polars.DataFrame]]":
        """See `Source`."""
        from polars.selectors import by_name

        given = [self._given[self.names.index(name)] for name in columns]
        step = max(1024, min(_CELLS // max(1, len(columns)), _MOST_ROWS))
        for row in range(0, self._rows, step):
            if wanted is None or _any_between(wanted, row, row + step):
                frame = self._scan.select(by_name(given)).slice(row, step).collect()[given]
                frame.columns = list(columns)
                yield row, frame


class LinesSource:
    """JSON lines: a row for each object, a column for each name. What a row lacks, and null, is missing."""

    is_text = False
    is_apart = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self.warnings: list[str] = []
        kinds: dict[str, set[str]] = {}
        for rows in self._objects():
            for row in rows:
                for name, value in row.items():
                    kinds.setdefault(name, set()).add(_kind(value))
        given = tuple(kinds)
        self._given = given
        self.names, self.warnings = column_names([_encodable(name) for name in given])
        self._kinds = {name: _kinds(kinds[each]) for name, each in zip(self.names, given, strict=True)}

    def types(self) -> dict[str, str]:
        """The kinds of values, with bars between them."""
        return self._kinds

    def dtypes(self) -> dict[str, Any]:
        """None."""
        return {}

    def batches(self, columns: Sequence[str], wanted: Rows | None = None) -> "Iterator[tuple[int, polars.DataFrame]]":
        """See `Source`."""
        import polars as pl

        row = 0
        for rows in self._objects():
            if wanted is None or _any_between(wanted, row, row + len(rows)):
                cells = [
                    pl.Series(name, [_cell(each.get(self._given[self.names.index(name)])) for each in rows], pl.String)
                    for name in columns
                ]
                yield row, pl.DataFrame(cells)
            row += len(rows)

    def _objects(self) -> Iterator[list[dict[str, Any]]]:
        number = 0
        with self._path.open("rb") as file:
            while lines := file.readlines(_LINES):
                found = []
                for line in lines:
                    number += 1
                    text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                    if not text.strip():
                        continue
                    try:
                        value = json.loads(text.decode())
                    except UnicodeDecodeError:
                        raise TableError(f"line {number} is not UTF-8") from None
                    except (ValueError, RecursionError):
                        raise TableError(f"line {number} is no JSON that is read") from None
                    if not isinstance(value, dict):
                        raise TableError(f"line {number} is no JSON object")
                    found.append(value)
                yield found


class DatabaseSource:
    """A table of an SQLite database."""

    is_text = False
    is_apart = False

    def __init__(self, path: Path, table: str) -> None:
        self._path, self._table = path, table
        self._kinds: dict[str, set[str]] = {}
        with closing(_open(path)) as database:
            cursor = database.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")  # noqa: S608 - quoted
            self._given = tuple(each[0] for each in cursor.description)
        self.names, self.warnings = column_names(self._given)
        self._step = max(1024, _CELLS // 10 // max(1, len(self.names)))

    def types(self) -> dict[str, str]:
        """The storage classes of the cells that were read, with bars between them."""
        return {name: _kinds(self._kinds.get(name, set())) for name in self.names}

    def dtypes(self) -> dict[str, Any]:
        """None."""
        return {}

    def batches(self, columns: Sequence[str], wanted: Rows | None = None) -> "Iterator[tuple[int, polars.DataFrame]]":
        """See `Source`."""
        import polars as pl

        given = ", ".join(_quoted(self._given[self.names.index(name)]) for name in columns)
        if not columns:
            return
        row = 0
        with closing(_open(self._path)) as database:
            cursor = database.execute(f"SELECT {given} FROM {_quoted(self._table)}")  # noqa: S608 - quoted
            while rows := cursor.fetchmany(self._step):
                cells = list(zip(*rows, strict=True))
                for name, values in zip(columns, cells, strict=True):
                    self._kinds.setdefault(name, set()).update(map(_kind, values))
                if wanted is None or _any_between(wanted, row, row + len(rows)):
                    yield (
                        row,
                        pl.DataFrame(
                            [
                                pl.Series(name, list(map(_cell, values)), dtype=pl.String)
                                for name, values in zip(columns, cells, strict=True)
                            ]
                        ),
                    )
                row += len(rows)


def database_tables(path: Path) -> dict[str, bool]:
    """The tables of an SQLite database, and whether their rows lie in the file: those of extensions do not."""
    with closing(_open(path)) as database:
        found = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return {
            name: not (sql or "").upper().startswith("CREATE VIRTUAL")
            for name, sql in found
            if not name.startswith("sqlite_")
        }


def as_text(frame: "polars.DataFrame", as_they_are: Collection[str] = ()) -> "polars.DataFrame":
    """The cells of a frame as text, but for these columns."""
    import polars as pl

    return pl.DataFrame([series if series.name in as_they_are else series_as_text(series) for series in frame])


def rows_of(frame: "polars.DataFrame", places: Rows) -> "polars.DataFrame":
    """The rows at these places, which are in order."""
    import numpy as np

    if len(places) == frame.height:
        return frame
    if len(places) < frame.height // 8:
        few: polars.DataFrame = frame[places]
        return few
    # many times as fast, as what lies side by side is copied at once
    mask = np.zeros(frame.height, bool)
    mask[places] = True
    return frame.filter(mask)


def is_one_to_one(dtype: Any) -> bool:
    """Whether cells of a column that polars holds so are equal exactly if they are as text."""
    import polars as pl

    # NaN is equal to itself, and 0 to -0, for polars and as text
    return bool(dtype.is_integer() or dtype.is_float() or dtype in (pl.String, pl.Boolean, pl.Date, pl.Datetime))


def is_plain_number(dtype: Any) -> bool:
    """Whether the text of every number of this type, read as a double, is what the number is as a double."""
    import polars as pl

    # a Float32 is read as what its digits say, not as what it was
    return bool(dtype == pl.Float64 or (dtype.is_integer() and "128" not in str(dtype)))


def series_as_text(series: "polars.Series") -> "polars.Series":
    """The cells of a column as text."""
    import polars as pl

    dtype = series.dtype
    if dtype == pl.String:
        return series
    if dtype.is_float():
        whole = (series == series.round(0)) & (series.abs() < 2**53)
        both = series.to_frame("x").select(
            pl.when(whole).then(pl.col("x").cast(pl.Int64, strict=False).cast(pl.String)).otherwise(
                pl.col("x").cast(pl.String)
            )
        )  # fmt: skip
        return both.to_series().alias(series.name)
    if dtype == pl.Binary:
        return series.bin.encode("hex")
    if dtype.is_nested() or dtype == pl.Object:
        return pl.Series(series.name, [_cell(each) for each in series.to_list()], dtype=pl.String)
    return series.cast(pl.String)


def _open(path: Path) -> sqlite3.Connection:
    # immutable: a journal beside the file is none of its content, and nothing is written
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    # threads take turns in reading on
    database = sqlite3.connect(uri, uri=True, check_same_thread=False)
    database.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _kind(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else "bytes" if isinstance(value, bytes) else "nested"


def _kinds(kinds: set[str]) -> str:
    return "|".join(sorted(kinds - {""})) or "empty"


def _cell(value: object) -> Cell:
    if value is None:
        return None
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return {"nan": "NaN"}.get(str(value), str(value))
        return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        return str(value)
    return _encodable(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


def _encodable(text: str) -> str:
    """JSON can spell half of a surrogate pair, which no encoding takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _any_between(wanted: Rows, start: int, end: int) -> bool:
    return place_of(wanted, start) < place_of(wanted, end)
