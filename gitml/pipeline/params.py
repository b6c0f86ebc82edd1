"""Parameters: selected values of JSON, YAML and TOML files, for keys and for the workspace.

A task sees a file that holds only what its stage selected, so it cannot depend on the rest; and its key holds
values, not text, so comments and layout never cause a run.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from itertools import islice
from typing import Any

from gitml.errors import UserError
from gitml.pipeline.spec.model import ParamRef, Stage
from gitml.provenance.codec import Json, canonical, printable, text_of
from gitml.record import record
from gitml.store.tree import Snapshot

_LARGEST = 16 << 20
"""Bytes of a parameter file; it is parsed whole."""
_DEEPEST = 100
_MOST_VALUES = 1_000_000
"""Values in one file with its aliases written out: a small YAML file can stand for a huge value."""


@record
class Params:
    """The parameters of a stage."""

    value: Mapping[str, Mapping[str, Json]]
    """File, then dotted key (`""` for a whole file), then value; see `plain` for what JSON lacks."""
    files: Mapping[bytes, bytes]
    """What to lay into the workspace: path, and content in the file's own format with the selected keys."""


def read_params(stage: Stage, snapshot: Snapshot) -> Params:
    """The parameters `stage` selects at the tree of `snapshot`.

    Raise `UserError` for a file or key that is missing, a file that cannot be parsed, or a format other than
    JSON, YAML and TOML.
    """
    documents: dict[bytes, Any] = {}
    selected: dict[bytes, dict[tuple[Any, ...], Any]] = {}
    value: dict[str, dict[str, Json]] = {}
    for ref in stage.params:
        if ref.path not in documents:
            documents[ref.path] = _parse(stage, ref, snapshot)
        place, found = _select(stage, ref, documents[ref.path])
        selected.setdefault(ref.path, {})[place] = found
        value.setdefault(text_of(ref.path), {})[ref.key or ""] = plain(found, printable(ref.path))
    files = {path: _format(path, _merged(places)) for path, places in selected.items()}
    return Params({path: dict(sorted(keys.items())) for path, keys in sorted(value.items())}, files)


def plain(value: object, where: str) -> Json:
    """`value` as canonical JSON can hold it: one form for one value.

    What JSON lacks becomes an object with one member whose name begins with `$`: `$float` ("nan", "inf",
    "-inf"), `$date`, `$time`, `$datetime` (ISO 8601), `$bytes` (hex), `$set` and `$map` (sorted by the
    canonical JSON of members and keys; a map is one that has keys other than text). Members of the user's own
    objects that begin with `$` get another `$` in front. Raise `UserError` for a value that is recursive or
    too large, or text that is not Unicode; `where` names the file.
    """
    left = [_MOST_VALUES]

    def convert(inner: object, depth: int) -> Json:
        left[0] -= 1
        if left[0] < 0 or depth > _DEEPEST:
            raise UserError(f"'{where}' holds a value that is too large, too deep or contains itself")
        match inner:
            case None | bool() | int():
                return inner
            case float():
                return inner if math.isfinite(inner) else {"$float": str(inner)}
            case str():
                return _unicode(inner, where)
            case datetime():
                return {"$datetime": inner.isoformat()}
            case date():
                return {"$date": inner.isoformat()}
            case time():
                return {"$time": inner.isoformat()}
            case bytes():
                return {"$bytes": inner.hex()}
            case list() | tuple():
                return [convert(member, depth + 1) for member in inner]
            case set() | frozenset():
                return {"$set": sorted((convert(member, depth + 1) for member in inner), key=canonical)}
            case dict() if all(isinstance(key, str) for key in inner):
                return {
                    ("$" if key.startswith("$") else "") + _unicode(key, where): convert(member, depth + 1)
                    for key, member in inner.items()
                }
            case dict():
                pairs = [[convert(key, depth + 1), convert(member, depth + 1)] for key, member in inner.items()]
                return {"$map": sorted(pairs, key=canonical)}
            case _:
                raise UserError(
                    f"'{where}' holds a value of the type {type(inner).__name__}, which has no place in a key"
                )

    return convert(value, 0)


def _unicode(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"'{where}' holds text that is not Unicode: {text!a}") from None
    return text


def _suffix(path: bytes) -> str:
    return text_of(path.rpartition(b"/")[2].rpartition(b".")[2]).lower()


def _parse(stage: Stage, ref: ParamRef, snapshot: Snapshot) -> Any:
    name = printable(ref.path)
    parse = _PARSERS.get(_suffix(ref.path))
    if parse is None:
        raise UserError(
            f"parameter file '{name}' of stage '{printable(stage.name)}' is not JSON, YAML or TOML",
            hint="name it *.json, *.yaml, *.yml or *.toml, or list it under 'code'",
        )
    entry = snapshot.get(ref.path)
    if entry is None or not entry.is_file:
        raise UserError(
            f"parameter file '{name}' of stage '{printable(stage.name)}' is missing",
            hint=_nearest(name, _siblings(ref.path, snapshot), "the nearest file is")
            or f"commit it, or correct 'params' in {stage.where}",
        )
    data = snapshot.read(ref.path)
    if len(data) > _LARGEST:
        raise UserError(f"parameter file '{name}' has {len(data)} bytes, more than {_LARGEST}")
    try:
        return parse(data)
    except UserError as error:
        raise UserError(f"cannot read parameter file '{name}': {error.message}") from None
    except RecursionError:
        raise UserError(f"cannot read parameter file '{name}': it nests too deeply") from None
    except ValueError as error:  # what JSON, TOML, UTF-8 and number parsing raise
        raise UserError(f"cannot read parameter file '{name}': {_one_line(error)}") from None


def parse_text(path: bytes, data: bytes) -> Any:
    """What a parameter file with this content holds; raise `UserError` if it cannot be read."""
    name, parse = printable(path), _PARSERS.get(_suffix(path))
    if parse is None:
        raise UserError(f"'{name}' is not JSON, YAML or TOML")
    try:
        return parse(data)
    except UserError as error:
        raise UserError(f"cannot read parameter file '{name}': {error.message}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read parameter file '{name}': {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))


def _siblings(path: bytes, snapshot: Snapshot) -> list[str]:
    folder, slash, _ = path.rpartition(b"/")
    return [printable(folder + slash + name) for name, entry in snapshot.list(folder).items() if entry.is_file]


def _nearest(wanted: str, known: list[str], words: str) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - only once something is wrong

    close = get_close_matches(wanted, known, n=1, cutoff=0.5)
    return f"{words} '{close[0]}'" if close else None


def _parse_yaml(data: bytes) -> Any:
    import yaml  # noqa: PLC0415 - 20 ms that a pipeline without YAML parameters need not pay

    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise UserError(_one_line(error)) from None


def _load_toml(data: bytes) -> Any:
    import tomllib  # noqa: PLC0415 - as for YAML

    return tomllib.loads(data.decode("utf-8"))


_PARSERS: Mapping[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "yaml": _parse_yaml,
    "yml": _parse_yaml,
    "toml": _load_toml,
}


def _select(stage: Stage, ref: ParamRef, document: Any) -> tuple[tuple[Any, ...], Any]:
    """Where the selected value stands (the keys that lead to it), and the value."""
    if ref.key is None:
        return (), document
    for place, found in _places(document, ref.key):
        return place, found
    known = list(islice(_keys(document, "", 0), 1000))
    raise UserError(
        f"parameter '{printable(ref.key)}' of stage '{printable(stage.name)}' is not in '{printable(ref.path)}'",
        hint=_nearest(ref.key, known, "the nearest key is")
        or (f"the file has {', '.join(repr(key) for key in known[:5])}" if known else "the file has no keys"),
    )


def _places(node: Any, key: str) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Everything the dotted `key` can mean below `node`: keys may hold dots themselves, the longest wins."""
    if not isinstance(node, dict):
        return
    if key in node:
        yield (key,), node[key]
    at = key.rfind(".")
    while at > 0:
        head, rest = key[:at], key[at + 1 :]
        if head in node:
            for place, found in _places(node[head], rest):
                yield (head, *place), found
        at = key.rfind(".", 0, at)


def _keys(node: Any, prefix: str, depth: int) -> Iterator[str]:
    if not isinstance(node, dict) or depth > _DEEPEST:
        return
    for key, inner in node.items():
        yield printable(f"{prefix}{key}")
        yield from _keys(inner, f"{prefix}{key}.", depth + 1)


def _merged(places: Mapping[tuple[Any, ...], Any]) -> Any:
    """One document with each value at its place; a place inside another is part of it already."""
    if () in places:
        return places[()]
    document: dict[Any, Any] = {}
    taken: set[tuple[Any, ...]] = set()
    for place in sorted(places, key=len):
        if any(place[:length] in taken for length in range(1, len(place))):
            continue
        taken.add(place)
        node = document
        for key in place[:-1]:
            node = node.setdefault(key, {})
        node[place[-1]] = places[place]
    return document


def _format(path: bytes, document: Any) -> bytes:
    suffix = _suffix(path)
    if suffix == "json":
        return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8") + b"\n"
    if suffix == "toml":
        import tomli_w  # noqa: PLC0415 - needed only here

        return tomli_w.dumps(document).encode("utf-8")
    # YAML's own writer, not JSON text: readers of YAML 1.1 take JSON's 1e-05 for a string
    import yaml  # noqa: PLC0415 - as above

    written: bytes = yaml.safe_dump(document, encoding="utf-8", allow_unicode=True, sort_keys=False)
    return written
