"""Whatever the files: the difference leads from the old rows to the new ones, and both engines see the same."""

import csv
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.tables import columnar, drift, frames, plain, profile, rereading, tally
from gitml.tables import compare as module
from gitml.tables.compare import Options, compare, overlap
from gitml.tables.delimited import DelimitedFile
from gitml.tables.diff import TableDiff

CELLS = st.one_of(
    st.sampled_from(
        ["", "a", "b", "NaN", "007", "1", "1.0", "-0", "true", "x,y", 'q"q', "l\nm", "c\r", " ", "é", "inf"]
    ),
    st.integers(0, 3).map(str),
    st.floats(allow_nan=False).map(str),
)
NAMES = ("id", "x", "y", "z")
TABLES = st.lists(st.tuples(st.integers(0, 12).map(str), CELLS, CELLS, CELLS), max_size=25)


def text_of(rows: Sequence[Sequence[str]], names: Sequence[str] = NAMES) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([names, *rows])
    return file.getvalue().encode()


@contextmanager
def files(old: bytes, new: bytes, suffix: str = ".csv") -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as directory:
        paths = Path(directory) / f"old{suffix}", Path(directory) / f"new{suffix}"
        for path, data in zip(paths, (old, new), strict=True):
            path.write_bytes(data)
        yield paths


@contextmanager
def small_pieces(size: int, budget: int = 1) -> Iterator[None]:
    """Batches of a few bytes and a few rows, and small budgets, so that little tables have many of them."""
    with (
        patch.object(frames, "_BLOCK", size), patch.object(frames, "_RECORDS", 2),
        patch.object(rereading, "_BUDGET", budget),
        patch.object(tally, "SAMPLE", 8), patch.object(plain, "SAMPLE", 8),
    ):  # fmt: skip
        yield


def both(old: bytes, new: bytes, options: Options, size: int, budget: int = 1) -> tuple[Any, Any]:
    """The documents of both engines."""
    with files(old, new) as paths, small_pieces(size, budget):
        with_polars = compare(*paths, options=options).as_json()
        with patch.object(module, "has_polars", lambda: False):
            without = compare(*paths, options=options).as_json()
    return with_polars, without


def near(value: Any) -> Any:
    """A document in which floats are alike if they are nearly equal."""
    if isinstance(value, dict):
        return {name: near(each) for name, each in value.items()}
    if isinstance(value, list):
        return [near(each) for each in value]
    return pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value


@settings(max_examples=150, deadline=None)
@given(TABLES, TABLES, st.sampled_from([(), ("id",), ("id", "x")]), st.integers(3, 60))
def test_engines_agree_on_tables(old: list[Any], new: list[Any], key: tuple[str, ...], size: int) -> None:
    one, two = both(text_of(old), text_of(new), Options(key=key, samples=4), size)
    assert one == near(two)
    assert one["tables"]


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    """Two versions of a table, names first: rows in any order, mostly changed, keys mostly once, other columns."""
    cells = st.sampled_from(["", "a", "b", "NaN", "1", "1.0", "2"])
    tables = []
    for _ in range(2):
        names = ["id", *draw(st.permutations(["x", "y", "z", "w"]))[: draw(st.integers(1, 4))]]
        keys = draw(st.permutations(range(draw(st.integers(0, 14)))))
        keys += draw(st.lists(st.integers(0, 14), max_size=draw(st.sampled_from([0, 0, 3]))))
        rows = [[f"{key}", *(draw(cells) for _ in names[1:])] for key in keys]
        tables.append([list(names), *rows])
    return tables[0], tables[1]


@settings(max_examples=150, deadline=None)
@given(versions(), st.sampled_from([("id",), ()]), st.integers(20, 200), st.sampled_from([1, 200, 1 << 20]))
def test_engines_agree_on_rows_in_another_order(
    tables: tuple[list[list[str]], list[list[str]]], key: tuple[str, ...], size: int, budget: int
) -> None:
    texts = [text_of(rows[1:], rows[0]) for rows in tables]
    one, two = both(texts[0], texts[1], Options(key=key, samples=4), size, budget)
    assert one == near(two)
    assert one["tables"]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 9), st.none() | st.integers(0, 3), st.none() | st.sampled_from([0.1, 1.0, -0.0, float("nan")]),
        st.none() | st.sampled_from(["a", "b c", "7x"]), st.none() | st.booleans(),
    ),
    max_size=12,
)  # fmt: skip
SCHEMAS = st.tuples(
    st.sampled_from([pl.Int64, pl.UInt8]), st.sampled_from([pl.Int32, pl.Float64]),
    st.sampled_from([pl.Float64, pl.Float32]), st.just(pl.String), st.just(pl.Boolean),
).map(lambda types: dict(zip(("id", "x", "y", "z", "w"), types, strict=True)))  # fmt: skip


def spelled(cell: object) -> str:
    """A cell of a typed table as text, as the documentation has it; missing ones are empty."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float):
        return "NaN" if cell != cell else str(int(cell)) if cell == int(cell) else str(cell)  # noqa: PLR0124
    return "" if cell is None else str(cell)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, SCHEMAS, SCHEMAS, st.sampled_from([("id",), ("id", "x"), ("y",), ()]), st.integers(1, 60))
def test_parquet_differs_as_csv_does(
    old: list[Any], new: list[Any], one: dict[str, Any], two: dict[str, Any], key: tuple[str, ...], size: int
) -> None:
    options = Options(key=key, samples=4)
    texts = [text_of([list(map(spelled, row)) for row in rows], tuple(one)) for rows in (old, new)]
    with files(texts[0], texts[1]) as paths, patch.object(module, "has_polars", lambda: False):
        (plainly,) = compare(*paths, options=options).tables
    with files(b"", b"", ".parquet") as paths, small_pieces(size):
        for rows, schema, path in zip((old, new), (one, two), paths, strict=True):
            pl.DataFrame(rows, schema, orient="row").write_parquet(path, row_group_size=3)
        (found,) = compare(*paths, options=options).tables
    counts = ("rows", "key", "repeated", "added", "removed", "changed")
    for name in (*counts, "sample_added", "sample_removed", "sample_changed"):
        assert getattr(found, name) == getattr(plainly, name)
    for mine, other in zip(found.columns, plainly.columns, strict=True):
        assert mine.changed == other.changed
        for left, right in ((mine.old, other.old), (mine.new, other.new)):
            assert left is not None
            assert right is not None
            assert (left.missing, left.distinct) == (right.missing, right.distinct)
            if right.type in ("integer", "number"):
                assert (left.least, left.greatest) == (right.least, right.greatest)
                assert near([right.mean, right.deviation]) == [left.mean, left.deviation]
                assert left.not_finite == right.not_finite


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from('ab1,,\n\n\r"" é'), max_size=60), st.text(st.sampled_from('ab1,,\n\n\r""'), max_size=60),
    st.sampled_from([b"", b"\xff"]), st.integers(3, 40),
)  # fmt: skip
def test_engines_agree_on_anything(old: str, new: str, odd: bytes, size: int) -> None:
    one, two = both(f"a,b\n{old}".encode() + odd, f"a,b\n{new}".encode(), Options(samples=50), size)
    assert one == near(two)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('ab1,,\n\n\r"" é'), max_size=80), st.integers(3, 40))
def test_batches_hold_the_records_of_the_csv_module(text: str, size: int) -> None:
    data = f"a,b\n{text}".encode()
    with files(data, data) as (path, _), small_pieces(size):
        file = DelimitedFile(path, "csv")
        records = filter(None, csv.reader(io.StringIO(data.decode(), newline="")))
        expected = [[*record, "", ""][:2] for record in records][1:]
        source = frames.DelimitedSource(file)
        for _ in range(2):
            found = [list(row) for _, frame in source.batches(("a", "b")) for row in frame.rows()]
            assert found == [[cell or None for cell in record] for record in expected]
            # chosen columns, in another order, at the numbers that are said
            for start, frame in source.batches(("b",)):
                assert frame.columns == ["b"]
                assert frame.rows() == [(record[1] or None,) for record in expected[start : start + frame.height]]


def applied(diff: TableDiff, old: Sequence[Sequence[str]]) -> Counter[tuple[str, ...]]:
    """The rows of `old` after the difference."""
    rows = Counter(tuple(row) for row in old)
    for row in diff.sample_removed:
        rows[tuple(cell or "" for cell in row.values())] -= 1
    for before, after in diff.sample_changed:
        rows[tuple(cell or "" for cell in before.values())] -= 1
        rows[tuple(cell or "" for cell in after.values())] += 1
    for row in diff.sample_added:
        rows[tuple(cell or "" for cell in row.values())] += 1
    assert all(count >= 0 for count in rows.values())
    return +rows


@pytest.mark.parametrize("engine", ["polars", "plain"])
@settings(max_examples=100, deadline=None)
@given(TABLES, TABLES, st.sampled_from([(), ("id",), ("x",), ("id", "x")]), st.integers(20, 80))
def test_the_difference_leads_from_old_to_new(
    engine: str, old: list[Any], new: list[Any], key: tuple[str, ...], size: int
) -> None:
    with (
        files(text_of(old), text_of(new)) as paths, small_pieces(size),
        patch.object(module, "has_polars", lambda: engine == "polars"),
    ):  # fmt: skip
        (diff,) = compare(*paths, options=Options(key=key, samples=1000)).tables
    assert applied(diff, old) == Counter(map(tuple, new))
    assert (len(diff.sample_added), len(diff.sample_removed), len(diff.sample_changed)) == (
        diff.added, diff.removed, diff.changed,
    )  # fmt: skip
    assert diff.rows == (len(old), len(new))
    for column in diff.columns:
        assert column.changed == sum(one[column.name] != two[column.name] for one, two in diff.sample_changed)
    same = diff.added == diff.removed == diff.changed == 0
    assert same == (Counter(map(tuple, old)) == Counter(map(tuple, new)))
    if key and not any(diff.repeated):
        places = [NAMES.index(name) for name in key]
        kept = {tuple(row[place] for place in places) for row in old}
        assert diff.added == sum(tuple(row[place] for place in places) not in kept for row in new)


@settings(max_examples=100, deadline=None)
@given(TABLES, TABLES, st.sampled_from([None, ["id"], ["x", "y"]]))
def test_overlap_is_what_sets_say(train: list[Any], test: list[Any], columns: list[str] | None) -> None:
    with files(text_of(train), text_of(test)) as paths, small_pieces(50):
        one = overlap(*paths, columns=columns)
        with patch.object(module, "has_polars", lambda: False):
            assert overlap(*paths, columns=columns) == one
    places = [NAMES.index(name) for name in columns or NAMES]
    known = {tuple(row[place] for place in places) for row in train}
    shared = [row for row in test if tuple(row[place] for place in places) in known]
    assert one.shared == len(shared)
    assert [tuple(cell or "" for cell in row.values()) for row in one.sample] == shared[:10]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_index_is_zero_for_the_same_and_more_the_further_it_moves(data: st.DataObject) -> None:
    values = sorted(data.draw(st.lists(st.floats(-100, 100), min_size=20, max_size=60)))
    assert drift.of_numbers(values, values) == pytest.approx(0)
    near_by, far = [[value + step for value in values] for step in (0.0, 1000.0)]
    moved = drift.of_numbers(values, far)
    assert moved is not None
    assert moved >= (drift.of_numbers(values, near_by) or 0)


def test_the_index_of_known_shares() -> None:
    # 60 % and 40 % became 40 % and 60 %: 2 * 0.2 * ln 1.5; half a cell more in each bin hardly shows
    found = drift.of_categories({"a": 600_000, "b": 400_000}, {"a": 400_000, "b": 600_000})
    assert found == pytest.approx(0.4 * 0.4054651, rel=1e-4)
    old, new = [float(each) for each in range(100_000)], [float(each) for each in range(50_000, 100_000)]
    # half of ten bins empty, the others twice as full
    assert drift.of_numbers(old, new) == pytest.approx(0.5 * 0.6931 + 0.5 * 9.2, rel=0.05)


def test_cells_that_are_missing_are_drift() -> None:
    values = [float(each) for each in range(1000)]
    # ten bins of half the share, 0.05 * ln 2 each, and one from half a cell to 500 of 1000
    assert drift.of_numbers(values, values[::2], (0, 500)) == pytest.approx(0.347 + 0.4972 * 6.908, abs=0.01)
    assert drift.of_numbers([], values, (5, 0)) is None
    assert drift.of_categories({}, {"a": 1}) is None


def test_the_sample_does_not_depend_on_batches_and_is_fair() -> None:
    rows = 30_000
    text = text_of([(str(number),) for number in range(rows)], ("n",))
    documents = []
    for size in (1000, 100_000):
        with (
            files(text, text) as paths, patch.object(frames, "_BLOCK", size), patch.object(tally, "SAMPLE", 500),
        ):  # fmt: skip
            table = columnar.FrameTable(frames.DelimitedSource(DelimitedFile(paths[0], "csv")))
            table.scan(("n",), None)
            documents.append(table.profiles["n"].values)
    mixed = [profile.mixed(number) for number in range(rows)]
    limit = max(1 << level for level in range(65) if sum(each < 1 << level for each in mixed) <= 500)
    expected = [float(number) for number, each in enumerate(mixed) if each < limit]
    assert documents[0] == documents[1] == sorted(expected)
    assert 250 <= len(documents[0]) <= 500
    assert sum(documents[0]) / len(documents[0]) == pytest.approx(rows / 2, rel=0.1)


def test_json_lines_and_csv_agree() -> None:
    rows = [{"id": str(number), "x": "abc"[number % 3]} for number in range(50)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = text_of([tuple(row.values()) for row in rows], ("id", "x"))
    with files(lines, lines, ".jsonl") as (path, _), files(table, table) as (other, _), small_pieces(60):
        assert compare(path, other).tables[0].changed == 0


@pytest.mark.parametrize("share", [1.0, 0.999, 0.3], ids=["every row changed", "nearly every one", "some"])
@pytest.mark.parametrize("budget", [1, 200_000, 1 << 30], ids=["one column", "two at once", "half of them each"])
def test_how_often_each_column_changed_where_columns_lie_apart(tmp_path: Path, share: float, budget: int) -> None:
    rng = random.Random(5)
    count = 12_000
    names = ["id", "a", "b", "c", "d", "e"]
    rows = {key: [key, rng.random(), rng.randint(0, 9), rng.choice("xyz"), f"n{key}", None] for key in range(count)}
    others: dict[int, list[Any]] = {}
    for key, row in rows.items():
        if rng.random() < 0.001:
            continue
        others[key] = list(row)
        if rng.random() < share:
            others[key][1] += 1
            others[key][2] = rng.randint(0, 9)
            others[key][3] = rng.choice(["x", "y", None])
    others |= {key: [key, 0.5, 1, "x", "", None] for key in range(count, count + 20)}
    wanted = {
        name: sum(others[key][at] != rows[key][at] for key in rows if key in others) for at, name in enumerate(names)
    }
    schema = dict(zip(names, [pl.Int64, pl.Float64, pl.Int64, pl.String, pl.String, pl.String], strict=True))
    paths = tmp_path / "old.parquet", tmp_path / "new.parquet"
    for path, table in zip(paths, (rows, others), strict=True):
        listed = list(table.values())
        rng.shuffle(listed)
        pl.DataFrame(listed, schema, orient="row").write_parquet(path)
    with patch.object(frames, "_CELLS", 6000), patch.object(rereading, "_BUDGET", budget):
        [found] = compare(*paths).tables
    assert {column.name: column.changed for column in found.columns} == wanted
    assert wanted["d"] == wanted["e"] == 0 < wanted["c"]
    assert (found.added, found.removed) == (20, len(rows.keys() - others.keys()))
    assert [row["id"] for row in found.sample_added] == [str(key) for key in range(count, count + 10)]
    changed = sorted(key for key in rows if key in others and rows[key] != others[key])
    assert [row["id"] for _, row in found.sample_changed] == [str(key) for key in changed[:10]]
