"""Adding to a `pipeline.json` that people wrote: what they wrote stays as it is, to the character."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from gitml.errors import UserError
from gitml.pipeline.places import Spot, spots

FILE = "pipeline.json"
_WRAPPED = frozenset({"stages", "defaults", "images"})
_INDENT = re.compile(r"[ \t]*")
_BOM = b"\xef\xbb\xbf"


def with_more(
    data: bytes | None, entries: Sequence[str | Mapping[str, Any]], images: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """The content of a `pipeline.json` with these items of `stages` and these `images` added; None: there is none yet.

    A list or a single specification becomes an object around it. Raise `UserError` for content that cannot be added to
    without writing it anew (YAML, several documents), with what would have been added.
    """
    if data is None or not data.strip():
        document: dict[str, Any] = {"stages": list(entries)}
        return _bytes(_text(document | ({"images": dict(images)} if images else {})) + "\n")
    data = data.removeprefix(_BOM)
    root = spots(FILE.encode(), data)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        root = None
    if root is None:
        raise _in_the_way("it is not one JSON value", entries, images)
    text = data.decode()
    if not isinstance(value, dict) or not (_WRAPPED & value.keys() or value.keys() <= {"$schema"}):
        if not isinstance(value, dict | list):
            raise _in_the_way("it holds no specification", entries, images)
        inner = text[root.start : root.end]
        wrapped = inner if isinstance(value, list) else "[\n" + textwrap.indent(inner, "  ") + "\n]"
        text = '{\n  "stages": ' + textwrap.indent(wrapped, "  ").lstrip() + "\n}\n"
    if entries:
        text = _member(text, "stages", list(entries), entries, images)
    if images:
        text = _member(text, "images", images, entries, images)
    return _bytes(text)


def _member(
    text: str,
    name: str,
    more: list[Any] | Mapping[str, Any],
    entries: Sequence[str | Mapping[str, Any]],
    images: Mapping[str, Mapping[str, Any]],
) -> str:
    """`text` with more in the list or object called `name` of its one object."""
    root = spots(FILE.encode(), text.encode())
    assert root is not None
    spot = root.members.get(name)
    if spot is None:
        return _extended(text, root, [f"{json.dumps(name)}: {_text(more)}"])
    if text[spot.start] != ("[" if isinstance(more, list) else "{"):
        raise _in_the_way(f"its '{name}' is not {'a list' if isinstance(more, list) else 'an object'}", entries, images)
    pieces = (
        [_text(each) for each in more]
        if isinstance(more, list)
        else [f"{json.dumps(key, ensure_ascii=False)}: {_text(each)}" for key, each in more.items()]
    )
    return _extended(text, spot, pieces)


def _extended(text: str, spot: Spot, pieces: list[str]) -> str:
    """`text` with more members at the end of the list or object at `spot`, indented as those before."""
    outer = _indent_at(text, spot.start)
    members = list(spot.members.values())
    if not members:
        inner = "\n".join(textwrap.indent(piece, outer + "  ") + "," for piece in pieces)[:-1]
        return f"{text[: spot.start + 1]}\n{inner}\n{outer}{text[spot.end - 1 :]}"
    end = members[-1].end
    indent = _indent_at(text, members[-1].start) if "\n" in text[spot.start : end] else outer + "  "
    added = "".join(",\n" + textwrap.indent(piece, indent) for piece in pieces)
    rest = text[end:]
    if "\n" not in text[end : spot.end]:
        rest = f"\n{outer}{rest.lstrip()}"
    return text[:end] + added + rest


def _indent_at(text: str, at: int) -> str:
    """The white space at the beginning of the line on which `at` is."""
    match = _INDENT.match(text, text.rfind("\n", 0, at) + 1)
    assert match is not None
    return match[0]


def _in_the_way(
    why: str, entries: Sequence[str | Mapping[str, Any]], images: Mapping[str, Mapping[str, Any]]
) -> UserError:
    wanted = {"stages": list(entries)} | ({"images": dict(images)} if images else {})
    return UserError(
        f"cannot add to {FILE}: {why}",
        hint=f"write it as one JSON object with 'stages', or add this by hand:\n{_text(wanted)}",
    )


def _text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
