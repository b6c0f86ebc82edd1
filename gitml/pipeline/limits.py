"""What a task may take of this machine: how many tasks fit at once, which part each gets, and what holds it there.

Requests are a matter of counting before a task starts. Limits hold it while it runs, each by the best means that the
machine has; `Means` says which. The design note 0013 tells why not others.
"""

import contextlib
import itertools
import math
import os
import secrets
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gitml.pipeline.spec.model import Resources, Stage
from gitml.record import field, record

_CGROUPS = Path("/sys/fs/cgroup")
_PERIOD = 100_000
"""Microseconds in which a group gets its part of the processors; the kernel's own choice."""
_ENTER = 'echo $$ > "$0" && exec "$@"'


@record
class Machine:
    """What there is to hand out."""

    cores: tuple[int, ...]
    """Numbers of the processors that we may use."""
    memory: int
    """Bytes, 0 if unknown."""
    gpus: tuple[str, ...]
    """Names as CUDA_VISIBLE_DEVICES takes them."""

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> "Machine":
        """The machine that we are on, as far as `environ` lets us use it."""
        if hasattr(os, "sched_getaffinity"):
            cores = tuple(sorted(os.sched_getaffinity(0)))
        else:
            cores = tuple(range(os.cpu_count() or 1))
        try:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (OSError, ValueError):
            memory = 0
        named = environ.get("CUDA_VISIBLE_DEVICES")
        if named is not None:
            gpus = tuple(name.strip() for name in named.split(",") if name.strip() and not name.strip().startswith("-"))
        else:
            gpus = tuple(str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))
        return cls(cores, memory, gpus)


@record
class Share:
    """The part of the machine that one task gets; empty: no part is set apart."""

    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] | None = None
    """None: those that the runner may use."""

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that tell the task."""
        return {} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}


class Allotment:
    """Hands out shares of a machine. Safe to use from many threads."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()
        self._free = list(machine.gpus)

    def width(self, stage: Stage, asked: int | None) -> int:
        """How many tasks of `stage` run at once, at least 1; `asked` is what the user says, if anything.

        A user may overcommit cores and memory; a GPU is never given to two tasks.
        """
        needs = _needs(stage)
        bounds = [asked or stage.parallelism]
        if asked is None and needs.cpu:
            bounds.append(int(len(self._machine.cores) / needs.cpu))
        if asked is None and needs.memory and self._machine.memory:
            bounds.append(self._machine.memory // needs.memory)
        if needs.gpu and self._machine.gpus:
            bounds.append(len(self._machine.gpus) // needs.gpu)
        return max(min(bounds), 1)

    def notices(self, stage: Stage) -> list[str]:
        """What `stage` asks for and this machine does not have."""
        needs, found = _needs(stage), []
        if needs.cpu and needs.cpu > len(self._machine.cores):
            found.append(f"asks for {needs.cpu:g} cores, this machine has {len(self._machine.cores)}")
        if needs.memory and self._machine.memory and needs.memory > self._machine.memory:
            found.append(
                f"asks for {needs.memory / 1e6:.0f} MB of memory, this machine has {self._machine.memory / 1e6:.0f} MB"
            )
        if needs.gpu and needs.gpu > len(self._machine.gpus):
            found.append(f"asks for {needs.gpu} GPU, this machine has {len(self._machine.gpus)}")
        return [f"{each}; tasks run with what there is" for each in found]

    @contextlib.contextmanager
    def share(self, stage: Stage) -> Iterator[Share]:
        """The part of a task, until the end of the `with`."""
        limits, needs = stage.limits, _needs(stage)
        with self._lock:
            cores: tuple[int, ...] = ()
            if limits.cpu and math.ceil(limits.cpu) < len(self._machine.cores):
                wanted = math.ceil(limits.cpu)
                cores = tuple(sorted(self._machine.cores, key=lambda core: (self._taken[core], core))[:wanted])
                self._taken.update(cores)
            gpus = tuple(self._free[: needs.gpu]) if needs.gpu and self._machine.gpus else None
            del self._free[: len(gpus or ())]
        try:
            yield Share(cores, gpus)
        finally:
            with self._lock:
                self._taken.subtract(cores)
                self._free.extend(gpus or ())


def _needs(stage: Stage) -> Resources:
    """What a task asks for; where it only has a limit, that is what it asks for, as in Kubernetes."""
    requests, limits = stage.requests, stage.limits
    return Resources(
        cpu=requests.cpu or limits.cpu,
        memory=requests.memory or limits.memory,
        disk=requests.disk or limits.disk,
        gpu=limits.gpu or requests.gpu,
    )


@record
class Means:
    """How the limits of a stage are held here: limit to means, and what cannot be held."""

    used: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @classmethod
    def of(cls, limits: Resources, holder: str = "", holds: Collection[str] = ()) -> "Means":
        """The means for `limits` on this machine; `holder` is a container engine, which sees to those in `holds`."""
        linux = sys.platform == "linux"
        used: dict[str, str] = {}
        if limits.memory and linux:
            used["memory"] = "cgroup" if "memory" in _controllers() else "watch"
        if limits.cpu and hasattr(os, "sched_setaffinity"):
            used["cpu"] = "cgroup, affinity" if "cpu" in _controllers() else "affinity"
        if limits.disk:
            used["disk"] = "RLIMIT_FSIZE, sum of sizes"
        if limits.gpu:
            used["gpu"] = "CUDA_VISIBLE_DEVICES"
        used |= {name: holder for name in holds if getattr(limits, name)}
        asked = [name for name in ("cpu", "memory", "disk", "gpu") if getattr(limits, name)]
        return cls(used, tuple(name for name in asked if name not in used))


class ControlGroup:
    """A control group (version 2) that holds one task to an amount of memory and of processor time; use it in `with`.

    `memory` is in bytes, `cpu` in cores, which may be a part of one; None: no limit of it.
    """

    _numbers = itertools.count(1)

    def __init__(self, parent: Path, *, memory: int | None = None, cpu: float | None = None) -> None:
        self._path = parent / f"gitml-{os.getpid()}-{next(self._numbers)}-{secrets.token_hex(2)}"
        self._memory = memory
        self._cpu = cpu

    def __enter__(self) -> "ControlGroup":
        self._path.mkdir()
        try:
            self._limit()
        except BaseException:
            self._path.rmdir()
            raise
        return self

    def _limit(self) -> None:
        if self._memory is not None:
            (self._path / "memory.max").write_text(str(self._memory))
            with contextlib.suppress(OSError):  # kernels without swap accounting
                (self._path / "memory.swap.max").write_text("0")
            (self._path / "memory.oom.group").write_text("1")
        if self._cpu is not None:
            # the kernel takes no less than a millisecond of each period
            (self._path / "cpu.max").write_text(f"{max(round(self._cpu * _PERIOD), 1000)} {_PERIOD}")

    def __exit__(self, *ended: object) -> None:
        with contextlib.suppress(OSError):
            (self._path / "cgroup.kill").write_text("1")
        with contextlib.suppress(OSError):  # a process is still on its way out; an empty group costs nothing
            self._path.rmdir()

    def arguments(self, command: Sequence[str]) -> list[str]:
        """What to execute so that `command` runs in the group from its first instruction."""
        return ["/bin/sh", "-c", _ENTER, str(self.door), *command]

    @property
    def door(self) -> Path:
        """The file that a process writes to when it enters."""
        return self._path / "cgroup.procs"

    @property
    def was_hit(self) -> bool:
        """Whether the kernel ended processes of the group for want of memory."""
        try:
            lines = (self._path / "memory.events").read_text().splitlines()
        except OSError:
            return False
        return any(name == "oom_kill" and int(count) > 0 for name, _, count in (line.partition(" ") for line in lines))


class Groups(NamedTuple):
    """Where we may make control groups, and what these can limit there: `cpu`, `memory`."""

    parent: Path
    controllers: frozenset[str]

    def group(self, *, memory: int | None, cpu: float | None) -> ControlGroup | None:
        """A group with those of the limits that can be held here; None if that is none of them."""
        memory = memory if memory and "memory" in self.controllers else None
        cpu = cpu if cpu and "cpu" in self.controllers else None
        return ControlGroup(self.parent, memory=memory, cpu=cpu) if memory or cpu else None


@lru_cache(maxsize=1)
def groups_at(root: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> Groups | None:
    """Where we may make control groups that limit something, None if there is no such place.

    That is the group above our own, as in a session of systemd: a group that has processes cannot have limited groups
    below it. Or it is our own, where that is the root, for which this does not hold. A trial decides.
    """
    try:
        line = next(line for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    here = root / line[3:].lstrip("/")
    for parent in (here.parent, here):
        if parent.is_relative_to(root):
            with contextlib.suppress(OSError):
                delegated = {*(parent / "cgroup.subtree_control").read_text().split()} & {"cpu", "memory"}
                found = Groups(parent, frozenset(delegated))
                if _can_use(found):
                    return found
    return None


def _can_use(groups: Groups) -> bool:
    made = groups.group(memory=1 << 30, cpu=1)
    if made is None:
        return False
    with made as group:
        done = subprocess.run(
            group.arguments(["/bin/sh", "-c", "cat /proc/self/cgroup"]),
            capture_output=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode == 0 and b"/gitml-" in done.stdout


def _controllers() -> frozenset[str]:
    found = groups_at()
    return found.controllers if found is not None else frozenset()


@contextlib.contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Processes that this thread starts meanwhile run on `cores` only; none given: as we do."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)  # 0: this thread, not the process
    try:
        os.sched_setaffinity(0, cores)
    except OSError:  # taken offline meanwhile
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def limiting_files(command: Sequence[str], size: int) -> list[str]:
    """What to execute so that no file that `command` writes grows beyond `size` bytes, in steps of 512."""
    # a shell sets it before anything of the task runs, which setting it from outside would not
    return ["/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', str(max(size // 512, 1)), *command]


def size_below(directory: Path, apart: Container[Path] = ()) -> tuple[int, int]:
    """Bytes of all regular files below `directory` together, and of the largest; links are not followed.

    Nothing below a directory that is in `apart` counts.
    """
    total = largest = 0
    seen: set[int] = set()
    for top, below, names in os.walk(directory):
        if apart:
            below[:] = [name for name in below if Path(top, name) not in apart]
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(Path(top, name))
                if stat.S_ISREG(found.st_mode) and found.st_ino not in seen:
                    seen.add(found.st_ino)
                    total += found.st_size
                    largest = max(largest, found.st_size)
    return total, largest
