"""XGBoost (JSON and UBJSON) and LightGBM (text).

XGBoost: doc/tutorials/saving_model.rst and doc/model.schema; UBJSON: ubjson.org/type-reference. LightGBM:
src/boosting/gbdt_model_text.cpp.
"""

import struct
from typing import Any, ClassVar

from gitml.formats.arrays import load_json
from gitml.formats.source import MOST_ITEMS, Source
from gitml.formats.summary import FormatError, Scalar, Summary, brief, flat

_MOST_BYTES = 512 << 20
"""Bytes of a file that is parsed whole."""


def _whole(source: Source) -> bytes:
    if source.size > _MOST_BYTES:
        raise FormatError(f"{source.size} bytes, at most {_MOST_BYTES} are parsed")
    source.file.seek(0)
    return source.file.read()


def read_xgboost(source: Source) -> Summary:
    """A model of XGBoost as JSON or UBJSON; raise `FormatError`."""
    data = _whole(source)
    # in JSON a quote or the end follows the brace, in UBJSON a type or a length
    text = data[1:2].isspace() or data[1:2] in (b'"', b"}")
    value = load_json(data) if text else _Ubjson(data).value()
    learner = _object(value, "learner")
    if not learner:
        raise FormatError("no model of XGBoost: there is no learner")
    booster = _object(learner, "gradient_booster")
    model = _object(booster, "model") or _object(_object(booster, "gbtree"), "model")  # the latter is dart
    trees = _array(model, "trees")
    nodes = [brief(_object(each, "tree_param").get("num_nodes")) for each in trees]
    facts = {"trees": str(len(trees)), "nodes": str(sum(int(each) for each in nodes if each.isdecimal()))}
    if version := _array(value, "version"):
        facts["xgboost"] = ".".join(map(brief, version[:8]))
    parameters: dict[str, Scalar] = {"booster": brief(booster.get("name"))}
    parameters.update(flat(_object(learner, "learner_model_param")))
    parameters.update(flat(_object(learner, "objective"), "objective"))
    attributes = _object(learner, "attributes")
    parameters.update(flat({key: each for key, each in attributes.items() if key != "scikit_learn"}))
    if kinds := _array(learner, "feature_types"):
        facts["feature types"] = ", ".join(map(brief, kinds[:200]))
    features = tuple(brief(name) for name in _array(learner, "feature_names"))
    return Summary(format="xgboost", parameters=parameters, features=features, facts=facts)


def _object(value: Any, key: str) -> dict[str, Any]:
    """A member that is an object; an empty one if there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _array(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


class _Ubjson:
    """A reader of UBJSON, draft 12, with the typed arrays that XGBoost writes."""

    _NUMBERS: ClassVar = {b"i": "b", b"U": "B", b"I": "h", b"l": "i", b"L": "q", b"d": "f", b"D": "d"}

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if count < 0 or len(found) != count:
            raise FormatError("the file ends too early")
        self._at += count
        return found

    def _number(self, kind: bytes) -> Any:
        layout = ">" + self._NUMBERS[kind]
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _length(self) -> int:
        kind = self._take(1)
        if kind not in (b"i", b"U", b"I", b"l", b"L"):
            raise FormatError("a length that is no number")
        length = int(self._number(kind))
        if not 0 <= length <= len(self._data):
            raise FormatError(f"a length of {length}")
        return length

    def _text(self) -> str:
        return self._take(self._length()).decode("utf-8", "replace")

    def value(self, kind: bytes | None = None, depth: int = 0) -> Any:
        """The next value."""
        if depth > 100:
            raise FormatError("nested too deep")
        kind = kind or self._take(1)
        if kind in self._NUMBERS:
            return self._number(kind)
        match kind:
            case b"Z":
                return None
            case b"T" | b"F":
                return kind == b"T"
            case b"S" | b"H":
                return self._text()
            case b"C":
                return self._take(1).decode("latin-1")
            case b"N":
                return self.value(None, depth + 1)
            case b"[":
                return self._array(depth)
            case b"{":
                return self._object(depth)
        raise FormatError(f"unknown type {kind!r}")

    def _header(self) -> tuple[bytes | None, int | None]:
        kind = count = None
        if self._data[self._at : self._at + 1] == b"$":
            self._at += 1
            kind = self._take(1)
        if self._data[self._at : self._at + 1] == b"#":
            self._at += 1
            count = self._length()
        if count is not None and count > 100 * MOST_ITEMS:
            raise FormatError(f"{count} values")
        return kind, count

    def _array(self, depth: int) -> Any:
        kind, count = self._header()
        if kind in self._NUMBERS and count is not None:
            # numbers of nodes: how many is enough
            self._take(count * struct.calcsize(">" + self._NUMBERS[kind]))
            return range(count)
        found: list[Any] = []
        while True:
            if count is None and self._data[self._at : self._at + 1] == b"]":
                self._at += 1
                return found
            if count is not None and len(found) == count:
                return found
            found.append(self.value(kind, depth + 1))

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._header()
        found: dict[str, Any] = {}
        number = 0
        while True:
            if count is None and self._data[self._at : self._at + 1] == b"}":
                self._at += 1
                return found
            if count is not None and number == count:
                return found
            name = self._text()
            found[name] = self.value(kind, depth + 1)
            number += 1


def read_lightgbm(source: Source) -> Summary:
    """A model of LightGBM as text; raise `FormatError`."""
    text = _whole(source).decode("utf-8", "replace")
    head, _, rest = text.partition("\n\n")
    values = dict(line.partition("=")[::2] for line in head.splitlines() if "=" in line)
    if not text.startswith("tree\n") or "num_class" not in values:
        raise FormatError("no model of LightGBM")
    parameters: dict[str, Scalar] = {}
    begin, end = rest.find("\nparameters:\n"), rest.find("\nend of parameters")
    for line in rest[begin:end].splitlines() if 0 <= begin < end else ():
        if line.startswith("[") and line.endswith("]"):
            name, _, value = line[1:-1].partition(": ")
            parameters[name] = value
    if "objective" in values:
        parameters["objective"] = values["objective"]
    leaves = [line.partition("=")[2] for line in rest.splitlines() if line.startswith("num_leaves=")]
    facts = {
        "trees": str(rest.count("\nTree=") + rest.startswith("Tree=")),
        "leaves": str(sum(int(each) for each in leaves if each.isdigit())),
        "classes": values["num_class"],
        "version": values.get("version", "?"),
    }
    return Summary(
        format="lightgbm", parameters=parameters, features=tuple(values.get("feature_names", "").split()), facts=facts
    )
