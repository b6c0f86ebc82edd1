"""Evaluates Jsonnet in a process that is `confined`: a template may loop for ever, and comes with anybody's commit.

The process gets all texts that it may import, and reads no other file. The package `jsonnet` is needed there only.
"""

import base64
import json
import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gitml import confined
from gitml.pipeline.spec.template import Refusal, Request, candidates

CLOCK = 10.0
"""Seconds that all templates of a pipeline take at most."""
_PROCESSOR = 10
_MEMORY = 1 << 30
_ANSWER = 8 << 20
_STACK = 500
"""Calls inside each other; as many as Jsonnet allows unless told."""
_KEPT = 1000
"""Values that are kept; a history has as many versions of a template as it likes."""
_CAUSES = {
    confined.Cause.CLOCK: f"it takes more than {CLOCK:.0f} s",
    confined.Cause.PROCESSOR: f"it takes more than {_PROCESSOR} s",
    confined.Cause.MEMORY: f"it takes more than {_MEMORY >> 30} GiB of memory",
    confined.Cause.LENGTH: f"its value is longer than {_ANSWER >> 20} MiB",
}


class Evaluator:
    """Evaluates templates, each once. Values are a function of the request alone."""

    def __init__(self) -> None:
        self._known: dict[bytes, str | Refusal] = {}

    def __call__(self, requests: Sequence[Request]) -> list[str | Refusal]:
        """The values, as the text of JSON documents, in the order of the requests."""
        new = {each.key: each for each in requests if each.key not in self._known}
        if len(self._known) + len(new) > _KEPT:
            self._known.clear()
            new = {each.key: each for each in requests}
        if new:
            self._known |= dict(zip(new, _evaluate(list(new.values())), strict=True))
        return [self._known[each.key] for each in requests]


def _evaluate(requests: list[Request]) -> list[str | Refusal]:
    if find_spec("_jsonnet") is None:
        missing = Refusal("it is in Jsonnet, which is not installed", hint="pip install 'gitml[jsonnet]'")
        return [missing] * len(requests)
    descriptor, name = tempfile.mkstemp(prefix="gitml-jsonnet-")
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - an open descriptor
            json.dump([_as_json(each) for each in requests], file)
        answer = confined.ask(__name__, [name], clock=CLOCK, answer=_ANSWER)
    finally:
        os.unlink(name)  # noqa: PTH108 - it is a name
    if isinstance(answer, confined.Failure):
        if len(requests) > 1:  # which one it was is found by asking one after the other
            return [each for one in requests for each in _evaluate([one])]
        return [Refusal(_CAUSES.get(answer.cause, f"Jsonnet ended with {answer.status}"))]
    return [value if error is None else Refusal(error) for value, error in answer]


def _as_json(request: Request) -> dict[str, Any]:
    sources = {path: base64.b64encode(data).decode() for path, data in request.sources.items()}
    return {"file": request.file, "sources": sources, "arguments": dict(request.arguments)}


# --- in the other process ---


def main(arguments: Sequence[str]) -> int:
    """Be the other process; the argument is the file with the requests."""
    requests = json.loads(Path(arguments[0]).read_bytes())
    import _jsonnet  # noqa: PLC0415

    confined.limit(_PROCESSOR)
    confined.limit_memory(_MEMORY)
    confined.limit_files()
    return confined.give(lambda: [_value(_jsonnet, each) for each in requests])


def _value(jsonnet: Any, request: dict[str, Any]) -> tuple[str, None] | tuple[None, str]:
    """The value of a template as text, or what is wrong with it."""
    sources = {path: base64.b64decode(text) for path, text in request["sources"].items()}

    def find(directory: str, path: str) -> tuple[str, bytes]:
        for found in candidates(directory.rstrip("/"), path):
            if found in sources:
                return found, sources[found]
        raise RuntimeError("it is not in the commit")

    texts = {name: value for name, value in request["arguments"].items() if isinstance(value, str)}
    others = {name: json.dumps(value) for name, value in request["arguments"].items() if name not in texts}
    try:
        source = sources[request["file"]].decode()
        value = jsonnet.evaluate_snippet(
            request["file"], source, tla_vars=texts, tla_codes=others, import_callback=find, max_stack=_STACK
        )
    except (RuntimeError, UnicodeDecodeError) as error:
        return None, _problem(str(error))
    return str(value), None


def _problem(text: str) -> str:
    """What Jsonnet says in one line: what, and where."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    what = lines[0] if lines else "no value"
    for word in ("RUNTIME ERROR: ", "STATIC ERROR: "):
        what = what.removeprefix(word)
    return what if len(lines) < 2 or ":" not in lines[1] else f"{what} ({lines[1].split()[0]})"
