"""The text of a specification file as JSON values.

Accepted: one JSON or YAML document, several YAML documents (`---`), several JSON values one after the other.
Text is tried as JSON first: that is fast, and most files are. What JSON refuses is read as YAML, as Pachyderm
reads every file, but with the scalars of the YAML 1.2 core schema (`yes` is a string). Hidden here: both
parsers, their limits, and how their errors look.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from gitml.pipeline.spec.error import Place, SpecError, printable, quoted

MAX_BYTES = 1 << 20
"""Size of a specification file at most. PyYAML needs seconds for a megabyte."""
MAX_DEPTH = 64
"""Objects and lists inside each other at most."""

_BETWEEN = re.compile(r"(?:[ \t\r\n]+|^---(?=\s|\Z))*", re.MULTILINE)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_ODD_INTEGER = re.compile(r"[-+]?(?:0[xob]?[0-9A-Fa-f_]+|[0-9]+_[0-9_]*)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING_TAG = "tag:yaml.org,2002:str"


class Object(dict[str, Any]):
    """A JSON object that remembers a key which stood in it twice; the last one counts, as for Pachyderm."""

    repeated: str | None = None


def parse_documents(data: bytes, file: str) -> list[tuple[Any, Place]]:
    """The documents in `data`, the content of `file`, each with its place; null documents are left out.

    Objects are `Object`; integers have at most 20 characters, numbers are finite,
    strings are free of NUL and encode to UTF-8. Raise `SpecError`: with line and column for bad syntax.
    """
    if len(data) > MAX_BYTES:
        raise SpecError(
            Place(file),
            f"too large: {len(data)} bytes, at most {MAX_BYTES} are read",
            hint="list the stages in several files and name these in 'stages'",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        raise SpecError(Place(file), "not UTF-8 text", hint="save the file as UTF-8", position=at) from None
    values = [value for value in _parse(text, file) if value is not None]
    several = len(values) > 1
    found = [(value, Place(file, (), number if several else None)) for number, value in enumerate(values)]
    for value, place in found:
        _inspect(value, place)
    return found


def _parse(text: str, file: str) -> list[Any]:
    try:
        return list(_json_values(text))
    except RecursionError:
        raise _too_deep(Place(file)) from None
    except json.JSONDecodeError as json_error:
        try:
            return list(_yaml_values(text, file))
        except SpecError as yaml_error:
            if text.lstrip()[:1] not in {"{", "["} or isinstance(yaml_error, _ContentError):
                raise
        problem = f"not JSON: {json_error.msg[:1].lower()}{json_error.msg[1:]}"
        raise SpecError(Place(file), problem, position=(json_error.lineno, json_error.colno)) from None


def skipping_decoder() -> json.JSONDecoder:
    """A decoder for values that are only passed over: it fails on no number, however long."""
    return json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def document_starts(text: str) -> list[int] | None:
    """Where each document that is not null begins in JSON text; None if the text is YAML."""
    starts: list[int] = []
    at, decoder = _skip(text, 0), skipping_decoder()
    try:
        while at < len(text):
            value, end = decoder.raw_decode(text, at)
            if value is not None:
                starts.append(at)
            at = _skip(text, end)
    except json.JSONDecodeError:
        return None
    return starts


def _json_values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_json_object, parse_int=_integer, parse_float=_number, parse_constant=_Unreadable
    )
    at, end = _skip(text, 0), len(text)
    while at < end:
        value, at = decoder.raw_decode(text, at)
        yield value
        at = _skip(text, at)


def _skip(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _json_object(pairs: list[tuple[str, Any]]) -> Object:
    made = Object(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        made.repeated = next(key for at, key in enumerate(keys) if key in keys[:at])
    return made


class _Unreadable(str):
    """The text of a number that cannot be one of ours; reported once its place is known."""

    __slots__ = ()


def _integer(text: str) -> int | _Unreadable:
    return int(text) if len(text) <= 20 else _Unreadable(text)


def _number(text: str) -> float | _Unreadable:
    number = float(text)
    return number if abs(number) < float("inf") else _Unreadable(text)


class _ContentError(SpecError):
    """YAML that is well formed and refused all the same; JSON has nothing better to say about it."""


def _yaml_values(text: str, file: str) -> Iterator[Any]:
    import yaml  # 20 ms, and most files are JSON  # noqa: PLC0415

    events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    reader = _YamlReader(events, file)
    try:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                yield reader.node(next(events), 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = _position(mark) if mark is not None else None
        problem = f"neither JSON nor YAML: {printable(error.problem or error.context or '')}"
        raise SpecError(Place(file), problem, position=position) from None
    except yaml.YAMLError:
        raise SpecError(Place(file), "neither JSON nor YAML: it holds control characters") from None


def _position(mark: Any) -> tuple[int, int]:
    """The position of a mark of PyYAML or of libyaml, which share no type."""
    return mark.line + 1, mark.column + 1


class _YamlReader:
    """Builds values from the events of PyYAML, so that aliases, tags and depth never get as far as its loader."""

    def __init__(self, events: Iterator[Any], file: str) -> None:
        import yaml  # noqa: PLC0415

        self._events = events
        self._file = file
        self._alias, self._scalar = yaml.AliasEvent, yaml.ScalarEvent
        self._list, self._list_end, self._map_end = yaml.SequenceStartEvent, yaml.SequenceEndEvent, yaml.MappingEndEvent

    def node(self, event: Any, depth: int) -> Any:
        """The value that begins with `event`."""
        if depth > MAX_DEPTH:
            raise _too_deep(Place(self._file))
        if isinstance(event, self._alias):
            raise self._error(event, f"YAML alias {quoted(f'*{event.anchor}')}", "write the value out")
        if event.tag not in (None, "!") and not (isinstance(event, self._scalar) and event.tag == _STRING_TAG):
            raise self._error(event, f"YAML tag {quoted(event.tag)}", "write the value without a tag")
        if isinstance(event, self._scalar):
            return self._plain(event) if event.implicit[0] else event.value
        if isinstance(event, self._list):
            items = []
            while not isinstance(inner := next(self._events), self._list_end):
                items.append(self.node(inner, depth + 1))
            return items
        made = Object()
        while not isinstance(inner := next(self._events), self._map_end):
            if not isinstance(inner, self._scalar):
                raise self._error(inner, "a key that is not a string", None)
            if inner.value in made:
                made.repeated = inner.value
            made[inner.value] = self.node(next(self._events), depth + 1)
        return made

    def _plain(self, event: Any) -> Any:
        """The value of a scalar without quotes."""
        text: str = event.value
        if text in _NULL:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.fullmatch(text):
            return _integer(text)
        if _ODD_INTEGER.fullmatch(text):
            raise self._error(event, f"{quoted(text)} is not a plain decimal number", "quote it if it is a string")
        return _number(text) if _FLOAT.fullmatch(text) else text

    def _error(self, event: Any, problem: str, hint: str | None) -> _ContentError:
        return _ContentError(Place(self._file), problem, hint=hint, position=_position(event.start_mark))


def _is_allowed(document: Any) -> bool:
    """Whether a document holds nothing that `_inspect` would complain about; without places, which take time."""
    waiting: list[tuple[Any, int]] = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        kind = type(value)
        if kind is str:
            if "\0" in value or not (value.isascii() or _SURROGATE.search(value) is None):
                return False
        elif kind is Object:
            if depth >= MAX_DEPTH:
                return False
            waiting.extend([(key, depth) for key in value])
            waiting.extend([(inner, depth + 1) for inner in value.values()])
        elif kind is list:
            if depth >= MAX_DEPTH:
                return False
            waiting.extend([(inner, depth + 1) for inner in value])
        elif kind is _Unreadable:
            return False
    return True


def _inspect(document: Any, root: Place) -> None:
    """Raise `SpecError` for what both syntaxes allow and no specification may hold."""
    if _is_allowed(document):
        return
    waiting: list[tuple[Any, Place, int]] = [(document, root, 0)]
    while waiting:
        value, place, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep(Place(root.file))
        if isinstance(value, Object):
            for key, inner in value.items():
                _inspect_text(key, place)
                waiting.append((inner, place.field(key), depth + 1))
        elif isinstance(value, list):
            waiting.extend((inner, place.item(n), depth + 1) for n, inner in enumerate(value))
        elif isinstance(value, str):
            _inspect_text(value, place)


def _inspect_text(text: str, place: Place) -> None:
    if isinstance(text, _Unreadable):
        raise SpecError(place, f"{quoted(text)} is not a number that gitml can read")
    if "\0" in text:
        raise SpecError(place, "a string with a NUL character")
    if _SURROGATE.search(text):
        raise SpecError(place, "a string with half of a surrogate pair", hint="write the character itself")


def _too_deep(place: Place) -> SpecError:
    return SpecError(place, f"nested too deep: at most {MAX_DEPTH} levels are read")
