"""Two files of tables in, their difference out. What a file is follows from its first bytes, then from its name.

With polars (the extra `data`) every format is read; without it CSV and TSV, by the standard library. Whatever is wrong
with a file, or cannot be done here, is said in the result. Comparing in this process has no limits: see `child`.

A key that is not given is sought among columns of both versions in which no cell is missing and none occurs twice:
`id` first, then names that end in `_id`, then others whose first cells are not numbers with a fraction.
"""

import fnmatch
import math
import sqlite3
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from gitml.record import record, replace
from gitml.tables import columnar, plain, profile
from gitml.tables.delimited import DelimitedFile, is_integer, is_number
from gitml.tables.diff import MASK, Cell, FileDiff, Overlap, TableDiff, TableError
from gitml.tables.frames import DatabaseSource, DelimitedSource, LinesSource, ScannedSource, Source, database_tables
from gitml.tables.table import Match, Place

_Result = TypeVar("_Result")
NEEDS_POLARS = "needs pip install 'gitml[data]'"
SAMPLES = 10
_HEAD = 2048
"""Rows in which a column that is no key mostly shows it."""
_CANDIDATES = 2
_LONGEST = 1000
_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite",
}  # fmt: skip
_MAGICS = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"SQLite format 3\0", "sqlite"))


@record(kw_only=True)
class Options:
    """What is asked for."""

    key: tuple[str, ...] = ()
    """Columns that tell rows apart; empty: found. For a database they are those of every table that has them."""
    samples: int = SAMPLES
    """Rows of each kind that are shown."""
    masked: tuple[str, ...] = ()
    """Patterns (as of `fnmatch`, case matters) of columns whose cells are not shown."""


def compare(old: Path, new: Path, name: str = "", options: Options | None = None) -> FileDiff:
    """How two versions of a file differ; `name` is what it is called in the repository."""
    formats = ("unknown", "unknown")

    def work() -> FileDiff:
        nonlocal formats
        formats = format_of(old, name or old.name), format_of(new, name or new.name)
        return _compare_files((old, new), formats, options or Options())

    return guarded(work, lambda reason: FileDiff(formats=formats, opaque=reason))


def overlap(
    train: Path, test: Path, key: Sequence[str] | None = None, columns: Sequence[str] | None = None, *,
    samples: int = SAMPLES, masked: Sequence[str] = (),
) -> Overlap:  # fmt: skip
    """Which rows of `test` also appear in `train`: in `key`, or in `columns`, or in all that both have."""

    def work() -> Overlap:
        tables = [single(path, format_of(path, path.name)) for path in (train, test)]
        engine, (one, two) = _engine(), tables
        chosen = tuple(key or columns or [each for each in two.names if each in one.names])
        if not chosen:
            raise TableError("the tables have no column in common")
        for each in chosen:
            if each not in one.names or each not in two.names:
                raise TableError(f"there is no column {each!a} in both tables")
        engine.scan((one, two), chosen, None)
        count, rows = engine.shared(one, two, samples)
        return Overlap(
            rows=(one.rows, two.rows), columns=chosen, shared=count,
            sample=tuple(_shown(row, masked) for row in rows), warnings=_warnings(one, two),
        )  # fmt: skip

    return guarded(work, lambda reason: Overlap(opaque=reason))


def format_of(path: Path, name: str) -> str:
    """The format of a file; raise `TableError` for one that is none of those that are read."""
    with path.open("rb") as file:
        head = file.read(16)
    for magic, found in _MAGICS:
        if head.startswith(magic):
            return found
    suffix = Path(name).suffix.lower()
    found = _SUFFIXES.get(suffix, "")
    if found in ("csv", "tsv", "jsonl"):
        return found
    if found:
        raise TableError("it is empty" if not head else f"its name ends in {suffix}, but that is not what it is")
    raise TableError("its format is not one of those that are read")


def has_polars() -> bool:
    """Whether polars is installed."""
    return find_spec("polars") is not None


def _engine() -> Any:
    return columnar if has_polars() else plain


def guarded(work: Callable[[], _Result], opaque: Callable[[str], _Result]) -> _Result:
    """What `work` gives, or what `opaque` makes of the reason that it does not."""
    try:
        return work()
    except TableError as error:
        return opaque(str(error))
    except sqlite3.Error as error:
        return opaque(f"SQLite: {error}")
    except OSError as error:
        return opaque((error.strerror or str(error)).lower())
    except MemoryError:
        raise
    except Exception as error:
        # polars may be absent, and names its errors in many ways
        if not type(error).__module__.startswith("polars"):
            raise
        return opaque(f"polars: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return opaque("polars: it failed on this file")


def _compare_files(paths: tuple[Path, Path], formats: tuple[str, str], options: Options) -> FileDiff:
    if formats != ("sqlite", "sqlite"):
        old, new = (single(path, each) for path, each in zip(paths, formats, strict=True))
        return FileDiff(formats=formats, tables=(_compare_tables(old, new, options),))
    if not has_polars():
        raise TableError(NEEDS_POLARS)
    tables = [database_tables(path) for path in paths]
    found: list[TableDiff] = []
    for name in sorted(tables[0].keys() & tables[1].keys()):
        if not (tables[0][name] and tables[1][name]):
            found.append(TableDiff(name=name, opaque="its rows are those of an extension of SQLite"))
            continue

        def work(name: str = name) -> TableDiff:
            old, new = (columnar.FrameTable(DatabaseSource(path, name)) for path in paths)
            has_key = all(each in old.names and each in new.names for each in options.key)
            return _compare_tables(old, new, options if has_key else replace(options, key=()))

        found.append(replace(guarded(work, lambda reason: TableDiff(opaque=reason)), name=name))
    return FileDiff(
        formats=formats, tables=tuple(found), added=tuple(sorted(tables[1].keys() - tables[0].keys())),
        removed=tuple(sorted(tables[0].keys() - tables[1].keys())),
    )  # fmt: skip


def single(path: Path, format: str) -> Any:  # noqa: A002 - a field everywhere else
    """The one table of a file, for the engine there is."""
    source: Source
    if format in ("csv", "tsv"):
        file = DelimitedFile(path, format)
        if not has_polars():
            return plain.PlainTable(file)
        source = DelimitedSource(file)
    elif not has_polars():
        raise TableError(NEEDS_POLARS)
    elif format == "jsonl":
        source = LinesSource(path)
    elif format == "sqlite":
        names = [name for name, lies_here in database_tables(path).items() if lies_here]
        if len(names) != 1:
            raise TableError(f"the database has {len(names)} tables, not one")
        source = DatabaseSource(path, names[0])
    else:
        source = ScannedSource(path, format)
    return columnar.FrameTable(source)


def _compare_tables(old: Any, new: Any, options: Options) -> TableDiff:
    engine = _engine()
    compared = [name for name in new.names if name in old.names]
    for name in options.key:
        if name not in compared:
            raise TableError(f"there is no column {name!a} in both versions to be the key")
    key, found = _matched(old, new, compared, options.key)
    for table in (old, new):
        table.forget()
    order = [Place(name, all(profile.is_numeric(table.profiles[name].type) for table in (old, new))) for name in key]
    samples = engine.examine(old, new, found, compared, order, options.samples)
    names = [*new.names, *(name for name in old.names if name not in new.names)]
    return TableDiff(
        rows=(old.rows, new.rows), key=tuple(key), key_found=bool(key) and not options.key, repeated=found.repeated,
        added=len(found.added), removed=len(found.removed), changed=len(found.changed_new),
        columns=tuple(
            profile.column(
                name, old.profiles.get(name), new.profiles.get(name), changed=samples.changes.get(name, 0),
                masked=is_masked(name, options.masked),
            )
            for name in names
        ),
        reordered=compared != [name for name in old.names if name in new.names],
        sample_added=tuple(_shown(row, options.masked) for row in samples.added),
        sample_removed=tuple(_shown(row, options.masked) for row in samples.removed),
        sample_changed=tuple(
            (_shown(one, options.masked), _shown(two, options.masked)) for one, two in samples.changed
        ),
        warnings=_warnings(old, new),
    )  # fmt: skip


def _matched(old: Any, new: Any, compared: Sequence[str], given: tuple[str, ...]) -> tuple[tuple[str, ...], Match]:
    """The key that rows are told apart by, empty if there is none, and which of them belong together."""
    engine = _engine()
    if given:
        engine.scan((old, new), compared, given)
        return given, engine.match(old, new, keyed=True)
    # only of one key at a time are hashes held
    for name in _candidates(old, new, compared):
        engine.scan((old, new), compared, (name,))
        if old.profiles[name].missing or new.profiles[name].missing:
            continue
        found = engine.match(old, new, keyed=True, unique=True)
        if found is not None:
            return (name,), found
    engine.scan((old, new), compared, None)
    return (), engine.match(old, new, keyed=False)


def _candidates(old: Any, new: Any, compared: Sequence[str]) -> list[str]:
    """Columns that may be the key as far as the first rows show, best first."""
    heads = [(table.names, list(zip(*table.head(_HEAD), strict=True))) for table in (old, new)]
    if not all(rows for _, rows in heads):
        return []

    def rank(name: str) -> int:
        plain_name = name.lower()
        return 0 if plain_name == "id" else 1 if plain_name.endswith("_id") else 2

    def may_be(name: str) -> bool:
        for names, columns in heads:
            cells = columns[names.index(name)]
            if None in cells or len(set(cells)) < len(cells):
                return False
            if rank(name) == 2 and all(map(is_number, cells)) and not all(map(is_integer, cells)):
                return False
        return True

    ranked = sorted(filter(may_be, compared), key=rank)[:_CANDIDATES]
    return [name for name in ranked if old.may_be_key(name) and new.may_be_key(name)]


def _warnings(old: Any, new: Any) -> tuple[str, ...]:
    same = [text for text in old.warnings if text in new.warnings]
    return (
        *same,
        *(f"old: {text}" for text in old.warnings if text not in same),
        *(f"new: {text}" for text in new.warnings if text not in same),
    )


def is_masked(name: str, patterns: Sequence[str]) -> bool:
    """Whether cells of this column are not to be shown."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _shown(row: dict[str, Cell], masked: Sequence[str]) -> dict[str, Cell]:
    return {name: cell and (MASK if is_masked(name, masked) else cut(cell)) for name, cell in row.items()}


def finite_number(cell: Cell) -> float | None:
    """A finite number; None for any other cell."""
    # several times faster than looking at the form first; Python also takes 1_000, which is no number here
    try:
        value = float(cell) if cell is not None and "_" not in cell else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def cut(cell: str) -> str:
    """A cell of a length that can be shown."""
    return cell if len(cell) <= _LONGEST else cell[:_LONGEST] + "…"
