"""Whether two versions of an output are alike: the same bytes, or the same but for numbers within a tolerance.

Numbers are looked for in JSON, YAML and TOML files, by dotted key, and in CSV and TSV files, by column, row by row as
they stand. Everything that is no number has to be equal. Other formats are alike only as bytes.
"""

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from json import loads
from pathlib import Path
from typing import Any

from gitml.provenance.codec import printable
from gitml.tables.delimited import DelimitedFile, fitted, is_number
from gitml.tables.diff import TableError

_LARGEST = 64 << 20
"""Bytes up to which a document is read: it is held in memory whole."""
_MOST_VALUES = 1_000_000
"""A few lines of YAML can stand for more values than any memory holds."""
_SHOWN = 3
_MISSING = object()


def unlike(name: bytes, old: Path, new: Path, tolerances: Mapping[str, float]) -> str:
    """How two files of different bytes differ, in words; empty if they are alike within `tolerances`.

    `name` says by its end what the files are. `tolerances` are absolute, by dotted key or column, `""` for all others.
    """
    suffix = name.lower().rpartition(b"/")[2].rpartition(b".")[2]
    try:
        if suffix in _DOCUMENTS and max(old.stat().st_size, new.stat().st_size) <= _LARGEST:
            pairs = _of_documents(_DOCUMENTS[suffix], old, new)
            return _judge(pairs, tolerances, formatted=bool(tolerances))
        if suffix in (b"csv", b"tsv"):
            return _of_tables(suffix.decode(), old, new, tolerances)
    except (ValueError, OverflowError, RecursionError, TableError):
        pass  # not what the name says: bytes
    before, after = old.stat().st_size, new.stat().st_size
    return f"{before:,} bytes, now {after:,}" if before != after else f"other bytes, {after:,} as before"


Pair = tuple[str, Any, Any]
"""Name, old value and new value."""


def _judge(pairs: Iterator[Pair], tolerances: Mapping[str, float], *, formatted: bool) -> str:
    """What differs among pairs; with `formatted` that the bytes differ does not count if no value does."""
    found: dict[str, tuple[int, float, str]] = {}
    for name, before, after in pairs:
        distance = _distance(before, after)
        if math.isfinite(distance) and distance <= tolerances.get(name, tolerances.get("", 0.0)):
            continue
        times, worst, words = found.get(name, (0, -1.0, ""))
        if distance > worst:
            worst, words = distance, f"{_value(before)}, now {_value(after)}"
        found[name] = times + 1, worst, words
    if not found:
        return "" if formatted else "other bytes, equal values"
    listed = [
        f"{printable(name) or 'the value'} {words}" + (f" ({times} times, this is the largest)" if times > 1 else "")
        for name, (times, _, words) in list(found.items())[:_SHOWN]
    ]
    more = len(found) - len(listed)
    return "; ".join(listed) + (f"; and {more} more" if more else "")


def _distance(before: Any, after: Any) -> float:
    """How far two values are apart: 0 if equal, infinitely far if one of them is no number."""
    if isinstance(before, float) and isinstance(after, float):
        if before == after or (math.isnan(before) and math.isnan(after)):
            return 0.0
        apart = abs(before - after)
        # 0.96 and 0.95 are 0.01 apart, whatever binary fractions say
        return math.inf if math.isnan(apart) else float(f"{apart:.9g}")
    return 0.0 if type(before) is type(after) and before == after else math.inf


def _value(value: Any) -> str:
    if value is _MISSING or value is None:
        return "nothing"
    return f"{value:.12g}" if isinstance(value, float) else printable(str(value)[:40]) or "''"


def _yaml(data: bytes) -> Any:
    import yaml  # noqa: PLC0415 - 20 ms that only YAML needs

    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


_DOCUMENTS: Mapping[bytes, Callable[[bytes], Any]] = {
    b"json": loads,
    b"yaml": _yaml,
    b"yml": _yaml,
    b"toml": lambda data: tomllib.loads(data.decode()),
}


def _of_documents(parse: Callable[[bytes], Any], old: Path, new: Path) -> Iterator[Pair]:
    before, after = (_flat(parse(path.read_bytes())) for path in (old, new))
    return ((name, before.get(name, _MISSING), after.get(name, _MISSING)) for name in dict.fromkeys([*before, *after]))


def _flat(document: Any) -> dict[str, Any]:
    """Dotted key to value of everything in a document that holds nothing else."""
    found: dict[str, Any] = {}

    def walk(value: Any, name: str) -> None:
        if len(found) > _MOST_VALUES:
            raise ValueError("too many values")
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if inner is not None and value:
            for key, child in inner:
                walk(child, f"{name}.{key}" if name else str(key))
        elif isinstance(value, int) and not isinstance(value, bool):
            found[name] = float(value) if abs(value) < 1 << 53 else value
        else:
            found[name] = value

    walk(document, "")
    return found


def _of_tables(kind: str, old: Path, new: Path, tolerances: Mapping[str, float]) -> str:
    before, after = (DelimitedFile(path, kind) for path in (old, new))
    if before.names != after.names:
        return "other columns"
    rows = [0, 0]

    def pairs() -> Iterator[Pair]:
        records = (file.records(file.start) for file in (before, after))
        for one, two in zip_longest(*records):
            rows[0] += one is not None
            rows[1] += two is not None
            if one is None or two is None:
                continue
            cells = (fitted(record, len(before.names)) for record in (one, two))
            for name, left, right in zip(before.names, *cells, strict=True):
                if left != right:
                    yield name, *_numbers(left, right)

    said = _judge(pairs(), tolerances, formatted=bool(tolerances))
    return said if rows[0] == rows[1] else f"{rows[0]:,} rows, now {rows[1]:,}"


def _numbers(left: str | None, right: str | None) -> tuple[Any, Any]:
    """Two cells, as numbers if both are."""
    if left is not None and right is not None and is_number(left) and is_number(right):
        return float(left), float(right)
    return left, right
