"""The JSON Schema of `pipeline.json`, made from the table of fields, so that editors complete and check.

`pipeline.schema.json` beside this module is `schema_text()`; a test keeps them equal. Draft 7, which editors
know best. It says what one file can say of itself; paths, cycles and images are for `load`.
"""

import json
from typing import Any

from gitml.pipeline.spec.fields import OBJECTS, REQUIRED, Disposition, Field, Kind, camel

_STRING = {"type": "string"}
_INTEGER = {"type": ["integer", "string"], "pattern": "^-?[0-9]{1,19}$"}
_STRING_MAP = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
_UNIT = "([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h)"
_SHAPES: dict[Kind, dict[str, Any]] = {
    Kind.STRING: _STRING,
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.INTEGER: _INTEGER,
    Kind.NUMBER: {"type": ["number", "string"], "pattern": "^-?[0-9]{1,19}(\\.[0-9]{1,19})?$"},
    Kind.DURATION: {"type": "string", "pattern": f"^({_UNIT})+$"},
    Kind.STRINGS: {"type": "array", "items": _STRING},
    Kind.INTEGERS: {"type": "array", "items": _INTEGER},
    Kind.STRING_MAP: _STRING_MAP,
    Kind.CODE: {"anyOf": [_STRING_MAP, {"type": "array", "items": {"anyOf": [_STRING, _STRING_MAP]}}]},
    Kind.ENUM: {},
    Kind.ANY: {},
}


def schema_text() -> str:
    """The schema as text, with a newline at its end."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The schema as a JSON value."""
    definitions = {name: _object(name) for name in OBJECTS if name != "document"}
    definitions["specification"] = {"allOf": [_ref("stage"), {"required": ["pipeline"]}]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "pipeline.json",
        "description": "Stages of a gitml pipeline: Pachyderm pipeline specifications.",
        "definitions": definitions,
        "if": {
            "type": "object",
            "anyOf": [{"required": ["stages"]}, {"required": ["defaults"]}, {"required": ["images"]}],
        },
        "then": _document(),
        "else": {
            "if": {"type": "array"},
            "then": {"items": _ref("specification")},
            "else": _ref("specification"),
        },
    }


def _document() -> dict[str, Any]:
    made = _object("document")
    path = {"type": "string", "description": "Path or glob of a file with stages."}
    template = {
        "type": "object",
        "description": "A Jsonnet template, and the arguments of its function.",
        "properties": {"file": path, "args": {"type": "object"}},
        "required": ["file"],
        "additionalProperties": False,
    }
    stage = {"anyOf": [_ref("specification"), path, template]}
    made["properties"]["stages"] |= {"type": "array", "items": stage}
    made["properties"]["images"] |= {"type": "object", "additionalProperties": _ref("image")}
    return made


def _object(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for known, field in OBJECTS[name].items():
        properties[known] = _value(field)
        if camel(known) != known:
            properties[camel(known)] = properties[known]
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if name == "stage":
        properties["$schema"] = _STRING
    if name == "input":
        made |= {"minProperties": 1, "maxProperties": 1}
    if name in REQUIRED:
        made["required"] = list(REQUIRED[name])
    return made


def _value(field: Field) -> dict[str, Any]:
    about = field.about
    if field.disposition is Disposition.IGNORED:
        about = f"Ignored: {about}."
    elif field.disposition is not Disposition.SUPPORTED:
        about = f"Not accepted: {about}; {field.hint}."
        return {"description": about, "enum": [None, False, 0, "", [], *field.harmless], "deprecated": True}
    if field.kind is Kind.OBJECT:
        return {"description": about, "allOf": [_ref(str(field.object))]}
    if field.kind in {Kind.OBJECTS, Kind.METRICS}:
        item = _ref(str(field.object))
        items = {"anyOf": [_STRING, item]} if field.kind is Kind.METRICS else item
        return {"description": about, "type": "array", "items": items, **field.schema}
    return {"description": about, **_SHAPES[field.kind], **field.schema}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}
