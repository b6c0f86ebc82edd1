"""One command from start to end: input, output, time limit, and nothing of it left running.

The command leads a process group of its own. Its end is the end of that one process: what it left in the
background is killed and cannot delay us by holding the pipe open.
"""

import contextlib
import json
import os
import resource
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol

from gitml.pipeline.limits import on_cores
from gitml.pipeline.view import Begin, Started
from gitml.record import record

_PIECE = 1 << 16
_LEFT_PIECES = 32
_TICK = 0.1
_FIRST_SAMPLE, _LAST_SAMPLE = 0.01, 0.25
_LIMIT_SAMPLE = 0.05
"""Seconds between looks at memory, at most, where it is limited."""
_KILL_WAIT = 10.0


class Stop(Protocol):
    """Says whether what runs must end; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it must end now."""
        ...


class Halt:
    """Set when another one is, or when `seconds` have passed (None: never)."""

    def __init__(self, stop: Stop, seconds: float | None) -> None:
        self._stop = stop
        self._deadline = None if seconds is None else time.monotonic() + seconds

    @property
    def has_expired(self) -> bool:
        """Whether the time is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def is_set(self) -> bool:
        """Whether the other one is set or the time is over."""
        return self._stop.is_set() or self.has_expired


@record(kw_only=True)
class Ended:
    """How a command ended. `status` is its exit status, 128 + n after signal n (as shells have it)."""

    status: int
    timed_out: bool
    stopped: bool
    seconds: float
    max_rss: int | None
    """Largest resident set of a process of the command in bytes, None if it was over too soon to see."""
    cpu_seconds: float | None = None
    """Processor time of the command and of what it started and waited for; None if nobody told."""
    over_memory: int | None = None
    """What its processes took together in bytes if that was more than allowed, and the command was killed for it."""


@record
class Requests:
    """Where a command asks us for something while it runs."""

    descriptor: int
    """A pipe to read from."""
    take: Callable[[bytes], None]
    """Gets what it says, once all that it printed before has gone to the sink."""


@record(kw_only=True)
class Command:
    """What to start.

    `arguments` is given the descriptor on which a sandbox reports, and the one from which it gets a byte when the
    command may begin; None where there is none.
    """

    arguments: Callable[[int | None, int | None], Sequence[str]]
    environment: dict[str, str]
    cwd: Path
    stdin: bytes | None
    """None: end of file at once."""
    reports: bool
    """Whether the first process is a sandbox that reports the process inside (bubblewrap's `--json-status-fd`)."""
    cores: Sequence[int] = ()
    """Processors that it may run on; none given: those that we may."""
    memory: int | None = None
    """It is killed when its processes take more bytes than these together (Linux)."""
    requests: Requests | None = None
    start: Callable[[Begin], Started] = lambda begin: begin()
    """Gives what it is given gives, which is the process, started from where it inherits what it has to."""
    turn: Callable[[], None] | None = None
    """Returns when the command may begin; a sandbox that reports stands by then. None: it may at once."""


def run_process(
    command: Command,
    *,
    sink: Callable[[bytes], None],
    timeout: float | None = None,
    grace: float = 5.0,
    stop: Stop | None = None,
) -> Ended:
    """Run `command` to its end; `sink` is given its merged output as it comes.

    After `timeout` seconds, or when `stop` is set, the process group gets SIGTERM and `grace` seconds later
    SIGKILL. Raise `OSError` or `ValueError` if it cannot be started, and what `turn` raises.
    """
    with contextlib.ExitStack() as stack:
        supervisor = _Supervisor(command, sink, stack)
        return supervisor.run(timeout, grace, stop)


class _Supervisor:
    """Watches one process with a selector: its end, its output, its input, and the sandbox's report."""

    def __init__(self, command: Command, sink: Callable[[bytes], None], stack: contextlib.ExitStack) -> None:
        self._sink = sink
        self._pending = memoryview(command.stdin or b"")
        self._report = b""
        self._inner: int | None = None
        self._inner_fd: int | None = None
        self._rss = 0
        self._memory = command.memory
        self._over: int | None = None
        self._reports = command.reports
        self._requests = command.requests
        self._turn = command.turn
        self._hold: int | None = None
        self._stack = stack
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._status_in: IO[bytes] | None = None
        status_out: int | None = None
        if command.reports:
            self._status_in, status_out = self._pipe()
            self._hold = _open_hold() if command.turn is not None else None
        self._reaped: tuple[int, int] | None = None
        self._cpu_seconds: float | None = None
        if self._turn is not None and self._hold is None:
            self._turn()
        self._started = time.monotonic()
        try:
            with on_cores(command.cores):
                self._process = command.start(lambda: self._popen(command, status_out))
        except BaseException:
            self._let_go()
            raise
        finally:
            if status_out is not None:
                os.close(status_out)
        for stream in (self._process.stdout, self._process.stdin):
            if stream is not None:
                stack.callback(stream.close)
        stack.callback(self._end_once)

    def _popen(self, command: Command, status_out: int | None) -> Started:
        return subprocess.Popen(
            list(command.arguments(status_out, self._hold)),
            stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=command.environment, cwd=command.cwd,
            pass_fds=[each for each in (status_out, self._hold) if each is not None], start_new_session=True, bufsize=0,
        )  # fmt: skip

    def run(self, timeout: float | None, grace: float, stop: Stop | None) -> Ended:
        if self._hold is not None and self._turn is not None:
            self._turn()
            self._started = time.monotonic()
            os.write(self._hold, b"\0")
            self._let_go()
        process, selector = self._process, self._selector
        assert process.stdout is not None
        self._watch(process.stdout, selectors.EVENT_READ, self._take_output)
        if process.stdin is not None:
            self._watch(process.stdin, selectors.EVENT_WRITE, self._give_input)
        if self._status_in is not None:
            self._watch(self._status_in, selectors.EVENT_READ, self._take_report)
        if self._requests is not None:
            selector.register(self._requests.descriptor, selectors.EVENT_READ, self._take_request)
        polls = True
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # kernels before 5.3
                descriptor = os.pidfd_open(process.pid)
                self._stack.callback(os.close, descriptor)
                selector.register(descriptor, selectors.EVENT_READ, None)
                polls = False

        deadline = None if timeout is None else self._started + timeout
        kill_at: float | None = None
        timed_out = stopped = False
        sample_every = _FIRST_SAMPLE
        sample_at = self._started
        while not self._has_ended():
            now = time.monotonic()
            if kill_at is None:
                stopped = stop is not None and stop.is_set()
                timed_out = not stopped and deadline is not None and now >= deadline
                if stopped or timed_out:
                    self._signal(signal.SIGTERM)
                    kill_at = now + grace
            elif now >= kill_at:
                self._signal(signal.SIGKILL)
                kill_at = now + grace
            if now >= sample_at:
                self._sample()
                sample_at = now + sample_every
                sample_every = min(sample_every * 1.5, _LAST_SAMPLE if self._memory is None else _LIMIT_SAMPLE)
            limit = deadline if kill_at is None else kill_at
            wait = max((sample_at if limit is None else min(limit, sample_at)) - now, 0.001)
            for key, _ in selector.select(min(wait, 0.01 if polls else _TICK)):
                if key.data is not None:
                    key.data()
        seconds = time.monotonic() - self._started
        status, own_rss = self._end()
        self._drain()
        return Ended(
            status=status,
            timed_out=timed_out,
            stopped=stopped,
            seconds=seconds,
            max_rss=max(self._rss, own_rss) or None,
            cpu_seconds=self._cpu_seconds,
            over_memory=self._over,
        )

    def _pipe(self) -> tuple[IO[bytes], int]:
        reading, writing = os.pipe()
        return self._stack.enter_context(open(reading, "rb", buffering=0)), writing  # noqa: PTH123 - a descriptor

    def _let_go(self) -> None:
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def _watch(self, stream: IO[bytes], event: int, action: Callable[[], None]) -> None:
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream, event, action)

    def _drop(self, stream: IO[bytes]) -> None:
        self._selector.unregister(stream)
        stream.close()

    def _take_output(self) -> None:
        assert self._process.stdout is not None
        data = self._process.stdout.read(_PIECE)
        if data:
            self._sink(data)
        elif data is not None:
            self._drop(self._process.stdout)

    def _give_input(self) -> None:
        assert self._process.stdin is not None
        try:
            written = os.write(self._process.stdin.fileno(), self._pending[:_PIECE])
        except BlockingIOError:
            return
        except BrokenPipeError:  # it wants no more: that is its right
            written = len(self._pending)
        self._pending = self._pending[written:]
        if not self._pending:
            self._drop(self._process.stdin)

    def _take_request(self) -> None:
        assert self._requests is not None
        data = os.read(self._requests.descriptor, _PIECE)
        self._drain()
        self._requests.take(data)

    def _await_report(self) -> None:
        """Learn of the inner process before the sandbox is killed: one that is just being made would wait for ever."""
        if self._status_in is None or self._inner is not None or self._status_in.closed:
            return
        waiter = select.poll()
        waiter.register(self._status_in, select.POLLIN)
        end = time.monotonic() + _KILL_WAIT
        while self._inner is None and not self._status_in.closed and (left := end - time.monotonic()) > 0:
            waiter.poll(left * 1000)
            self._take_report()

    def _take_report(self) -> None:
        assert self._status_in is not None
        data = self._status_in.read(_PIECE)
        if not data:
            if data is not None:
                self._drop(self._status_in)
            return
        self._report += data
        if self._inner is None and b"\n" in self._report:
            self._inner = int(json.loads(self._report.partition(b"\n")[0])["child-pid"])
            with contextlib.suppress(OSError):
                self._inner_fd = os.pidfd_open(self._inner)

    def _has_ended(self) -> bool:
        """Whether the process is over; it stays a zombie, so that its id still names the group."""
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._reap(os.WNOHANG)  # macOS

    def _reap(self, options: int) -> bool:
        pid, raw, usage = os.wait4(self._process.pid, options)
        if pid:
            self._process.returncode = os.waitstatus_to_exitcode(raw)
            self._reaped = self._process.returncode, usage.ru_maxrss
            if not self._reports:  # bubblewrap ends without waiting for what ran inside, so that is not counted
                self._cpu_seconds = usage.ru_utime + usage.ru_stime
        return bool(pid)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the command. A sandbox dies of SIGTERM and takes the command with it, so it is passed over."""
        self._await_report()
        if self._inner is not None and number == signal.SIGTERM:
            _kill_group(self._inner, number)
            return
        _kill_group(self._process.pid, signal.SIGKILL if self._reports else number)

    def _end(self) -> tuple[int, int]:
        """Kill what is left, reap; give the exit status and the largest resident set if it is known exactly."""
        self._await_report()
        _kill_group(self._process.pid, signal.SIGKILL)
        if self._inner_fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._inner_fd, signal.SIGKILL)
            waiter = select.poll()  # select(2) takes no descriptor above 1023
            waiter.register(self._inner_fd, select.POLLIN)
            waiter.poll(_KILL_WAIT * 1000)
            os.close(self._inner_fd)
            self._inner_fd = None
        if self._reaped is None:
            self._reap(0)
        _await_end_of_group(self._process.pid)
        assert self._reaped is not None
        code, rss = self._reaped
        # A child begins as a copy of us, so only what exceeds our own size is certainly the command's.
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        exact = rss if rss > own and not self._reports else 0
        return (code if code >= 0 else 128 - code), exact * (1 if sys.platform == "darwin" else 1024)

    def _end_once(self) -> None:
        if self._reaped is None:
            self._end()
        self._let_go()

    def _drain(self) -> None:
        """Take what was printed before the end, as much as a pipe holds; a process that fled may still print."""
        stream = self._process.stdout
        assert stream is not None
        for _ in range(_LEFT_PIECES if not stream.closed else 0):
            data = stream.read(_PIECE)
            if not data:
                return
            self._sink(data)

    def _sample(self) -> None:
        """Look at the memory of the command's processes (Linux); those inside a sandbox are below its own."""
        together = 0
        seen: list[int] = []
        waiting = [self._inner if self._reports else self._process.pid]
        while waiting:
            pid = waiting.pop()
            if pid is None:
                continue
            with contextlib.suppress(OSError, ValueError):
                if pid != self._inner:
                    peak, now = _memory(pid)
                    self._rss = max(self._rss, peak)
                    together += now
                    seen.append(pid)
                children = Path(f"/proc/{pid}/task/{pid}/children").read_bytes()
                waiting.extend(int(child) for child in children.split())
        if self._memory is None or together <= self._memory:
            return
        together = sum(map(_proportional, seen))  # what processes share counts once
        if together > self._memory and self._over is None:
            self._over = together
            self._signal(signal.SIGKILL)


def _open_hold() -> int | None:
    """A pipe to keep a sandbox waiting with: one descriptor for both ends, so that our end is not the end of the wait.

    With two, a sandbox would take the close of the other one, as when we are killed, for the word to begin.
    """
    reading, writing = os.pipe()
    try:
        return os.open(f"/proc/self/fd/{reading}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # no /proc: the sandbox is made when it may begin
        return None
    finally:
        os.close(reading)
        os.close(writing)


def _memory(pid: int) -> tuple[int, int]:
    """The largest resident set of a process so far, and its present one, in bytes."""
    found = {b"VmHWM": 0, b"VmRSS": 0}
    for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
        name, _, value = line.partition(b":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found[b"VmHWM"], found[b"VmRSS"]


def _proportional(pid: int) -> int:
    """The resident set of a process in bytes, pages that it shares divided by their users; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")), 0)


def end_leftovers(directories: Sequence[Path]) -> None:
    """Kill what a killed runner left running in workspaces below `directories`, and wait for its end (Linux).

    A task outlives its runner where nothing holds it, and so does a sandbox: bubblewrap asks to die with its parent
    only after it has waited for that parent, so one that was just starting waits for ever. Processes are known by the
    workspace in their arguments (the sandbox) or in the `TMPDIR` that a task was given.
    """
    if not directories or sys.platform != "linux":
        return
    marks = [os.fsencode(spelling) + b"/" for each in directories for spelling in {each.absolute(), each.resolve()}]
    end = time.monotonic() + _KILL_WAIT
    while (found := _working_in(marks)) and time.monotonic() < end:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _working_in(marks: Sequence[bytes]) -> list[int]:
    """The live processes, other than this one, that belong to a workspace below one of `marks`."""
    return [
        pid
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit())
        if pid != os.getpid() and _stat(pid)[:1] not in ([], [b"Z"], [b"X"]) and _belongs(pid, marks)
    ]


def _belongs(pid: int, marks: Sequence[bytes]) -> bool:
    words = _words(pid, "cmdline")
    words += [
        os.path.realpath(word.removeprefix(b"TMPDIR=")) + b"/"
        for word in _words(pid, "environ")
        if word.startswith(b"TMPDIR=")
    ]
    return any(word.startswith(mark) for word in words for mark in marks)


def _words(pid: int, name: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []


def _await_end_of_group(group: int) -> None:
    """Return once no process of a killed group runs any more: SIGKILL is sent at once and obeyed a little later."""
    pause, end = 0.001, time.monotonic() + _KILL_WAIT
    while time.monotonic() < end and _is_alive(group):
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _is_alive(group: int) -> bool:
    """Whether a process of the group, whose leader has been reaped, can still do anything."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        return False
    stats = [_stat(int(name)) for name in os.listdir("/proc") if name.isdigit()] if sys.platform == "linux" else []
    # in a container nobody may reap orphans: their zombies stay in the group for ever
    return not stats or any(int(fields[2]) == group and fields[0] not in b"ZX" for fields in stats if fields)


def _stat(pid: int) -> list[bytes]:
    """State, parent, process group and so on of a process (proc(5)); empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


def _kill_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(group, number)
