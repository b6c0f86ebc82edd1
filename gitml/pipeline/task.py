"""One task: a stage's command on one datum, with its attempts, time limit and error command.

Semantics as Pachyderm's (`src/server/worker/{datum,driver}`): every attempt starts in a fresh workspace; after a
failed one the error command runs in the same place, and if it succeeds the datum is *recovered*, that is, given
up without failing the stage. Unlike there, after what no repetition can mend (a command that does not exist) there is
no other attempt.
"""

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from gitml.errors import ExitCode, GitmlError
from gitml.pipeline.limits import ControlGroup, Share, groups_at, limiting_files, size_below
from gitml.pipeline.process import Command, Ended, Requests, Stop, run_process
from gitml.pipeline.secretstore import Granted, Mask
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.standin import stand_in
from gitml.pipeline.tasklog import LIMIT, Log, TaskLog
from gitml.pipeline.turns import Turn
from gitml.pipeline.view import Inside, Sandbox, View
from gitml.pipeline.workspace import Workspace
from gitml.provenance.codec import printable
from gitml.record import record

State = Literal["success", "recovered", "failed"]

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""Exit statuses of shells for a command that cannot be started; ours too."""


class TaskStoppedError(GitmlError):
    """A task was ended because the run was told to stop; it says nothing about the datum."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self) -> None:
        super().__init__("the task was stopped")


@record(kw_only=True)
class TaskOutcome:
    """How a task ended. Close it (or use it in `with`) once the outputs are collected."""

    state: State
    attempts: int
    """Attempts made."""
    status: int | None
    """Exit status of the last command, 128 + n after signal n; None if there was nothing to run."""
    message: str
    """Why it failed or was recovered; empty after success."""
    hint: str | None
    seconds: float
    """Time in commands, over all attempts."""
    max_rss: int | None
    """Largest resident set of a process seen, in bytes."""
    cpu_seconds: float | None
    """Processor time of the commands; None if it is not known of all."""
    workspace: Workspace | None
    """Where the outputs are; None unless the task succeeded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the workspace."""
        if self.workspace is not None:
            self.workspace.close()


@record
class Failure:
    """Why an attempt failed."""

    message: str
    status: int | None
    hint: str | None = None
    permanent: bool = False
    """No other attempt can do better."""


def run_task(
    stage: Stage,
    *,
    make: Callable[[], Workspace],
    sandbox: Sandbox,
    environment: Mapping[str, str],
    log: Path,
    share: Share = Share(),  # noqa: B008 - a frozen value
    granted: Granted = Granted(),  # noqa: B008 - a frozen value
    stop: Stop | None = None,
    grace: float = 5.0,
    log_limit: int = LIMIT,
    turn: Turn | None = None,
) -> TaskOutcome:
    """Run `stage` in workspaces that `make` builds, up to `datum_tries` times, and say how it went.

    `environment` is as of `task_environment`, `share` the part of the machine that the task gets, `granted` its
    secrets; output of all attempts goes to the file `log`, without these. Commands that must end get SIGTERM, and
    SIGKILL after `grace` seconds. The first command waits for `turn`, everything before it does not; the caller ends
    it. Raise `TaskStoppedError` once `stop` is set, and what `make` raises. May be called from many threads at once.
    """
    with TaskLog(log, log_limit, Mask(granted.hidden())) as writer:
        task = Attempts(
            stage=stage,
            sandbox=sandbox,
            environment=environment,
            log=writer,
            share=share,
            granted=granted,
            stop=stop or threading.Event(),
            grace=grace,
            turn=turn,
        )
        return task.run(make)


@record(frozen=False, kw_only=True)
class Attempts:
    """The attempts of one task, and what they took together."""

    stage: Stage
    sandbox: Sandbox
    environment: Mapping[str, str]
    log: Log
    share: Share
    granted: Granted
    stop: Stop
    grace: float
    turn: Turn | None = None
    seconds: float = 0.0
    max_rss: int | None = None
    cpu_seconds: float | None = 0.0

    def run(self, make: Callable[[], Workspace]) -> TaskOutcome:
        """Make attempts until one succeeds or none is left; each in a workspace from `make`."""
        tries = max(self.stage.datum_tries, 1)
        recovered = False
        failure = Failure("no attempt was made", None)
        attempt = 0
        while attempt < tries and not failure.permanent:
            attempt += 1
            if self.stop.is_set():
                raise TaskStoppedError
            self.log.note(f"attempt {attempt} of {tries}: {shlex.join(self.stage.transform.cmd)}")
            workspace = make()
            workspace.shown = self.granted.directories
            # files for programs may hold secrets, and links into them are not what `leaked` looks at
            workspace.lends = not self.granted.values
            kept = False
            try:
                found = self._attempt(workspace)
                if isinstance(found, Ended):
                    kept = True
                    return self.outcome("success", attempt, found.status, Failure("", None), workspace)
                failure = found
                self.log.note(failure.message)
                recovered = self.recover(workspace) or recovered
            finally:
                if not kept:
                    workspace.close()
        return self.outcome("recovered" if recovered else "failed", attempt, failure.status, failure, None)

    def outcome(
        self, state: State, attempts: int, status: int | None, failure: Failure, workspace: Workspace | None
    ) -> TaskOutcome:
        """How the task ended, with what its commands took."""
        return TaskOutcome(
            state=state,
            attempts=attempts,
            status=status,
            message=failure.message,
            hint=failure.hint,
            seconds=self.seconds,
            max_rss=self.max_rss,
            cpu_seconds=self.cpu_seconds if self.seconds else None,
            workspace=workspace,
        )

    def _attempt(self, workspace: Workspace) -> Ended | Failure:
        transform = self.stage.transform
        ended = self.command(workspace, transform.cmd, transform.stdin, timeout=self.stage.datum_timeout)
        return self.checked(workspace, ended)

    def checked(self, workspace: Workspace, ended: Ended | Failure) -> Ended | Failure:
        """`ended`, or what is wrong with what a command that succeeded left behind."""
        changed = workspace.changed_inputs()
        if isinstance(ended, Ended) and changed:
            return Failure(
                f"input '/pfs/{printable(changed[0])}' was changed while the task ran",
                ended.status,
                hint="large inputs are shared and read-only: write to /pfs/out, or copy the file first",
            )
        leaked = self.granted.leaked(workspace.out) if isinstance(ended, Ended) else None
        if isinstance(ended, Ended) and leaked is not None:
            return Failure(
                f"output '{printable(leaked[0])}' holds the value of secret '{leaked[1]}'",
                ended.status,
                hint="results are committed and pushed: leave it out of them",
                permanent=True,
            )
        return ended

    def recover(self, workspace: Workspace) -> bool:
        """Run the error command after a failed attempt; whether it succeeded.

        Also after a command that could not be started, as for Pachyderm. What keeps any command of the stage from
        starting, such as a sandbox that fails, keeps this one from it too, so it is not taken for a fault of the datum.
        """
        transform = self.stage.transform
        if not transform.err_cmd:
            return False
        self.log.note(f"error command: {shlex.join(transform.err_cmd)}")
        ended = self.command(workspace, transform.err_cmd, transform.err_stdin, timeout=self.stage.datum_timeout)
        if isinstance(ended, Ended):
            return True
        self.log.note(ended.message)
        return False

    def command(
        self,
        workspace: Workspace,
        command: Sequence[str],
        lines: Sequence[str],
        *,
        timeout: float | None = None,
        requests: Requests | None = None,
    ) -> Ended | Failure:
        """Run one command; give how it ended if that counts as success.

        `timeout` in seconds, `requests` is where it may ask us for something while it runs.
        """
        if not command:
            return Failure("no command is given", None, hint="set 'transform.cmd'", permanent=True)
        transform = self.stage.transform
        view = self.sandbox.view(workspace)
        arguments = [view.rewrite(argument) for argument in command]
        directory = view.directory(transform.working_dir)
        environment = {name: view.rewrite(value) for name, value in self.environment.items()}
        environment |= {"HOME": view.home, "TMPDIR": view.tmp, "PWD": directory, **self.share.variables}
        environment |= self.granted.variables
        host = transform.image is not None and self.sandbox.image is None and not self.sandbox.is_opaque
        if host and "PATH" not in dict(transform.env):
            environment["PATH"] = ":".join([environment["PATH"], *map(view.rewrite, _programs(workspace))])
        fault = None if self.sandbox.is_opaque else _check_start(view, arguments[0], directory, environment["PATH"])
        if fault is not None and fault.status == NOT_FOUND and host:
            found = stand_in(arguments, lambda name: _check_start(view, name, directory, environment["PATH"]) is None)
            if found is not None:
                self.log.note(f"'{arguments[0]}' of image '{transform.image}' is not here: '{found[0]}' stands for it")
                arguments, fault = found, None
        if fault is not None:
            return fault
        if transform.debug:
            self._tell(workspace, arguments, directory, environment)
        text = "".join(view.rewrite(line) + "\n" for line in lines)
        seen = _Start(self.log)
        limits = self.stage.limits
        holds = self.sandbox.holds
        memory, disk = (None if name in holds else getattr(limits, name) for name in ("memory", "disk"))
        cpu = None if "cpu" in holds else limits.cpu
        inside = Inside(
            command=arguments, directory=directory, variables=environment, limits=limits, gpus=self.share.gpus
        )
        group: ControlGroup | None = None
        try:
            with contextlib.ExitStack() as stack:
                place = groups_at() if memory or cpu else None
                made = place.group(memory=memory, cpu=cpu) if place is not None else None
                group = stack.enter_context(made) if made is not None else None

                def limited(status_fd: int | None, hold_fd: int | None) -> list[str]:
                    inner = view.arguments(inside, status_fd, hold_fd)
                    inner = limiting_files(inner, disk) if disk else inner
                    return group.arguments(inner) if group is not None else inner

                ended = run_process(
                    Command(
                        arguments=limited,
                        environment=view.variables(inside),
                        cwd=view.cwd(directory),
                        stdin=os.fsencode(text) if lines else None,
                        reports=self.sandbox.reports,
                        cores=self.share.cores,
                        memory=memory,
                        requests=requests,
                        start=lambda begin: view.start(begin, [] if group is None else [group.door]),
                        turn=None if self.turn is None or self.turn.began is not None else self.turn.begin,
                    ),
                    sink=seen.write,
                    timeout=timeout,
                    grace=self.grace,
                    stop=self.stop,
                )
                if ended.status > 128:
                    view.end()  # a container outlives the process that we ended
                killed = group is not None and group.was_hit
                if "memory" in self.sandbox.holds:  # a container that was killed for another reason did not see it come
                    killed = ended.status == 128 + signal.SIGKILL and not (ended.timed_out or ended.stopped)
        except (OSError, ValueError) as error:
            return _start_failure(command[0], error)
        except BaseException:
            view.end()
            raise
        self.took(ended)
        if transform.debug:
            memory = f", {ended.max_rss / 1e6:.1f} MB" if ended.max_rss is not None else ""
            self.log.note(f"status {ended.status} after {ended.seconds:.3f} s{memory}")
        if ended.max_rss is not None and "memory" not in self.sandbox.holds:
            self.max_rss = max(self.max_rss or 0, ended.max_rss)
        if ended.stopped:
            raise TaskStoppedError
        over = self.over_limit(command[0], ended, killed, workspace)
        return over if over is not None else self._judge(command[0], ended, seen.data)

    def took(self, ended: Ended) -> None:
        """Add up what a command took."""
        self.seconds += ended.seconds
        known = ended.cpu_seconds if "memory" not in self.sandbox.holds else None  # a container's are no child of ours
        self.cpu_seconds = None if known is None or self.cpu_seconds is None else self.cpu_seconds + known

    def over_limit(self, name: str, ended: Ended, killed: bool, workspace: Workspace) -> Failure | None:
        """The failure that a limit of the stage is to blame for, None if none is."""
        limits = self.stage.limits
        if limits.memory and (killed or ended.over_memory is not None):
            took = f" when it took {_size(ended.over_memory)}" if ended.over_memory is not None else ""
            return Failure(
                f"'{name}' was killed{took}: its memory is limited to {_size(limits.memory)}",
                ended.status,
                hint="raise 'resource_limits.memory' if it needs more",
            )
        if not limits.disk:
            return None
        total, largest = map(max, zip(size_below(workspace.out), size_below(workspace.tmp), strict=True))
        cut = ended.status == 128 + signal.SIGXFSZ or (ended.status != 0 and largest >= limits.disk - 511)
        if not cut and total <= limits.disk:
            return None
        what = "a file that it wrote was cut off" if cut else f"it wrote {_size(total)}"
        return Failure(
            f"'{name}' failed: {what}, and its disk space is limited to {_size(limits.disk)}",
            ended.status,
            hint="raise 'resource_limits.disk' if it needs more",
        )

    def _tell(
        self, workspace: Workspace, arguments: Sequence[str], directory: str, environment: Mapping[str, str]
    ) -> None:
        """Note how a command is started. Values of variables may be private, so only their names are told."""
        self.log.note(f"sandbox {self.sandbox.name}, in {directory}: {shlex.join(arguments)}")
        self.log.note("variables: " + ", ".join(sorted(environment)))
        for item in workspace.inputs:
            self.log.note(f"input /pfs/{item.name}: {item.entry.oid} at '{printable(item.path or b'/')}'")

    def _judge(self, name: str, ended: Ended, start: bytes) -> Ended | Failure:
        if ended.timed_out:
            limit = self.stage.datum_timeout
            return Failure(
                f"'{name}' was ended after {limit:g} s, the time limit of a datum",
                ended.status,
                hint="raise 'datum_timeout' if it needs longer",
            )
        fault = self.sandbox.fault(ended.status, start)
        if fault is not None:
            return Failure(f"cannot start '{name}': {fault}", NOT_EXECUTABLE, permanent=True)
        if ended.status == 0 or ended.status in self.stage.transform.accept_return_code:
            return ended
        if ended.status in {NOT_FOUND, NOT_EXECUTABLE}:
            what = "was not found" if ended.status == NOT_FOUND else "cannot be executed"
            return Failure(
                f"'{name}' ended with exit status {ended.status}: a command it calls {what}",
                ended.status,
                hint="the log names it; a program must be on PATH, a script in 'code'",
                permanent=True,
            )
        return Failure(f"'{name}' ended with exit status {ended.status}{_signal_name(ended.status)}", ended.status)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"


class _Start:
    """Passes output on to the log and keeps its first bytes."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.data = b""

    def write(self, data: bytes) -> None:
        if len(self.data) < 256:
            self.data += data[:256]
        self._log.write(data)


def _signal_name(status: int) -> str:
    try:
        return f" ({signal.Signals(status - 128).name})" if status > 128 else ""
    except ValueError:
        return ""


def _programs(workspace: Workspace) -> Iterator[str]:
    """Directories of programs that stand for those of an image, whose own search path nobody told us."""
    for place, source in sorted(workspace.mounts.items()):
        if place.endswith("/bin") and source.is_dir():
            yield place
        elif (source / "bin").is_dir():
            yield f"{place}/bin"


def _check_start(view: View, name: str, directory: str, search: str) -> Failure | None:
    """Why the command cannot be started, None if nothing speaks against it."""
    place = view.host(directory)
    if place is None or not place.is_dir():
        return Failure(
            f"working directory '{directory}' is not there",
            None,
            hint="'working_dir' must be part of 'code' or exist on this machine",
            permanent=True,
        )
    if "/" in name:
        whole = os.path.join(directory, name)  # noqa: PTH118 - a path inside
        path = view.host(whole)
        if path is None or not os.access(path, os.F_OK):
            hint = "a task sees only what is declared: name the file in 'code'"
            if path is None and os.access(whole, os.X_OK):
                hint += ", or put its directory on PATH if it is installed there"
            return Failure(
                f"command '{name}' is not found in the workspace",
                NOT_FOUND,
                hint=hint,
                permanent=True,
            )
        return None if _is_program(path) else _not_executable(name)
    found = False
    for part in search.split(":"):
        path = view.host(os.path.join(directory, part, name))  # noqa: PTH118 - a path inside
        if path is not None and _is_file(path):
            if _is_program(path):
                return None
            found = True
    if found:
        return _not_executable(name)
    return Failure(
        f"command '{name}' is not found",
        NOT_FOUND,
        hint=f"install it, or name a file of 'code' by its path; looked in {search}",
        permanent=True,
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # a directory of the search path that is closed to us, which shells pass over
        return False


def _is_program(path: Path) -> bool:
    return _is_file(path) and os.access(path, os.X_OK)


def _not_executable(name: str) -> Failure:
    return Failure(
        f"command '{name}' is not executable",
        NOT_EXECUTABLE,
        hint=f"git update-index --chmod=+x {shlex.quote(name)}, or start it with its interpreter",
        permanent=True,
    )


def _start_failure(name: str, error: OSError | ValueError) -> Failure:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    hint = None
    if isinstance(error, FileNotFoundError):
        hint = "the interpreter that its first line names may be missing"
    return Failure(f"cannot start '{name}': {reason}", status, hint=hint, permanent=True)
