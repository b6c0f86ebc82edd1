"""Cells, names and records: what is decided about odd files, the same with and without polars."""

import csv
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import gitml.tables.compare as module
from gitml.tables.compare import NEEDS_POLARS, Options, compare, overlap
from gitml.tables.diff import FileDiff, TableDiff


@pytest.fixture(params=["polars", "plain"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(module, "has_polars", lambda: False)
    return str(request.param)


@pytest.fixture
def diff(tmp_path: Path, engine: str) -> Callable[..., TableDiff]:
    """Compare two CSV files with these bytes."""

    def work(old: bytes | str, new: bytes | str, suffix: str = ".csv", **options: Any) -> TableDiff:
        paths = tmp_path / f"old{suffix}", tmp_path / f"new{suffix}"
        for path, data in zip(paths, (old, new), strict=True):
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        found = compare(*paths, options=Options(**options))
        if found.opaque:
            return TableDiff(opaque=found.opaque)
        assert len(found.tables) == 1
        return found.tables[0]

    return work


Diff = Callable[..., TableDiff]


def of(table: TableDiff, name: str) -> Any:
    return next(each for each in table.columns if each.name == name)


def test_rows_by_a_key_that_is_found(diff: Diff) -> None:
    found = diff("id,x,y\n1,a,5\n2,b,6\n10,c,7\n", "id,x,y\n10,c,8\n2,b,6\n3,d,\n4,e,\n")
    assert (found.key, found.key_found, found.rows) == (("id",), True, (3, 4))
    assert (found.added, found.removed, found.changed) == (2, 1, 1)
    assert found.sample_added == ({"id": "3", "x": "d", "y": None}, {"id": "4", "x": "e", "y": None})
    assert found.sample_removed == ({"id": "1", "x": "a", "y": "5"},)
    assert found.sample_changed == (({"id": "10", "x": "c", "y": "7"}, {"id": "10", "x": "c", "y": "8"}),)
    assert {each.name: each.changed for each in found.columns} == {"id": 0, "x": 0, "y": 1}
    assert not found.is_same


def test_a_table_is_the_same_as_itself_in_another_order(diff: Diff) -> None:
    found = diff("id,x\n1,a\n2,b\n", "id,x\n2,b\n1,a\n")
    assert found.is_same
    assert found.sample_changed == ()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("user_id,id\n1,9\n2,8\n", "user_id,id\n1,9\n", ("id",)),
        ("name,user_id\na,9\nb,8\n", "name,user_id\na,9\n", ("user_id",)),
        ("user_id,name\n1,a\n1,b\n", "user_id,name\n1,a\n", ("name",)),  # not unique
        ("id,name\n1,a\n,b\n", "id,name\n1,a\n", ("name",)),  # missing
        ("x,name\n1.5,a\n2.5,b\n", "x,name\n1.5,a\n", ("name",)),  # numbers with a fraction
        ("x\n1.5\n2.5\n", "x\n1.5\n", ()),
        ("x,y\n1,1\n1,1\n", "x,y\n1,1\n", ()),
        ("id\n", "id\n1\n", ()),  # nothing shows that it is one
    ],
)
def test_which_key_is_found(diff: Diff, old: str, new: str, key: tuple[str, ...]) -> None:
    found = diff(old, new)
    assert (found.key, found.key_found) == (key, bool(key))


def test_a_key_that_first_looks_like_one_and_is_none(diff: Diff) -> None:
    rows = [f"{number},{number % 5000}" for number in range(6000)]
    found = diff("name,id\n" + "\n".join(rows), "name,id\n" + "\n".join(rows[1:]))
    assert found.key == ("name",)
    assert (found.added, found.removed, found.changed) == (0, 1, 0)


def test_without_a_key_rows_are_counted_by_content(diff: Diff) -> None:
    found = diff("x,y\n1,1\n1,1\n1,1\n2,2\n3,3\n3,3\n", "x,y\n3,3\n1,1\n3,3\n3,3\n4,4\n")
    assert (found.key, found.added, found.removed, found.changed) == ((), 2, 3, 0)
    assert found.sample_added == ({"x": "3", "y": "3"}, {"x": "4", "y": "4"})
    assert found.sample_removed == ({"x": "1", "y": "1"}, {"x": "1", "y": "1"}, {"x": "2", "y": "2"})


def test_keys_that_are_repeated_are_compared_by_content(diff: Diff) -> None:
    old, new = "k,x\n1,a\n1,b\n2,c\n3,d\n,e\n", "k,x\n1,b\n1,c\n2,C\n4,f\n4,f\n,E\n"
    found = diff(old, new, key=("k",))
    assert found.repeated == (1, 2)
    assert not found.key_found
    # 1,c and both 4,f came; 1,a and 3,d went; 2 and the missing key are there once
    assert (found.added, found.removed, found.changed) == (3, 2, 2)
    assert found.sample_changed == (
        ({"k": "2", "x": "c"}, {"k": "2", "x": "C"}),
        ({"k": None, "x": "e"}, {"k": None, "x": "E"}),
    )


def test_a_key_of_two_columns(diff: Diff) -> None:
    found = diff("a,b,x\n1,1,p\n1,2,q\n2,1,r\n", "a,b,x\n1,1,p\n1,2,Q\n2,2,r\n", key=("a", "b"))
    assert (found.key, found.added, found.removed, found.changed) == (("a", "b"), 1, 1, 1)


def test_a_key_that_is_not_there(diff: Diff) -> None:
    assert diff("a\n1\n", "b\n1\n", key=("a",)).opaque == "there is no column 'a' in both versions to be the key"


def test_columns_come_and_go_and_move(diff: Diff) -> None:
    found = diff("id,a,b,c\n1,2,3,x\n", "id,c,b,d\n1,x,3.5,9\n", key=("id",))
    assert [each.name for each in found.columns] == ["id", "c", "b", "d", "a"]
    assert of(found, "d").old is None
    assert of(found, "a").new is None
    assert (of(found, "b").old.type, of(found, "b").new.type) == ("integer", "number")
    assert found.reordered
    # columns that only one version has do not make a row changed
    assert (found.changed, of(found, "b").changed, of(found, "c").changed) == (1, 1, 0)


def test_types_and_statistics(diff: Diff) -> None:
    text = "i,n,b,t,z,e,h\n1,1.5,true,a,007,,1e3\n-3,NaN,False,,008,,inf\n2,,TRUE,é,1,,0.5\n"
    found = diff(text, text)
    assert {each.name: each.new and each.new.type for each in found.columns} == {
        "i": "integer", "n": "number", "b": "boolean", "t": "text", "z": "text", "e": "empty", "h": "number",
    }  # fmt: skip
    i, n, h, t, e = (of(found, name).new for name in "inhte")
    assert (i.least, i.greatest, i.mean, i.missing, i.not_finite) == ("-3", "2", 0.0, 0, 0)
    assert i.deviation == pytest.approx(7**0.5)
    assert (n.least, n.greatest, n.mean, n.deviation, n.missing, n.not_finite) == ("1.5", "1.5", 1.5, None, 1, 1)
    assert (h.least, h.greatest, h.not_finite, h.mean) == ("0.5", "1e3", 1, 500.25)
    assert (t.least, t.greatest, t.distinct, t.missing, t.mean) == ("a", "é", 2, 1, None)
    assert (e.distinct, e.least, e.missing) == (0, None, 3)


def test_mixed_cells_make_text(diff: Diff) -> None:
    found = diff("x\n1\n2\n", "x\n1\ntwo\n")
    assert (of(found, "x").old.type, of(found, "x").new.type) == ("integer", "text")


def test_nan_and_empty_and_zero_are_three_things(diff: Diff) -> None:
    found = diff("id,x\n1,NaN\n2,\n3,0\n4,NaN\n", "id,x\n1,\n2,0\n3,NaN\n4,NaN\n")
    assert found.changed == 3


def test_leading_zeros_and_huge_integers_keep_every_digit(diff: Diff) -> None:
    huge = "9" * 400
    found = diff(f"id,x,z\n1,{huge}7,007\n2,90071992547409930,1\n", f"id,x,z\n1,{huge}8,7\n2,90071992547409931,1\n")
    assert (of(found, "x").changed, of(found, "z").changed) == (2, 1)
    assert of(found, "x").old.type == "integer"
    assert of(found, "x").old.not_finite == 1  # beyond what a double holds
    assert of(found, "x").new.greatest == "90071992547409931"
    assert (of(found, "z").old.type, of(found, "z").new.type) == ("text", "integer")


def test_huge_keys_are_not_mixed_up(diff: Diff) -> None:
    keys = [str(2**64 + number) for number in range(3)]
    found = diff("id\n" + "\n".join(keys[:2]), "id\n" + "\n".join(keys[1:]))
    assert (found.key, found.added, found.removed) == (("id",), 1, 1)
    assert found.sample_added == ({"id": keys[2]},)


def test_names_that_are_empty_repeated_or_odd(diff: Diff) -> None:
    found = diff(",x,x,^.*$,*,\x1b[1m,count\n1,2,3,4,5,6,7\n", ",x,x,^.*$,*,\x1b[1m,count\n1,2,9,4,5,6,7\n")
    assert [each.name for each in found.columns] == ["column_1", "x", "x_2", "^.*$", "*", "\x1b[1m", "count"]
    assert found.warnings == (
        "column 1 has no name: called 'column_1'", "column 3 repeats the name of another: called 'x_2'",
    )  # fmt: skip
    assert (found.added, found.removed, found.changed) == (0, 0, 1)
    assert of(found, "x_2").changed == 1
    assert "\x1b" not in json.dumps(found.as_json())


def test_names_that_are_made_take_no_other(diff: Diff) -> None:
    found = diff("x_2,x,x,,column_4\n1,2,3,4,5\n", "x_2,x,x,,column_4\n1,2,3,4,5\n")
    assert [each.name for each in found.columns] == ["x_2", "x", "x_3", "column_4_2", "column_4"]


def test_ragged_rows(diff: Diff) -> None:
    found = diff("id,x,y\n1,2,3\n2\n3,4,5,6,7\n", "id,x,y\n1,2,3\n2,,\n3,4,5\n")
    assert (found.rows, found.added, found.removed, found.changed) == ((3, 3), 0, 0, 0)
    assert found.warnings == ("old: 2 rows are longer or shorter than the names",)


def test_rows_that_are_ragged_only_in_sum(diff: Diff) -> None:
    # as many delimiters as regular rows would have
    found = diff("id,x,y\n1,2\n2,3,4,5\n", "id,x,y\n1,2,\n2,3,4\n")
    assert (found.changed, found.rows) == (0, (2, 2))
    assert found.warnings == ("old: 2 rows are longer or shorter than the names",)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_and_blank_lines(diff: Diff, ending: str) -> None:
    old = ending.join(["", "id,x", "", "1,a", "", "", "2,b", "", ""])
    found = diff(old, "id,x\n1,a\n2,b")
    assert (found.rows, found.changed, found.added, found.removed) == ((2, 2), 0, 0, 0)


def test_quotes(diff: Diff) -> None:
    old = 'id,"x"\n1,"a,b"\n2,"say ""hi"""\n3,"two\nlines, or ""three\r\n"""\n"4",\n5,""\n6,x"y"\n'
    new = 'id,x\n1,"a,b"\n2,"say ""ho"""\n3,"two\nlines, or ""three\n"""\n4,""\n5,\n6,"x""y"""\n'
    found = diff(old, new)
    assert found.rows == (6, 6)
    assert [one["id"] for one, _ in found.sample_changed] == ["2", "3"]
    assert found.sample_changed[1][0]["x"] == 'two\nlines, or "three\r\n"'


def test_a_quote_that_is_not_closed_takes_the_rest(diff: Diff) -> None:
    found = diff('id,x\n1,a\n2,"b\n3,c\n', "id,x\n1,a\n2,b\n3,c\n")
    assert found.rows == (2, 3)
    assert found.sample_changed[0][0] == {"id": "2", "x": "b\n3,c\n"}


def test_quotes_after_text_in_quotes(diff: Diff) -> None:
    found = diff('id,x\n1,"a"b\n2,c\n', "id,x\n1,ab\n2,c\n")
    assert (found.rows, found.changed) == ((2, 2), 0)


def test_encodings(diff: Diff) -> None:
    text = "id,größe\n1,ä\n2,ö\n"
    bom = diff(b"\xef\xbb\xbf" + text.encode(), text)
    assert bom.is_same
    assert bom.warnings == ()
    latin = diff(text.encode("latin-1"), text)
    assert latin.is_same
    assert latin.warnings == ("old: not UTF-8: read as Latin-1",)
    assert diff(text.encode("utf-16"), text).opaque == "UTF-16 is not read: save it as UTF-8"
    assert diff(b"id\0,x\n", text).opaque == "it is binary"


def test_bytes_that_are_no_utf_8_far_into_the_file(diff: Diff) -> None:
    start = "id,x\n" + "".join(f"{number},é\n" for number in range(300_000))
    found = diff(start.encode() + b"end,\xe9\n", start.encode() + "end,é\n".encode())
    assert found.changed == 300_000
    assert found.warnings == ("old: not UTF-8: read as Latin-1",)


def test_empty_files_and_headers_alone(diff: Diff) -> None:
    both = diff("", "")
    assert (both.rows, both.columns, both.is_same) == ((0, 0), (), True)
    grown = diff("", "id,x\n1,2\n")
    assert (grown.rows, grown.added, grown.changed) == ((0, 1), 1, 0)
    assert [(each.name, each.old is None) for each in grown.columns] == [("id", True), ("x", True)]
    header = diff("id,x\n", "id,x\n1,2\n")
    assert (header.rows, header.added, of(header, "x").old.type, of(header, "x").drift) == ((0, 1), 1, "empty", None)
    blank = diff("\n\n\n", "id\n")
    assert (blank.rows, blank.columns[0].old) == ((0, 0), None)


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_delimiters(diff: Diff, delimiter: str) -> None:
    text = "id,x,y\n1,a,2\n".replace(",", delimiter)
    assert diff(text, "id,x,y\n1,a,2\n").is_same


def test_tsv(diff: Diff) -> None:
    found = diff("id\tx,y\n1\ta,b\n", "id\tx,y\n1\ta,c\n", suffix=".tsv")
    assert [each.name for each in found.columns] == ["id", "x,y"]
    assert found.changed == 1


def test_one_column_with_missing_cells(diff: Diff) -> None:
    found = diff('x\na\n""\n\nb\n', 'x\na\n""\n""\nb\n')
    assert (found.rows, found.added, found.removed) == ((3, 4), 1, 0)
    assert of(found, "x").new.missing == 2


def test_cells_longer_than_the_csv_module_likes(diff: Diff) -> None:
    long = "é" * 200_000
    found = diff(f'id,x\n1,{long}\n2,q"q\n', f'id,x\n1,{long}!\n2,q"q\n')
    assert found.changed == 1
    assert len(found.sample_changed[0][0]["x"] or "") == 1001


def test_masks_hide_every_cell(diff: Diff) -> None:
    old = "id,mail,mail_hash,x\n1,secret1,secret2,5\n2,,secret3,6\n"
    found = diff(old, old.replace("secret1", "secret4").replace("secret3", ""), masked=("mail*",))
    assert found.sample_changed[0] == (
        {"id": "1", "mail": "***", "mail_hash": "***", "x": "5"},
        {"id": "1", "mail": "***", "mail_hash": "***", "x": "5"},
    )  # fmt: skip
    assert found.sample_changed[1][0]["mail"] is None
    assert of(found, "mail").appeared.frequent == (("***", 1),)
    assert "secret" not in json.dumps(found.as_json())


def test_masked_numbers_do_not_show_in_statistics(diff: Diff) -> None:
    found = diff("id,pay\n1,4711\n", "id,pay\n1,4712\n", masked=("pay",))
    assert "471" not in json.dumps(found.as_json())
    assert of(found, "pay").changed == 1


def test_samples_are_the_first_by_key(diff: Diff) -> None:
    numbers = [str(number) for number in range(30, 0, -1)]
    found = diff("id,x\n0,0\n", "id,x\n0,0\n" + "".join(f"{each},1\n" for each in numbers), samples=3)
    assert [row["id"] for row in found.sample_added] == ["1", "2", "3"]
    words = diff("id\nz\n", "id\nz\n" + "".join(f"k{each}\n" for each in numbers), samples=3)
    assert [row["id"] for row in words.sample_added] == ["k1", "k10", "k11"]
    none = diff("id\n1\n", "id\n2\n", samples=0)
    assert (none.added, none.removed, none.sample_added, none.sample_removed) == (1, 1, (), ())


def test_categories_that_came_and_went(diff: Diff) -> None:
    old = "id,x\n" + "".join(f"{number},{'abc'[number % 3]}\n" for number in range(30))
    new = "id,x\n" + "".join(f"{number},{'abdde'[number % 5]}\n" for number in range(30))
    column = of(diff(old, new), "x")
    assert (column.appeared.count, column.appeared.frequent) == (2, (("d", 12), ("e", 6)))
    assert (column.vanished.count, column.vanished.frequent) == (1, (("c", 10),))
    assert column.drift > 0.25


def test_many_categories_are_not_counted(diff: Diff) -> None:
    old = "n,x\n" + "".join(f"1,a{number}\n" for number in range(1001))
    column = of(diff(old, old), "x")
    assert (column.drift, column.appeared, column.vanished) == (None, None, None)
    assert (column.new.distinct, column.new.exact) == (1001, True)


def test_distinct_cells_are_estimated_beyond_a_bound(diff: Diff) -> None:
    old = "x,y\n" + "".join(f"a{number},{number % 32768}\n" for number in range(100_000))
    found = diff(old, old)
    assert (of(found, "y").new.distinct, of(found, "y").new.exact) == (32768, True)
    x = of(found, "x").new
    assert not x.exact
    assert x.distinct != 100_000
    assert x.distinct == pytest.approx(100_000, rel=0.04)


def test_overlap(tmp_path: Path, engine: str) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("id,x,y\n1,a,p\n2,b,q\n2,b,q\n3,c,r\n")
    test.write_text("y,x,id\nq,b,2\nR,c,3\nq,b,2\ns,d,4\n")
    rows = overlap(train, test)
    assert (rows.rows, rows.columns, rows.shared, rows.share) == ((4, 4), ("y", "x", "id"), 2, 0.5)
    assert rows.sample == ({"y": "q", "x": "b", "id": "2"},) * 2
    assert overlap(train, test, key=["id"]).shared == 3
    assert overlap(train, test, columns=["x", "y"], samples=1, masked=["x"]).sample == (
        {"y": "q", "x": "***", "id": "2"},
    )
    assert overlap(train, test, key=["z"]).opaque == "there is no column 'z' in both tables"
    test.write_text("w\n1\n")
    assert overlap(train, test).opaque == "the tables have no column in common"


def test_what_is_no_table_is_opaque(tmp_path: Path, engine: str) -> None:
    path, other = tmp_path / "a.csv", tmp_path / "a.txt"
    path.write_text("id\n1\n")
    other.write_text("id\n1\n")
    assert compare(path, other).opaque == "its format is not one of those that are read"
    assert compare(path, other, "table.csv").tables[0].is_same
    assert compare(path, tmp_path / "none.csv").opaque == "no such file or directory"
    assert compare(path, tmp_path, "x.csv").opaque == "is a directory"


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.sqlite"])
def test_other_formats_need_polars(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    write(path, pl.DataFrame({"id": [1]}))
    assert compare(path, path).opaque == ""
    monkeypatch.setattr(module, "has_polars", lambda: False)
    assert compare(path, path).opaque == NEEDS_POLARS
    assert overlap(path, path).opaque == NEEDS_POLARS


def write(path: Path, frame: pl.DataFrame) -> None:
    """Write a table in the format that its name says, without polars where others can."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".arrow":
        frame.write_ipc(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dicts()))
    elif path.suffix == ".sqlite":
        with sqlite3.connect(path) as database:
            names = ", ".join(f'"{name}"' for name in frame.columns)
            database.execute(f"CREATE TABLE t ({names})")
            marks = ", ".join("?" * frame.width)
            database.executemany(f"INSERT INTO t VALUES ({marks})", frame.rows())
        database.close()
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([frame.columns, *frame.rows()])


OLD = pl.DataFrame({"id": [1, 2, 3], "x": [1.5, None, 3.0], "t": ["a", "", None]})
NEW = pl.DataFrame({"id": [1, 2, 4], "x": [1.5, 2.0, 3.0], "t": ["a", "b", None]})


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".sqlite", ".csv"])
@pytest.mark.parametrize("other", [".parquet", ".csv", ".sqlite"])
def test_formats_give_the_same_rows(suffix: str, other: str, tmp_path: Path) -> None:
    old, new = tmp_path / f"old[*]?{suffix}", tmp_path / f"new{other}"
    write(old, OLD)
    # what CSV writes of a float has a fraction always
    write(new, NEW.with_columns(pl.Series("x", ["1.5", "2", "3"])) if other == ".csv" else NEW)
    if suffix == ".csv":
        write(old, OLD.with_columns(pl.Series("x", ["1.5", None, "3"])))
    found = compare(old, new)
    assert found.opaque == ""
    table = found.tables[0]
    assert (table.rows, table.added, table.removed, table.changed) == ((3, 3), 1, 1, 1)
    assert {each.name: each.changed for each in table.columns} == {"id": 0, "x": 1, "t": 1}
    assert table.sample_added == ({"id": "4", "x": "3", "t": None},)
    x = of(table, "x")
    # SQLite and JSON know no type of a column, only of a cell
    assert (x.new.mean, x.new.least, x.old.missing) == (pytest.approx(6.5 / 3), "1.5", 1)


def test_an_empty_text_is_missing_in_csv_only(tmp_path: Path) -> None:
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    pl.DataFrame({"id": [1, 2], "t": ["", None]}).write_parquet(old)
    pl.DataFrame({"id": [1, 2], "t": [None, ""]}).write_parquet(new)
    assert compare(old, new).tables[0].changed == 2


def test_retyped_columns_of_parquet(tmp_path: Path) -> None:
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    pl.DataFrame({"id": [1, 2], "x": [5, 6], "y": [1.0, float("nan")]}).write_parquet(old)
    pl.DataFrame({"id": [1, 2], "x": [5.0, 6.5], "y": ["1", "NaN"]}).write_parquet(new)
    table = compare(old, new).tables[0]
    assert (of(table, "x").old.type, of(table, "x").new.type) == ("int64", "float64")
    assert (of(table, "x").changed, of(table, "y").changed) == (1, 0)
    assert of(table, "y").old.not_finite == 1
    assert of(table, "y").new.not_finite is None
    assert of(table, "y").new.mean is None


def test_every_type_of_parquet_is_text_in_the_end(tmp_path: Path) -> None:
    import datetime

    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "day": [datetime.date(2026, 1, 2), None],
            "time": [datetime.datetime(2026, 1, 2, 3, 4, 5, 6), None],
            "list": [[1, 2], None],
            "struct": [{"a": 1, "b": "é"}, None],
            "bytes": [b"\x00\xff", None],
            "bool": [True, None],
            "nested": [[{"a": [1.5]}], None],
            "big": pl.Series([2**64 - 1, None], dtype=pl.UInt64),
            "decimal": pl.Series(["1.50", None]).cast(pl.Decimal(10, 2)),
            "cat": pl.Series(["p", None], dtype=pl.Categorical),
            "null": pl.Series([None, None], dtype=pl.Null),
        }
    )
    path, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    frame.write_parquet(path)
    frame.with_columns(pl.col("id") + 1).write_parquet(other)
    found = compare(path, other)
    assert found.opaque == ""
    (row,) = found.tables[0].sample_removed
    assert row == {
        "id": "1", "day": "2026-01-02", "time": "2026-01-02 03:04:05.000006", "list": "[1, 2]",
        "struct": '{"a": 1, "b": "é"}', "bytes": "00ff", "bool": "true", "nested": '[{"a": [1.5]}]',
        "big": str(2**64 - 1), "decimal": "1.50", "cat": "p", "null": None,
    }  # fmt: skip
    assert of(found.tables[0], "cat").drift is not None
    assert of(found.tables[0], "decimal").new.mean == 1.5


def test_json_lines(tmp_path: Path) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text(
        '\ufeff{"id": 1, "x": {"b": 1, "a": [2, "é"]}}\n\n{"id": 2, "x": null, "y": true}\n{"id": 3, "y": 1e400}\n'
    )
    new.write_text('{"id": 1, "x": {"a": [2, "\\u00e9"], "b": 1}}\n{"y": "\\ud800", "id": 2}\n{"id": 3, "y": -1}')
    table = compare(old, new).tables[0]
    assert (table.changed, of(table, "x").changed, of(table, "y").changed) == (2, 0, 2)
    assert (of(table, "x").new.type, of(table, "y").old.type, of(table, "y").new.type) == (
        "nested", "boolean|number", "integer|text",
    )  # fmt: skip
    assert table.sample_changed[0][1]["y"] == "\\ud800"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1]", "line 2 is no JSON object"),
        (b"{", "line 2 is no JSON that is read"),
        (b'{"x": ' + b"[" * 100_000, "line 2 is no JSON that is read"),
        (b'{"x": ' + b"9" * 5000 + b"}", "line 2 is no JSON that is read"),
        (b'{"x": "\xff"}', "line 2 is not UTF-8"),
    ],
)
def test_lines_that_are_no_rows(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": 1}\n' + line + b"\n")
    assert compare(path, path).opaque == reason


def test_databases(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    for path, number in ((old, 1), (new, 2)):
        with sqlite3.connect(path) as database:
            database.execute('CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY, x, b BLOB)')
            database.execute('INSERT INTO "odd ""name" VALUES (1, ?, ?), (2, \'t\', NULL)', (number, bytes([number])))
            database.execute(f"CREATE TABLE only{number} (x)")
            database.execute("CREATE TABLE both (x)")
            database.execute("CREATE VIRTUAL TABLE search USING fts5(text)")
            database.execute("CREATE VIEW seen AS SELECT * FROM both")
        database.close()
    found = compare(old, new, options=Options(key=("id",)))
    assert (found.added, found.removed) == (("only2",), ("only1",))
    tables = {table.name: table for table in found.tables}
    assert "seen" not in tables
    assert tables["search"].opaque == "its rows are those of an extension of SQLite"
    assert tables["both"].rows == (0, 0)
    odd = tables['odd "name']
    assert (odd.key, odd.changed) == (("id",), 1)
    assert (of(odd, "x").new.type, of(odd, "b").new.type) == ("integer|text", "bytes")
    assert odd.sample_changed[0][1] == {"id": "1", "x": "2", "b": "02"}


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.sqlite", "a.csv", "a.jsonl"])
def test_damaged_files_are_opaque(name: str, tmp_path: Path) -> None:
    path, damaged = tmp_path / name, tmp_path / f"damaged-{name}"
    write(path, pl.DataFrame({"id": list(range(1000)), "x": [f"text {number}" for number in range(1000)]}))
    data = path.read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    found = compare(path, damaged)
    # half a CSV file is one
    assert bool(found.opaque or found.tables[0].opaque) == (name != "a.csv")
    damaged.write_bytes(b"")
    assert bool(compare(path, damaged).opaque) == (name not in ("a.csv", "a.jsonl"))


def test_the_document_is_read_back(tmp_path: Path) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    write(old, OLD)
    write(new, NEW.rename({"x": "z"}))
    found = compare(old, new)
    document = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert document["schema"] == "gitml/table-diff/1"
    assert FileDiff.from_json(document) == found
    assert found.tables[0].sample_changed
    assert compare(old, new).as_json() == found.as_json()
