"""What makes a task run again: the digests that decide whether a result can be reused.

Every pre-image is a line with its type and format number, then canonical JSON; `docs/format.md`, 'Keys and
records', lists them. Whatever can change a result is in a key, and nothing else: neither paths on this side
(an input's directory, a stage's name) nor how work is scheduled (tries, timeouts, parallelism).
"""

import hashlib
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii as _quoted

from gitml.pipeline.code import CodeFile
from gitml.pipeline.datum import Datum, DatumInput
from gitml.pipeline.params import Params
from gitml.pipeline.spec.model import ImageSource, Stage
from gitml.provenance.codec import Json, canonical, text_of
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_LINK, MODE_TREE, Entry

__all__ = ["canonical", "command_digest", "command_fields", "spec_fields", "stage_key", "task_key", "task_keys"]

_TASK = b"gitml/task/1\n"
_STAGE = b"gitml/stage/1\n"
_COMMAND = b"gitml/command/2\n"


def spec_fields(stage: Stage) -> dict[str, Json]:
    """The fields of the specification that can change a result, those at their default left out.

    Leaving defaults out lets later versions add fields without changing the keys of those who do not use them.
    """
    transform = stage.transform
    fields: dict[str, Json] = {
        "accept_return_code": sorted(set(transform.accept_return_code)),
        "cmd": list(transform.cmd),
        "datum_batching": transform.datum_batching or None,
        "env": dict(transform.env),
        "err_cmd": list(transform.err_cmd),
        "err_stdin": list(transform.err_stdin),
        "image": transform.image,
        "images": _source(transform.source),
        "salt": stage.salt,
        "secrets": [[each.name, each.mount_path, each.env_var, each.key] for each in transform.secrets],
        "stdin": list(transform.stdin),
        "user": transform.user,
        "working_dir": transform.working_dir,
    }
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _source(source: ImageSource | None) -> list[Json]:
    """Where the files of the image come from, as far as that says what they are."""
    if source is None:
        return []
    kind = "container" if source.path is None and source.file is None else "archive"
    return [kind, *[each for each in (source.content, source.digest) if each]]


def _code(code: Iterable[CodeFile]) -> list[Json]:
    return [[file.target, f"{file.entry.mode:06o}", file.entry.oid.hex()] for file in code]


def _input(part: DatumInput) -> Json:
    found: list[Json] = [part.name, text_of(part.path)]
    if not part.reference:
        found += [f"{part.entry.mode:06o}", part.entry.oid.hex()]
    seen: dict[str, Json] = {"group_by": part.group_by, "join_on": part.join_on}
    given = {name: value for name, value in seen.items() if value is not None}
    if part.empty_files:
        given["empty_files"] = True
    if part.origin is not None:
        given["origin"] = text_of(part.origin)
    if part.reference:
        given["reference"] = True
    return [*found, given] if given else found


_MODES = {mode: f"{mode:06o}" for mode in (MODE_TREE, MODE_FILE, MODE_EXECUTABLE, MODE_LINK)}


def _encoded(part: DatumInput) -> str:
    """The canonical text of `_input`. What most inputs are is put together here: there may be a hundred thousand."""
    name, _, path, (mode, oid), join_on, group_by, _, empty_files, reference, origin = part
    seen = join_on is not None or group_by is not None or origin is not None
    if seen or empty_files or reference or mode not in _MODES:
        return canonical(_input(part)).decode("ascii")
    return f'[{_quoted(name)},{_quoted(path.decode("utf-8", "surrogateescape"))},"{_MODES[mode]}","{oid.hex()}"]'


def task_keys(stage: Stage, code: Sequence[CodeFile], params: Params, datums: Iterable[Datum]) -> list[str]:
    """The key of each datum's task, 64 hex digits; what the tasks share is encoded once."""
    before = _TASK + b'{"code":' + canonical(_code(code)) + b',"inputs":['
    after = b'],"params":' + canonical(params.value) + b',"spec":' + canonical(spec_fields(stage)) + b"}"
    shared = hashlib.sha256(before)
    keys: list[str] = []
    for datum in datums:
        digest = shared.copy()
        digest.update(",".join([_encoded(part) for part in datum.inputs]).encode("ascii") + after)
        keys.append(digest.hexdigest())
    return keys


def task_key(stage: Stage, code: Sequence[CodeFile], params: Params, datum: Datum) -> str:
    """The key of one task: equal keys mean that one result serves for both. 64 hex digits.

    The stage's name is not in it: two stages that do exactly the same share results.
    """
    return task_keys(stage, code, params, [datum])[0]


def stage_key(stage: Stage, keys: Sequence[str]) -> str:
    """The key of a stage whose tasks have these keys, in datum order. 64 hex digits."""
    return hashlib.sha256(_STAGE + canonical({"stage": stage.name, "tasks": list(keys)})).hexdigest()


def command_fields(stage: Stage) -> dict[str, Json]:
    """The fields of the specification that trust is given to: those that change a result, and where results go."""
    return {**spec_fields(stage), **({"egress": stage.egress} if stage.egress else {})}


def command_digest(stage: Stage, code: Sequence[CodeFile], locks: Iterable[tuple[bytes, Entry]]) -> str:
    """Which command, with which code and in which environment, a stage runs: what trust is given to. 64 hex digits."""
    fields = command_fields(stage)
    for harmless in ("accept_return_code", "salt"):
        fields.pop(harmless, None)
    environment: list[Json] = [[text_of(path), f"{entry.mode:06o}", entry.oid.hex()] for path, entry in locks]
    found = {"code": _code(code), "environment": environment, "spec": fields}
    return hashlib.sha256(_COMMAND + canonical(found)).hexdigest()
