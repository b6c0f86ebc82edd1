"""Running a stage again to see whether the same comes out: beside the run cache and all branches.

Tasks run as in `stagerun`, in fresh workspaces and without asking the run cache; what they write is compared with the
recorded output file by file and then forgotten.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Literal

from gitml.errors import GitmlError, MissingDataError
from gitml.git.attributes import filter_of
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.batch import Processes
from gitml.pipeline.cache import RunCache
from gitml.pipeline.collect import collect
from gitml.pipeline.datum import Datum
from gitml.pipeline.environment import task_environment
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.likeness import unlike
from gitml.pipeline.plan import StageStatus
from gitml.pipeline.secretstore import SecretStore
from gitml.pipeline.task import TaskOutcome
from gitml.pipeline.view import Sandbox
from gitml.pipeline.workspace import Workspaces
from gitml.record import field, record
from gitml.store.content import read_content
from gitml.store.odb import MissingObjectError, ObjectReader
from gitml.store.pointer import is_pointer, parse_pointer
from gitml.store.tree import Entry, Snapshot

_LAST_LINES = 20

Outcome = Literal["same", "differs", "failed", "skipped"]


@record
class Difference:
    """A file, by its path below the output, that did not come out as recorded, and how in words."""

    path: bytes
    what: str


@record(kw_only=True)
class TaskCheck:
    """What became of one task that ran again."""

    key: str
    datum: str
    outcome: Outcome
    message: str = ""
    """Why it failed or was skipped."""
    last_lines: tuple[str, ...] = ()
    """The end of its log if it failed."""
    differences: tuple[Difference, ...] = ()


@record(frozen=False, kw_only=True)
class StageCheck:
    """What became of a stage that ran again."""

    total: int
    """Its datums."""
    chosen: int = 0
    tasks: list[TaskCheck] = field(default_factory=list)
    lost: tuple[bytes, ...] = ()
    """Files of the recorded output that no task wrote this time; known only if all of them ran."""
    stopped: bool = False
    reason: str = ""
    """Why nothing ran."""

    @property
    def outcome(self) -> Outcome:
        """The worst that happened."""
        found = {task.outcome for task in self.tasks}
        if self.lost:
            found.add("differs")
        for each in ("failed", "differs"):
            if each in found:
                return each
        return "same" if "same" in found else "skipped"


@record
class _Ended:
    datum: Datum
    key: str
    log: Path
    outcome: TaskOutcome | None
    error: GitmlError | None


def sample(keys: Iterable[str], percent: float) -> list[str]:
    """So many of some task keys, at least one if there are any: always the same ones, and more with a higher share."""
    listed = sorted(dict.fromkeys(keys), key=lambda key: hashlib.sha256(b"gitml/sample/1\n" + key.encode()).digest())
    return listed[: max(1, math.ceil(len(listed) * percent / 100))] if listed else []


class Recomputation:
    """Runs stages of one commit again. `directory` is the caller's to remove; nothing is left anywhere else."""

    def __init__(
        self,
        *,
        repo: Repository,
        odb: GitOdb,
        cache: RunCache,
        sandboxes: Sandboxes,
        directory: Path,
        commit: Oid,
        stop: Event,
        tolerances: Mapping[str, float] | None = None,
        percent: float = 100.0,
        parallel: int | None = None,
        progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._repo = repo
        self._odb = odb
        self._cache = cache
        self._sandboxes = sandboxes
        self._directory = directory
        self._commit = commit
        self._stop = stop
        self._tolerances = tolerances or {}
        self._percent = percent
        self._parallel = parallel
        self._progress = progress

    def check(self, status: StageStatus, snapshot: Snapshot) -> StageCheck:
        """Run the sample of a stage whose output at `snapshot` is the one recorded for its key."""
        by_key = dict(zip(status.task_keys, status.datums, strict=True))
        chosen = sample(by_key, self._percent)
        report = StageCheck(total=len(status.datums), chosen=len(chosen))
        if not chosen:
            report.reason = "it has no datums"
            return report
        try:
            sandbox = self._sandboxes.of(status.stage, snapshot)
        except GitmlError as error:
            report.reason = error.message
            return report
        place = self._directory / hashlib.sha256(status.stage.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        for part in ("log", "objects/pack", "compared"):
            (place / part).mkdir(parents=True)
        written: set[bytes] = set()
        with (
            Workspaces(place / "work", self._odb) as workspaces,
            PackWriter(place / "objects", self._odb.format, reader=self._odb) as pack,
        ):
            for ended in self._run(status, {key: by_key[key] for key in chosen}, workspaces, place / "log", sandbox):
                report.tasks.append(self._judge(status, snapshot, ended, pack, written, place / "compared"))
                self._progress(status.stage.name, len(report.tasks), len(chosen))
        report.stopped = self._stop.is_set() and len(report.tasks) < len(chosen)
        if len(report.tasks) == len(by_key) and all(task.outcome in ("same", "differs") for task in report.tasks):
            recorded = [path for path, _ in Snapshot(self._odb, status.output).walk()]
            told = {each.path for task in report.tasks for each in task.differences}
            report.lost = tuple(path for path in recorded if path not in written and path not in told)
        return report

    def _run(
        self, status: StageStatus, todo: Mapping[str, Datum], workspaces: Workspaces, logs: Path, sandbox: Sandbox
    ) -> Iterator[_Ended]:
        stage = status.stage
        mounts = [mount.target for mount in stage.code or ()]
        inherited = dict(os.environ)
        commits = {leaf.name: status.reading.commits.get(leaf, self._commit).hex() for leaf in stage.inputs}
        granted = SecretStore(self._repo.state_dir / "secrets").grant(stage)
        job = hashlib.sha256(b"gitml/run/1\n" + self._commit).hexdigest()[:12]

        def start(key: str, datum: Datum) -> _Ended:
            log = logs / f"{key}.log"
            environment = task_environment(
                stage, datum, environ=inherited, datum_id=datum.id, job_id=job, commits=commits, image=sandbox.image
            )
            make = workspaces.maker(datum.inputs, status.code, status.params.files, mounts)
            try:
                outcome = processes.run_task(
                    stage,
                    make=make,
                    sandbox=sandbox,
                    environment=environment,
                    log=log,
                    granted=granted,
                    stop=self._stop,
                )
            except GitmlError as error:
                return _Ended(datum, key, log, None, error)
            return _Ended(datum, key, log, outcome, None)

        width = self._parallel or stage.parallelism
        waiting = iter(todo.items())
        with (
            Processes() as processes,
            ThreadPoolExecutor(max_workers=width, thread_name_prefix="task") as pool,
        ):
            running: set[Future[_Ended]] = set()
            try:
                while True:
                    while len(running) < width and not self._stop.is_set():
                        following = next(waiting, None)
                        if following is None:
                            break
                        running.add(pool.submit(start, *following))
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for ended in (future.result() for future in done):
                        if not self._stop.is_set():
                            yield ended
                        if ended.outcome is not None:
                            ended.outcome.close()
            except BaseException:
                self._stop.set()  # or the pool would wait for commands that nobody asks about any more
                raise

    def _judge(
        self, status: StageStatus, snapshot: Snapshot, ended: _Ended, pack: PackWriter, written: set[bytes], place: Path
    ) -> TaskCheck:
        def task(outcome: Outcome, message: str = "", last_lines: tuple[str, ...] = ()) -> TaskCheck:
            return TaskCheck(
                key=ended.key, datum=ended.datum.label, outcome=outcome, message=message, last_lines=last_lines
            )

        if ended.error is not None:
            missing = isinstance(ended.error, MissingDataError)
            return task("skipped" if missing else "failed", ended.error.message)
        assert ended.outcome is not None
        if ended.outcome.state == "failed":
            text = ended.log.read_bytes().decode("utf-8", "replace") if ended.log.exists() else ""
            return task("failed", ended.outcome.message, tuple(text.splitlines()[-_LAST_LINES:]))
        files: dict[bytes, Entry] = {}
        if ended.outcome.workspace is not None:
            output = status.stage.output

            def is_tracked(path: bytes) -> bool:
                whole = output + b"/" + path
                return whole in filter_of(self._repo, self._odb, snapshot.root, [whole])

            try:
                found = collect(ended.outcome.workspace, pack, is_tracked=is_tracked, label="")
            except GitmlError as error:
                return task("failed", error.message)
            files = dict(Snapshot(pack, found.tree).walk())
        written.update(files)
        try:
            differences = tuple(self._compare(status, ended.key, files, pack, place))
        except MissingDataError as error:
            return task("skipped", f"the recorded output is not here: {error.message}")
        return TaskCheck(
            key=ended.key,
            datum=ended.datum.label,
            outcome="differs" if differences else "same",
            differences=differences,
        )

    def _compare(
        self, status: StageStatus, key: str, files: Mapping[bytes, Entry], pack: PackWriter, place: Path
    ) -> Iterator[Difference]:
        recorded = Snapshot(self._odb, status.output)
        known = self._cache.task(key)
        if known is not None:
            # which files were this task's is in the cache only; what has to be in them is in the record
            try:
                expected = [path for path, _ in Snapshot(self._odb, known.out).walk()]
            except MissingObjectError:
                expected = []
            for path in expected:
                if path not in files and recorded.get(path) is not None:
                    yield Difference(path, "not written any more")
        for path, entry in files.items():
            before = recorded.get(path)
            if before == entry:
                continue
            if before is None or before.is_tree:
                yield Difference(path, "is new")
            elif before.mode != entry.mode:
                yield Difference(path, f"mode {before.mode:o}, now {entry.mode:o}")
            else:
                old, new = place / "old", place / "new"
                _write(old, before.oid, self._odb)
                _write(new, entry.oid, pack)
                what = unlike(path, old, new, self._tolerances)
                if what:
                    yield Difference(path, what)


def _write(where: Path, oid: Oid, reader: ObjectReader) -> None:
    data = reader.read(oid)[1]
    with where.open("wb") as file:
        if is_pointer(data):
            for piece in read_content(parse_pointer(data), reader):
                file.write(piece)
        else:
            file.write(data)
