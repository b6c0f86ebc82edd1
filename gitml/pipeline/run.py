"""The runner: brings a branch's results up to date and publishes them as one commit.

It works on commits, never on the worktree. Everything that finishes is in the run cache before anything else
happens, so whatever interrupts a run, the next one only does the rest: starting over *is* resuming.

    tip → evaluate each stage on the tree so far → put known results, compute missing ones → publish → again
"""

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from threading import Event
from typing import Any

from gitml.errors import UserError
from gitml.git.data import DataLog
from gitml.git.odb import GitOdb
from gitml.git.publish import Moved, Parked, finish_interrupted, publish, publish_beside
from gitml.git.repository import Repository
from gitml.git.staging import Staging
from gitml.oid import Oid
from gitml.pipeline.cache import Batch, RunCache, stage_path
from gitml.pipeline.choice import datum_filter
from gitml.pipeline.container import remove_containers
from gitml.pipeline.delivery import Carrier, Delivery
from gitml.pipeline.executor import DASK, LOCAL, Executor
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.journal import absent_metrics, gate_breaches
from gitml.pipeline.keeping import keep_result, keep_run, session_of
from gitml.pipeline.lease import Lease, RunState, run_of
from gitml.pipeline.loading import load_asked
from gitml.pipeline.plan import UNSETTLED, StageStatus, State, build_record, evaluate_stage, why_edited
from gitml.pipeline.process import end_leftovers
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.runreport import DETACHED, RunOptions, RunReport, result_message
from gitml.pipeline.showing import Showing
from gitml.pipeline.shown import StageReport
from gitml.pipeline.spec import Pipeline
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.spec.running import EXECUTORS
from gitml.pipeline.stagerun import (
    ALL,
    NOTHING,
    RECOVERED,
    StageFailedError,
    StageRun,
    TaskLine,
)
from gitml.pipeline.survey import Surveyor, command_of
from gitml.pipeline.trust import Trust
from gitml.pipeline.volume import remove_root
from gitml.provenance.record import format_record, record_path
from gitml.record import field, record, replace
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, Snapshot, Trees, edit_tree, empty_tree

_MAX_ROUNDS = 100
"""How often the branch may move under one run before it lets go; each round is a commit of the user's."""

NOT_TRUSTED = "its command, code or environment came from elsewhere; see git ml trust --show, then: git ml trust"


@record(frozen=False)
class _Settlement:
    """The tree that the tip should become."""

    tip: Oid
    overlay: Oid
    changed: dict[str, Stage] = field(default_factory=dict)
    """Stages whose result is put in place."""
    moved: bool = False
    leaving: dict[str, StageStatus] = field(default_factory=dict)
    """Stages with egress whose output in the overlay is a result."""


class Runner:
    """Runs the pipeline of one repository. Whoever makes one holds the lease."""

    def __init__(
        self,
        repo: Repository,
        odb: GitOdb,
        lease: Lease,
        options: RunOptions,
        *,
        report: Callable[[RunState], None] = lambda _: None,
        stop: Event | None = None,
        carrier: Carrier | None = None,
        surveyor: Surveyor | None = None,
    ) -> None:
        self._repo = repo
        self._odb = odb
        self._lease = lease
        self._options = options
        self._showing = Showing(lease, report)
        self._stop = stop or Event()
        self._surveyor = surveyor or Surveyor(repo, odb, RunCache(repo, odb))
        self._cache = self._surveyor.cache
        self._trees = Trees()
        self._data = DataLog(repo, odb)
        self._trust = Trust(repo)
        self._delivery = (
            Delivery(repo, carrier, self._trust, explicit=options.explicit, stop=self._stop) if carrier else None
        )
        self._empty = empty_tree(repo.format)
        self._asked: Collection[str] = ()
        """The stages that may be brought up to date."""
        self._computed: dict[str, Oid] = {}
        """Stage key to the output that this run made."""
        self._failed: dict[str, StageFailedError] = {}
        """Stage key to the failure in this run."""
        self._tasks: dict[str, TaskLine] = {}
        """Task key to what became of it, of those that this run executed."""
        self._sandboxes = Sandboxes(repo, odb, stop=self._stop)
        self._limits: dict[str, dict[str, str]] = {}
        """How limits were held, by stage."""
        self._elsewhere: dict[str, dict[str, Any]] = {}
        """Where tasks ran, by stage, if not here."""
        self._look_again = 0.0
        self._staging: Staging

    def run(self, branch: str | None) -> RunReport:
        """Bring `branch` (a full ref name; None: the detached HEAD, into the cache only) up to date.

        Raise `SpecError` if its pipeline cannot be read; a stage that fails is in the report, not an exception.
        """
        finish_interrupted(self._repo, self._odb)
        leftovers = self._lease.leftover_workspaces()
        end_leftovers(leftovers)
        remove_containers(leftovers)
        for directory in leftovers:
            remove_root(directory)
        revision = f"{self._options.at or branch or 'HEAD'}^{{commit}}"
        report = RunReport(run="", tip=self._repo.resolve(revision))
        with ExitStack() as session:
            session.enter_context(closing(self._sandboxes))
            for _ in range(_MAX_ROUNDS):
                tip = self._repo.try_resolve(revision)
                if tip is None:
                    name = (branch or "HEAD").removeprefix("refs/heads/")
                    report.gone = f"'{name}' was deleted; results are in the run cache"
                    report.notices[report.gone] = None
                    break
                pipeline = load_asked(Snapshot(self._odb, self._surveyor.tree_of(tip)))
                if pipeline is None:
                    break
                self._begin_round(report, branch, tip, pipeline, session)
                settlement = self._settle(tip, revision, pipeline, report)
                report.tree = settlement.overlay
                if settlement.moved or self._publish(branch, settlement, report):
                    continue
                self._deliver(branch, settlement, report)
                break
        # whether others are up to date, or failed once, is not what was asked
        report.stages = {name: line for name, line in report.stages.items() if name in self._asked}
        self._finish(report)
        return report

    # --- a round: what the tip should become ----------------------------------------------------------------

    def _begin_round(
        self, report: RunReport, branch: str | None, tip: Oid, pipeline: Pipeline, session: ExitStack
    ) -> None:
        report.tip = tip
        report.notices.update(dict.fromkeys(pipeline.notices))
        report.stages = {
            stage.name: StageReport(stage.name, state=str(State.STALE), reason="not reached")
            for stage in pipeline.stages
        }
        if not report.run:
            report.run = run_of(tip)
            self._staging = session.enter_context(Staging(self._repo, self._odb, session_of(report.run)))
        if not self._options.dry_run:
            self._showing.begin(report.run, branch, tip, self._options.choice.stages)
        self._showing.restart(tip, report.stages)

    def _settle(self, tip: Oid, revision: str, pipeline: Pipeline, report: RunReport) -> _Settlement:
        settlement = _Settlement(tip, self._surveyor.tree_of(tip))
        knowledge = self._surveyor.knowledge(tip)
        choice = self._options.choice
        chosen = choice.of(pipeline)
        unsettled: set[str] = set()
        self._asked = chosen
        snapshot = self._snapshot(settlement)
        for stage in pipeline.stages:
            if snapshot.root != settlement.overlay:
                snapshot = self._snapshot(settlement)
            as_it_stands = choice.single and choice.names(stage.name)
            ready = () if as_it_stands else unsettled
            anew = self._options.force and choice.names(stage.name)
            status = evaluate_stage(
                pipeline, stage, snapshot, knowledge, ready, current=anew, listings=self._surveyor.listings
            )
            line = report.stages[stage.name]
            line.state, line.reason, line.total = str(status.state), status.reason, len(status.datums)
            line.hint = status.failure.hint if status.failure is not None else ""
            if status.datums and self._is_partly(stage):
                report.asked[stage.name] = len(_limited(status, self._options.datums).datums)
            out = self._result(status, snapshot, report, chosen)
            if out is not None:
                self._put(settlement, status, snapshot, out, report)
                line.state, line.reason, line.hint = str(State.FRESH), "", ""
            elif line.state in UNSETTLED:
                unsettled.add(stage.name)
            if stage.egress and line.state in {State.FRESH, State.HELD}:
                settlement.leaving[stage.name] = status
            self._count(line, status)
            idle = out is None and not line.ran and not line.failed
            self._showing.stage(line, soon=idle, quiet=stage.name not in chosen)
            if self._stop.is_set():
                report.stopped = True
                break
            if self._options.fail_fast and status.key in self._failed:
                break
            if out is not None and self._has_moved(revision, tip):
                settlement.moved = True  # the user went on; what is done is in the cache
                break
        return settlement

    def _snapshot(self, settlement: _Settlement) -> Snapshot:
        return Snapshot(self._odb, settlement.overlay, self._trees)

    def _has_moved(self, revision: str, tip: Oid) -> bool:
        """Whether the user went on; asked at most five times a second, as git reads the commit for it."""
        if time.monotonic() < self._look_again:
            return False
        self._look_again = time.monotonic() + 0.2
        found = self._odb.lookup(revision)
        return found is None or found[0] != tip

    def _result(
        self, status: StageStatus, snapshot: Snapshot, report: RunReport, chosen: Collection[str]
    ) -> Oid | None:
        """The output to put in place, None to leave what is there; computes it where that is called for."""
        line = report.stages[status.stage.name]
        if status.key is None or status.waits_for or status.pinned or status.stage.name not in chosen:
            return None
        named = self._options.choice.names(status.stage.name)
        if status.key in self._computed:
            out = self._computed[status.key]
            if self._stays(status, out, line):
                return None
            return None if out == status.output and status.recorded else out
        if status.key in self._failed:
            error = self._failed[status.key]
            line.state, line.reason, line.hint = str(State.FAILED), error.message, error.hint or ""
            return None
        if self._options.force and named:
            return self._compute(status, snapshot, report, ignore=ALL)
        if self._options.retry_recovered and named and status.record is not None and status.record.recovered:
            return self._compute(status, snapshot, report, ignore=RECOVERED)
        if status.state is State.FRESH and not status.recorded and not self._options.dry_run:
            return status.output  # a clone without the run cache must come to the same answer
        restored = status.state is State.EDITED and self._options.restore
        if restored or status.state is State.MISSING or (status.state is State.HELD and named):
            if self._options.dry_run:
                line.reason = "would be restored from the cache"
                return None
            return status.result
        if self._options.known_only:
            return None
        if status.state is State.STALE or (status.state is State.FAILED and self._options.explicit):
            found = self._compute(status, snapshot, report, ignore=NOTHING)
            return None if found is None or self._stays(status, found, line) else found
        return None

    def _stays(self, status: StageStatus, out: Oid, line: StageReport) -> bool:
        """Whether what stands at the output stays, as no run made it; the result `out` is in the cache.

        With --force the stage was asked for by name, whatever stands there.
        """
        forced = self._options.force and self._options.choice.names(status.stage.name)
        if forced or out == status.output or not (status.foreign or status.state is State.EDITED):
            return False
        name = status.stage.name
        line.state, line.reason = str(State.EDITED), why_edited(status)
        line.hint = f"git ml restore {name} puts its result there, git ml accept {name} makes these files the result"
        self._showing.warn([f"{name}: {line.reason}; {line.hint}"])
        return True

    def _is_partly(self, stage: Stage) -> bool:
        """Whether only some datums of the stage are asked for."""
        choice = self._options.choice
        return bool(self._options.datums) and (choice.stages is None or choice.names(stage.name))

    def _compute(
        self, status: StageStatus, snapshot: Snapshot, report: RunReport, *, ignore: Collection[str]
    ) -> Oid | None:
        key = status.key
        assert key is not None
        stage, line, whole = status.stage, report.stages[status.stage.name], len(status.datums)
        partly = self._is_partly(stage)
        if partly:
            status = _limited(status, self._options.datums)
            line.total = len(status.datums)
            if not status.datums:
                line.reason = f"none of its {whole} datums is asked for; git ml ls datums {stage.name} lists them"
                return None
        if self._options.dry_run:
            again = {*ignore, *RECOVERED} if stage.transform.err_cmd else ignore
            todo = sum(not self._cache.knows(key) or self._is_ignored(key, again) for key in status.task_keys)
            why = f": {status.reason}" if status.reason else ""
            line.reason = f"would run {todo} of {whole} datums{why}"
            return None
        if self._options.explicit:
            self._trust.add([command_of(status)])
        elif not self._trust.has(command_of(status)):
            line.reason = NOT_TRUSTED
            report.notices[f"{stage.name}: {NOT_TRUSTED}"] = None
            return None
        executor = self._executor_of(stage)
        run = StageRun(
            repo=self._repo,
            odb=self._odb,
            cache=self._cache,
            staging=self._staging,
            sandboxes=self._sandboxes,
            executor=executor,
            run=report.run,
            directory=self._lease.run_dir(report.run),
            commit=report.tip,
            stop=self._stop,
            ignore=ignore,
            parallel=self._options.parallel,
            fail_fast=self._options.fail_fast,
            progress=lambda tally: self._showing.datums(line.name, tally),
        )
        try:
            out = run.execute(status, snapshot)
        except StageFailedError as error:
            self._note(stage, run, report)
            if self._stop.is_set():
                line.reason = "stopped"
                return None
            self._failed[key] = error
            line.state, line.reason, line.hint = str(State.FAILED), error.message, error.hint or ""
            if not error.lasting:
                report.notices[f"{stage.name}: {error.message}" + (f"; {error.hint}" if error.hint else "")] = None
                return None
            with self._cache.update(f"run {report.run}: {stage.name} failed") as batch:
                batch.put_json(stage_path(key) + b"/failed.json", error.document(stage.name, report.run))
                self._put_run(batch, report, "running")
            return None
        self._note(stage, run, report)
        report.notices.update(dict.fromkeys(run.notices))
        if partly:
            line.reason = f"{len(status.datums)} of {whole} datums asked for, kept in the cache"
            return None
        self._computed[key] = out
        with self._cache.update(f"run {report.run}: {stage.name}") as batch:
            keep_result(batch, status, report.run, out, run.tally.recovered)
            self._put_run(batch, report, "running")
        return out

    def _is_ignored(self, key: str, ignore: Collection[str]) -> bool:
        known = self._cache.task(key) if ignore else None
        return known is not None and known.state in ignore

    def _executor_of(self, stage: Stage) -> Executor | None:
        """What computes the tasks of a stage; None: this machine."""
        setting = self._repo.config("ml.executor")
        if setting is not None and setting not in EXECUTORS:
            raise UserError(f"unknown executor '{setting}'", hint="use local or dask: git config ml.executor local")
        name = self._options.executor or stage.executor or setting or LOCAL
        if name != DASK:
            return None
        from gitml.pipeline.dispatch import DaskExecutor  # noqa: PLC0415 - 20 ms that runs on this machine need not pay

        return DaskExecutor(self._repo, self._odb)

    def _note(self, stage: Stage, run: StageRun, report: RunReport) -> None:
        report.notices.update(self._sandboxes.notices)
        self._tasks.update({task.key: task for task in run.tasks})
        if run.means:
            self._limits[stage.name] = run.means
        if run.elsewhere:
            self._elsewhere[stage.name] = run.elsewhere

    def _put(
        self, settlement: _Settlement, status: StageStatus, snapshot: Snapshot, out: Oid, report: RunReport
    ) -> None:
        """Put a stage's output and record into the overlay."""
        assert status.key is not None
        stage = status.stage
        document = self._cache.stage_record(status.key, out) or {}
        record = build_record(status, snapshot, out, int(document.get("recovered", 0)))
        pack = self._staging.pack()
        changes: dict[bytes, Entry | None] = {
            stage.output: Entry(MODE_TREE, out) if out != self._empty else None,
            record_path(stage.name): Entry(MODE_FILE, pack.write("blob", format_record(record))),
        }
        overlay = edit_tree(pack, pack, settlement.overlay, changes, self._trees)
        self._staging.flush()
        if overlay != settlement.overlay:  # what was computed anew may have come out as it was
            settlement.overlay = overlay
            settlement.changed[stage.name] = stage
        here = self._snapshot(settlement)
        nothing = ["it wrote nothing to /pfs/out"] if out == self._empty and status.datums else []
        found = nothing or [*absent_metrics(here, stage), *gate_breaches(here, stage)]
        warnings = [f"{stage.name}: {each}" for each in found]
        report.notices.update(dict.fromkeys(warnings))
        self._showing.warn(warnings)

    def _count(self, line: StageReport, status: StageStatus) -> None:
        executed = [self._tasks[key] for key in dict.fromkeys(status.task_keys) if key in self._tasks]
        line.ran = sum(task.state != "failed" for task in executed)
        line.failed = sum(task.state == "failed" for task in executed)
        line.recovered = sum(task.state == "recovered" for task in executed)
        if line.state == State.FRESH:
            line.cached = line.total - line.ran
        else:
            line.cached = max(0, status.done)

    # --- the end of a round ----------------------------------------------------------------------------------

    def _publish(self, branch: str | None, settlement: _Settlement, report: RunReport) -> bool:
        """Commit the overlay if there is something to commit; whether another round is needed."""
        if not settlement.changed:
            return False
        if branch is None or not self._options.publish:
            report.parked = DETACHED if branch is None else "as asked"
            return False
        if self._delivery is not None:
            self._delivery.claim(branch, settlement.leaving, settlement.changed)
        paths = [path for stage in settlement.changed.values() for path in (stage.output, record_path(stage.name))]
        message = result_message(report, settlement.tip, settlement.changed)
        if self._options.results is not None:
            if self._repo.try_resolve(branch) != settlement.tip:
                return True  # pushed again; what is done is in the cache
            report.published = publish_beside(
                self._repo, self._odb, self._options.results, settlement.tip, settlement.overlay, message
            )
            return False
        outcome = publish(
            self._repo, self._odb, branch, settlement.tip, settlement.overlay, message, paths,
            wait=self._options.publish_wait, stopped=self._stop.is_set, sign=self._options.sign,
        )  # fmt: skip
        if isinstance(outcome, Moved):
            return True
        if isinstance(outcome, Parked):
            report.parked = outcome.reason
            self._lease.park(branch)
            return False
        self._lease.unpark(branch)
        report.published, report.kept = outcome.commit, outcome.kept
        return False

    def _deliver(self, branch: str | None, settlement: _Settlement, report: RunReport) -> None:
        """Copy results out that are on the branch now; a failure is in the report, and the next run tries again."""
        kept = report.parked or self._stop.is_set() or self._options.dry_run or not self._options.publish
        if self._delivery is None or branch is None or kept:
            return
        report.undelivered, notices = self._delivery.deliver(
            branch, settlement.leaving, settlement.changed, Snapshot(self._odb, settlement.overlay),
            commit=report.published or report.tip, brought=lambda: self._surveyor.own_digests(report.tip, self._trust),
            progress=lambda name, done, total: self._showing.copying(report.stages[name], done, total),
        )  # fmt: skip
        for name in settlement.leaving:
            self._showing.stage(report.stages[name])
        report.notices.update(dict.fromkeys(notices))
        if report.undelivered:
            self._showing.warn(notices)

    def _finish(self, report: RunReport) -> None:
        state = self._showing.state
        if state is None:
            return
        # from here on the data of this run's results, published or only in the run cache, goes with a push
        self._data.cover_session(session_of(report.run))
        self._showing.conclude(report)
        if self._tasks:
            with self._cache.update(f"run {report.run}: {state.status}") as batch:
                self._put_run(batch, report, state.status)
        self._cache.join_packs()
        self._showing.end()
        for old in self._lease.forget_old_runs():
            remove_tree(old)

    def _put_run(self, batch: Batch, report: RunReport, status: str) -> None:
        state = self._showing.state
        assert state is not None
        keep_run(
            batch, report.run, status, source=report.tip, branch=state.branch, started=state.started,
            sandboxes=self._sandboxes, limits=self._limits, elsewhere=self._elsewhere,
        )  # fmt: skip


def _limited(status: StageStatus, patterns: Collection[str]) -> StageStatus:
    """The status with only the datums that the patterns mean."""
    chosen = datum_filter(patterns)
    pairs = [pair for pair in zip(status.datums, status.task_keys, strict=True) if chosen(pair[0])]
    return replace(status, datums=tuple(datum for datum, _ in pairs), task_keys=tuple(key for _, key in pairs))
