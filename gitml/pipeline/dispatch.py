"""The side of a run whose tasks workers of a Dask cluster compute.

Dask decides which worker does what, and does again what a worker died of. Here is only how tasks are put together into
batches, how many of these are under way, and what is made of what comes back.
"""

import logging
import math
import pkgutil
import urllib.parse
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from gitml.errors import GitmlError
from gitml.git.exchange import Exchange
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.pointers import read_pointers
from gitml.git.remotes import data_remote
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.collect import Collected
from gitml.pipeline.executor import Ended, ExecutorError, Facts, Task, Work
from gitml.pipeline.livelogs import note_task
from gitml.pipeline.parcel import PROTOCOL, Done, Job, Order, Returned, files_below, image_in, pack, unpack
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.task import State, TaskOutcome
from gitml.pipeline.worker import WorkError, work
from gitml.record import field, record
from gitml.store.odb import ObjectWriter
from gitml.store.tree import MODE_GITLINK, MODE_TREE, Entry, Snapshot, edit_tree, empty_tree, format_tree

Client = Any
"""Of `distributed`, whose methods have no types."""

_BATCH_SECONDS = 15.0
"""What a batch shall take: so much is lost with a worker, or when the run is stopped."""
_LEAST_BATCH_SECONDS = 3.0
"""What it shall take at least: fetching and pushing for a batch takes about half a second."""
_LEAST_SECONDS = 0.02
_MOST_TASKS = 250
_UNKNOWN_SLOTS = 8
"""Batches under way while the cluster has no worker: one that grows on demand grows by what waits."""
_RETRIES = 2
"""How often a batch is done again that a worker had to give up (Dask counts dead workers itself)."""
_TICK = 0.5
_CLOSE_SECONDS = 10
_GONE = (CancelledError, OSError, TimeoutError)
"""What talking to a scheduler raises that has ended."""
_HELP = "see docs/dask.md"
_VERSION, _PROTOCOL = "gitml:__version__", "gitml.pipeline.parcel:PROTOCOL"


@record(kw_only=True)
class Cluster:
    """Where tasks are computed, and by what way contents get there."""

    scheduler: str
    """Address as Dask takes it, or the path of a scheduler file."""
    remote: str
    address: str
    """Of the data remote, as workers are told it."""
    sandbox: str
    network: bool
    bring: int = -1
    """Bytes of large contents that come here for one stage run; less than 0: all."""

    @classmethod
    def of(cls, repo: Repository) -> "Cluster":
        """What the configuration says; raise `ExecutorError` for what is missing in it."""
        scheduler = repo.config("ml.daskScheduler")
        if not scheduler:
            raise ExecutorError(
                "there is no Dask scheduler to give tasks to", hint="git config ml.daskScheduler tcp://HOST:8786"
            )
        remote = data_remote(repo)
        if remote is None:
            raise ExecutorError(
                "workers get their inputs from a data remote, and none is set",
                hint="git config ml.dataRemote NAME, of a remote that the workers can reach",
            )
        return cls(
            scheduler=scheduler,
            remote=remote,
            address=shown_address(repo, remote),
            sandbox=repo.config("ml.sandbox") or "auto",
            network=repo.config_bool("ml.network", False),
            bring=repo.config_int("ml.bringLimit", -1),
        )


def shown_address(repo: Repository, remote: str) -> str:
    """The address of a remote as it may be told to others; raise `ExecutorError` if it holds a password."""
    address = repo.git.line("remote", "get-url", "--", remote)
    if "://" in address:
        with_user = urllib.parse.urlsplit(address.removeprefix("ml::")).netloc.rpartition("@")[0]
        if ":" in with_user:
            raise ExecutorError(
                f"the address of '{remote}' holds a password, which is not sent to workers",
                hint=f"git remote set-url {remote} URL, without it; workers have credentials of their own ({_HELP})",
            )
        return address
    place = Path(repo.worktree or repo.git_dir, address)
    return str(place.resolve()) if place.exists() else address


@record(frozen=False)
class Sizer:
    """How many tasks go into a batch: one while nothing is known of them, then what takes `_BATCH_SECONDS`."""

    seconds: float = 0.0
    tasks: int = 0

    def note(self, seconds: float, tasks: int) -> None:
        """`tasks` took a worker `seconds` together, without what a batch costs whatever is in it."""
        self.seconds += seconds
        self.tasks += tasks

    def size(self, waiting: int, slots: int) -> int:
        """Tasks of the next batch, of `waiting` ones for `slots` workers' threads; at least 1."""
        if not self.tasks:
            return 1
        mean = max(self.seconds / self.tasks, _LEAST_SECONDS)
        fair = max(math.ceil(waiting / (2 * max(slots, 1))), int(_LEAST_BATCH_SECONDS / mean))
        return max(1, min(int(_BATCH_SECONDS / mean), fair, _MOST_TASKS, waiting))


def under_way(threads: int, asked: int | None) -> int:
    """How many batches to have under way at a cluster with so many threads; `asked`: at most so many tasks at once."""
    wanted = 2 * threads if threads else _UNKNOWN_SLOTS
    return wanted if asked is None else max(min(asked, wanted), 1)


class DaskExecutor:
    """Computes tasks on a Dask cluster; an `Executor`."""

    def __init__(self, repo: Repository, odb: GitOdb) -> None:
        self.facts = Facts()
        self._repo = repo
        self._odb = odb

    def run(self, work: Work, tasks: Iterable[Task]) -> Generator[list[Ended], None, None]:
        """As `Executor` has it."""
        cluster = Cluster.of(self._repo)
        with _connected(cluster.scheduler) as client:
            try:
                self.check_workers(client)
                exchange = Exchange(self._repo, self._odb, cluster.remote)
                giving = _Giving(self._repo, self._odb, client, exchange, cluster, work, self.facts)
                try:
                    yield from giving.run(list(tasks))
                finally:
                    giving.end()
            except GitmlError as error:
                raise ExecutorError(error.message, hint=error.hint) from None
            except _GONE as error:
                raise ExecutorError(
                    f"the Dask scheduler at '{cluster.scheduler}' is gone: {error or type(error).__name__}",
                    hint="finished datums are kept: git ml run",
                ) from None

    def check_workers(self, client: Client) -> None:
        """Note versions that differ; raise `ExecutorError` unless every worker that is there understands us."""
        # the standard library's, because a worker may not have ours at all
        found = client.run(pkgutil.resolve_name, _PROTOCOL, on_error="return")
        for address, protocol in found.items():
            if isinstance(protocol, ModuleNotFoundError) and protocol.name == "gitml":
                raise ExecutorError(
                    f"worker '{address}' has no gitml", hint=f"pip install 'gitml[dask]' there; {_HELP}"
                )
            if protocol != PROTOCOL:
                what = (
                    f"speaks version {protocol}" if isinstance(protocol, int) else f"is too old or broken ({protocol})"
                )
                raise ExecutorError(
                    f"gitml of worker '{address}' {what}, this one version {PROTOCOL}",
                    hint="install one version of gitml everywhere",
                )
        ours = pkgutil.resolve_name(_VERSION)
        versions = client.run(pkgutil.resolve_name, _VERSION, on_error="return")
        others = sorted({str(each) for each in versions.values()} - {ours})
        if others:
            self.facts.notices[f"workers have gitml {', '.join(others)}, this is {ours}"] = None


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    """A client of the cluster; raise `ExecutorError`."""
    try:
        import distributed  # noqa: PLC0415 - an extra, and slow to load

        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would print is raised as well
    except ModuleNotFoundError:
        raise ExecutorError("the executor 'dask' needs Dask", hint="pip install 'gitml[dask]'") from None
    is_file = "://" not in scheduler and scheduler.endswith(".json")
    place = {"scheduler_file": str(Path(scheduler).expanduser())} if is_file else {"address": scheduler}
    if is_file and not Path(place["scheduler_file"]).exists():
        raise ExecutorError(f"there is no scheduler file '{scheduler}'", hint="is the scheduler running? " + _HELP)
    try:
        connect: Any = distributed.Client
        client = connect(**place, set_as_default=False, name="gitml")
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).partition("\n")[0]
        raise ExecutorError(
            f"cannot reach the Dask scheduler at '{scheduler}': {reason}",
            hint="start it, or compute here: git ml run --executor local",
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=_CLOSE_SECONDS)


def prepare(
    repo: Repository, odb: GitOdb, exchange: Exchange, cluster: Cluster, work: Work, tasks: Sequence[Task]
) -> Job:
    """Have everything at the remote that tasks read; give what workers are told of all of them.

    Raise `TransferError`, `UncoveredError`, `ExchangeError`.
    """
    inputs = {part.entry: part.full_path for task in tasks for part in task.datum.inputs}
    named = {file.entry: file.source for file in work.code} | inputs
    archive = image_in(work.stage, work.snapshot)
    named |= {entry: path for path, entry in archive.items()}
    paths = {oid: path for entry, root in named.items() for path, oid in files_below(odb, entry, root)}
    pointers = read_pointers(repo.git, paths)
    exchange.send_contents([(paths[oid], pointer.manifest) for oid, pointer in pointers.items()])
    with PackWriter(repo.objects_dir, repo.format, reader=odb) as writer:
        attributes = edit_tree(writer, writer, attribute_tree(work.snapshot, writer, work.stage.output), archive)
        read = {entry.oid.hex().encode(): entry for entry in named if entry.mode != MODE_GITLINK}
        entries = {b"attributes": attributes, b"read": writer.write("tree", format_tree(read.items()))}
        tree = writer.write("tree", format_tree((name, Entry(MODE_TREE, oid)) for name, oid in entries.items()))
        writer.finish()
    exchange.send_tree(tree)
    return Job(
        stage=work.stage,
        run=work.run,
        commits=work.commits,
        code=work.code,
        files=work.files,
        attributes=attributes,
        object_format=repo.format.value,
        address=cluster.address,
        results=exchange.results,
        data=exchange.data,
        sandbox=cluster.sandbox,
        network=cluster.network,
    )


@record(frozen=False)
class _Giving:
    """One stage run: batches out, results in."""

    repo: Repository
    odb: GitOdb
    client: Client
    exchange: Exchange
    cluster: Cluster
    work: Work
    facts: Facts
    _sizer: Sizer = field(default_factory=Sizer)
    _running: dict["Future[bytes]", list[Task]] = field(default_factory=dict)
    _waiting: deque[Task] = field(default_factory=deque)
    _suspects: deque[Task] = field(default_factory=deque)
    """Tasks that were with workers as these died, too often for Dask: computed alone in the end, to see which is it."""
    _struck: set[str] = field(default_factory=set)
    """Keys of tasks that are or were suspects."""
    _item: tuple[bytes, Oid] | None = None
    """Path and manifest of a content that was brought."""
    _brought: int = 0
    _left: int = 0
    """Bytes of contents that came here, and that stay at the remote."""

    def run(self, tasks: Sequence[Task]) -> Iterator[list[Ended]]:
        self._waiting.extend(tasks)
        job = pack(prepare(self.repo, self.odb, self.exchange, self.cluster, self.work, tasks))
        stage = self.work.stage
        options: dict[str, Any] = {"pure": False, "retries": _RETRIES}
        if resources := self._resources(stage):
            options["resources"] = resources
        pool = self.client.get_executor(**options)
        asked = self.work.parallel or stage.parallel_asked
        while True:
            threads = sum(self.client.nthreads().values())
            while len(self._running) < under_way(threads, asked) and not self.work.is_over():
                batch = self._next(min(threads, asked or threads))
                if not batch:
                    break
                orders = tuple(Order(task.key, task.datum) for task in batch)
                for task in batch:
                    note_task(self._log(task.key), stage.name, task.datum.label)
                self._running[pool.submit(work, PROTOCOL, job, pack(orders))] = batch
            if not self._running:
                return
            done, _ = wait(self._running, timeout=_TICK, return_when=FIRST_COMPLETED)
            ended = self._take(sorted(done, key=id))
            if ended:
                yield ended
            if self.work.stop.is_set():
                return

    def end(self) -> None:
        """End what is under way, and take back what only served the exchange."""
        for future in self._running:
            future.cancel()
        self._running.clear()
        if self._left:
            what = f"{self._left / 1e6:.1f} MB of results stay at '{self.cluster.remote}' (ml.bringLimit)"
            self.facts.notices[f"{what}: git ml checkout brings what is wanted"] = None
        try:
            self.exchange.settle(self._item)
        except GitmlError as error:
            self.facts.notices[f"the data remote was not tidied up, a later run does it: {error.message}"] = None

    def _next(self, slots: int) -> list[Task]:
        if not self._waiting:
            return [self._suspects.popleft()] if self._suspects and not self._running else []
        count = min(self._sizer.size(len(self._waiting), slots), len(self._waiting))
        return [self._waiting.popleft() for _ in range(count)]

    def _log(self, key: str) -> Path:
        return self.work.logs / f"{key}.log"

    def _resources(self, stage: Stage) -> dict[str, float]:
        """What a worker must say that it has."""
        wanted = stage.limits.gpu or stage.requests.gpu
        if not wanted:
            return {}
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        if workers and not any(worker.get("resources", {}).get("GPU", 0) >= wanted for worker in workers):
            self.facts.notices[
                f"asks for {wanted} GPU, and no worker says that it has as many (dask worker --resources GPU=N); "
                "tasks run anywhere"
            ] = None
            return {}
        return {"GPU": wanted}

    # --- in --------------------------------------------------------------------------------------------------

    def _take(self, futures: Sequence["Future[bytes]"]) -> list[Ended]:
        """What became of batches that are over; raise `ExecutorError` if that is not about their datums."""
        returned: list[tuple[list[Task], Returned]] = []
        ended: list[Ended] = []
        for future in futures:
            batch = self._running.pop(future)
            try:
                found = unpack(future.result(), Returned)
            except _GONE:
                raise
            except WorkError as error:
                raise ExecutorError(str(error), hint=f"finished datums are kept: git ml run; {_HELP}") from None
            except Exception as error:
                if type(error).__name__ != "KilledWorker":
                    what = f"{type(error).__name__}: {error}".partition("\n")[0]
                    raise ExecutorError(f"a worker could not take a task: {what}", hint=_HELP) from None
                ended += self._suspect(batch)
                continue
            self._sizer.note(found.seconds, len(batch))
            returned.append((batch, found))
        if returned:
            heads = [each.data for _, each in returned if each.data is not None and self._is_wanted(each)]
            self.exchange.bring([each.commit for _, each in returned], heads)
            for batch, found in returned:
                ended += self._ended(batch, found)
        return ended

    def _is_wanted(self, returned: Returned) -> bool:
        """Whether the contents of a batch come here."""
        if 0 <= self.cluster.bring < self._brought + returned.size:
            self._left += returned.size
            return False
        self._brought += returned.size
        self._item = self._item or returned.item
        return True

    def _ended(self, batch: Sequence[Task], returned: Returned) -> Iterator[Ended]:
        self.facts.means |= returned.means
        self.facts.notices |= dict.fromkeys(returned.notices)
        self.facts.sandboxes.add(returned.sandbox)
        self.facts.hosts.add(returned.host)
        done = {each.key: each for each in returned.done}
        found = self.odb.lookup(f"{returned.commit}^{{tree}}")
        assert found is not None
        logs = Snapshot(self.odb, found[0]).list(b"log")
        for task in batch:
            log = logs.get(task.key.encode())
            if log is not None:
                self._log(task.key).write_bytes(self.odb.read(log.oid)[1])
            yield _one_ended(task, done[task.key], self._log(task.key))

    def _suspect(self, batch: Sequence[Task]) -> Iterator[Ended]:
        """Put a batch that no worker survived aside; give what it is now certain of: a worker died of it alone."""
        for task in batch:
            if task.key not in self._struck:
                self._struck.add(task.key)
                self._suspects.append(task)
                continue
            error = GitmlError("every worker that computed it died", hint="see their logs: out of memory, perhaps")
            yield Ended(task, None, error, self._log(task.key), 0.0)


def _one_ended(task: Task, done: Done, log: Path) -> Ended:
    outcome = TaskOutcome(
        state=cast("State", done.state), attempts=done.attempts, status=done.status, message=done.message,
        hint=done.hint, seconds=done.seconds, max_rss=done.max_rss, cpu_seconds=done.cpu_seconds, workspace=None,
    )  # fmt: skip
    if done.tree is None:
        return Ended(task, outcome, None, log, done.seconds)
    collected = Collected(tree=done.tree, pointers={}, files=done.files, size=done.size, plain_large=done.plain_large)
    return Ended(task, outcome, None, log, done.seconds, collected)


def attribute_tree(snapshot: Snapshot, writer: ObjectWriter, output: bytes) -> Oid:
    """Write a tree with nothing but the `.gitattributes` files that count for paths below the directory `output`."""
    return _attributes(snapshot, writer, snapshot.root, output.split(b"/"))


def _attributes(snapshot: Snapshot, writer: ObjectWriter, tree: Oid, names: Sequence[bytes]) -> Oid:
    found = snapshot.entries(tree)
    kept = [(name, entry) for name, entry in found.items() if name == b".gitattributes" and entry.is_file]
    if names and (below := found.get(names[0])) is not None and below.is_tree:
        inner = _attributes(snapshot, writer, below.oid, names[1:])
        if inner != empty_tree(snapshot.odb.format):
            kept.append((names[0], Entry(MODE_TREE, inner)))
    return writer.write("tree", format_tree(kept))
