"""Every field that a specification sets, as it stands there: looked up in the table, and not checked any further.

For whoever asks which fields there are before anything is read: `reading` would stop at those that are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gitml.pipeline.spec.error import Place
from gitml.pipeline.spec.fields import OBJECTS, Disposition, Field, camel
from gitml.record import record

EMPTY: tuple[object, ...] = (None, False, 0, "", [])
"""Values that mean the same as leaving a field out."""
SPELLED: Mapping[str, Mapping[str, str]] = {
    name: {camel(known): known for known in fields} | {known: known for known in fields}
    for name, fields in OBJECTS.items()
}
"""By object: the field that each accepted spelling means."""
_REFUSED = frozenset(
    spelling
    for name, spelled in SPELLED.items()
    for spelling, known in spelled.items()
    if OBJECTS[name][known].disposition is Disposition.NEVER
)
SCHEMA_KEY = "$schema"
"""Editors put it into any object, and Pachyderm looks past it."""


@record
class Met:
    """A field that a specification sets."""

    field: Field | None
    """None: nobody knows it."""
    key: str
    value: Any
    place: Place


def fields_met(value: object, name: str, place: Place) -> Iterator[Met]:
    """Every field below `value`, the object called `name` in the table, that is set to anything."""
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if key == SCHEMA_KEY or inner in EMPTY:
            continue
        known = SPELLED[name].get(key)
        field = OBJECTS[name][known] if known is not None else None
        if field is not None and inner in field.harmless:
            continue
        at = place.field(key)
        yield Met(field, known or key, inner, at)
        if field is not None and field.object is not None and field.disposition is Disposition.SUPPORTED:
            several = [(item, at.item(n)) for n, item in enumerate(inner)] if isinstance(inner, list) else [(inner, at)]
            for item, where in several:
                yield from fields_met(item, field.object, where)


def refused_for_good(spec: object, place: Place) -> tuple[Met, ...]:
    """The fields of a specification that are refused whatever else it says, not for their spelling or their age."""
    if not _may_be_refused(spec):
        return ()
    found = fields_met(spec, "stage", place)
    return tuple(met for met in found if met.field is not None and met.field.disposition is Disposition.NEVER)


def _may_be_refused(value: object) -> bool:
    """Whether a key below `value` is spelled as such a field. Places take time, and few specifications have any."""
    if isinstance(value, Mapping):
        return not _REFUSED.isdisjoint(value) or any(map(_may_be_refused, value.values()))
    return isinstance(value, list) and any(map(_may_be_refused, value))
