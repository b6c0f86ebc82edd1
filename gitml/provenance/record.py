"""The record of a stage: one small file in the tree that says what made the stage's output.

It holds no times, hosts or run ids, so equal runs give equal bytes and merges of equal results are no
conflicts; being in the tree, it survives squashes and rebases. It says what each cause was (inputs, code,
parameters, specification), so a later evaluation can name what changed.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, NamedTuple, TypeVar

from gitml.errors import CorruptError
from gitml.oid import Oid
from gitml.provenance.codec import Json, bytes_of, pretty, text_of
from gitml.record import field, record

SCHEMA = "gitml/record/1"
RECORDS = b".gitml/records"
"""Directory of the tree that holds the records."""


class RecordEntry(NamedTuple):
    """What a tree had at a path: git's mode and oid."""

    mode: int
    oid: Oid


@record(kw_only=True)
class RecordInput:
    """One pfs input as the run saw it."""

    name: str
    path: bytes
    """Repository path of the input."""
    glob: str
    entry: RecordEntry
    """What stood at `path`, whether or not the glob picked all of it."""
    commit: Oid | None = None
    """The commit that was read, None if it is the one that was evaluated."""


@record(kw_only=True)
class RecordCode:
    """One code file as the run saw it."""

    target: str
    """Where the task found it."""
    source: bytes
    """Repository path."""
    entry: RecordEntry


@record(kw_only=True)
class RecordHold:
    """Somebody decided that the output stays as it is, whatever becomes of its inputs."""

    reason: str = ""
    until: str = ""
    """A day, `YYYY-MM-DD`: the first commit of that day (UTC) or a later one ends it. Empty: none does."""
    key: str = ""
    """The stage key at that time, if the hold ends as soon as it is another one; else empty."""


@record(kw_only=True)
class Record:
    """What made the output of a stage."""

    stage: str
    key: str
    """The stage key, 64 hex digits."""
    output_path: bytes
    output_tree: Oid
    inputs: tuple[RecordInput, ...] = ()
    """In the order of the specification."""
    code: tuple[RecordCode, ...] = ()
    """Sorted by target."""
    params: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """File, dotted key (`""`: the whole file), value."""
    spec: Mapping[str, Json] = field(default_factory=dict)
    """The fields of the specification that are in the key."""
    total: int
    """Datums of the stage."""
    recovered: int
    """Datums of which `err_cmd` succeeded in place of `cmd`; they gave no output."""
    accepted: str | None = None
    """Why somebody declared an output the result that no run made (may be empty); None if a run made it."""
    hold: RecordHold | None = None


def record_path(stage_name: str) -> bytes:
    """Where the record of a stage stands in the tree; two stages never share a place.

    A `/` in the name nests. In each part, everything but ASCII letters, digits, `-`, `_`, inner dots and
    spaces is percent-encoded; so are a dot or space at either end and a final `.json` of a directory, so that
    no part is `..` or `.git` and no directory is in the way of a file. An empty part is a single `%`.
    """
    parts = stage_name.encode("utf-8", "surrogateescape").split(b"/")
    folders = [_part(part, folder=True) for part in parts[:-1]]
    return b"/".join([RECORDS, *folders, _part(parts[-1], folder=False) + b".json"])


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_. ")


def _part(part: bytes, *, folder: bool) -> bytes:
    if not part:
        return b"%"
    ends = {0, len(part) - 1}
    if folder and part.endswith(b".json"):
        ends.add(len(part) - 5)
    return b"".join(
        b"%c" % byte if byte in _PLAIN and not (at in ends and byte in b". ") else b"%%%02X" % byte
        for at, byte in enumerate(part)
    )


def format_record(record: Record) -> bytes:
    """The record's file: canonical JSON, one member a line."""
    decisions: dict[str, Json] = {}
    if record.accepted is not None:
        decisions["accepted"] = {"reason": record.accepted}
    if record.hold is not None:
        hold = record.hold
        given = {"reason": hold.reason, "until": hold.until, "key": hold.key}
        decisions["hold"] = {name: value for name, value in given.items() if value}
    return pretty(
        {
            **decisions,
            "schema": SCHEMA,
            "stage": record.stage,
            "key": record.key,
            "output": {"path": text_of(record.output_path), "tree": record.output_tree.hex()},
            "inputs": [_format_input(part) for part in record.inputs],
            "code": [
                {"target": file.target, "source": text_of(file.source), **_format_entry(file.entry)}
                for file in record.code
            ],
            "params": record.params,
            "spec": record.spec,
            "datums": {"total": record.total, "recovered": record.recovered},
        }
    )


def _format_input(part: RecordInput) -> dict[str, Json]:
    made: dict[str, Json] = {"name": part.name, "path": text_of(part.path), "glob": part.glob}
    made |= _format_entry(part.entry)
    return made | {"commit": part.commit.hex()} if part.commit is not None else made


def _format_entry(entry: RecordEntry) -> dict[str, str]:
    return {"mode": f"{entry.mode:06o}", "oid": entry.oid.hex()}


def parse_record(data: bytes) -> Record:
    """The record in `data`; raise `CorruptError` for anything that `format_record` does not write."""
    try:
        value = json.loads(data)
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not '{SCHEMA}'")
        record = _parse(value)
        if format_record(record) != data:
            raise ValueError("it is not in canonical form")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"it has no member {error}" if isinstance(error, KeyError) else str(error)
        raise CorruptError(
            f"not a record: {ascii(problem)[1:-1]}",
            hint="records are written by gitml only: take one side of a merge whole, or delete the file",
        ) from None
    return record


def _parse(value: dict[str, Any]) -> Record:
    return Record(
        stage=_text(value["stage"]),
        key=_digest(value["key"]),
        output_path=bytes_of(_text(value["output"]["path"])),
        output_tree=Oid.parse(_text(value["output"]["tree"])),
        inputs=_each(value["inputs"], _parse_input),
        code=_each(value["code"], _parse_code),
        params={_text(path): _object(keys) for path, keys in _object(value["params"]).items()},
        spec=_object(value["spec"]),
        total=_count(value["datums"]["total"]),
        recovered=_count(value["datums"]["recovered"]),
        accepted=_text(_object(value["accepted"])["reason"]) if "accepted" in value else None,
        hold=_parse_hold(_object(value["hold"])) if "hold" in value else None,
    )


def _parse_hold(value: dict[str, Any]) -> RecordHold:
    until, key = _text(value.get("until", "")), _text(value.get("key", ""))
    if until and date.fromisoformat(until).isoformat() != until:
        raise ValueError("the end of a hold is not a day")
    return RecordHold(reason=_text(value.get("reason", "")), until=until, key=_digest(key) if key else "")


_T = TypeVar("_T")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a member that should be text is not")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a member that should be an object is not")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a count is not a number from 0 up")
    return value


def _digest(value: object) -> str:
    text = _text(value)
    if len(bytes.fromhex(text)) != 32 or text != text.lower():
        raise ValueError("the key is not a digest")
    return text


def _each(values: object, parse: Callable[[dict[str, Any]], _T]) -> tuple[_T, ...]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("a member that should be a list of objects is not")
    return tuple(map(parse, values))


def _parse_entry(value: dict[str, Any]) -> RecordEntry:
    return RecordEntry(int(_text(value["mode"]), 8), Oid.parse(_text(value["oid"])))


def _parse_input(value: dict[str, Any]) -> RecordInput:
    return RecordInput(
        name=_text(value["name"]),
        path=bytes_of(_text(value["path"])),
        glob=_text(value["glob"]),
        entry=_parse_entry(value),
        commit=Oid.parse(_text(value["commit"])) if "commit" in value else None,
    )


def _parse_code(value: dict[str, Any]) -> RecordCode:
    return RecordCode(target=_text(value["target"]), source=bytes_of(_text(value["source"])), entry=_parse_entry(value))
