"""Who is running: the runner's lock, what others asked of it meanwhile, and the state it shows to the world.

Liveness is a held `flock`: the kernel lets go of it with the process, however that ends, and process ids that
were used again cannot mislead. Readers share it for a moment to see whether somebody has it alone.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gitml.git.repository import Repository
from gitml.liveness import is_alive, this_host
from gitml.oid import Oid
from gitml.provenance.codec import flat_name, unflat_name
from gitml.record import asdict, field, names, record

_KEPT_RUNS = 20
ENDS = ("published", "nothing", "parked", "failed", "stopped", "error")
"""How a run may have ended."""


@record
class StageProgress:
    """How far a stage is, in datums. `state` is a state of the plan, 'running' or 'waiting'."""

    state: str
    total: int = 0
    done: int = 0
    cached: int = 0
    failed: int = 0
    recovered: int = 0
    reason: str = ""
    since: float = 0.0
    """When its datums began to run, seconds since the epoch; 0 if none did."""


@record(frozen=False)
class RunState:
    """What a run shows while it goes on and leaves when it ends.

    `status` is 'running', or how it ended: 'published', 'nothing', 'parked', 'failed', 'stopped', 'error'.
    """

    run: str
    branch: str | None
    tip: str
    pid: int
    host: str
    boot: str
    started: float
    status: str = "running"
    message: str = ""
    published: str | None = None
    updated: float = 0.0
    warnings: list[str] = field(default_factory=list)
    """Sentences about results that were computed and may not be wanted."""
    stages: dict[str, StageProgress] = field(default_factory=dict)
    asked: list[str] | None = None
    """The stages that were named, None if all were meant."""


def run_of(tip: Oid) -> str:
    """The id of a run: the same tip gives the same, so that a lost run is found again and continued."""
    return hashlib.sha256(b"gitml/run/1\n" + tip).hexdigest()[:12]


def boot_id() -> str:
    """What tells one boot of this machine from the next; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Lease:
    """The runner's place in one repository."""

    def __init__(self, repo: Repository) -> None:
        self._dir = repo.state_dir
        self._lock = self._dir / "runner.lock"
        self._requests = self._dir / "requests"
        self._parked = self._dir / "parked"
        self.runs_dir = self._dir / "runs"
        self.log = self._dir / "runner.log"
        self._texts: dict[str, tuple[StageProgress, str]] = {}
        """What was last shown of each stage, and as JSON."""
        self._shown = ""
        """The run that `latest` names since we wrote it."""

    @contextmanager
    def acquire(self, *, stops: bool = False) -> Iterator[bool]:
        """Hold the lock during the block; gives False at once if another runner has it.

        `stops` says that we end gently when we get SIGTERM: others may then find us with `runner`.
        """
        self._dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not _lock(descriptor):
                yield False
                return
            os.ftruncate(descriptor, 0)
            if stops:
                os.pwrite(descriptor, f"{os.getpid()} {this_host()}\n".encode(), 0)
            yield True
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether a runner lives at this moment."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return _is_locked(descriptor)
        finally:
            os.close(descriptor)

    def activity(self) -> tuple[bool, bool]:
        """Whether a runner lives, and whether a branch waited a moment before.

        In this order: a runner takes a request while it holds the lock, so that of neither being there it follows that
        everything was done.
        """
        waits = bool(self.requests())
        return self.is_held(), waits

    def runner(self) -> int | None:
        """The process id of the run that holds the lock, if SIGTERM ends it gently and it is on this machine.

        The lock keeps the id true: who wrote it is alive as long as the lock is held.
        """
        try:
            pid, _, host = self._lock.read_text().strip().partition(" ")
        except OSError:
            return None
        here = pid.isdigit() and host == this_host()
        return int(pid) if here and self.is_held() else None

    def note_start(self, pid: int) -> None:
        """Note the process that is on its way to become the runner."""
        self._dir.mkdir(parents=True, exist_ok=True)
        (self._dir / "starting").write_text(f"{pid}\n")

    def is_starting(self) -> bool:
        """Whether a process that was started to be the runner is alive."""
        try:
            return is_alive(int((self._dir / "starting").read_text()))
        except (OSError, ValueError):
            return False

    def request(self, branch: str) -> None:
        """Ask whoever runs, or runs next, to look at `branch`; asking twice is asking once."""
        self._requests.mkdir(parents=True, exist_ok=True)
        (self._requests / flat_name(branch)).touch()

    def requests(self) -> list[str]:
        """The branches that wait to be looked at."""
        try:
            return sorted(unflat_name(name) for name in os.listdir(self._requests))
        except FileNotFoundError:
            return []

    def take_request(self) -> str | None:
        """One waiting branch, which no longer waits."""
        for branch in self.requests():
            try:
                (self._requests / flat_name(branch)).unlink()
            except FileNotFoundError:
                continue
            return branch
        return None

    def withdraw(self, branch: str) -> None:
        """`branch` need not be looked at any more."""
        (self._requests / flat_name(branch)).unlink(missing_ok=True)

    def park(self, branch: str) -> None:
        """Note that results for `branch` wait in the cache for a moment to be published."""
        self._parked.mkdir(parents=True, exist_ok=True)
        (self._parked / flat_name(branch)).touch()

    def unpark(self, branch: str) -> None:
        """Nothing waits for `branch` any more."""
        (self._parked / flat_name(branch)).unlink(missing_ok=True)

    def parked(self) -> list[str]:
        """The branches that results wait for."""
        try:
            return sorted(unflat_name(name) for name in os.listdir(self._parked))
        except FileNotFoundError:
            return []

    def request_parked(self) -> bool:
        """Ask for every branch that results wait for; whether there is one."""
        branches = self.parked()
        for branch in branches:
            self.request(branch)
        return bool(branches)

    def run_dir(self, run: str) -> Path:
        """The directory of a run: state, logs, workspaces while it lasts."""
        return self.runs_dir / run

    def write_state(self, state: RunState) -> None:
        """Show the state; readers see the old or the new one whole."""
        state.updated = time.time()
        directory = self.run_dir(state.run)
        directory.mkdir(parents=True, exist_ok=True)
        _replace(directory / "state.json", self._encoded(state))
        if self._shown != state.run:
            _replace(self._dir / "latest", state.run)
            self._shown = state.run

    def _encoded(self, state: RunState) -> str:
        """The state as JSON. Of many stages one changes at a time, so the texts of the others are kept."""
        texts = self._texts
        for name, progress in state.stages.items():
            known = texts.get(name)
            if known is None or known[0] is not progress:
                texts[name] = progress, f"{json.dumps(name)}: {json.dumps(asdict(progress))}"
        stages = ", ".join(texts[name][1] for name in state.stages)
        members = {name: getattr(state, name) for name in names(state) if name != "stages"}
        return f'{json.dumps(members)[:-1]}, "stages": {{{stages}}}}}'

    def read_state(self, run: str | None = None) -> RunState | None:
        """The state of a run, by default the latest; None if there is none or it cannot be read."""
        try:
            name = run if run is not None else (self._dir / "latest").read_text().strip()
            value = json.loads((self.run_dir(name) / "state.json").read_bytes())
            return _state_of(value)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_lost(self, state: RunState) -> bool:
        """Whether the run ended without saying how: killed, or the machine went down."""
        if state.status != "running" or self.is_held():
            return False
        now = self.read_state(state.run)  # it may have ended well since `state` was read
        return now is None or (now.status, now.pid, now.started) == (state.status, state.pid, state.started)

    def leftover_workspaces(self) -> list[Path]:
        """Workspaces of runs that were killed, for whoever holds the lease to remove."""
        return sorted(self.runs_dir.glob("*/work")) if self.runs_dir.is_dir() else []

    def forget_old_runs(self) -> list[Path]:
        """The directories of all but the latest runs, for their owner to remove."""
        try:
            entries = [path for path in self.runs_dir.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []
        entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return entries[_KEPT_RUNS:]


def _lock(descriptor: int) -> bool:
    """Take the lock alone; False if another has it alone. Readers, which share it for a moment, are waited for."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _is_locked(descriptor):
                return False
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(os.getpid() % 17 / 10_000)  # two that want it must not keep each other from it in step
        else:
            return True


def _is_locked(descriptor: int) -> bool:
    """Whether another has the lock alone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _replace(path: Path, text: str) -> None:
    """Write a file that readers see whole, the old or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _state_of(value: Mapping[str, Any]) -> RunState:
    members = dict(value)
    members["stages"] = {name: StageProgress(**progress) for name, progress in members["stages"].items()}
    return RunState(**members)
