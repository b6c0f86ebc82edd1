"""Commands that take one datum after another, as `datum_batching` has it: one process, a new `/pfs` each time.

The command calls `pachctl next datum` (or `git ml next-datum`) in a loop. A small shell script stands for both. It
talks to us through two named pipes in a directory that the task sees, which works in every sandbox and needs nothing
in it but a shell. Asking says that the datum before is done, or with `--error` that it failed; the answer says that
the next one is laid out. The process stays in its question as long as there is no datum for it.

What a failure is, and when a datum is tried again, is as in `task`; after a failure that ended the process a new one
takes over.
"""

import contextlib
import os
import re
import shlex
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Protocol, Self

from gitml.pipeline.archive import PATH
from gitml.pipeline.environment import names_of_datum
from gitml.pipeline.limits import Share
from gitml.pipeline.process import Ended, Requests, Stop
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.sandbox import Sandbox
from gitml.pipeline.secretstore import Granted, Mask
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.task import Attempts, Failure, TaskOutcome, TaskStoppedError, run_task
from gitml.pipeline.tasklog import LIMIT, Log, TaskLog
from gitml.pipeline.turns import Turn
from gitml.pipeline.workspace import Workspace
from gitml.provenance.codec import printable
from gitml.record import record, replace

PLACE = "/gitml"
"""Where a task sees the pipes and, in `bin`, the script."""

_SCRIPT = """#!/bin/sh
# Stands for pachctl and git-ml in a task whose stage has 'datum_batching'.
name=${0##*/}
case "$name $1 $2" in
"pachctl next datum") shift 2 ;;
"git-ml next-datum "*) shift ;;
*)
  echo "$name: in a task there is only 'pachctl next datum' and 'git ml next-datum'" >&2
  exit 129
  ;;
esac
error=
while [ $# -gt 0 ]; do
  case $1 in
  --error=*) error=${1#--error=} ;;
  --error)
    error=$2
    [ $# -lt 2 ] || shift
    ;;
  *)
    echo "$name: unknown argument '$1'; the one option is --error TEXT" >&2
    exit 129
    ;;
  esac
  shift
done
place=${0%/bin/*}
set -f
set -- $error
printf 'next %s\\n' "$*" >"$place/ask" || exit 1
read -r answer <"$place/answer" || exit 1
"""

_MOST_HELD = 1 << 16
"""Bytes that a process may print between two datums."""
_LONGEST_ERROR = 1000
"""Characters of what a command says of its failure."""
_HINT = "with 'datum_batching' a command calls 'pachctl next datum' in a loop; take the field out if it does not"
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]*")


class Maker(Protocol):
    """Builds the workspace of a datum, or one with a part of what belongs into it."""

    def __call__(self, *, inputs: bool = True, code: bool = True) -> Workspace:
        """A new workspace with the inputs of the datum and the code of the stage, as asked."""
        ...


class Processes:
    """The processes of one run of a stage; use it in `with`, whose end is theirs. Safe to use from many threads.

    Stages without `datum_batching` have one process for each attempt, and nothing is kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, ...] | None, list[_Process]] = defaultdict(list)
        """By the GPUs that they were started with."""
        self._verdict: Failure | None = None
        """Why no process of the stage can do any datum, once that is known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        idle = [process for some in self._idle.values() for process in some]
        self._idle.clear()
        for process in idle:
            process.ask_to_end()
        for process in idle:
            process.close()

    def run_task(
        self,
        stage: Stage,
        *,
        make: Maker,
        sandbox: Sandbox,
        environment: Mapping[str, str],
        log: Path,
        share: Share = Share(),  # noqa: B008 - a frozen value
        granted: Granted = Granted(),  # noqa: B008 - a frozen value
        stop: Stop | None = None,
        grace: float = 5.0,
        turn: Turn | None = None,
    ) -> TaskOutcome:
        """As `task.run_task`, in a process that may have done other datums before."""
        if not stage.transform.datum_batching:
            return run_task(
                stage, make=make, sandbox=sandbox, environment=environment, log=log, share=share, granted=granted,
                stop=stop, grace=grace, turn=turn,
            )  # fmt: skip
        if turn is not None:
            turn.begin()
        with TaskLog(log, LIMIT, Mask(granted.hidden())) as writer:
            attempts = Attempts(
                stage=stage, sandbox=sandbox, environment=environment, log=writer, share=share, granted=granted,
                stop=stop or threading.Event(), grace=grace,
            )  # fmt: skip
            with self._lock:
                idle = self._idle[share.gpus]
                process = idle.pop() if idle else None
            # the error command may say of each datum that it is not needed
            verdict = self._verdict if not stage.transform.err_cmd else None
            batch = _BatchedTask(attempts, make, process, verdict)
            try:
                outcome = batch.run()
            except BaseException:
                batch.end_process()
                raise
            with self._lock:
                self._verdict = self._verdict or batch.verdict
                if batch.process is not None:
                    self._idle[share.gpus].append(batch.process)
            return outcome


@record
class _Asked:
    """The process is done with its datum; `error` says why it could not do it, empty if it could."""

    error: str


class _BatchedTask:
    """One datum with its attempts, in `process` or, where that is None or ends, in new ones."""

    def __init__(self, attempts: Attempts, make: Maker, process: "_Process | None", verdict: Failure | None) -> None:
        self.process = process
        self.verdict = verdict
        self._attempts = attempts
        self._make = make
        self._dead: _Process | None = None

    def run(self) -> TaskOutcome:
        attempts = self._attempts
        tries = max(attempts.stage.datum_tries, 1)
        failure = self.verdict or Failure("no attempt was made", None)
        recovered = False
        attempt = 0
        while attempt < tries and not failure.permanent:
            attempt += 1
            if attempts.stop.is_set():
                raise TaskStoppedError
            place = f"datum {self.process.served + 1} of its process" if self.process else "in a new process"
            attempts.log.note(f"attempt {attempt} of {tries}, {place}: {shlex.join(attempts.stage.transform.cmd)}")
            workspace = self._make(code=False)
            kept = False
            try:
                found = self._attempt(workspace)
                if isinstance(found, Ended):
                    kept = True
                    return attempts.outcome("success", attempt, found.status, Failure("", None), workspace)
                failure = found
                attempts.log.note(failure.message)
                process = self._dead or self.process
                if process is not None:
                    with process.shows(workspace):
                        recovered = attempts.recover(process.host) or recovered
            finally:
                if not kept:
                    workspace.close()
                if self._dead is not None:
                    self._dead.close()
                    self._dead = None
                if self.process is not None:
                    self.process.listen(None)
        return attempts.outcome("recovered" if recovered else "failed", attempt, failure.status, failure, None)

    def end_process(self) -> None:
        """End what is left of it."""
        for process in (self.process, self._dead):
            if process is not None:
                process.close()
        self.process = self._dead = None

    def _attempt(self, workspace: Workspace) -> Ended | Failure:
        attempts = self._attempts
        limit, name = attempts.stage.datum_timeout, attempts.stage.transform.cmd[0]
        if self.process is None:
            self.process = _Process(attempts, self._make(inputs=False), workspace)
            first = self.process.wait(limit)
            if not isinstance(first, _Asked):
                self._lose_process()
                if isinstance(first, Ended):
                    self.verdict = Failure(f"'{name}' ended without asking for a datum", first.status, _HINT, True)
                    return self.verdict
                return first or Failure(f"'{name}' did not ask for a datum within {limit:g} s", None, _HINT)
        process = self.process
        process.listen(attempts.log)
        began = time.monotonic()
        with process.shows(workspace):
            process.answer(workspace, attempts.environment)
            event = process.wait(limit)
            ended = Ended(status=0, timed_out=False, stopped=False, seconds=time.monotonic() - began, max_rss=None)
            attempts.took(ended)
            if not isinstance(event, _Asked):
                self._lose_process()
            over = attempts.over_limit(name, ended, False, process.host) if isinstance(event, _Asked) else None
        if isinstance(event, Ended):
            return Failure(
                f"'{name}' ended with exit status {event.status} instead of asking for the next datum",
                event.status, _HINT,
            )  # fmt: skip
        if not isinstance(event, _Asked):
            return event or Failure(
                f"'{name}' was ended after {limit:g} s, the time limit of a datum",
                None, "raise 'datum_timeout' if it needs longer",
            )  # fmt: skip
        process.served += 1
        if event.error:
            return Failure(f"'{name}' says: {event.error}", None)
        return over or attempts.checked(workspace, ended)

    def _lose_process(self) -> None:
        """The process is over, or has to be; its place stays for the error command."""
        assert self.process is not None
        self._dead, self.process = self.process, None
        self._dead.end()


class _Process:
    """One process of the command, and the place in which it runs: `host`, whose `/pfs` is another for each datum."""

    def __init__(self, attempts: Attempts, host: Workspace, first: Workspace) -> None:
        self.host = host
        self.served = 0
        pipes = host.top / "batch"
        host.shown = {**attempts.granted.directories, PLACE: host.alias / "batch"}
        _write_scripts(pipes)
        self._ask, self._answer = (_open_pipe(pipes / name) for name in ("ask", "answer"))
        self._said = b""
        self._events: SimpleQueue[_Asked | Ended | Failure | BaseException] = SimpleQueue()
        self._ending = threading.Event()
        self._log = _Log()
        self._log.set(attempts.log)
        self._view = attempts.sandbox.view(host)
        # empty until '/pfs/.env' says more, but there: what a shell reads from it then goes to its children
        empty = dict.fromkeys(names_of_datum(first.inputs) & attempts.environment.keys(), "")
        environment = {**attempts.environment, **empty}
        environment["PATH"] = f"{PLACE}/bin:{environment.get('PATH', PATH)}"
        self._command = replace(
            attempts, environment=environment, log=self._log, stop=_Either(attempts.stop, self._ending)
        )
        self._thread = threading.Thread(target=self._work, name="batch", daemon=True)
        self._thread.start()

    def listen(self, log: Log | None) -> None:
        """What the process prints from now on goes there; None: it is kept for the next one."""
        self._log.set(log)

    @contextmanager
    def shows(self, workspace: Workspace) -> Iterator[None]:
        """During the block the process sees what is in `workspace` as its `/pfs`, and writes there."""
        workspace.seen_at = self.host.alias / "work"
        workspace.lends = False  # it is that of the process, which goes on
        for left in self.host.pfs.iterdir():  # written while no datum was there
            if left.is_dir() and not left.is_symlink():
                remove_tree(left)
            else:
                left.unlink()
        _move_all(workspace.pfs, self.host.pfs)
        try:
            yield
        finally:
            (self.host.pfs / ".env").unlink(missing_ok=True)
            _move_all(self.host.pfs, workspace.pfs)

    def answer(self, workspace: Workspace, environment: Mapping[str, str]) -> None:
        """Let the process go on with what it sees; `/pfs/.env` has the datum's variables, as a shell reads them."""
        names = [name for name in environment if name in names_of_datum(workspace.inputs)]
        lines = [f"{name}={_quoted(self._view.rewrite(environment[name]))}\n" for name in names]
        (self.host.pfs / ".env").write_bytes(os.fsencode("".join(lines)))
        with contextlib.suppress(BlockingIOError):
            os.read(self._answer, 1 << 16)  # for a question whose asker was killed
        os.write(self._answer, b"go\n")

    def wait(self, limit: float | None) -> _Asked | Ended | Failure | None:
        """Until the process asks for the next datum or is over; None if that takes more than `limit` seconds.

        Raise `TaskStoppedError`.
        """
        try:
            event = self._events.get(timeout=limit)
        except Empty:
            return None
        if isinstance(event, BaseException):
            raise event
        return event

    def ask_to_end(self) -> None:
        """Have the process get SIGTERM soon."""
        self._ending.set()

    def end(self) -> None:
        """End the process and all that it started."""
        self.ask_to_end()
        self._thread.join()

    def close(self) -> None:
        """End it and remove its place."""
        self.end()
        for descriptor in (self._ask, self._answer):
            os.close(descriptor)
        self.host.close()

    def _work(self) -> None:
        transform = self._command.stage.transform
        requests = Requests(self._ask, self._take)
        try:
            self._events.put(self._command.command(self.host, transform.cmd, transform.stdin, requests=requests))
        except BaseException as error:  # whoever waits raises it
            self._events.put(error)

    def _take(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            error = line.removeprefix(b"next").strip().decode("utf-8", "replace")
            self._events.put(_Asked(printable(error[:_LONGEST_ERROR])))


class _Log:
    """Passes output on to the log of the datum under way; what comes in between goes to the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._target: Log | None = None
        self._held = b""

    def set(self, target: Log | None) -> None:
        with self._lock:
            self._target = target
            if target is not None and self._held:
                target.write(self._held)
                self._held = b""

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._target is not None:
                self._target.write(data)
            else:
                self._held = (self._held + data)[-_MOST_HELD:]

    def note(self, text: str) -> None:
        with self._lock:
            if self._target is not None:
                self._target.note(text)


@record
class _Either:
    """Set when one of two is."""

    one: Stop
    other: Stop

    def is_set(self) -> bool:
        return self.one.is_set() or self.other.is_set()


def _write_scripts(place: Path) -> None:
    (place / "bin").mkdir(parents=True)
    for name in ("pachctl", "git-ml"):
        script = place / "bin" / name
        script.write_text(_SCRIPT)
        script.chmod(0o755)


def _open_pipe(path: Path) -> int:
    """A new named pipe, open at both ends, so that nobody waits for us to open it or is told that we are gone."""
    os.mkfifo(path, 0o666)
    path.chmod(0o666)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _move_all(source: Path, target: Path) -> None:
    """Move everything in one directory into another on the same file system."""
    for name in os.listdir(source):
        try:
            (source / name).rename(target / name)
        except PermissionError:  # a directory that the command has closed: moving changes its '..'
            (source / name).chmod(0o700)
            (source / name).rename(target / name)


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else shlex.quote(value)
