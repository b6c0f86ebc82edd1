"""`git ml ls runs|stages|datums|outputs`."""

import json as text
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gitml.cli.context import Context, open_context
from gitml.cli.output import GLYPHS, count, day, paint, safe, show, show_json, size, table, talk
from gitml.errors import ExitCode, UserError
from gitml.git.pointers import LARGEST, read_pointers
from gitml.liveness import this_host
from gitml.oid import Oid
from gitml.pipeline.lease import ENDS, RunState
from gitml.pipeline.plan import State
from gitml.pipeline.preview import DatumLine, DatumState, as_it_stands, preview
from gitml.pipeline.standing import LOST, RUNNING
from gitml.record import record

_WIDEST = 60
"""Columns for the name of a datum, beyond which its id stands further right."""


@record(kw_only=True)
class _Row:
    """One thing that is listed: for people, and for programs. Its state is what `--state` picks."""

    state: str
    cells: tuple[str, ...]
    members: Mapping[str, Any]


def list_kind(kind: str, names: list[str], *, rev: str, json: bool, limit: int | None, state: str | None) -> int:
    """List what `kind` says; give the exit code. Raise `UserError` for names that do not fit."""
    if (kind == "datums") != (len(names) == 1):
        wanted = "git ml ls datums STAGE" if kind == "datums" else f"git ml ls {kind}"
        raise UserError(f"'{kind}' needs {'one stage' if kind == 'datums' else 'no names'}", hint=wanted)
    known = _STATES[kind]
    if state is not None and state not in known:
        raise UserError(f"'{state}' is no state of {kind}", hint=f"states: {', '.join(known)}")
    with open_context() as context:
        if context.repo.try_resolve(f"HEAD:./{kind}") is not None:
            talk(f"note: for the files of the directory '{kind}': git ml ls ./{kind}")
        if kind == "datums":
            return _datums(context, names[0], rev, json=json, limit=limit, state=state)
        rows = list(_LISTERS[kind](context, rev))
    if state is not None:
        rows = [row for row in rows if row.state == state]
    left = len(rows) - (limit if limit is not None else len(rows))
    rows = rows[:limit]
    if json:
        show_json({**_HEADS[kind], kind: [row.members for row in rows]})
        return ExitCode.OK
    for line in table((tuple(map(safe, row.cells)) for row in rows), indent=""):
        show(line)
    if left > 0:
        talk(f"and {left} more")
    return ExitCode.OK


def _runs(context: Context, _: str) -> Iterator[_Row]:
    known = {run: context.cache.run(run) or {} for run in context.cache.runs()}
    current = context.lease.read_state()
    # a run that did not come to its end has no record, or one of a moment before
    if current is not None and current.status in (RUNNING, "stopped", "error"):
        known[current.run] = _of_state(context, current)
    for run, entry in known.items():
        if entry.get("status", RUNNING) == RUNNING and entry.get("host", this_host()) == this_host():
            left = context.lease.read_state(run) if current is None or run != current.run else current
            known[run] = {**entry, "status": LOST} if left is None else _of_state(context, left)
    for run in newest_first(known, context.lease.read_state):
        shown = known[run]
        tasks = context.cache.task_count(run)
        names = ("status", "source", "branch", "host", "started", "updated")
        members = {"run": run, **{name: shown.get(name) for name in names}, "tasks": tasks}
        status, source = str(shown.get("status", "?")), str(shown.get("source", ""))
        seconds = max(0.0, float(shown.get("updated", 0)) - float(shown.get("started", 0)))
        branch = str(shown.get("branch") or "-").removeprefix("refs/heads/")
        yield _Row(
            state=status,
            cells=(run, status, day(float(shown.get("started", 0))), f"{seconds:.0f} s", count(tasks, "task"), branch,
                   _subject(context, source)),
            members=members,
        )  # fmt: skip


def newest_first(known: Mapping[str, Mapping[str, Any]], state_of: Callable[[str], RunState | None]) -> list[str]:
    """The runs in the order in which they began, the last first; one without a record begins now.

    Records have whole seconds: of several runs in one counts what this clone remembers.
    """
    seconds = {run: float(record.get("started", 1 << 60)) for run, record in known.items()}
    at_once = Counter(seconds.values())

    def began(run: str) -> float:
        state = state_of(run) if at_once[seconds[run]] > 1 else None
        return seconds[run] if state is None else max(state.started, seconds[run])

    return sorted(known, key=began, reverse=True)


def _of_state(context: Context, state: RunState) -> dict[str, Any]:
    """A run as this clone remembers it, in the members of a record."""
    lost = state.status == RUNNING and (context.lease.is_lost(state) or not _is_latest(context, state))
    return {
        "status": LOST if lost else state.status, "source": state.tip, "branch": state.branch, "host": state.host,
        "started": int(state.started), "updated": int(state.updated),
    }  # fmt: skip


def _is_latest(context: Context, state: RunState) -> bool:
    latest = context.lease.read_state()
    return latest is not None and latest.run == state.run


def _subject(context: Context, commit: str) -> str:
    done = context.repo.git.run("log", "-1", "--format=%h %s", commit, "--", check=False) if commit else None
    if done is None or done.returncode != 0:
        return commit[:10] or "-"
    return os.fsdecode(done.stdout).strip()


def _stages(context: Context, rev: str) -> Iterator[_Row]:
    survey, _ = context.survey(rev)
    for row, status in zip(context.standings(survey), survey.statuses, strict=True):
        inputs = [
            {"name": leaf.name, "path": os.fsdecode(leaf.path), "glob": leaf.glob, "stage": leaf.upstream}
            for leaf in status.stage.inputs
        ]
        yield _Row(
            state=row.state,
            cells=(row.state, row.name, row.output + "/", count(row.total, "datum"),
                   ", ".join(f"{each['path']}:{each['glob']}" for each in inputs) or "no input"),
            members={"name": row.name, "state": row.state, "output": row.output, "key": status.key,
                     "datums": row.total, "inputs": inputs, "command": list(status.stage.transform.cmd)},
        )  # fmt: skip


def _outputs(context: Context, rev: str) -> Iterator[_Row]:
    survey, pipeline = context.survey(rev)
    outputs = [os.fsdecode(stage.output) for stage in pipeline.stages]
    listing = context.repo.git.output("ls-tree", "-r", "-l", "-z", "--full-tree", survey.commit.hex(), "--", *outputs)
    files: list[tuple[str, Oid, int]] = []
    for line in listing.split(b"\0")[:-1]:
        meta, _, path = line.partition(b"\t")
        fields = meta.split()
        files.append((os.fsdecode(path), Oid.parse(fields[2]), int(fields[3]) if fields[3].isdigit() else 0))
    pointers = read_pointers(context.repo.git, (oid for _, oid, length in files if length <= LARGEST))
    for status in survey.statuses:
        where = os.fsdecode(status.stage.output)
        sizes = [
            pointers[oid].size if oid in pointers else length
            for path, oid, length in files
            if path.startswith(where + "/")
        ]
        yield _Row(
            state=str(status.state),
            cells=(size(sum(sizes)).rjust(9), count(len(sizes), "file"), str(status.state), where + "/"),
            members={"path": where, "stage": status.stage.name, "state": str(status.state),
                     "tree": status.output.hex(), "files": len(sizes), "size": sum(sizes)},
        )  # fmt: skip


# --- datums: printed one by one, as there may be very many ---


def _datums(context: Context, name: str, rev: str, *, json: bool, limit: int | None, state: str | None) -> int:
    survey, _ = context.survey(rev)
    settled = next((each for each in survey.statuses if each.stage.name == name and each.key is None), None)
    status = as_it_stands(context.surveyor, survey, name)
    if settled is not None:
        talk(f"note: {safe(name)} {safe(settled.reason)}; these are the datums of what stands there now")
    head = {"schema": "gitml/ls-datums/1", "stage": name, "total": len(status.datums)}
    if json:
        sys.stdout.write(text.dumps(head)[:-1] + ', "datums": [')
    shown = left = 0
    width = min(_WIDEST, max((len(safe(datum.label)) for datum in status.datums), default=0))
    for line in preview(context.cache, status):
        if state is not None and line.state != state:
            continue
        if limit is not None and shown == limit:
            left += 1
            if state is None:
                left = len(status.datums) - shown
                break
            continue
        if json:
            sys.stdout.write(("," if shown else "") + "\n " + text.dumps(_members(line)))
        else:
            glyph, colour = _DATUM_GLYPHS[line.state]
            label = safe(line.datum.label).ljust(width)
            show(f"{paint(f'{glyph} {line.state.ljust(6)}', colour)}  {label}  {paint(line.datum.id[:12], '2')}")
        shown += 1
    if json:
        sys.stdout.write("\n]}\n")
    elif left:
        talk(f"and {left} more")
    return ExitCode.OK


_DATUM_GLYPHS = {DatumState.KNOWN: GLYPHS["fresh"], DatumState.FAILED: GLYPHS["failed"], DatumState.TO_RUN: ("○", "")}


def _members(line: DatumLine) -> dict[str, Any]:
    return {
        "id": line.datum.id,
        "label": line.datum.label,
        "state": line.state,
        "key": line.key,
        "inputs": [
            {"name": part.name, "path": os.fsdecode(part.full_path), "oid": part.entry.oid.hex()}
            for part in line.datum.inputs
        ],
    }


_LISTERS: Mapping[str, Callable[[Context, str], Iterator[_Row]]] = {
    "runs": _runs,
    "stages": _stages,
    "outputs": _outputs,
}
_STATES: Mapping[str, Sequence[str]] = {
    "runs": (RUNNING, *ENDS, LOST),
    "stages": (*State, RUNNING, LOST),
    "outputs": (*State,),
    "datums": (*DatumState,),
}
KINDS = (*_LISTERS, "datums")
"""What can be listed besides files."""
_HEADS = {
    "runs": {"schema": "gitml/ls-runs/1"},
    "stages": {"schema": "gitml/ls-stages/1"},
    "outputs": {"schema": "gitml/ls-outputs/1"},
}
