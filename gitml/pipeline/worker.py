"""The side of a worker: inputs from the data remote, tasks in workspaces, results to the data remote.

A worker process has a cache of what it fetched, which it shares with others below the same directory, and a place for
workspaces of its own. It knows nothing of the project but what an order says, and keeps nothing that it could not get
again: whoever kills it loses the batch that it is at.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gitml.errors import GitmlError, MissingDataError
from gitml.git.attributes import filter_of
from gitml.git.command import clean_environment
from gitml.git.data import DataLog
from gitml.git.exchange import name_remote, push_refs, remote_name, worker_cache, write_commit
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.pointers import read_pointers
from gitml.git.promisor import fetch_objects, fetch_versions
from gitml.git.remotes import last_line
from gitml.git.repository import Repository
from gitml.liveness import is_alive
from gitml.oid import ObjectFormat, Oid
from gitml.pipeline.batch import Processes
from gitml.pipeline.collect import Collected, collect
from gitml.pipeline.environment import task_environment
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.limits import Allotment, Machine, Means
from gitml.pipeline.parcel import PROTOCOL, Done, Job, Order, Returned, files_below, image_in, pack, unpack
from gitml.pipeline.process import Stop, end_leftovers
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.sandbox import Sandbox, choose_sandbox
from gitml.pipeline.secretstore import Granted, SecretStore
from gitml.pipeline.task import TaskOutcome, TaskStoppedError
from gitml.pipeline.workercache import WorkerCache, is_open
from gitml.pipeline.workspace import Workspace, Workspaces
from gitml.store.odb import ObjectWriter
from gitml.store.tree import MODE_FILE, MODE_GITLINK, MODE_TREE, Entry, Snapshot, empty_tree, format_tree

_OPENING = threading.Lock()
_LAID_OUT = 4 << 30
"""Bytes of large contents that a process keeps as files for its next batches, at most."""


class WorkError(Exception):
    """A worker could not do a batch, for a reason that is not in its datums. Has one text, so that it travels."""


def work(protocol: int, job: bytes, orders: bytes) -> bytes:
    """Do a batch of orders in this worker; give a `Returned` as bytes. This is what the cluster is asked to call.

    Raise `WorkError`, which says on which machine.
    """
    try:
        if protocol != PROTOCOL:
            raise WorkError(f"its gitml speaks version {PROTOCOL} with runs, this run version {protocol}")
        asked = unpack(job, Job)
        home, stop = _of_dask()
        bench = _bench(home, asked.object_format)
        return pack(bench.perform(asked, unpack(orders, tuple), stop))
    except (WorkError, OSError) as error:
        raise WorkError(f"worker on '{os.uname().nodename}': {error}") from None


class _Unwanted:
    """Set when the cluster no longer wants what a thread of a Dask worker is at."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._key = worker.get_current_task()

    def is_set(self) -> bool:
        """Whether the task was cancelled, or the worker is closing."""
        task = self._worker.state.tasks.get(self._key)
        return task is None or task.state == "cancelled" or self._worker.status.name not in {"running", "paused"}


def _of_dask() -> tuple[Path, Stop]:
    """Where this Dask worker may keep files, and what says that the present task must end."""
    from distributed import get_worker  # noqa: PLC0415 - only workers need it

    worker = get_worker()
    return Path(worker.local_directory), _Unwanted(worker)


def _setting(name: str, *options: str) -> str | None:
    """A variable of git's configuration on this machine, outside of any repository; raise `WorkError`."""
    done = subprocess.run(
        ["git", "config", *options, "--get", name], cwd="/", env=clean_environment(), capture_output=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode > 1:
        raise WorkError(f"cannot read the setting '{name}': {last_line(done.stderr)}")
    return os.fsdecode(done.stdout).rstrip("\n") or None


def _bench(home: Path, object_format: str) -> "Bench":
    with _OPENING:
        return _open_bench(home, object_format)


@cache
def _open_bench(home: Path, object_format: str) -> "Bench":
    # what lies there is told apart by process ids, which mean something on one machine only
    directory = Path(_setting("ml.workerDir") or home / "gitml").expanduser() / os.uname().nodename
    given = _setting("ml.workerSecrets")
    secrets_in = Path(given).expanduser() if given else None
    limit = _setting("ml.workerCache", "--type=int")  # git knows the suffixes
    if limit is not None and int(limit) < 0:
        raise WorkError("the setting 'ml.workerCache' is less than 0; it is in bytes, with k, m or g")
    return Bench(directory, ObjectFormat.named(object_format), secrets_in, int(limit) if limit is not None else None)


class _Room:
    """What a process has open of one of the caches. Workspaces hold contents of it, so they end with it."""

    def __init__(self, repo: Repository, tasks: Path, laid_out: int) -> None:
        self.repo = repo
        self.odb = GitOdb(repo.git, repo.format)
        self.workspaces = Workspaces(tasks, self.odb, cache_limit=laid_out)
        self.images = Sandboxes(repo, self.odb)
        self.users = 0
        """Batches that are in it."""

    def close(self) -> None:
        """Leave nothing open and no files."""
        self.images.close()
        self.odb.close()
        self.workspaces.close()


class Bench:
    """Where one worker process works, for one object format. Safe to share between threads; at its end it is cleared.

    `directory` may be shared with other processes of this machine; `secrets_in` has the secrets of this machine;
    `cache_limit` is for `WorkerCache`.
    """

    def __init__(
        self,
        directory: Path,
        object_format: ObjectFormat,
        secrets_in: Path | None = None,
        cache_limit: int | None = None,
    ) -> None:
        self._format = object_format
        self._secrets = secrets_in
        above = directory / "work"
        above.mkdir(parents=True, exist_ok=True)
        left = [path for path in above.iterdir() if not is_alive(int(path.name.partition("-")[0]))]
        end_leftovers(left)
        for path in left:
            remove_tree(path)
        self._place = above / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._logs = self._place / "logs"
        self._logs.mkdir(parents=True)
        self._cache = WorkerCache(directory / "cache", cache_limit)
        self._cache.keep_bound()  # the last one may have been killed while it did that
        self._laid_out = _LAID_OUT if cache_limit is None else min(cache_limit, _LAID_OUT)
        self._allotment = Allotment(Machine.here(os.environ))
        self._choosing = threading.Lock()
        self._sandboxes: dict[tuple[str, bool, str], Sandbox] = {}
        self._entering = threading.Lock()
        self._rooms: dict[Path, _Room] = {}
        self._ended = weakref.finalize(self, _clear, self._rooms, self._place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended()

    def perform(self, job: Job, orders: Sequence[Order], stop: Stop) -> Returned:
        """Do a batch; its results are at the remote then.

        Raise `WorkError`, also once `stop` is set.
        """
        try:
            with self._room() as room:
                return self._perform(room, job, orders, stop)
        except GitmlError as error:
            reason = error.message + (f" ({error.hint})" if error.hint else "")
            raise WorkError(reason.replace(remote_name(job.address), job.address)) from None

    @contextmanager
    def _room(self) -> Iterator[_Room]:
        """What a batch works in; in the end the cache is within its bound again."""
        try:
            with self._cache.entered() as place, self._entered(place) as room:
                yield room
        finally:
            self._cache.keep_bound()
            with self._entering:
                for place in [each for each in self._rooms if not self._rooms[each].users and not is_open(each)]:
                    self._rooms.pop(place).close()

    @contextmanager
    def _entered(self, place: Path) -> Iterator[_Room]:
        with self._entering:
            room = self._rooms.get(place)
            if room is None:
                room = _Room(worker_cache(place, self._format), self._place / place.name, self._laid_out)
                self._rooms[place] = room
            room.users += 1
        try:
            yield room
        finally:
            with self._entering:
                room.users -= 1
                if not room.users:
                    room.odb.close()  # a git that waits would keep files on the disk of a cache that is removed

    def _perform(self, room: _Room, job: Job, orders: Sequence[Order], stop: Stop) -> Returned:
        repo = room.repo
        _find_helper(job.address)
        remote = name_remote(repo, job.address)
        self._bring(room, remote, job, orders)
        processes = Processes()
        batch = _Batch(
            job,
            repo,
            room.odb,
            self._sandbox(room, job),
            logs=self._logs,
            workspaces=room.workspaces,
            allotment=self._allotment,
            granted=self._grant(job),
            processes=processes,
            stop=stop,
        )
        with PackWriter(
            repo.objects_dir, self._format, known=ObjectIndex(repo.objects_dir, self._format), reader=room.odb
        ) as written:
            began = time.monotonic()
            with processes:
                done = [batch.do(order, written) for order in orders]
            seconds = time.monotonic() - began
            commit = write_commit(written, batch.tree(written))
            written.finish()
        data, missing = DataLog(repo, room.odb).write([], batch.contents)
        if missing:
            raise MissingDataError(next(iter(missing.values())))
        refs = [f"{commit}:{job.results}{secrets.token_hex(8)}"]
        if data is not None:
            refs.append(f"{data}:{job.data}{data}")
        if stop.is_set():
            raise TaskStoppedError
        push_refs(repo, remote, refs)
        return Returned(
            done=tuple(done),
            commit=commit,
            data=data,
            item=batch.contents[0] if batch.contents else None,
            size=batch.size,
            means=batch.means.used,
            notices=batch.notices(),
            sandbox=batch.sandbox.name,
            host=os.uname().nodename,
            seconds=seconds,
        )

    def _sandbox(self, room: _Room, job: Job) -> Sandbox:
        with self._choosing:
            if job.stage.transform.source is not None:
                # an image depends on what is installed on this machine, so its settings count
                return room.images.of(job.stage, Snapshot(room.odb, job.attributes))
            asked = (job.sandbox, job.network, job.stage.transform.user)
            known = self._sandboxes.get(asked)
            if known is None:
                # the secrets of this machine are kept from tasks as a worktree is: they are given theirs
                known = choose_sandbox(
                    job.sandbox,
                    worktree=self._secrets,
                    git_dir=self._cache.directory,
                    network=job.network,
                    user=job.stage.transform.user,
                )
                self._sandboxes[asked] = known
            return known

    def _grant(self, job: Job) -> Granted:
        if not job.stage.transform.secrets:
            return Granted()
        if self._secrets is None:
            raise WorkError(
                f"it has no secrets (ml.workerSecrets), none are sent, and stage '{job.stage.name}' needs "
                f"'{job.stage.transform.secrets[0].name}'"
            )
        return SecretStore(self._secrets).grant(job.stage)

    def _bring(self, room: _Room, remote: str, job: Job, orders: Sequence[Order]) -> None:
        """Have here all that the tasks of a batch read."""
        repo, odb = room.repo, room.odb
        inputs = [part for order in orders for part in order.datum.inputs]
        entries = {part.entry for part in inputs} | {file.entry for file in job.code}
        empty = empty_tree(self._format)
        roots = {entry.oid for entry in entries if entry.mode != MODE_GITLINK} | {job.attributes}
        absent = fetch_objects(repo, remote, roots - {empty})
        if absent:
            raise MissingDataError(f"object '{min(absent)}' is no longer at the data remote")
        archive = image_in(job.stage, Snapshot(odb, job.attributes))
        named = {file.entry: file.source for file in job.code} | {part.entry: part.full_path for part in inputs}
        named |= {entry: path for path, entry in archive.items()}
        paths = {oid: path for entry, root in named.items() for path, oid in files_below(odb, entry, root)}
        pointers = read_pointers(repo.git, paths)
        wanted = [(paths[oid], pointer.manifest) for oid, pointer in pointers.items()]
        missing = fetch_versions(repo, wanted, remotes=[remote], progress=False)
        if missing:
            (path, _), reason = next(iter(missing.items()))
            raise MissingDataError(f"content of '{os.fsdecode(path)}' cannot be fetched: {reason}")


def _clear(rooms: dict[Path, _Room], place: Path) -> None:
    for room in rooms.values():
        room.close()
    remove_tree(place)


class _Batch:
    """The tasks of one batch, and what they leave."""

    def __init__(
        self,
        job: Job,
        repo: Repository,
        odb: GitOdb,
        sandbox: Sandbox,
        *,
        logs: Path,
        workspaces: Workspaces,
        allotment: Allotment,
        granted: Granted,
        processes: Processes,
        stop: Stop,
    ) -> None:
        self.contents: list[tuple[bytes, Oid]] = []
        """Path and manifest of what is large in the outputs."""
        self.size = 0
        """Bytes in outputs with such contents."""
        self.means = Means.of(job.stage.limits, sandbox.name, sandbox.holds)
        self.sandbox = sandbox
        self._job = job
        self._repo = repo
        self._odb = odb
        self._logs = logs
        self._workspaces = workspaces
        self._allotment = allotment
        self._granted = granted
        self._processes = processes
        self._stop = stop
        self._mounts = [mount.target for mount in job.stage.code or ()]
        self._trees: list[tuple[bytes, Entry]] = []
        self._texts: list[tuple[bytes, Entry]] = []

    def notices(self) -> tuple[str, ...]:
        """What the user of the run should know of this machine."""
        found = [f"'resource_limits.{name}' is not enforced on a worker" for name in self.means.missing]
        if self.sandbox.notice:
            found.append(f"on a worker {self.sandbox.notice}")
        return tuple(found)

    def do(self, order: Order, written: PackWriter) -> Done:
        """Compute one task; outputs and log go into the pack."""
        stage = self._job.stage
        log = self._logs / f"{order.key}-{threading.get_ident()}.log"
        datum = order.datum

        def make(*, inputs: bool = True, code: bool = True) -> Workspace:
            return self._workspaces.create(
                datum.inputs if inputs else (), self._job.code if code else (),
                self._job.files if code else None, self._mounts if code else (),
            )  # fmt: skip

        environment = task_environment(
            stage, datum, environ=os.environ, datum_id=datum.id, job_id=self._job.run, commits=self._job.commits,
            image=self.sandbox.image,
        )  # fmt: skip
        try:
            with (
                self._allotment.share(stage) as share,
                self._processes.run_task(
                    stage,
                    make=make,
                    sandbox=self.sandbox,
                    environment=environment,
                    log=log,
                    share=share,
                    granted=self._granted,
                    stop=self._stop,
                ) as outcome,
            ):
                return self._judge(order.key, outcome, written)
        except TaskStoppedError:
            raise
        except GitmlError as error:
            return Done(
                key=order.key, state="failed", attempts=0, status=None, message=error.message, hint=error.hint,
                seconds=0.0, max_rss=None, cpu_seconds=None, tree=None,
            )  # fmt: skip
        finally:
            with contextlib.suppress(FileNotFoundError):
                blob = written.write("blob", log.read_bytes())
                self._texts.append((order.key.encode(), Entry(MODE_FILE, blob)))
                log.unlink()

    def _judge(self, key: str, outcome: TaskOutcome, written: PackWriter) -> Done:
        found: Collected | None = None
        state, message, hint = str(outcome.state), outcome.message, outcome.hint
        if outcome.workspace is not None:
            output = self._job.stage.output
            try:
                found = collect(
                    outcome.workspace,
                    written,
                    is_tracked=lambda path: self._is_tracked(output + b"/" + path),
                    label="",
                )
            except GitmlError as error:
                state, message, hint = "failed", error.message, error.hint
        if found is not None:
            self.contents += [(output + b"/" + path, manifest) for path, (manifest, _) in found.pointers.items()]
            self.size += found.size if found.pointers else 0
            self._trees.append((key.encode(), Entry(MODE_TREE, found.tree)))
        return Done(
            key=key, state=state, attempts=outcome.attempts, status=outcome.status, message=message, hint=hint,
            seconds=outcome.seconds, max_rss=outcome.max_rss, cpu_seconds=outcome.cpu_seconds,
            tree=found.tree if found is not None else None,
            files=found.files if found is not None else 0,
            size=found.size if found is not None else 0,
            plain_large=found.plain_large if found is not None else (),
        )  # fmt: skip

    def _is_tracked(self, path: bytes) -> bool:
        return path in filter_of(self._repo, self._odb, self._job.attributes, [path])

    def tree(self, writer: ObjectWriter) -> Oid:
        """The tree of everything that the batch gave."""
        found = [(b"out", self._trees), (b"log", self._texts)]
        entries = [(name, Entry(MODE_TREE, writer.write("tree", format_tree(below)))) for name, below in found if below]
        return writer.write("tree", format_tree(entries))


def _find_helper(address: str) -> None:
    """Let git find the helper for stores beside this interpreter, where a worker was started by its path."""
    beside = str(Path(sys.executable).parent)
    if address.startswith("ml::") and shutil.which("git-remote-ml") is None:
        os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{beside}"
