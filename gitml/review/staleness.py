"""What keeps a stage from being fresh, thing by thing: which file, which line, how much of it, and who changed it.

The reason of a state says this in one sentence (`pipeline.reason`); here each cause is looked up in the files.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from gitml.errors import GitmlError
from gitml.pipeline.key import spec_fields
from gitml.pipeline.places import Spot, line_of, spots
from gitml.pipeline.plan import StageStatus
from gitml.pipeline.reason import changed_files, param_differences, shown
from gitml.pipeline.sources import entry_of
from gitml.pipeline.survey import Survey
from gitml.provenance.codec import bytes_of, canonical, text_of
from gitml.provenance.record import Record
from gitml.record import record, replace
from gitml.review.causes import Causes, Change, change_as_json
from gitml.store.odb import MissingObjectError
from gitml.store.tree import Entry

_SMALL = 1 << 20
"""Bytes of a code file whose lines are compared."""
_TOGETHER = 1000
"""Files whose last changes are looked for in one walk over history."""


@record(kw_only=True)
class Difference:
    """One thing that is not as it was when the result was made."""

    kind: str
    """'input', 'code', 'parameter' or 'specification'."""
    name: str
    """A repository path, a dotted key or a field."""
    what: str
    """'added', 'removed' or 'changed'; of values: before and now."""
    file: str = ""
    """Repository path of the file in which it stands."""
    line: int | None = None
    """From 1: of the key, the field, or the first line of code that is new; None where that cannot be told."""
    text: str = ""
    """That line of code."""
    lines: tuple[int, int] | None = None
    """Lines of code that are new, and that are gone."""
    changed_by: Change | None = None
    """The commit that last changed it, as far as history here says."""


def differences(causes: Causes, survey: Survey, status: StageStatus) -> Iterator[Difference]:
    """What differs between the record of a stage and the tree, in the order of the reason. Nothing without a record."""
    record = status.record
    if record is None or status.key == record.key:
        return
    files = chain(_inputs(survey, status, record), _code(survey, status, record))
    while part := list(islice(files, _TOGETHER)):
        changes = causes.latest({path for _, path in part if path is not None})
        for found, path in part:
            yield found if path is None else replace(found, changed_by=changes[path])
    yield from _params(causes, survey, status, record)
    yield from _fields(causes, survey, status, record)


_Found = tuple[Difference, bytes | None]
"""A difference, and the path whose last change is asked for."""


def _inputs(survey: Survey, status: StageStatus, record: Record) -> Iterator[_Found]:
    before = {(part.name, part.path): part for part in record.inputs}
    for leaf in status.stage.inputs:
        known = before.pop((leaf.name, leaf.path), None)
        if known is None:
            yield Difference(kind="input", name=text_of(leaf.path), what="added"), None
            continue
        if leaf.glob != known.glob:
            what = f"glob {shown(known.glob)} → {shown(leaf.glob)}"
            yield Difference(kind="input", name=text_of(leaf.path), what=what), None
        if leaf.reference:
            continue
        now = entry_of(status.reading.entries, leaf, survey.snapshot)
        try:
            files = changed_files(survey.snapshot, leaf, Entry(*known.entry), now)
        except GitmlError:  # what was there before is not in this clone any more
            yield Difference(kind="input", name=text_of(leaf.path), what="changed"), None
            continue
        for path, what in files.items():
            full = leaf.path + b"/" + path if path else leaf.path
            yield Difference(kind="input", name=text_of(full), what=what), full
    for _, path in before:
        yield Difference(kind="input", name=text_of(path), what="removed"), None


def _code(survey: Survey, status: StageStatus, record: Record) -> Iterator[_Found]:
    before = {file.target: Entry(*file.entry) for file in record.code}
    sources = {file.target: file.source for file in record.code}
    for file in status.code:
        old = before.pop(file.target, None)
        if old == file.entry:
            continue
        name = text_of(file.source)
        if old is None:
            yield Difference(kind="code", name=name, what="added", file=name), file.source
            continue
        line, text, counts = _first_line(survey, old, file.entry)
        found = Difference(kind="code", name=name, what="changed", file=name, line=line, text=text, lines=counts)
        yield found, file.source
    for target in before:
        source = sources[target]
        yield Difference(kind="code", name=text_of(source), what="removed"), source


def _first_line(survey: Survey, old: Entry, new: Entry) -> tuple[int | None, str, tuple[int, int] | None]:
    """The first line of the new file that differs, its text, and how many lines are new and gone."""
    from difflib import SequenceMatcher  # noqa: PLC0415 - only once something is stale

    if old.oid == new.oid or not (old.is_file and new.is_file):
        return None, "", None
    try:
        sides = [survey.snapshot.odb.read(entry.oid)[1] for entry in (old, new)]
    except MissingObjectError:
        return None, "", None
    if any(len(side) > _SMALL or b"\0" in side for side in sides):
        return None, "", None
    before, after = (side.decode("utf-8", "replace").splitlines() for side in sides)
    changes = [
        each for each in SequenceMatcher(None, before, after, autojunk=False).get_opcodes() if each[0] != "equal"
    ]
    if not changes:
        return None, "", None  # only the end of a line
    counts = sum(each[4] - each[3] for each in changes), sum(each[2] - each[1] for each in changes)
    at = min(changes[0][3], max(len(after) - 1, 0))
    return at + 1, after[at] if after else "", counts


def _params(causes: Causes, survey: Survey, status: StageStatus, record: Record) -> Iterator[Difference]:
    for file, key, old, new in param_differences(record.params, status.params.value):
        path = bytes_of(file)
        yield Difference(
            kind="parameter",
            name=key or file,
            what=_values(old, new),
            file=file,
            line=line_of(path, survey.snapshot.read(path), key) if key and survey.snapshot.get(path) else None,
            changed_by=causes.parameter(status.stage, file, key) if new is not None else causes.last_change(path),
        )


def _fields(causes: Causes, survey: Survey, status: StageStatus, record: Record) -> Iterator[Difference]:
    now = spec_fields(status.stage)
    file, place = _where(status)
    root = _spots_of(survey, file)
    for name in sorted({*record.spec, *now}):
        old, new = record.spec.get(name), now.get(name)
        if old == new:
            continue
        spot = _field_spot(root, place, name)
        what = _values(None if old is None else (old,), None if new is None else (new,))
        yield Difference(
            kind="specification", name=name, what=what, file=file, line=spot.line if spot is not None else None,
            changed_by=causes.specification(status.stage.name),
        )  # fmt: skip


def _values(old: tuple[Any] | None, new: tuple[Any] | None) -> str:
    if old is None:
        return f"{_value(new)} is new"
    if new is None:
        return f"{_value(old)} is gone"
    return f"{_value(old)} → {_value(new)}"


def _value(value: tuple[Any] | None) -> str:
    assert value is not None
    text = shown(value[0])
    return text if not isinstance(value[0], (list, dict)) else canonical(value[0]).decode("ascii")[:80]


# --- where a field stands ---


_PART = re.compile(r"\[(\d+)\]|\.?([A-Za-z_$][A-Za-z0-9_$-]*)")


def _where(status: StageStatus) -> tuple[str, list[str]]:
    """The file of a stage's specification, and the keys that lead to it."""
    file, _, place = status.stage.where.partition(": ")
    return file, [number or name for number, name in _PART.findall(place)]


def _spots_of(survey: Survey, file: str) -> Spot | None:
    path = bytes_of(file)
    entry = survey.snapshot.get(path)
    return spots(path, survey.snapshot.read(path)) if entry is not None and entry.is_file else None


def _field_spot(root: Spot | None, place: list[str], name: str) -> Spot | None:
    """A field of the stage at `place`, in either spelling; the stage itself where it is not written out."""
    at = root
    for key in place:
        if at is None or key not in at.members:
            return None
        at = at.members[key]
    for owner in (_member(at, "transform"), at):
        found = _member(owner, name)
        if found is not None:
            return found
    return at


def _member(spot: Spot | None, name: str) -> Spot | None:
    wanted = name.replace("_", "").lower()
    members: Mapping[str, Spot] = spot.members if spot is not None else {}
    return next((inner for key, inner in members.items() if key.replace("_", "").lower() == wanted), None)


def difference_as_json(each: Difference) -> dict[str, object]:
    """A difference, for `--json`."""
    return {
        "kind": each.kind,
        "name": each.name,
        "what": each.what,
        "file": each.file or None,
        "line": each.line,
        "text": each.text or None,
        "lines": None if each.lines is None else {"new": each.lines[0], "gone": each.lines[1]},
        "changed_by": change_as_json(each.changed_by),
    }
