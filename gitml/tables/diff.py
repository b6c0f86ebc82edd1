"""The difference of two tables as plain values, and their one JSON form.

A cell is text, or None where it is missing. Names and cells are as they stand in the file: whoever prints them escapes
what could steer a terminal (the JSON form is to be written as ASCII).
"""

import math
from collections.abc import Mapping
from typing import Any, Self

from gitml.record import record

MASK = "***"
"""Stands for every cell of a masked column that is not missing."""

Cell = str | None
Row = Mapping[str, Cell]


class TableError(Exception):
    """A file cannot be read as a table, or not compared as was asked."""


@record(kw_only=True)
class Statistics:
    """One column of one version."""

    type: str
    """CSV and TSV: 'integer', 'number', 'boolean', 'text' or 'empty', as all cells are; else as the file names it."""
    missing: int
    not_finite: int | None
    """Cells that are NaN or infinite; None for a column that is not of numbers, like mean and deviation."""
    distinct: int
    exact: bool
    """False: `distinct` is an estimate with a standard error of 0.6 %."""
    least: Cell
    """For numbers by value and of the finite ones; else by code points. Long text is cut."""
    greatest: Cell
    mean: float | None
    deviation: float | None
    """Standard deviation of the sample, with n - 1; None for fewer than two numbers. As the mean None where a number is
    beyond 1e150."""

    def as_json(self) -> dict[str, Any]:
        """These numbers as a document; what JSON lacks is null."""
        return {
            "type": self.type, "missing": self.missing, "not_finite": self.not_finite, "distinct": self.distinct,
            "exact": self.exact, "least": self.least, "greatest": self.greatest, "mean": _finite(self.mean),
            "deviation": _finite(self.deviation),
        }  # fmt: skip


@record(kw_only=True)
class Categories:
    """Texts that only one version of a column has: how many there are, and the most frequent with their counts."""

    count: int = 0
    frequent: tuple[tuple[str, int], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {"count": self.count, "frequent": [list(each) for each in self.frequent]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(count=value["count"], frequent=tuple((text, count) for text, count in value["frequent"]))


@record(kw_only=True)
class Column:
    """One column in both versions; a side is None where it does not exist."""

    name: str
    old: Statistics | None
    new: Statistics | None
    changed: int = 0
    """In how many of the changed rows it changed."""
    drift: float | None = None
    """Population stability index (see `drift`); None where there is nothing to compare."""
    appeared: Categories | None = None
    """None: categories are not counted, as the column is not of text or has too many."""
    vanished: Categories | None = None

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "name": self.name,
            "old": self.old and self.old.as_json(),
            "new": self.new and self.new.as_json(),
            "changed": self.changed,
            "drift": _finite(self.drift),
            "appeared": self.appeared and self.appeared.as_json(),
            "vanished": self.vanished and self.vanished.as_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(
            name=value["name"],
            old=value["old"] and Statistics(**value["old"]),
            new=value["new"] and Statistics(**value["new"]),
            changed=value["changed"],
            drift=value["drift"],
            appeared=value["appeared"] and Categories.from_json(value["appeared"]),
            vanished=value["vanished"] and Categories.from_json(value["vanished"]),
        )


@record(kw_only=True)
class TableDiff:
    """The difference of two versions of one table.

    Rows are compared in the columns that both versions have. With a key, a row whose key is in both versions and whose
    other cells differ is changed. Without one, and for keys that occur more than once in a version, rows are counted by
    content, and none is changed. So old rows without `removed`, with `added`, and with the changed ones replaced, are
    the new rows, whatever their order.
    """

    name: str = ""
    """Of a table of a database."""
    rows: tuple[int, int] = (0, 0)
    key: tuple[str, ...] = ()
    """The columns that tell rows apart; empty: their content does."""
    key_found: bool = False
    """The key was not given, but chosen."""
    repeated: tuple[int, int] = (0, 0)
    """Keys that occur more than once, in each version."""
    added: int = 0
    removed: int = 0
    changed: int = 0
    columns: tuple[Column, ...] = ()
    """Those of the new version in its order, then those that went."""
    reordered: bool = False
    """The columns that both versions have stand in another order."""
    sample_added: tuple[Row, ...] = ()
    """The first by key, or by place if there is no key."""
    sample_removed: tuple[Row, ...] = ()
    sample_changed: tuple[tuple[Row, Row], ...] = ()
    """Old and new."""
    warnings: tuple[str, ...] = ()
    """What was odd about the files, and what was made of it."""
    opaque: str = ""
    """Why nothing is known but the name."""

    @property
    def is_same(self) -> bool:
        """Whether both versions have the same columns and the same rows."""
        return not (
            self.opaque or self.added or self.removed or self.changed or self.reordered
            or any(each.old is None or each.new is None or each.old.type != each.new.type for each in self.columns)
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "name": self.name,
            "rows": list(self.rows),
            "key": list(self.key),
            "key_found": self.key_found,
            "repeated": list(self.repeated),
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "columns": [each.as_json() for each in self.columns],
            "reordered": self.reordered,
            "sample_added": [dict(each) for each in self.sample_added],
            "sample_removed": [dict(each) for each in self.sample_removed],
            "sample_changed": [[dict(old), dict(new)] for old, new in self.sample_changed],
            "warnings": list(self.warnings),
            "opaque": self.opaque,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(
            name=value["name"],
            rows=(value["rows"][0], value["rows"][1]),
            key=tuple(value["key"]),
            key_found=value["key_found"],
            repeated=(value["repeated"][0], value["repeated"][1]),
            added=value["added"],
            removed=value["removed"],
            changed=value["changed"],
            columns=tuple(map(Column.from_json, value["columns"])),
            reordered=value["reordered"],
            sample_added=tuple(value["sample_added"]),
            sample_removed=tuple(value["sample_removed"]),
            sample_changed=tuple((old, new) for old, new in value["sample_changed"]),
            warnings=tuple(value["warnings"]),
            opaque=value["opaque"],
        )


@record(kw_only=True)
class FileDiff:
    """The difference of two files of tables: one table each, or those of a database."""

    formats: tuple[str, str] = ("unknown", "unknown")
    tables: tuple[TableDiff, ...] = ()
    """Tables that both files have, by name."""
    added: tuple[str, ...] = ()
    """Names of tables that only the new file has."""
    removed: tuple[str, ...] = ()
    opaque: str = ""
    """Why nothing is known."""

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "schema": "gitml/table-diff/1",
            "formats": list(self.formats),
            "tables": [each.as_json() for each in self.tables],
            "added": list(self.added),
            "removed": list(self.removed),
            "opaque": self.opaque,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(
            formats=(value["formats"][0], value["formats"][1]),
            tables=tuple(map(TableDiff.from_json, value["tables"])),
            added=tuple(value["added"]),
            removed=tuple(value["removed"]),
            opaque=value["opaque"],
        )


@record(kw_only=True)
class Overlap:
    """Rows of a test table that also appear in the table that was trained on."""

    rows: tuple[int, int] = (0, 0)
    """Of the table to train on, and of the one to test on."""
    columns: tuple[str, ...] = ()
    """In which rows are compared."""
    shared: int = 0
    """Rows to test on that appear in the other table."""
    sample: tuple[Row, ...] = ()
    """The first of them, with all their columns."""
    warnings: tuple[str, ...] = ()
    opaque: str = ""

    @property
    def share(self) -> float:
        """The part of the rows to test on that is shared."""
        return self.shared / self.rows[1] if self.rows[1] else 0.0

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "schema": "gitml/table-overlap/1",
            "rows": list(self.rows),
            "columns": list(self.columns),
            "shared": self.shared,
            "share": self.share,
            "sample": [dict(each) for each in self.sample],
            "warnings": list(self.warnings),
            "opaque": self.opaque,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(
            rows=(value["rows"][0], value["rows"][1]),
            columns=tuple(value["columns"]),
            shared=value["shared"],
            sample=tuple(value["sample"]),
            warnings=tuple(value["warnings"]),
            opaque=value["opaque"],
        )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
