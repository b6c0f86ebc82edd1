"""Evaluates Jsonnet in a process that is `confined`: a template may loop for ever, and comes with anybody's commit.

The process gets all texts that it may import, and reads no other file. The package `jsonnet` is needed there only.
"""

import base64
import json
import os
import re
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
_LACKING = re.compile(r"function parameter (\w+) not bound in call")
_ANSWER = 8 << 20
_HERE = "pipeline.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
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
    return [value if error is None else Refusal(error, hint=_remedy(error)) for value, error in answer]


def _remedy(error: str) -> str | None:
    """What to do about an argument that a template lacks."""
    lacking = _LACKING.search(error)
    if lacking is None:
        return None
    return (
        f'give it: {{"file": …, "args": {{"{lacking[1]}": …}}}} in \'stages\', or --arg {lacking[1]}=… to git ml import'
    )


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
    return confined.give(lambda: _values(_jsonnet, requests))


def _values(jsonnet: Any, requests: list[dict[str, Any]]) -> list[tuple[str | None, str | None]]:
    """Of each request the value as text, or what is wrong with it.

    All are evaluated together, as reading Jsonnet's own library takes most of the time (60 ms). If something is wrong,
    one after the other.
    """
    sources = {path: base64.b64decode(text) for each in requests for path, text in each["sources"].items()}

    def find(directory: str, path: str) -> tuple[str, bytes]:
        for found in candidates(directory.rstrip("/"), path):
            if found in sources:
                return found, sources[found]
        raise RuntimeError("it is not in the commit")

    def evaluated(some: list[dict[str, Any]]) -> list[str]:
        text = "[" + ",\n".join(_call(each) for each in some) + "]"
        value = jsonnet.evaluate_snippet(_HERE, text, import_callback=find, max_stack=_STACK)
        return [json.dumps(each) for each in json.loads(value)]

    def alone(request: dict[str, Any]) -> tuple[str | None, str | None]:
        try:
            return evaluated([request])[0], None
        except (RuntimeError, ValueError) as error:
            return None, _problem(str(error))

    if len(requests) > 1:
        try:
            return [(value, None) for value in evaluated(requests)]
        except (RuntimeError, ValueError):
            pass
    return [alone(each) for each in requests]


def _call(request: dict[str, Any]) -> str:
    """An expression for the value of a template; raise `ValueError` for arguments that nobody can name."""
    arguments = request["arguments"]
    for name in arguments:
        if not _NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name of an argument")
    called = f"f({', '.join(f'{name}={json.dumps(value)}' for name, value in arguments.items())})"
    otherwise = "error 'it is no function, so it takes no arguments'" if arguments else "f"
    return f"(local f = import {json.dumps(request['file'])}; if std.isFunction(f) then {called} else {otherwise})"


def _problem(text: str) -> str:
    """What Jsonnet says in one line: what, and where."""
    what, *trace = [line.strip() for line in text.splitlines() if line.strip()] or ["no value"]
    for word in ("RUNTIME ERROR: ", "STATIC ERROR: "):
        what = what.removeprefix(word)
    places = [line.split()[0] for line in trace if ":" in line and not line.startswith(f"{_HERE}:")]
    return f"{what} ({places[0]})" if places else what
