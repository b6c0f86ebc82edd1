"""What made a file: from a path in a commit to the stage, datum, inputs, code, parameters and run behind it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from gitml.errors import CorruptError, UserError
from gitml.git.commits import parse_commit, parse_trailers
from gitml.git.lastchange import last_changes
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.datum import Datum
from gitml.pipeline.key import stage_key
from gitml.pipeline.loading import load_pipeline
from gitml.pipeline.plan import tasks_at
from gitml.pipeline.spec.model import Pipeline, Stage
from gitml.provenance.record import Record, parse_record, record_path
from gitml.record import record
from gitml.store.odb import MissingObjectError
from gitml.store.tree import Snapshot

_MOST_OLDER = 100
"""Older records of a stage among which that of a result is looked for that a commit brought back."""


@record
class OriginInput:
    """One input of what made a file."""

    name: str
    path: bytes
    oid: Oid
    changed_by: Oid | None
    """The commit that last changed it, as seen from the source commit; None if history does not reach it."""


@record
class Origin:
    """What made a file or an output directory."""

    path: bytes
    stage: str
    record: Record
    result: Oid
    """The commit that put the result there."""
    made_at: Oid
    """The commit in which the result stands beside what it was made from: `result`, or one before it if that brought an
    older result back while the inputs stayed, as the revert of a result does."""
    source: Oid | None
    """The commit whose data and code it was made from."""
    datum: Datum | None
    """The datum whose task wrote the file; None if it is not known, or the path is a directory of several."""
    inputs: tuple[OriginInput, ...]
    """Those of the datum, else those of the stage."""
    run: Mapping[str, Any] | None
    """The run record: environment, times, host; None if this clone does not have it."""
    task: Mapping[str, Any] | None
    """What is recorded of the task that wrote the file."""
    edited: bool
    """Whether something other than the run changed what stands there now."""


def origin_of(repo: Repository, odb: GitOdb, cache: RunCache, commit: Oid, pipeline: Pipeline, path: bytes) -> Origin:
    """What made `path` at `commit`; raise `UserError` if no stage did or nothing was recorded."""
    snapshot = Snapshot(odb, parse_commit(odb.read(commit)[1]).tree)
    if snapshot.get(path) is None:
        raise UserError(
            f"there is no '{os.fsdecode(path)}' in commit {commit.hex()[:10]}",
            hint="git ml show REV:PATH looks in another; a stage that wrote nothing has no directory",
        )
    stage = _stage_of(pipeline, path)
    try:
        record = parse_record(snapshot.read(record_path(stage.name)))
    except KeyError:
        raise UserError(
            f"nothing is recorded of '{stage.name}' in this commit, so '{os.fsdecode(path)}' was not made by a run",
            hint="git ml status",
        ) from None
    place = record_path(stage.name)
    result = last_changes(repo, odb, commit, [place])[place] or commit
    made_at, tasks = _made_at(repo, odb, result, record)
    source = _source(repo, odb, made_at)
    datum, task = _writer(odb, cache, tasks, record, path)
    if datum is not None:
        inputs = [(part.name, part.full_path, part.entry.oid) for part in datum.inputs]
    else:
        inputs = [(part.name, part.path, part.entry.oid) for part in record.inputs]
    changed = last_changes(repo, odb, made_at, (where for _, where, _ in inputs))
    run = cache.stage_record(record.key, record.output_tree)
    return Origin(
        path=path,
        stage=stage.name,
        record=record,
        result=result,
        made_at=made_at,
        source=source,
        datum=datum,
        inputs=tuple(OriginInput(name, where, oid, changed[where]) for name, where, oid in inputs),
        run=cache.run(str(run["run"])) if run is not None else None,
        task=task,
        edited=_is_edited(odb, snapshot, record, path),
    )


def _is_edited(odb: GitOdb, snapshot: Snapshot, record: Record, path: bytes) -> bool:
    """Whether `path` is something else than in the output that the record tells of."""
    below = path[len(record.output_path) + 1 :]
    if snapshot.oid_at(record.output_path) == record.output_tree:
        return False
    try:
        return not below or Snapshot(odb, record.output_tree).get(below) != snapshot.get(path)
    except MissingObjectError:  # a clone that lacks the output of the run
        return True


def _stage_of(pipeline: Pipeline, path: bytes) -> Stage:
    for stage in pipeline.stages:
        if path == stage.output or path.startswith(stage.output + b"/"):
            return stage
    outputs = ", ".join(os.fsdecode(stage.output) + "/" for stage in pipeline.stages)
    raise UserError(
        f"'{os.fsdecode(path)}' is not the output of a stage",
        hint=f"outputs: {outputs or 'none'}; for other files: git log -- PATH",
    )


def _source(repo: Repository, odb: GitOdb, result: Oid) -> Oid | None:
    """The commit a result was made from: the trailer if it is there and true, else the parent of the result."""
    commit = parse_commit(odb.read(result)[1])
    named = parse_trailers(commit.message).get("Gitml-Source")
    if named is not None:
        found = repo.try_resolve(f"{named}^{{commit}}")
        if found is not None:
            return found
    return commit.parents[0] if commit.parents else None


def _made_at(repo: Repository, odb: GitOdb, result: Oid, record: Record) -> tuple[Oid, Sequence[tuple[Datum, str]]]:
    """See `Origin.made_at`, with the datums there and their keys; `result` and none where history here has no such."""
    tasks = _tasks(odb, result, record)
    if tasks is not None:
        return result, tasks
    place = os.fsdecode(record_path(record.stage))
    older = repo.git.lines(
        "log", f"--max-count={_MOST_OLDER}", "--format=%H", result.hex(), "--", f":(top,literal){place}"
    )
    for commit in map(Oid.parse, older):
        snapshot = Snapshot(odb, parse_commit(odb.read(commit)[1]).tree)
        try:
            then = parse_record(snapshot.read(record_path(record.stage)))
        except (KeyError, CorruptError, MissingObjectError):
            continue
        if (then.key, then.output_tree) != (record.key, record.output_tree):
            continue
        tasks = _tasks(odb, commit, record)
        if tasks is not None:
            return commit, tasks
    return result, ()


def _tasks(odb: GitOdb, commit: Oid, record: Record) -> Sequence[tuple[Datum, str]] | None:
    """The datums of a stage at a commit and their keys; None if the result with this record is of other inputs."""
    snapshot = Snapshot(odb, parse_commit(odb.read(commit)[1]).tree)
    try:
        pipeline = load_pipeline(snapshot)
    except UserError:
        return None
    tasks = tasks_at(pipeline, record.stage, snapshot) if pipeline is not None else None
    if pipeline is None or tasks is None:
        return None
    return tasks if stage_key(pipeline.stage(record.stage), [key for _, key in tasks]) == record.key else None


def _writer(
    odb: GitOdb, cache: RunCache, tasks: Sequence[tuple[Datum, str]], record: Record, path: bytes
) -> tuple[Datum | None, Mapping[str, Any] | None]:
    """The datum whose cached output holds the file, and what is recorded of its task."""
    below = path[len(record.output_path) + 1 :]
    matches = []
    for datum, key in tasks:
        known = cache.task(key)
        if known is not None and (Snapshot(odb, known.out).get(below) is not None if below else len(tasks) == 1):
            matches.append((datum, known.record))
    return matches[0] if len(matches) == 1 else (None, None)
