"""Why a stage must run: what differs between its record and the tree, by cause.

Only ever asked of a stage whose key is unknown. Each cause is found by comparing what the record says with
what stands now, and reads as `<cause> '<name>' <what happened>`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gitml.errors import GitmlError
from gitml.pipeline.code import CodeFile
from gitml.pipeline.glob import Glob, compile_glob, expand_entry
from gitml.pipeline.key import spec_fields
from gitml.pipeline.params import Params
from gitml.pipeline.sources import Entries, entry_of
from gitml.pipeline.spec.model import PfsInput, Stage
from gitml.provenance.codec import Json, canonical, printable, text_of
from gitml.provenance.record import Record, RecordInput
from gitml.store.tree import MODE_GITLINK, Entry, Snapshot

_MOST_FILES = 1000
"""Files counted before a count becomes 'more than'."""
_MOST_NAMED = 3
"""Names of one cause that are written out."""


def why_stale(
    stage: Stage, snapshot: Snapshot, entries: Entries, record: Record, code: Sequence[CodeFile], params: Params
) -> str:
    """What changed since `record`, all causes joined by '; '."""
    causes = [
        *_inputs(stage, snapshot, entries, record),
        *_code(record, code),
        *_params(record, params),
        *_spec(stage, record),
    ]
    # all that is left is how crosses and unions combine the inputs
    return "; ".join(causes) or "specification (input) changed"


def between(before: Record, after: Record) -> Iterator[str]:
    """What differs between the causes of two results of a stage, as their records tell; a line each."""
    old = {part.path: (part.glob, part.entry) for part in before.inputs}
    new = {part.path: (part.glob, part.entry) for part in after.inputs}
    changed = [path for path, entry in new.items() if path in old and old[path] != entry]
    for paths, what in ((changed, "changed"), (new.keys() - old.keys(), "added"), (old.keys() - new.keys(), "removed")):
        if paths:
            yield f"input {_names(sorted(map(text_of, paths)))} {what}"
    yield from _code_differences(before, {file.target: Entry(*file.entry) for file in after.code})
    yield from _param_differences(before.params, after.params)
    fields = [name for name in sorted({*before.spec, *after.spec}) if before.spec.get(name) != after.spec.get(name)]
    if fields:
        yield f"specification ({', '.join(fields)}) changed"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{printable(name)}'" for name in names[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


# --- inputs ---


def _inputs(stage: Stage, snapshot: Snapshot, entries: Entries, record: Record) -> Iterator[str]:
    before = {(part.name, part.path): part for part in record.inputs}
    now = {(leaf.name, leaf.path): leaf for leaf in stage.inputs}
    gone = {name: path for name, path in before if (name, path) not in now}
    for (name, path), leaf in now.items():
        title = f"input '{printable(name)}'"
        known = before.get((name, path))
        if known is not None:
            yield from _input(title, leaf, known, snapshot, entry_of(entries, leaf, snapshot))
        elif name in gone:
            yield f"{title} reads '{printable(path)}' instead of '{printable(gone.pop(name))}'"
        else:
            yield f"{title} added"
    for name in gone:
        yield f"input '{printable(name)}' removed"


def _input(title: str, leaf: PfsInput, known: RecordInput, snapshot: Snapshot, entry: Entry) -> Iterator[str]:
    if leaf.glob != known.glob:
        yield f"{title} has the glob '{printable(leaf.glob)}' instead of '{printable(known.glob)}'"
    entry_before = Entry(*known.entry)
    if entry == entry_before or leaf.reference:
        return
    try:
        changes = _changes(snapshot, leaf, entry_before, entry)
    except GitmlError:  # what was there before is not in this clone any more
        yield f"{title} changed"
        return
    if changes:
        yield f"{title} changed ({_count(changes)})"


def changed_files(snapshot: Snapshot, leaf: PfsInput, before: Entry, now: Entry) -> dict[bytes, str]:
    """The files of an input that are not as they were in `before`, below its path: 'added', 'removed' or 'changed'.

    A thousand of them at most, about. Raise `GitmlError` if what was there is not in this clone.
    """
    return _changes(snapshot, leaf, before, now)


def _changes(snapshot: Snapshot, leaf: PfsInput, before: Entry, after: Entry) -> dict[bytes, str]:
    """Path to 'added', 'removed' or 'changed' of the files that the glob picks, directly or in a directory."""
    changes: dict[bytes, str] = {}
    glob = compile_glob(leaf.glob)
    if before.is_tree and after.is_tree and not glob.is_root:
        _compare_picked(snapshot, b"", before, after, glob, changes)
        return changes
    old = dict(expand_entry(snapshot, leaf.path, before, leaf.glob))
    new = dict(expand_entry(snapshot, leaf.path, after, leaf.glob))
    for path in dict.fromkeys([*old, *new]):
        _compare(snapshot, path, old.get(path), new.get(path), changes)
    return changes


def _compare_picked(
    snapshot: Snapshot, at: bytes, old: Entry | None, new: Entry | None, glob: Glob, changes: dict[bytes, str]
) -> None:
    """As `_compare`, below two directories (None: not there) and of what a glob picks; what is the same is not read."""
    before = snapshot.entries(old.oid) if old is not None and old.is_tree else {}
    after = snapshot.entries(new.oid) if new is not None and new.is_tree else {}
    for name in sorted({name for name, _ in before.items() ^ after.items()}):
        if len(changes) > _MOST_FILES:
            return
        path = at + name
        old, new = _without_submodule(before.get(name)), _without_submodule(after.get(name))
        if glob.matches(path):
            _compare(snapshot, path, old, new, changes)
        elif glob.descends(path):
            _compare_picked(snapshot, path + b"/", old, new, glob, changes)


def _without_submodule(entry: Entry | None) -> Entry | None:
    return None if entry is not None and entry.mode == MODE_GITLINK else entry


def _compare(snapshot: Snapshot, path: bytes, old: Entry | None, new: Entry | None, changes: dict[bytes, str]) -> None:
    if old == new or len(changes) > _MOST_FILES:
        return
    old_tree = snapshot.entries(old.oid) if old is not None and old.is_tree else {}
    new_tree = snapshot.entries(new.oid) if new is not None and new.is_tree else {}
    old_file = old is not None and not old.is_tree
    new_file = new is not None and not new.is_tree
    if old_file or new_file:
        changes[path] = "changed" if old_file and new_file else "added" if new_file else "removed"
    for name in dict.fromkeys([*old_tree, *new_tree]):
        below = path + b"/" + name if path else name
        _compare(snapshot, below, old_tree.get(name), new_tree.get(name), changes)


def _count(changes: Mapping[bytes, str]) -> str:
    if len(changes) > _MOST_FILES:
        return f"more than {_MOST_FILES} files"
    kinds = list(changes.values())
    counts = [(kinds.count(kind), kind) for kind in ("added", "changed", "removed")]
    parts = [f"{count} {kind}" for count, kind in counts if count]
    first, _, rest = parts[0].partition(" ")
    parts[0] = f"{first} file{'s' if first != '1' else ''} {rest}"
    return ", ".join(parts)


# --- code, parameters, specification ---


def _code(record: Record, code: Sequence[CodeFile]) -> Iterator[str]:
    return _code_differences(record, {file.target: file.entry for file in code})


def _code_differences(record: Record, now: Mapping[str, Entry]) -> Iterator[str]:
    before = {file.target: Entry(*file.entry) for file in record.code}
    changed = [target for target, entry in now.items() if target in before and before[target] != entry]
    added = [target for target in now if target not in before]
    removed = [target for target in before if target not in now]
    for targets, what in ((changed, "changed"), (added, "added"), (removed, "removed")):
        if targets:
            yield f"code {_names(targets)} {what}"


_ABSENT = object()


def _params(record: Record, params: Params) -> Iterator[str]:
    return _param_differences(record.params, params.value)


def _param_differences(
    before: Mapping[str, Mapping[str, Json]], now: Mapping[str, Mapping[str, Json]]
) -> Iterator[str]:
    differences = [_difference(*each) for each in param_differences(before, now)]
    yield from differences[:_MOST_NAMED]
    if len(differences) > _MOST_NAMED:
        yield f"{len(differences) - _MOST_NAMED} more parameters changed"


def param_differences(
    before: Mapping[str, Mapping[str, Json]], now: Mapping[str, Mapping[str, Json]]
) -> Iterator[tuple[str, str, tuple[Json] | None, tuple[Json] | None]]:
    """File, dotted key, value before and now of every parameter that differs; None where there is none.

    Whole tables are opened to name the member that changed. Values are those of `Params.value`.
    """
    for path in sorted({*before, *now}):
        old, new = before.get(path, {}), now.get(path, {})
        for key in sorted({*old, *new}):
            yield from _value(path, key, old.get(key, _ABSENT), new.get(key, _ABSENT))


def _value(
    path: str, key: str, before: Any, now: Any
) -> Iterator[tuple[str, str, tuple[Json] | None, tuple[Json] | None]]:
    if _is_table(before) and _is_table(now):
        for name in sorted({*before, *now}):
            inner = f"{key}.{_own_name(name)}" if key else _own_name(name)
            yield from _value(path, inner, before.get(name, _ABSENT), now.get(name, _ABSENT))
        return
    if before is not _ABSENT and now is not _ABSENT and canonical(before) == canonical(now):
        return
    yield path, key, None if before is _ABSENT else (before,), None if now is _ABSENT else (now,)


def member(key: str, value: object, wanted: str) -> object:
    """What stands below `value`, which is called `key`, under the dotted key `wanted`; None if nothing does.

    Keys are those that `param_differences` names.
    """
    if key == wanted:
        return value
    for name, inner in value.items() if isinstance(value, dict) and _is_table(value) else ():
        own = f"{key}.{_own_name(name)}" if key else _own_name(name)
        if wanted == own or wanted.startswith(f"{own}."):
            found = member(own, inner, wanted)
            if found is not None:
                return found
    return None


def _difference(path: str, key: str, before: tuple[Json] | None, now: tuple[Json] | None) -> str:
    title = f"parameter '{printable(path)}{':' if key else ''}{printable(key)}'"
    if before is None:
        return f"{title} added"
    if now is None:
        return f"{title} removed"
    return f"{title} {shown(before[0])} → {shown(now[0])}"


def _is_special(value: object) -> bool:
    return isinstance(value, dict) and any(name.startswith("$") and not name.startswith("$$") for name in value)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and not _is_special(value)


def _own_name(name: str) -> str:
    return name[1:] if name.startswith("$$") else name


def shown(value: object) -> str:
    """A parameter's value for people, in one line."""
    if isinstance(value, dict) and _is_special(value):
        value = next(iter(value.values()))
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    text = printable(value) if isinstance(value, str) else canonical(value).decode("ascii")
    return text if len(text) <= 40 else text[:37] + "..."


def _spec(stage: Stage, record: Record) -> Iterator[str]:
    now = spec_fields(stage)
    fields: list[str] = []
    for name in sorted({*record.spec, *now}):
        before, after = record.spec.get(name), now.get(name)
        if before == after:
            continue
        if name == "env":
            fields += [f"env {printable(variable)}" for variable in _different(before, after)]
        else:
            fields.append(name)
    if fields:
        yield f"specification ({', '.join(fields)}) changed"


def _different(before: Json, after: Json) -> list[str]:
    old = before if isinstance(before, Mapping) else {}
    new = after if isinstance(after, Mapping) else {}
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
