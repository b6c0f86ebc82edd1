"""Where values stand in the text of a JSON, YAML or TOML file: for people to find them, and to change one of them.

Parsers give values and forget where they were. This finds the place of a value again, by the keys that lead to it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # the standard library's own, without a type
from typing import Any

from gitml.provenance.codec import text_of
from gitml.record import field, record

_LARGEST = 1 << 20
"""Characters of a file that is searched; finding a place is no reason to wait."""
_DEEPEST = 100


@record(frozen=False)
class Spot:
    """A value: the line of its key (from 1) and its characters. `end` is -1 where the end is not known."""

    line: int
    start: int
    end: int
    members: dict[str, "Spot"] = field(default_factory=dict)
    """Of an object by key; of a list by number."""


def spots(path: bytes, data: bytes) -> Spot | None:
    """All places of a file by its name's ending; None if it cannot be read, or is too large."""
    find = _FINDERS.get(text_of(path.rpartition(b"/")[2].rpartition(b".")[2]).lower())
    if find is None or len(data) > _LARGEST:
        return None
    try:
        return find(data.decode("utf-8"))
    except (ValueError, RecursionError, IndexError):
        return None


def spot_of(root: Spot | None, key: str) -> Spot | None:
    """The place of a dotted key; keys may hold dots themselves, the longest wins. `""` is the whole file."""
    if root is None or not key:
        return root
    if key in root.members:
        return root.members[key]
    at = key.rfind(".")
    while at > 0:
        if key[:at] in root.members:
            found = spot_of(root.members[key[:at]], key[at + 1 :])
            if found is not None:
                return found
        at = key.rfind(".", 0, at)
    return None


def line_of(path: bytes, data: bytes, key: str) -> int | None:
    """The line, from 1, on which a dotted key stands; None if that cannot be told."""
    found = spot_of(spots(path, data), key)
    return found.line if found is not None else None


# --- JSON ---


_SPACE = re.compile(r"[ \t\r\n]*")


def _json(text: str) -> Spot:
    text = text.removeprefix("\ufeff")
    lines = _Lines(text)
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        match = _SPACE.match(text, at)
        assert match is not None
        return match.end()

    def value(at: int, line: int, depth: int) -> Spot:
        if depth > _DEEPEST or text[at] not in "{[":
            return Spot(line, at, decoder.raw_decode(text, at)[1])
        spot, opening, place, number = Spot(line, at, -1), text[at], skip(at + 1), 0
        closing = "}" if opening == "{" else "]"
        while text[place] != closing:
            key, key_at = str(number), place
            if opening == "{":
                key, place = scanstring(text, place + 1, True)
                place = skip(skip(place) + 1)
            member = value(place, lines.number(key_at), depth + 1)
            spot.members[key] = member
            place = skip(member.end)
            place = skip(place + 1) if text[place] == "," else place
            number += 1
        spot.end = place + 1
        return spot

    return value(skip(0), 1, 0)


class _Lines:
    """Positions to line numbers; asked with growing positions."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1

    def number(self, at: int) -> int:
        self._line += self._text.count("\n", self._at, at)
        self._at = max(self._at, at)
        return self._line


# --- YAML ---


def _yaml(text: str) -> Spot:
    import yaml  # noqa: PLC0415 - 20 ms that most files need not pay

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if root is None:
        raise ValueError("no document")

    def spot(node: Any, line: int, depth: int) -> Spot:
        found = Spot(line, node.start_mark.index, node.end_mark.index)
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            found.end = -1  # a block ends where the next thing begins, past comments and empty lines
        if depth > _DEEPEST:
            return found
        if isinstance(node, yaml.MappingNode):
            for key, inner in node.value:
                found.members[str(key.value)] = spot(inner, key.start_mark.line + 1, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for number, inner in enumerate(node.value):
                found.members[str(number)] = spot(inner, inner.start_mark.line + 1, depth + 1)
        return found

    return spot(root, 1, 0)


# --- TOML ---


_HEADER = re.compile(r"[ \t]*\[(?!\[)(.*)\][ \t]*(?:#.*)?")
_ARRAY = re.compile(r"[ \t]*\[\[")
_PAIR = re.compile(
    r"""[ \t]*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:[ \t]*\.[ \t]*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)[ \t]*=[ \t]*"""
)


def _toml(text: str) -> Spot:
    """Line by line: the library gives no positions. What goes over several lines has a line and no end."""
    root, table, at = Spot(1, 0, -1), [], 0
    inside = True
    """Whether lines belong to a table that a dotted key can name: not in arrays of tables."""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        header, pair = _HEADER.fullmatch(line.rstrip("\r\n")), _PAIR.match(line)
        if _ARRAY.match(line):
            inside = False
        elif header is not None:
            keys = _toml_keys(f"[{header[1]}]")
            if keys:
                table, inside = keys, True
                _enter(root, table, number, at)
        elif pair is not None and inside:
            keys = _toml_keys(f"{pair[1]} = 0")
            if keys:
                length = _toml_length(line[pair.end() :].rstrip("\r\n"))
                start = at + pair.end()
                below = _enter(root, [*table, *keys[:-1]], number, at)
                below.members.setdefault(keys[-1], Spot(number, start, start + length if length else -1))
        at += len(line)
    return root


def _enter(root: Spot, keys: list[str], line: int, at: int) -> Spot:
    for key in keys:
        root = root.members.setdefault(key, Spot(line, at, -1))
    return root


def _toml_keys(text: str) -> list[str]:
    import tomllib  # noqa: PLC0415 - as for YAML

    try:
        value: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return []
    keys: list[str] = []
    while isinstance(value, Mapping) and len(value) == 1:
        key = next(iter(value))
        keys.append(key)
        value = value[key]
    return keys


def _toml_length(rest: str) -> int:
    """How much of the rest of a line is the value, without a comment; 0 if the value does not end there."""
    import tomllib  # noqa: PLC0415 - as for YAML

    for end in _ends(rest):
        try:
            tomllib.loads(f"x = {rest[:end]}")
        except tomllib.TOMLDecodeError:
            continue
        return len(rest[:end].rstrip())
    return 0


def _ends(rest: str) -> Iterator[int]:
    for match in re.finditer("#", rest):
        yield match.start()
    yield len(rest)


_FINDERS: Mapping[str, Callable[[str], Spot]] = {"json": _json, "yaml": _yaml, "yml": _yaml, "toml": _toml}
