"""Specifications in Jsonnet: which files an evaluation needs, and what is asked of whoever evaluates.

Evaluating takes a process with limits, so it is not done here: an `Evaluate` is handed in. What it gets is complete:
the text of the file and of all files that it may import, all of one tree. Jsonnet imports literal paths only, so they
can be read off.
"""

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from gitml.pipeline.spec.error import Place, SpecError, quoted
from gitml.pipeline.spec.reading import mismatch
from gitml.provenance.codec import bytes_of, text_of
from gitml.record import record
from gitml.store.pointer import is_pointer
from gitml.store.tree import Snapshot

ENDING = ".jsonnet"
MAX_BYTES = 4 << 20
"""Of the files of one evaluation."""

_IMPORT = re.compile(r"""\bimport(?:str|bin)?\s*@?(?:"([^"\\]*)"|'([^'\\]*)')""")


@record
class Request:
    """One evaluation."""

    file: str
    """The repository path of the template."""
    sources: Mapping[str, bytes]
    """By repository path: the template, and what it may import."""
    arguments: Mapping[str, Any]
    """What the function that the template is gets, by name: texts, or other values of JSON."""

    @property
    def key(self) -> bytes:
        """A digest that is another one for another result."""
        sources = {path: sha256(data).hexdigest() for path, data in self.sources.items()}
        return sha256(json.dumps([self.file, sources, dict(self.arguments)], sort_keys=True).encode()).digest()


@record
class Refusal:
    """That there is no value, and why."""

    problem: str
    hint: str | None = None


Evaluate = Callable[[Sequence[Request]], Sequence[str | Refusal]]
"""The values of templates, as the text of JSON documents, in their order."""


def is_template(path: bytes) -> bool:
    """Whether a file is a template, by its name."""
    return path.endswith(ENDING.encode())


def read_item(value: Any, place: Place) -> tuple[str, Mapping[str, Any]] | None:
    """Path and arguments of an item of `stages` such as `{"file": "a.jsonnet", "args": {"n": "1"}}`.

    None if it is no such item; raise `SpecError` for one that is wrong.
    """
    if not isinstance(value, dict) or "file" not in value:
        return None
    for key in value:
        if key not in {"file", "args"}:
            raise SpecError(place.field(key), "unknown field", hint="a template has 'file' and 'args'")
    path, arguments = value["file"], value.get("args")
    if not isinstance(path, str):
        raise mismatch(path, "the path of a file", place.field("file"))
    if arguments is not None and not isinstance(arguments, dict):
        raise mismatch(arguments, "an object", place.field("args"))
    if arguments and not path.endswith(ENDING):
        raise SpecError(place.field("args"), f"only files that end in {ENDING} take arguments")
    return path, arguments or {}


def request(snapshot: Snapshot, path: bytes, arguments: Mapping[str, Any], place: Place) -> Request:
    """The evaluation of a template of a tree; raise `SpecError` if it needs too much."""
    sources: dict[str, bytes] = {}
    waiting, size = [path], 0
    while waiting:
        file = waiting.pop()
        name = text_of(file)
        if name in sources:
            continue
        data = snapshot.read(file)
        size += len(data)
        if size > MAX_BYTES:
            raise SpecError(place, f"it imports more than {MAX_BYTES >> 20} MiB")
        if is_pointer(data):
            raise SpecError(place, f"it imports {quoted(file)}, which is stored as chunks", hint="keep it small")
        sources[name] = data
        if file.endswith((b".jsonnet", b".libsonnet")):
            for match in _IMPORT.finditer(data.decode("utf-8", "replace")):
                for found in candidates(posixpath.dirname(name), match[1] or match[2] or ""):
                    entry = snapshot.get(bytes_of(found))
                    if entry is not None and entry.is_file:
                        waiting.append(bytes_of(found))
    return Request(text_of(path), sources, arguments)


def candidates(directory: str, path: str) -> list[str]:
    """The repository paths that an import in `directory` may mean: from there, then from the top."""
    return list(dict.fromkeys(posixpath.normpath(posixpath.join(base, path)) for base in (directory, "")))
