"""Where a value stands in the text of a specification file: line and column, by the keys that lead to it.

Parsers give values and forget where they were, and asking them to remember would cost every run. So the text is gone
through a second time, once something is wrong. Both syntaxes are as `documents` reads them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]  # the standard library's own, without a type
from typing import Any

from gitml.pipeline.spec.documents import document_starts, skipping_decoder
from gitml.pipeline.spec.error import Step

_SPACE = re.compile(r"[ \t\r\n]*")


def position(text: str, document: int, steps: Sequence[Step]) -> tuple[int, int] | None:
    """Line and column, both from 1, of the key or list item that `steps` lead to; None if that cannot be told.

    `document` is the number of the document, from 0, without empty ones. Where the last steps lead nowhere it is the
    place of what they were to be found in.
    """
    try:
        starts = document_starts(text)
        if starts is not None:
            at = _in_json(text, starts[document], steps)
            return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        return _in_yaml(text, document, steps)
    except (ValueError, IndexError, RecursionError):
        return None


def _in_json(text: str, at: int, steps: Sequence[Step]) -> int:
    decoder, place = skipping_decoder(), at
    for step in steps:
        found = None
        for key, key_at, value_at in _members(decoder, text, at):
            if key == step:
                found = key_at, value_at
        if found is None:
            break
        place, at = found
    return place


def _members(decoder: json.JSONDecoder, text: str, at: int) -> Iterator[tuple[Step, int, int]]:
    """Key or number, its place and the place of the value, of each member of the object or list at `at`."""
    opening = text[at]
    if opening not in "{[":
        return
    place, number = _skip(text, at + 1), 0
    while text[place] not in "}]":
        key_at = place
        key: Step = number
        if opening == "{":
            key, end = scanstring(text, place + 1, True)
            place = _skip(text, _skip(text, end) + 1)
        yield key, key_at, place
        place = _skip(text, decoder.raw_decode(text, place)[1])
        place = _skip(text, place + 1) if text[place] == "," else place
        number += 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _in_yaml(text: str, document: int, steps: Sequence[Step]) -> tuple[int, int] | None:
    import yaml  # 20 ms, and most files are JSON  # noqa: PLC0415

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=loader) if not _is_null(node)]
    except yaml.YAMLError:
        return None
    node: Any = nodes[document]
    place = node.start_mark
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            found = [(key.start_mark, inner) for key, inner in node.value if key.value == step]
        elif isinstance(node, yaml.SequenceNode):
            found = [(inner.start_mark, inner) for number, inner in enumerate(node.value) if number == step]
        else:
            found = []
        if not found:
            break
        place, node = found[-1]
    return place.line + 1, place.column + 1


def _is_null(node: Any) -> bool:
    """Whether a document is one that `documents` leaves out."""
    return node is None or (isinstance(node.value, str) and node.tag == "tag:yaml.org,2002:null")
