"""The specification that holds for a stage: built-in defaults, under `defaults`, under what the stage says itself.

It is what Pachyderm calls the effective specification, with its names of fields in snake_case, and reading it again
gives the same stage.
"""

from typing import Any

from gitml.pipeline.spec.fields import OBJECTS, Field, Kind
from gitml.pipeline.spec.inputs import mount_name, normal_glob
from gitml.pipeline.spec.reading import Node
from gitml.provenance.codec import text_of

BUILT_IN: dict[str, Any] = {
    "parallelism_spec": {"constant": 1},
    "datum_tries": 3,
    "reprocess_spec": "until_success",
    "output_branch": "master",
}
"""What holds where nobody says otherwise."""

_COMBINED = ("cross", "union", "join", "group")


def effective(node: Node, output: bytes) -> dict[str, Any]:
    """The specification of a stage as a JSON value.

    `node` is what was read of it, with `defaults` laid under; `output` is where its results go.
    """
    found = _value(node, Field(kind=Kind.OBJECT, object="stage", about=""))
    for name, value in BUILT_IN.items():
        if not found.get(name):
            found[name] = value
    found.setdefault("output", text_of(output))
    if "input" in found:
        found["input"] = _input(found["input"], found["pipeline"]["name"])
    return {name: found[name] for name in OBJECTS["stage"] if name in found}


def _value(node: Node, field: Field | None) -> Any:
    """The plain value of what stands in `field`; what was taken out, and null, is left out."""
    value = node.value
    if field is None or field.kind is Kind.ANY or value is None:
        return value
    if field.kind is Kind.DURATION:
        return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, dict):
        known = OBJECTS[field.object] if field.object is not None else {}
        members = known or dict.fromkeys(value, Field(kind=Kind.STRING, about=""))
        return {name: _value(inner, members[name]) for name, inner in value.items() if inner.value is not None}
    if isinstance(value, list):
        return [_value(inner, field) if isinstance(inner.value, dict) else inner.value for inner in value]
    return value


def _input(given: dict[str, Any], stage: str) -> dict[str, Any]:
    """An input with what follows from what it says; `stage` is the name without the project."""
    for kind in _COMBINED:
        if kind in given:
            return {kind: [_input(inner, stage) for inner in given[kind]]}
    if "cron" in given:
        return {"cron": {**given["cron"], "repo": given["cron"].get("repo") or f"{stage}_{given['cron']['name']}"}}
    pfs = {**given["pfs"], "name": given["pfs"].get("name") or mount_name(given["pfs"]["repo"])}
    pfs["glob"] = normal_glob(pfs["glob"])
    if not pfs.get("commit"):
        pfs["branch"] = pfs.get("branch") or "master"
    return {"pfs": {name: pfs[name] for name in OBJECTS["pfs"] if name in pfs}}
