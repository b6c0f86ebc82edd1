"""What to do with each stage at a tree: the decision, and the reason for it.

A pure function of the tree and of what is known of earlier runs. Messages, commit ids and hooks play no part,
so a fresh clone, a squash merge and a repository where no hook ever ran all give the same answer. With
I = the stage's key at this tree and O = its output there:

| known for I | O is | state | to do |
|---|---|---|---|
| outputs | one of them | fresh | nothing |
| outputs, and rolled back | an output of another run, or nothing | held | nothing; downstream uses O |
| outputs | an output of another run, or nothing | missing | restore |
| outputs | anything else | edited | nothing; say so |
| a failure | any | failed | nothing until I changes |
| nothing | any | stale | run |

Before all that: a record may say that somebody holds the output. Then the stage is held as long as the record's
output stands there and the hold has not ended.

A stage behind one that is stale, failed or missing is stale without a key: its inputs are not settled. So is
one whose input is not in the tree. A stage with no datums has nothing to run and the empty output: stale until
a record says so, then fresh.

What stands at an output where the stage never put a result, and that no run made, is `foreign`: the stage runs, and is
edited once its result is known and is another.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Protocol

from gitml.errors import CorruptError, UserError
from gitml.oid import Oid
from gitml.pipeline.code import CodeFile, code_files
from gitml.pipeline.datum import Datum, datums
from gitml.pipeline.failure import FailureInfo
from gitml.pipeline.key import spec_fields, stage_key, task_keys
from gitml.pipeline.listed import Listings
from gitml.pipeline.locks import lock_files
from gitml.pipeline.params import Params, read_params
from gitml.pipeline.reason import why_stale
from gitml.pipeline.sources import Reading, Source, entry_of, read_sources, recorded
from gitml.pipeline.spec.model import PfsInput, Pipeline, Stage
from gitml.pipeline.trigger import Since, has_fired
from gitml.provenance.codec import harmless, printable
from gitml.provenance.record import Record, RecordCode, RecordEntry, RecordInput, parse_record, record_path
from gitml.record import record, replace
from gitml.store.odb import MissingObjectError
from gitml.store.tree import Entry, Snapshot, empty_tree

_FIRST_RUN = "first run"


class State(StrEnum):
    """Where a stage stands at a tree."""

    FRESH = "fresh"
    HELD = "held"
    EDITED = "edited"
    MISSING = "missing"
    STALE = "stale"
    FAILED = "failed"


UNSETTLED = frozenset({State.MISSING, State.STALE, State.FAILED})
"""States in which a stage's output is not yet what downstream stages will read."""


class Knowledge(Protocol):
    """What is known of earlier runs. Asked only where the record in the tree leaves a question open."""

    def outputs(self, stage_name: str, key: str) -> Sequence[Oid]:
        """The output trees of successful runs for this key, the one to restore first."""
        ...

    def failed(self, stage_name: str, key: str) -> FailureInfo | None:
        """Why the stage failed for this key, None if it did not."""
        ...

    def is_output(self, stage_name: str, oid: Oid) -> bool:
        """Whether `oid` is an output of any recorded run of the stage."""
        ...

    def is_made(self, stage_name: str, oid: Oid) -> bool:
        """Whether `oid` is an output of any recorded run, also of a stage that was called otherwise."""
        ...

    def rolled_back(self, stage_name: str, key: str, output: bytes) -> bool:
        """Whether what stands at `output` was changed after the result for `key` was there, the inputs staying."""
        ...

    def committed(self) -> int:
        """When the commit that is evaluated was made, seconds since the epoch."""
        ...

    def tasks_done(self, task_keys: Sequence[str]) -> int:
        """How many of the tasks have their result in the cache."""
        ...

    def source(self, leaf: PfsInput) -> Source | None:
        """The commit that an input with `branch` or `commit` is read from, None if it is not here."""
        ...

    def since(self, leaf: PfsInput, before: Entry, now: Entry) -> Since | None:
        """What happened to an input since it was `before`, None if history does not tell."""
        ...


@record(kw_only=True)
class StageStatus:
    """The state of one stage at a tree, and all that a runner needs to act on it."""

    stage: Stage
    state: State
    reason: str
    """Why, for people; empty if fresh."""
    key: str | None = None
    """The stage key; None if the stage cannot run at this tree (an input is missing or not settled)."""
    output: Oid
    """What stands at the stage's output now; the empty tree if nothing does."""
    result: Oid | None = None
    """An output known for the key: what to restore if the state is missing."""
    reading: Reading
    """What the inputs are read from."""
    datums: tuple[Datum, ...] = ()
    task_keys: tuple[str, ...] = ()
    """One for each datum."""
    done: int = 0
    """Datums whose result is known."""
    code: tuple[CodeFile, ...]
    locks: tuple[tuple[bytes, Entry], ...]
    """The files that fix the environment: for review, not in keys."""
    params: Params
    waits_for: tuple[str, ...] = ()
    """Upstream stages that are not settled."""
    failure: FailureInfo | None = None
    """Set if the state is failed."""
    record: Record | None = None
    """The stage's record in the tree, None if there is none that can be read."""
    pinned: bool = False
    """Whether the state is held because the record says so, not because the result was rolled back."""
    foreign: bool = False
    """Whether files of the user's stand at the output where no result ever stood: one must not take their place."""

    @property
    def recorded(self) -> bool:
        """Whether the tree itself says what made the output; if not, only the run cache or history knows."""
        return self.record is not None and (self.record.key, self.record.output_tree) == (self.key, self.output)


def evaluate(
    pipeline: Pipeline, snapshot: Snapshot, knowledge: Knowledge, listings: Listings | None = None
) -> list[StageStatus]:
    """The state of every stage, in the pipeline's order. Raise `UserError` as `evaluate_stage` does."""
    statuses: list[StageStatus] = []
    unsettled: set[str] = set()
    for stage in pipeline.stages:
        status = evaluate_stage(pipeline, stage, snapshot, knowledge, unsettled, listings=listings)
        if status.state in UNSETTLED:
            unsettled.add(stage.name)
        statuses.append(status)
    return statuses


def evaluate_stage(
    pipeline: Pipeline,
    stage: Stage,
    snapshot: Snapshot,
    knowledge: Knowledge,
    unsettled: Collection[str],
    *,
    current: bool = False,
    listings: Listings | None = None,
) -> StageStatus:
    """The state of one stage; `unsettled` names the stages whose outputs in the tree are not yet final.

    With `current`, inputs that run nothing by themselves are read as they are now, whatever the record has.
    `listings` has what was listed before, if the same repository is evaluated more than once. `knowledge` is not
    asked when the record in the tree already shows that the stage is fresh. Raise `UserError` if declared code or
    parameters are missing or cannot be read.
    """
    listings = listings or Listings()
    record, unreadable = _read_record(stage, snapshot)
    code = code_files(stage, snapshot, _outputs(pipeline))
    status = StageStatus(
        stage=stage,
        state=State.STALE,
        reason="",
        output=snapshot.oid_at(stage.output),
        code=code,
        locks=lock_files(stage, code, snapshot),
        params=read_params(stage, snapshot),
        waits_for=tuple(
            dict.fromkeys(
                leaf.upstream for leaf in stage.inputs if leaf.upstream is not None and leaf.upstream in unsettled
            )
        ),
        record=record,
        reading=read_sources(stage, snapshot, knowledge.source),
    )
    if record is not None and not current:
        status = replace(status, reading=_untriggered(status.reading, record, snapshot, knowledge))
    quiet = None if current else _undisturbed(status, snapshot, unsettled, listings)
    status = quiet or status
    blocked = _blocked(status)
    if blocked is None and quiet is None:
        status = _with_keys(status, snapshot, listings)
    if _is_pinned(status, knowledge):
        done = knowledge.tasks_done(status.task_keys)
        return replace(status, state=State.HELD, reason=_why_pinned(status), pinned=True, done=done)
    if blocked is not None:
        return replace(status, reason=blocked)
    if record is None:
        reason = unreadable or _FIRST_RUN
        return _decide(status, snapshot, knowledge, reason)
    return _decide(status, snapshot, knowledge, None)


def key_at(pipeline: Pipeline, stage_name: str, snapshot: Snapshot) -> str | None:
    """The key of a stage at a tree as it stands, whatever the state of the stages before it.

    None if the pipeline has no such stage, an input is not there, or code or parameters cannot be read. This
    is how a record is known to belong to the tree it stands in.
    """
    tasks = tasks_at(pipeline, stage_name, snapshot)
    return None if tasks is None else stage_key(pipeline.stage(stage_name), [key for _, key in tasks])


def tasks_at(pipeline: Pipeline, stage_name: str, snapshot: Snapshot) -> list[tuple[Datum, str]] | None:
    """The datums of a stage with their task keys, there and as for `key_at`.

    Inputs that do not follow from the tree alone are those of the record that stands there.
    """
    try:
        stage = pipeline.stage(stage_name)
        reading = read_sources(stage, snapshot, lambda _: None)
        record, _ = _read_record(stage, snapshot)
        if record is not None:
            reading = recorded(reading, record, which=lambda leaf: leaf.follows_record)
        if reading.missing:
            return None
        code = code_files(stage, snapshot, _outputs(pipeline))
        found = datums(stage, snapshot, reading.entries)
        return list(zip(found, task_keys(stage, code, read_params(stage, snapshot), found), strict=True))
    except (KeyError, UserError):
        return None


def build_record(status: StageStatus, snapshot: Snapshot, output: Oid, recovered: int) -> Record:
    """The record that says `output` was made at this tree; `status` must have a key."""
    if status.key is None:
        raise ValueError(f"stage '{status.stage.name}' has no key here")
    return Record(
        stage=status.stage.name,
        key=status.key,
        output_path=status.stage.output,
        output_tree=output,
        inputs=tuple(
            RecordInput(
                name=leaf.name,
                path=leaf.path,
                glob=leaf.glob,
                entry=RecordEntry(*entry_of(status.reading.entries, leaf, snapshot)),
                commit=status.reading.commits.get(leaf),
            )
            for leaf in status.stage.inputs
        ),
        code=tuple(
            RecordCode(target=file.target, source=file.source, entry=RecordEntry(*file.entry)) for file in status.code
        ),
        params=status.params.value,
        spec=spec_fields(status.stage),
        total=len(status.datums),
        recovered=recovered,
    )


def _outputs(pipeline: Pipeline) -> list[bytes]:
    return [stage.output for stage in pipeline.stages]


def _read_record(stage: Stage, snapshot: Snapshot) -> tuple[Record | None, str | None]:
    """The stage's record in the tree, and why there is none although a file is there."""
    path = record_path(stage.name)
    entry = snapshot.get(path)
    if entry is None:
        return None, None
    problem = f"record '{printable(path)}' is not readable"
    if not entry.is_file:
        return None, problem
    try:
        record = parse_record(snapshot.read(path))
    except CorruptError:
        return None, problem
    return (record, None) if record.stage == stage.name else (None, problem)


def _blocked(status: StageStatus) -> str | None:
    """Why the stage has no key at this tree, None if it has one."""
    if status.waits_for:
        return "waits for " + ", ".join(f"'{printable(name)}'" for name in status.waits_for)
    return next(iter(status.reading.missing.values()), None)


def _untriggered(reading: Reading, record: Record, snapshot: Snapshot, knowledge: Knowledge) -> Reading:
    """The inputs whose trigger has not fired since the record as that has them, the others as they are now."""
    before = {(part.name, part.path): Entry(*part.entry) for part in record.inputs}

    def stays(leaf: PfsInput) -> bool:
        old = before.get((leaf.name, leaf.path))
        if leaf.trigger is None or old is None:
            return False
        now = entry_of(reading.entries, leaf, snapshot)
        if old == now:
            return False
        since = knowledge.since(leaf, old, now)
        return not has_fired(leaf.trigger, snapshot, old, now, since, knowledge.committed())

    return recorded(reading, record, which=stays)


def _undisturbed(
    status: StageStatus, snapshot: Snapshot, unsettled: Collection[str], listings: Listings
) -> StageStatus | None:
    """The status with quiet inputs as the record has them, if nothing else has changed since; else None.

    It waits for no stage that is upstream of quiet inputs only.
    """
    record = status.record
    if record is None or not any(leaf.never for leaf in status.stage.inputs):
        return None
    if any(leaf.upstream in unsettled for leaf in status.stage.inputs if not leaf.never):
        return None
    reading = recorded(status.reading, record, which=lambda leaf: leaf.never)
    if reading.missing:
        return None
    try:
        quiet = _with_keys(replace(status, reading=reading, waits_for=()), snapshot, listings)
    except MissingObjectError:  # what the quiet input was is not in this clone
        return None
    return quiet if quiet.key == record.key else None


def _is_pinned(status: StageStatus, knowledge: Knowledge) -> bool:
    """Whether the record holds the output that stands there, and the hold has not ended."""
    record = status.record
    if record is None or record.hold is None or record.output_tree != status.output:
        return False
    if record.hold.key and status.key is not None and record.hold.key != status.key:
        return False
    if not record.hold.until:
        return True
    end = datetime.combine(date.fromisoformat(record.hold.until), time(), UTC)
    return knowledge.committed() < end.timestamp()


def _why_pinned(status: StageStatus) -> str:
    assert status.record is not None
    assert status.record.hold is not None
    hold = status.record.hold
    end = f" until {hold.until}" if hold.until else " until its inputs change" if hold.key else ""
    return f"on hold{end}" + (f": {printable(hold.reason)}" if hold.reason else "")


def _with_keys(status: StageStatus, snapshot: Snapshot, listings: Listings) -> StageStatus:
    listed = listings.of(status.stage, snapshot, status.reading.entries, status.code, status.params)
    return replace(status, key=listed.key, datums=listed.datums, task_keys=listed.task_keys)


def _decide(status: StageStatus, snapshot: Snapshot, knowledge: Knowledge, no_record: str | None) -> StageStatus:
    """The table at the head of this module; `no_record` is the reason to run if there is no record."""
    assert status.key is not None
    name, key, output, record = status.stage.name, status.key, status.output, status.record
    recorded = record.output_tree if record is not None and record.key == key else None
    if recorded is not None and recorded == output:
        return replace(status, state=State.FRESH, result=output, done=len(status.datums))

    empty = empty_tree(snapshot.odb.format)
    known = [] if recorded is None else [recorded]
    if status.datums:
        known += knowledge.outputs(name, key)
    elif recorded is None and (
        knowledge.rolled_back(name, key, status.stage.output) or _is_foreign(status, snapshot, knowledge, no_record)
    ):
        known = [empty]  # without datums the result is known without a run
    if output in known:
        return replace(status, state=State.FRESH, result=output, done=len(status.datums))
    if known:
        return _unlike_known(replace(status, result=known[0], done=len(status.datums)), knowledge, empty)

    failure = knowledge.failed(name, key)
    done = knowledge.tasks_done(status.task_keys)
    status = replace(status, foreign=_is_foreign(status, snapshot, knowledge, no_record))
    if failure is not None:
        return replace(status, state=State.FAILED, reason=harmless(failure.message), done=done, failure=failure)
    if record is None:
        return replace(status, state=State.STALE, reason=no_record or _FIRST_RUN, done=done)
    reason = why_stale(status.stage, snapshot, status.reading.entries, record, status.code, status.params)
    return replace(status, state=State.STALE, reason=reason, done=done)


def _is_foreign(status: StageStatus, snapshot: Snapshot, knowledge: Knowledge, no_record: str | None) -> bool:
    """Whether something stands at the output that no run made, and no record says that a result ever stood there.

    A record that cannot be read is one. A directory that only `.gitignore` or an empty file keeps holds nothing.
    """
    where, record = status.stage.output, status.record
    if no_record != _FIRST_RUN if record is None else record.output_path == where:
        return False
    blank = snapshot.odb.format.oid_of("blob", b"")
    files = ((path.rpartition(b"/")[2], entry.oid) for path, entry in snapshot.walk(where))
    return any(name != b".gitignore" and oid != blank for name, oid in files) and not knowledge.is_made(
        status.stage.name, status.output
    )


def why_edited(status: StageStatus) -> str:
    """What is said of a stage whose output is no result."""
    where = f"'{printable(status.stage.output)}'"
    if status.record is None or status.record.output_path != status.stage.output:
        return f"{where} holds files that no run made"
    return f"{where} was changed by something other than a run"


def _unlike_known(status: StageStatus, knowledge: Knowledge, empty: Oid) -> StageStatus:
    """The result is known, and what stands in the tree is something else."""
    assert status.key is not None
    name, output, record = status.stage.name, status.output, status.record
    is_result = (
        output == empty or (record is not None and record.output_tree == output) or knowledge.is_output(name, output)
    )
    if not is_result:
        return replace(status, state=State.EDITED, reason=why_edited(status))
    if knowledge.rolled_back(name, status.key, status.stage.output):
        what = "to nothing" if output == empty else "to an earlier result"
        return replace(status, state=State.HELD, reason=f"rolled back {what}")
    return replace(status, state=State.MISSING, reason="the result for these inputs is known and not in the tree")
