"""Running one stage: the datums without a result, several at once, each recorded soon after it has ended.

A record makes finished datums durable (outputs in a pack, results in the run cache): at once where they take long, else
those of two seconds at most together (gitml.pipeline.rhythm). So a kill costs the datums that were running and these.
Datums that fail do not stop the others.
"""

import shutil
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

from gitml.errors import GitmlError, UserError
from gitml.git.attributes import filter_of
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.git.staging import Staging
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache, TaskResult, run_path, task_path
from gitml.pipeline.code import CodeFile
from gitml.pipeline.collect import Collected, DuplicateOutputError, collect, merge_outputs
from gitml.pipeline.datum import Datum
from gitml.pipeline.executor import Ended, Executor, ExecutorError, Task, Work
from gitml.pipeline.failure import last_words, told_once
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.local import LocalExecutor
from gitml.pipeline.plan import StageStatus
from gitml.pipeline.process import Halt
from gitml.pipeline.secretstore import SecretStore
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.supply import Supply
from gitml.pipeline.task import NOT_EXECUTABLE, NOT_FOUND, TaskOutcome, TaskStoppedError
from gitml.pipeline.undeclared import explain_missing, explain_module, explain_refused
from gitml.record import asdict, record
from gitml.store.manifest import ManifestError
from gitml.store.pointer import PointerError
from gitml.store.tree import Snapshot, empty_tree

_LAST_LINES = 20
_BY_ITSELF = 127
"""Exit statuses up to this one: whatever ended the command, it was no signal."""
_SHOWN_EVERY = 5000
"""Known results that are read between two looks at whether to go on."""

NOTHING: frozenset[str] = frozenset()
RECOVERED = frozenset({"recovered"})
ALL = frozenset({"success", "recovered"})
"""Known results of datums that a run computes again, by their state."""


@record(frozen=False)
class Tally:
    """How far a stage is, in datums."""

    total: int
    cached: int = 0
    succeeded: int = 0
    recovered: int = 0
    failed: int = 0


@record
class TaskLine:
    """What became of one task; `state` is 'success', 'recovered' or 'failed'."""

    key: str
    stage: str
    datum: str
    state: str
    attempts: int
    seconds: float
    status: int | None
    message: str
    hint: str = ""
    max_rss: int | None = None
    cpu_seconds: float | None = None

    def document(self) -> dict[str, Any]:
        """The line as it is stored with its run."""
        processor = None if self.cpu_seconds is None else round(self.cpu_seconds, 3)
        return {**asdict(self), "seconds": round(self.seconds, 3), "cpu_seconds": processor}


class StageFailedError(UserError):
    """A stage failed; `datum` names the first datum that did (empty if it was none's), `last_lines` end its log.

    `lasting`: the same inputs would fail again elsewhere, so the run cache is told.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None,
        datum: str,
        failed: int,
        last_lines: tuple[str, ...],
        lasting: bool = True,
    ) -> None:
        super().__init__(message, hint=hint)
        self.datum = datum
        self.failed = failed
        self.last_lines = last_lines
        self.lasting = lasting

    def document(self, stage: str, run: str) -> dict[str, Any]:
        """The failure as the run cache keeps it."""
        return {
            "schema": "gitml/failure/1",
            "stage": stage,
            "run": run,
            "datum": self.datum,
            "message": self.message,
            "hint": self.hint,
            "failed": self.failed,
            "last_lines": list(self.last_lines),
            "time": int(time.time()),
        }


class StageRun:
    """One execution of one stage: on this machine, in one of `sandboxes`, or by `executor`.

    `tasks`, `tally`, `notices` and `means` say afterwards what happened.
    """

    def __init__(
        self,
        *,
        repo: Repository,
        odb: GitOdb,
        cache: RunCache,
        staging: Staging,
        sandboxes: Sandboxes,
        run: str,
        directory: Path,
        commit: Oid,
        stop: Event,
        ignore: Collection[str],
        parallel: int | None,
        progress: Callable[[Tally], None],
        fail_fast: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self._repo = repo
        self._odb = odb
        self._cache = cache
        self._staging = staging
        self._run = run
        self._directory = directory
        self._commit = commit
        self._stop = stop
        self._ignore = ignore
        self._parallel = parallel
        self._progress = progress
        self._fail_fast = fail_fast
        self._is_here = executor is None
        self._supply = Supply(repo)
        self._executor: Executor = executor or LocalExecutor(
            odb, sandboxes, SecretStore(repo.state_dir / "secrets"), directory / "work", self._supply,
            fail_fast=fail_fast,
        )  # fmt: skip
        self._outs: dict[str, Oid] = {}
        self._writers: dict[bytes, str] = {}
        self._directories: dict[bytes, str] = {}
        """The first datum that wrote below each directory."""
        self._doomed = False
        self._of_machine: set[str] = set()
        """Tasks that failed by no fault of command and inputs: no room for a workspace, content that is not here."""
        self._code: Sequence[CodeFile] = ()
        self._halt = Halt(stop, None)
        self.tasks: list[TaskLine] = []
        self.tally = Tally(0)
        self.notices: list[str] = []
        self.means: dict[str, str] = {}
        """How the limits of the stage were held."""
        self.elsewhere: dict[str, Any] = {}
        """Where tasks ran, if not here (`executor.Facts`)."""

    def execute(self, status: StageStatus, snapshot: Snapshot) -> Oid:
        """Run the datums of `status` that have no result; give the stage's output tree.

        Raise `StageFailedError` if a datum failed, two wrote one path, or the run was told to stop.
        """
        stage = status.stage
        self._code = status.code
        self._halt = Halt(self._stop, stage.job_timeout)
        self._supply.expect(status.datums)
        self.tally = Tally(len(status.datums))
        todo = self._todo(status)
        first = next(todo, None)
        self._progress(self.tally)
        if first is not None:
            (self._directory / "log").mkdir(parents=True, exist_ok=True)
            with self._computing(stage, status, snapshot, chain([first], todo)) as batches:
                for batch in batches:
                    self._record(stage, snapshot, batch)
                    self._progress(self.tally)
            if self._halt.has_expired:
                deque(todo, maxlen=0)  # to know how many have a result
        self._raise_failure(status)
        return self._merge(status)

    def _todo(self, status: StageStatus) -> Iterator[Task]:
        """The tasks to run: first those that have no result, then those that have one and are to run nevertheless.

        Records of results are read when the first kind has been taken, so that a new datum among very many starts soon.
        """
        known = self._cache.known(status.task_keys)
        new: dict[str, Datum] = {}
        old: list[tuple[Datum, str]] = []
        for datum, key in zip(status.datums, status.task_keys, strict=True):
            if key in known:
                old.append((datum, key))
            else:
                new[key] = datum
        yield from (Task(datum, key) for key, datum in new.items())
        again: dict[str, Datum] = {}
        for at, ((datum, key), result) in enumerate(zip(old, self._cache.tasks(key for _, key in old), strict=True)):
            if at % _SHOWN_EVERY == _SHOWN_EVERY - 1:
                self._progress(self.tally)
                if self._stop.is_set():
                    return
            if result is not None and self._serves(status.stage, result):
                self._outs[key] = result.out
                self.tally.cached += 1
            else:
                again[key] = datum
        yield from (Task(datum, key) for key, datum in again.items())

    def _serves(self, stage: Stage, result: TaskResult) -> bool:
        """Whether a result is as good as a new one.

        Recovered datums get another chance in each run, and a stage may want every datum computed; both still go on
        with a run that was killed.
        """
        anew = stage.every_job or result.state in RECOVERED
        return result.state not in self._ignore and (not anew or result.record.get("run") == self._run)

    @contextmanager
    def _computing(
        self, stage: Stage, status: StageStatus, snapshot: Snapshot, todo: Iterable[Task]
    ) -> Iterator[Iterator[list[Ended]]]:
        """The tasks as they end, in batches; what is under way ends with the block."""
        work = Work(
            stage=stage,
            snapshot=snapshot,
            run=self._run,
            commits={leaf.name: status.reading.commits.get(leaf, self._commit).hex() for leaf in stage.inputs},
            code=tuple(status.code),
            files=status.params.files,
            logs=self._directory / "log",
            parallel=self._parallel,
            stop=self._halt,
            is_over=self._is_over,
        )
        try:
            with closing(self._executor.run(work, todo)) as batches:
                yield batches
        except ExecutorError as error:
            raise StageFailedError(
                error.message, hint=error.hint, datum="", failed=self.tally.failed, last_lines=(), lasting=False
            ) from None
        finally:
            facts = self._executor.facts
            self.means = dict(facts.means)
            if not self._is_here:
                self.elsewhere = facts.document()
            self.notices += [f"{stage.name}: {each}" for each in facts.notices]

    def _is_over(self) -> bool:
        """Whether no further task may start: told to stop, or there can be or shall be no result any more."""
        return self._halt.is_set() or self._doomed

    def _record(self, stage: Stage, snapshot: Snapshot, batch: list[Ended]) -> None:
        """Make a batch of ended tasks durable: outputs first, then what the run cache says of them."""
        ended = [each for each in batch if not isinstance(each.error, TaskStoppedError)]
        if not ended:
            return
        collected: dict[str, Collected] = {}
        lines: dict[str, TaskLine] = {}
        for each in ended:
            line, found = self._judge(stage, snapshot, each, self._staging.pack())
            lines[each.task.key] = line
            if found is None:
                continue
            collected[each.task.key] = found
            for path, (manifest, data_tree) in found.pointers.items():
                self._staging.keep(stage.output + b"/" + path, manifest, data_tree)
        self._staging.flush()
        with self._cache.update(f"run {self._run}: {stage.name}, {len(ended)} datums") as update:
            for each in ended:
                key, line = each.task.key, lines[each.task.key]
                update.put_json(run_path(self._run) + f"/task/{key}.json".encode(), line.document())
                if each.log.exists():
                    update.put_blob(run_path(self._run) + f"/log/{key}".encode(), each.log.read_bytes())
                if line.state == "failed":
                    continue
                out = collected[key].tree if key in collected else empty_tree(self._odb.format)
                self._outs[key] = out
                update.put_tree(task_path(key) + b"/out", out)
                document = {**line.document(), "schema": "gitml/task-run/1", "run": self._run, "time": int(time.time())}
                update.put_json(task_path(key) + b"/record.json", document)
        for each in ended:
            self._count(lines[each.task.key])
            if each.outcome is not None:
                each.outcome.close()

    def _judge(
        self, stage: Stage, snapshot: Snapshot, each: Ended, pack: PackWriter
    ) -> tuple[TaskLine, Collected | None]:
        """What became of a task, and its outputs if it has any."""
        label = each.task.datum.label
        outcome = each.outcome
        if outcome is None:
            assert each.error is not None
            if not isinstance(each.error, UserError | PointerError | ManifestError):  # these are wrong in every clone
                self._of_machine.add(each.task.key)
            return self._line(stage, each, "failed", each.error.message, each.error.hint), None
        found = each.collected
        if found is None and outcome.workspace is None:
            message, hint = self._explain(stage, snapshot, each, outcome)
            return self._line(stage, each, outcome.state, message, hint), None
        try:
            if found is None:
                assert outcome.workspace is not None
                found = collect(
                    outcome.workspace,
                    pack,
                    is_tracked=lambda path: self._is_tracked(snapshot, stage.output + b"/" + path),
                    label="",
                )
            self._check_writers(found, pack, label)
        except GitmlError as error:
            self._doomed |= isinstance(error, DuplicateOutputError)
            return self._line(stage, each, "failed", error.message, error.hint), None
        for path, size in found.plain_large:
            shown = (stage.output + b"/" + path).decode("utf-8", "replace")
            self.notices.append(
                f"'{shown}' ({size / 1e6:.1f} MB) is stored whole; to store it as chunks: "
                f"git ml track '{stage.output.decode('utf-8', 'replace')}/**'"
            )
        return self._line(stage, each, "success", "", None), found

    def _explain(self, stage: Stage, snapshot: Snapshot, each: Ended, outcome: TaskOutcome) -> tuple[str, str | None]:
        """Why a command failed, in its own words where it ended by itself, and what to do about it."""
        if outcome.state != "failed" or not outcome.status or outcome.status > _BY_ITSELF:
            return outcome.message, outcome.hint
        log = _lines(each.log)
        said = last_words(log)
        hint = explain_missing(stage, self._code, snapshot, log, self._repo.worktree)
        if hint is None and self._is_here:
            hint = explain_module(stage, log)
        if hint is None and any(name.startswith("landlock") for name in self._executor.facts.sandboxes):
            hint = explain_refused(log, self._repo.worktree)
        hint = hint or outcome.hint
        return f"{outcome.message}: {said}" if said else outcome.message, hint

    def _line(self, stage: Stage, each: Ended, state: str, message: str, hint: str | None) -> TaskLine:
        outcome = each.outcome
        return TaskLine(
            key=each.task.key,
            stage=stage.name,
            datum=each.task.datum.label,
            state=state,
            attempts=outcome.attempts if outcome is not None else 0,
            seconds=outcome.seconds if outcome is not None else 0.0,
            status=outcome.status if outcome is not None else None,
            message=message,
            hint=hint or "",
            max_rss=outcome.max_rss if outcome is not None else None,
            cpu_seconds=outcome.cpu_seconds if outcome is not None else None,
        )

    def _count(self, line: TaskLine) -> None:
        self.tasks.append(line)
        if line.state == "success":
            self.tally.succeeded += 1
        elif line.state == "recovered":
            self.tally.recovered += 1
            if line.status in (NOT_FOUND, NOT_EXECUTABLE):  # hardly ever what an error command is meant for
                what = f"{line.stage}: datums are recovered, but {line.message}"
                self.notices.append(f"{what}; git ml retry {line.stage} computes them once that is mended")
        else:
            self.tally.failed += 1
            self._doomed |= self._fail_fast  # outputs that could not be taken

    def _check_writers(self, found: Collected, pack: PackWriter, label: str) -> None:
        """Two datums must not write one path, nor a file where the other has a directory: said as soon as one has."""
        for path, _ in Snapshot(pack, found.tree).walk():
            other = self._writers.setdefault(path, label)
            if other != label:
                raise DuplicateOutputError(path, (other, label), clash=False)
            if self._directories.get(path, label) != label:
                raise DuplicateOutputError(path, (self._directories[path], label), clash=True)
            above = path
            while slash := above.rfind(b"/") + 1:
                above = above[: slash - 1]
                if self._writers.get(above, label) != label:
                    raise DuplicateOutputError(above, (self._writers[above], label), clash=True)
                self._directories.setdefault(above, label)

    def _is_tracked(self, snapshot: Snapshot, path: bytes) -> bool:
        return path in filter_of(self._repo, self._odb, snapshot.root, [path])

    def _raise_failure(self, status: StageStatus) -> None:
        failed = [task for task in self.tasks if task.state == "failed"]
        if self._stop.is_set() and len(self._outs) < len(set(status.task_keys)):
            raise StageFailedError("stopped", hint=None, datum="", failed=len(failed), last_lines=())
        if self._halt.has_expired and len(self._outs) < len(set(status.task_keys)):
            raise StageFailedError(
                f"stopped after {status.stage.job_timeout:g} s, the time limit of a job, with "
                f"{len(self._outs)} of {len(set(status.task_keys))} datums done",
                hint="finished datums are kept: git ml run goes on; raise 'job_timeout' if it needs longer",
                datum="", failed=len(failed), last_lines=(),
            )  # fmt: skip
        if not failed:
            return
        lasting = [task for task in failed if task.key not in self._of_machine]
        first = (lasting or failed)[0]
        more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
        lines = told_once(_lines(self._directory / "log" / f"{first.key}.log"))
        raise StageFailedError(
            f"datum '{first.datum}': {first.message}{more}",
            hint=first.hint or None,
            datum=first.datum,
            failed=len(failed),
            last_lines=tuple(lines[-_LAST_LINES:]),
            lasting=bool(lasting),
        )

    def _merge(self, status: StageStatus) -> Oid:
        labelled = [(datum.label, self._outs[key]) for datum, key in zip(status.datums, status.task_keys, strict=True)]
        shutil.rmtree(self._directory / "log", ignore_errors=True)
        pack = self._staging.pack()
        try:
            tree = merge_outputs(labelled, pack, pack)
        except GitmlError as error:
            raise StageFailedError(error.message, hint=error.hint, datum="", failed=0, last_lines=()) from None
        self._staging.flush()
        return tree


def _lines(log: Path) -> list[str]:
    return log.read_bytes().decode("utf-8", "replace").splitlines() if log.exists() else []
