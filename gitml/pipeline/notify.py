"""Telling a command of the user's about every change of a run: a chat message, a sound, a line in a file.

The command is `ml.notify` of the user's git configuration, which no clone brings along. It gets a document on standard
input. It runs beside the run, one call after the other, and neither its failure nor its slowness is the run's.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self

from gitml.git.command import clean_environment
from gitml.git.repository import Repository
from gitml.pipeline.lease import RunState
from gitml.record import asdict

_TIMEOUT = 10.0
"""Seconds for one call, and for all that are left when the run has ended."""


def document(state: RunState) -> dict[str, Any]:
    """A run for programs."""
    members = ("run", "branch", "tip", "status", "message", "published", "started", "updated")
    stages = [{"name": name, **asdict(progress)} for name, progress in state.stages.items()]
    return {**{name: getattr(state, name) for name in members}, "stages": stages}


class Notifier:
    """Calls the command for changes, if there is one; use it in `with`."""

    def __init__(self, repo: Repository, *, timeout: float = _TIMEOUT) -> None:
        self._command = repo.config("ml.notify")
        self._where = repo.worktree or repo.git_dir
        self._timeout = timeout
        self._last: object = None
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._worker: Thread | None = None
        self.problem = ""
        """How the first call that failed went, if one did."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._queue.put(None)
            self._worker.join(self._timeout)

    def tell(self, state: RunState) -> None:
        """Call the command if the run or a stage has another state than the last time; returns at once."""
        if not self._command:
            return
        now = state.status, [(name, progress.state) for name, progress in state.stages.items()]
        if now == self._last:
            return
        self._last = now
        self._queue.put(json.dumps({"schema": "gitml/watch/1", **document(state)}).encode() + b"\n")
        if self._worker is None:
            # a daemon: what hangs in it must not keep the process
            self._worker = Thread(target=self._work, name="notify", daemon=True)
            self._worker.start()

    def reporting(self, report: Callable[[RunState], None]) -> Callable[[RunState], None]:
        """`report`, and the command after it."""

        def both(state: RunState) -> None:
            report(state)
            self.tell(state)

        return both

    def _work(self) -> None:
        while (data := self._queue.get()) is not None:
            self._call(data)

    def _call(self, data: bytes) -> None:
        assert self._command is not None
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, cwd=self._where, env=clean_environment(), start_new_session=True,
            )  # fmt: skip
            try:
                process.communicate(data, timeout=self._timeout)
                problem = f"it ended with exit status {process.returncode}" if process.returncode else ""
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                problem = f"it was ended after {self._timeout:g} s"
        except OSError as error:
            problem = error.strerror or str(error)
        self.problem = self.problem or problem
