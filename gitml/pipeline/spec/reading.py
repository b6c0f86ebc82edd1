"""JSON values checked against the table of fields, as a tree that knows where each value stands.

Hides both spellings of names, the types of protobuf's JSON mapping (64-bit integers as strings, durations,
null for absent), and what becomes of a field that is not supported. What is left is small: a `Node` has
canonical names and values of the right type.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gitml.pipeline.spec.documents import Object
from gitml.pipeline.spec.error import Findings, Place, SpecError, did_you_mean, quoted
from gitml.pipeline.spec.fields import OBJECTS, Disposition, Field, Kind, camel
from gitml.pipeline.spec.walk import EMPTY, SCHEMA_KEY, SPELLED
from gitml.record import record

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|ms|s|m|h)")
_UNIT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 315_576_000_000
"""Seconds, of protobuf's Duration."""
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]{1,19}(?:\.[0-9]{1,19})?")
_HOMES = {
    "document": "beside 'stages'",
    "stage": "beside 'pipeline' and 'transform'",
    "transform": "in 'transform'",
    "pfs": "in 'pfs'",
    "pipeline": "in 'pipeline'",
    "input": "in 'input'",
}
"""Where a field that stands in a wrong object may belong."""
_IN_A_LIST = "write [...] around it"
_REQUEST = frozenset({"create_pipeline_request", "createPipelineRequest"})
"""What is around the fields where Pachyderm keeps the defaults of a cluster or project."""
_MAP_KINDS = frozenset({Kind.STRING_MAP, Kind.CODE})


@record
class Node:
    """A checked value and its place. Objects are `dict[str, Node]`, lists `list[Node]`."""

    value: Any
    place: Place

    def get(self, name: str) -> "Node | None":
        """The value of a field, None if it is absent or null."""
        found: Node | None = self.value.get(name)
        return found if found is not None and found.value is not None else None

    def require(self, name: str) -> "Node":
        """The value of a field; raise `SpecError` if it is absent."""
        found = self.get(name)
        if found is None:
            raise SpecError(self.place, f"{quoted(name)} is missing")
        return found

    def text(self, name: str) -> str:
        """The string of a field, empty if absent."""
        found = self.get(name)
        return "" if found is None else str(found.value)

    def items(self, name: str) -> tuple[Any, ...]:
        """The plain values of the list of a field, empty if absent."""
        return tuple(item.value for item in self.nodes(name))

    def nodes(self, name: str) -> "list[Node]":
        """The list of a field, empty if absent."""
        found = self.get(name)
        return [] if found is None else list(found.value)


def read_object(value: Any, place: Place, name: str, findings: Findings) -> Node:
    """`value` as the object called `name` in the table; raise `SpecError` unless it is one.

    Fields with problems that `findings` keeps are left out.
    """
    return _Reader(place, findings).object(value, place, name, "")


def merged(under: Node, over: Node) -> Node:
    """`over` laid onto `under` as JSON merge patch does (RFC 7386): objects field by field, all else whole."""
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    fields = dict(under.value)
    for name, node in over.value.items():
        fields[name] = merged(fields[name], node) if name in fields else node
    return Node(fields, over.place)


@record
class _Reader:
    owner: Place
    findings: Findings

    def object(self, value: Any, place: Place, name: str, trail: str) -> Node:
        fields, spelled = OBJECTS[name], SPELLED[name]
        self._look_for_repeated(value, place)
        read: dict[str, Node] = {}
        first: dict[str, str] = {}
        for key, inner in _expect(value, dict, Kind.OBJECT, place).items():
            known = spelled.get(key)
            if known is None and key == SCHEMA_KEY:
                continue
            try:
                if known is None:
                    raise SpecError(place.field(key), "unknown field", hint=_remedy(key, name))
                if known in first:
                    raise SpecError(place.field(key), f"given twice, as {quoted(first[known])} and {quoted(key)}")
                first[known] = key
                node = self._field(inner, place.field(key), fields[known], f"{trail}{known}")
            except SpecError as error:
                self.findings.refuse(error)
                continue
            if node is not None:
                read[known] = node
        return Node(read, place)

    def _field(self, value: Any, place: Place, field: Field, trail: str) -> Node | None:
        if field.disposition is Disposition.SUPPORTED:
            return self._typed(value, place, field, trail)
        if value in (*EMPTY, *field.harmless):
            return None
        if field.disposition is not Disposition.IGNORED:
            raise SpecError(place, field.about, hint=field.hint)
        self.findings.ignore(trail, field.about, self.owner)
        return self._typed(value, place, field, trail)

    def _typed(self, value: Any, place: Place, field: Field, trail: str) -> Node:
        if value is None:
            return Node(None, place)
        if field.kind is Kind.OBJECT:
            assert field.object is not None
            return self.object(value, place, field.object, f"{trail}.")
        if field.kind is Kind.OBJECTS or field.kind is Kind.METRICS:
            assert field.object is not None
            plain = field.kind is Kind.METRICS
            return Node(
                [
                    Node(item, at) if plain and type(item) is str else self.object(item, at, field.object, f"{trail}.")
                    for item, at in _list(value, field.kind, place)
                ],
                place,
            )
        if field.kind in _LISTS:
            scalar = _LISTS[field.kind]
            return Node([Node(_SCALARS[scalar](item, at), at) for item, at in _list(value, field.kind, place)], place)
        if field.kind is Kind.CODE and isinstance(value, list):
            return Node([self._mount(item, at) for item, at in _list(value, field.kind, place)], place)
        if field.kind is Kind.CODE and isinstance(value, str):
            raise mismatch(value, field.kind.value, place, _IN_A_LIST)
        if field.kind in _MAP_KINDS:
            self._look_for_repeated(value, place)
            return _string_map(value, place, field.kind)
        if field.kind is Kind.ENUM:
            return Node(_enumerated(value, place, field.schema["enum"]), place)
        return Node(_SCALARS[field.kind](value, place), place)

    def _look_for_repeated(self, value: Any, place: Place) -> None:
        if type(value) is Object and value.repeated is not None:
            self.findings.remark(f"{quoted(value.repeated)} is given twice, and the last one counts", place)

    def _mount(self, value: Any, place: Place) -> Node:
        return (
            _string_map(value, place, Kind.STRING_MAP) if isinstance(value, dict) else Node(_text(value, place), place)
        )


def _remedy(key: str, name: str) -> str | None:
    """A hint for the unknown field `key` of the object `name`."""
    fields = OBJECTS[name]
    if key in _REQUEST:
        return "take it out: what is in it stands here itself"
    known = {camel(field) if key != key.lower() else field for field in fields}
    close = did_you_mean(key, known)
    if close is not None:
        return close
    # a name beside 'transform' is that of the stage, not of an input
    homes = dict(sorted(_HOMES.items(), key=lambda each: each[0] != "pipeline")) if name == "stage" else _HOMES
    for home, phrase in homes.items():
        if home != name and (key in OBJECTS[home] or key in map(camel, OBJECTS[home])):
            return f"{quoted(key)} belongs {phrase}"
    return None


def type_name(value: Any) -> str:
    """What a JSON value is, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def mismatch(value: Any, expected: str, place: Place, hint: str | None = None) -> SpecError:
    """The error that the value at `place` is not what is expected there."""
    return SpecError(place, f"expected {expected}, got {type_name(value)}", hint=hint)


def _expect(value: Any, kind: type, expected: Kind, place: Place) -> Any:
    if not isinstance(value, kind):
        raise mismatch(value, expected.value, place)
    return value


def _list(value: Any, kind: Kind, place: Place) -> Iterator[tuple[Any, Place]]:
    hint = _IN_A_LIST if isinstance(value, str) else None
    if not isinstance(value, list):
        raise mismatch(value, kind.value, place, hint)
    return ((item, place.item(n)) for n, item in enumerate(value))


def _text(value: Any, place: Place) -> str:
    if not isinstance(value, str):
        raise mismatch(
            value, Kind.STRING.value, place, 'write "..." around it' if type_name(value) == "a number" else None
        )
    return value


def _boolean(value: Any, place: Place) -> bool:
    if not isinstance(value, bool):
        raise mismatch(value, Kind.BOOLEAN.value, place)
    return value


def _enumerated(value: Any, place: Place, allowed: Sequence[str | int]) -> str:
    """The name of a value of an enum, given by name or by number."""
    names = [name for name in allowed if isinstance(name, str)]
    if isinstance(value, str) and value in names:
        return value
    if type(value) is int and 0 <= value < len(names):
        return names[value]
    if isinstance(value, str):
        raise SpecError(
            place, f"expected one of {', '.join(names)}, got {quoted(value)}", hint=did_you_mean(value, names)
        )
    raise mismatch(value, f"one of {', '.join(names)}", place)


def _integer(value: Any, place: Place) -> int:
    whole = isinstance(value, float) and value.is_integer()
    if type(value) is int or whole or (isinstance(value, str) and _INTEGER.fullmatch(value)):
        number = int(value)
    elif isinstance(value, str | float):
        raise SpecError(place, f"expected an integer, got {quoted(str(value))}")
    else:
        raise mismatch(value, Kind.INTEGER.value, place)
    if abs(number) >= 1 << 63:
        raise SpecError(place, "an integer of more than 64 bits")
    return number


def _number(value: Any, place: Place) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if type(value) is not int and not isinstance(value, float):
        raise mismatch(value, Kind.NUMBER.value, place)
    return float(value)


def _duration(value: Any, place: Place) -> float:
    if not isinstance(value, str):
        raise mismatch(value, Kind.DURATION.value, place, f'write "{value}s"' if type(value) is int else None)
    parts = _DURATION.findall(value)
    if not parts or "".join(parts) != value:
        raise SpecError(place, f"expected {Kind.DURATION.value}, got {quoted(value)}", hint="units are ms, s, m and h")
    seconds = 0.0
    for part in parts:
        number = part.rstrip("nuµmsh")
        seconds += float(number) * _UNIT[part[len(number) :]]
    if seconds > _LONGEST:
        raise SpecError(place, "a duration of more than 10000 years")
    return seconds


def _any(value: Any, place: Place) -> Any:  # noqa: ARG001
    return value


def _string_map(value: Any, place: Place, kind: Kind) -> Node:
    entries: Mapping[str, Any] = _expect(value, dict, kind, place)
    return Node({key: _entry(inner, place.field(key)) for key, inner in entries.items()}, place)


def _entry(value: Any, place: Place) -> Node:
    """An entry of a map; null takes one of `defaults` out."""
    return Node(None if value is None else _text(value, place), place)


_SCALARS: Mapping[Kind, Callable[[Any, Place], Any]] = {
    Kind.STRING: _text,
    Kind.BOOLEAN: _boolean,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.DURATION: _duration,
    Kind.ANY: _any,
}
_LISTS = {Kind.STRINGS: Kind.STRING, Kind.INTEGERS: Kind.INTEGER}
