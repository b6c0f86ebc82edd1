"""In which order the tasks of a stage run, and how many at once, while the next ones are made ready already.

A task is ready when its workspace is laid out and its sandbox stands, which takes longer than short commands do. So
one task more than may run is made ready, and waits for its turn. Turns are given in the order in which they were
taken, whatever gets ready first.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from gitml.pipeline.spec.model import Stage

_TICK = 0.1
"""Seconds between looks at whether there is anything left to wait for."""


class Turns:
    """Hands out turns, of which `width` are under way at once.

    `is_over` says that no further task may begin; what a turn then raises is made by `stopped`.
    """

    def __init__(self, width: int, *, is_over: Callable[[], bool], stopped: Callable[[], BaseException]) -> None:
        self._free = width
        self._is_over = is_over
        self._stopped = stopped
        self._changed = threading.Condition()
        self._waiting: deque[Turn] = deque()

    def take(self) -> "Turn":
        """The turn of the next task; end it, whatever became of the task."""
        turn = Turn(self)
        with self._changed:
            self._waiting.append(turn)
        return turn

    def begin(self, turn: "Turn") -> None:
        """As `Turn.begin`."""
        with self._changed:
            while not self._is_over():
                if self._free > 0 and self._waiting[0] is turn:
                    self._waiting.popleft()
                    self._free -= 1
                    turn.began = time.monotonic()
                    self._changed.notify_all()  # with more than one at once the next may begin too
                    return
                self._changed.wait(_TICK)
        raise self._stopped()

    def end(self, turn: "Turn") -> None:
        """As `Turn.end`."""
        with self._changed:
            if turn.began is None:
                self._waiting.remove(turn)
            else:
                self._free += 1
            self._changed.notify_all()


class Turn:
    """The turn of one task."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._over = False
        self.began: float | None = None
        """When it began, on the monotonic clock."""

    def begin(self) -> None:
        """Wait until the task may run; at once if it has begun. Raise what the stage says if it may not any more."""
        if self.began is None:
            self._turns.begin(self)

    def end(self) -> None:
        """The task runs no more, or never will."""
        if not self._over:
            self._over = True
            self._turns.end(self)


def ready_ahead(stage: Stage) -> int:
    """How many tasks of `stage` may be made ready beside those that run.

    None where a task has to have its part of the machine before it can be made ready, where being ready takes memory,
    and where a process waits for datums anyway.
    """
    held = stage.limits.cpu or stage.limits.gpu or stage.requests.gpu
    return 0 if held or stage.transform.memory_volume or stage.transform.datum_batching else 1
