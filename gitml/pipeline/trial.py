"""One stage at a tree that no commit has: composed of paths of several commits, run as any other, kept under its key.

What comes out goes into the run cache and nowhere else, so a branch that comes to the same inputs finds it there.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from threading import Event

from gitml.git.data import DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.git.staging import Staging
from gitml.oid import Oid
from gitml.pipeline.cache import stage_path
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.keeping import keep_result, keep_run, session_of
from gitml.pipeline.lease import Lease
from gitml.pipeline.plan import State, evaluate_stage
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.spec.model import Pipeline, Stage
from gitml.pipeline.stagerun import NOTHING, StageFailedError, StageRun, Tally
from gitml.pipeline.survey import Surveyor, command_of
from gitml.pipeline.trust import Trust
from gitml.record import field, record
from gitml.store.tree import Entry, Snapshot, edit_tree


@record(frozen=False, kw_only=True)
class Trial:
    """What came of a stage at a composed tree."""

    key: str | None
    output: Oid | None = None
    """None if it failed or was stopped."""
    ran: int = 0
    """Datums that were run; all others came from the run cache."""
    total: int = 0
    error: str = ""
    """Why there is no output."""
    last_lines: tuple[str, ...] = ()
    """The end of the log of the first datum that failed."""


@record(frozen=False, kw_only=True)
class Trials:
    """Runs a stage of one commit at composed trees. Whoever has one holds the lease."""

    repo: Repository
    odb: GitOdb
    surveyor: Surveyor
    lease: Lease
    commit: Oid
    """Whose code, parameters and specification they are."""
    pipeline: Pipeline
    stop: Event
    parallel: int | None = None
    progress: Callable[[int, int], None] = lambda *_: None
    """Called with the datums that are done and all of them."""
    notices: dict[str, None] = field(default_factory=dict)

    def compose(self, replaced: Mapping[bytes, Entry]) -> Snapshot:
        """The tree of the commit with other things at some paths."""
        with PackWriter(self.repo.objects_dir, self.odb.format, reader=self.odb) as pack:
            tree = edit_tree(pack, pack, self.surveyor.tree_of(self.commit), dict(replaced))
            pack.finish()
        return Snapshot(self.odb, tree)

    def run(self, stage: Stage, snapshot: Snapshot) -> Trial:
        """The output of a stage there: known, or computed as `git ml run` would."""
        knowledge = self.surveyor.knowledge(self.commit)
        status = evaluate_stage(self.pipeline, stage, snapshot, knowledge, (), current=True)
        trial = Trial(key=status.key, total=len(status.datums))
        if status.key is None:
            trial.error = status.reason
            return trial
        if status.state not in (State.STALE, State.FAILED):
            trial.output = status.result
            return trial
        Trust(self.repo).add([command_of(status)])
        cache, started = self.surveyor.cache, time.time()
        # the same tree gives the same id, so that a run that was killed is continued
        run_id = hashlib.sha256(b"gitml/trial/1\n" + snapshot.root).hexdigest()[:12]
        sandboxes = Sandboxes(self.repo, self.odb, stop=self.stop)
        try:
            with Staging(self.repo, self.odb, session_of(run_id)) as staging, closing(sandboxes):
                run = StageRun(
                    repo=self.repo, odb=self.odb, cache=cache, staging=staging, sandboxes=sandboxes, run=run_id,
                    directory=self.lease.run_dir(run_id), commit=self.commit, stop=self.stop, ignore=NOTHING,
                    parallel=self.parallel, progress=self._tell,
                )  # fmt: skip
                trial.output = run.execute(status, snapshot)
        except StageFailedError as error:
            trial.error, trial.last_lines = error.message, error.last_lines
            if error.lasting and not self.stop.is_set():
                with cache.update(f"run {run_id}: {stage.name} failed") as batch:
                    batch.put_json(stage_path(status.key) + b"/failed.json", error.document(stage.name, run_id))
        trial.ran = run.tally.succeeded + run.tally.recovered + run.tally.failed
        self.notices |= {**sandboxes.notices, **dict.fromkeys(run.notices)}
        with cache.update(f"run {run_id}: {stage.name}") as batch:
            if trial.output is not None:
                keep_result(batch, status, run_id, trial.output, run.tally.recovered)
            ended = "nothing" if trial.output is not None else "stopped" if self.stop.is_set() else "failed"
            keep_run(
                batch, run_id, ended, source=self.commit, branch=None, started=started, sandboxes=sandboxes,
                limits={status.stage.name: run.means},
            )  # fmt: skip
        # its data goes with the next push, as that of any run
        DataLog(self.repo, self.odb).cover_session(session_of(run_id))
        for old in self.lease.forget_old_runs():
            remove_tree(old)
        return trial

    def _tell(self, tally: Tally) -> None:
        self.progress(tally.cached + tally.succeeded + tally.recovered + tally.failed, tally.total)
