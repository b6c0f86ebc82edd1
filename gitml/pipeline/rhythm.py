"""When the results of ended tasks are made durable, and how many tasks may end before that.

Making results durable (packs, syncs to disk, a ref that moves) costs about as much for a thousand as for one, as in
the group commit of a database. So results of short tasks wait for each other: a record is due once `_SHARE` times as
long has passed as the last one took, at the latest after `_LONGEST` seconds. The result of a long task never waits.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHARE = 4.0
_SHORTEST = 0.05
_LONGEST = 2.0
"""Seconds between records: what a kill may cost beside the tasks that were running."""
_MOST = 512
"""Results that one record holds."""


class Rhythm:
    """Times of records and of tasks, in seconds; `clock` is monotonic."""

    def __init__(self, width: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._width = width
        self._clock = clock
        self._pause = 0.0
        self._last = -_LONGEST
        self._task: float | None = None

    def ended(self, seconds: float) -> None:
        """A task has ended that ran for so long."""
        self._task = seconds if self._task is None else 0.9 * self._task + 0.1 * seconds

    @property
    def ahead(self) -> int:
        """How many tasks may be waiting beside those that run, so that the next ones start during a record.

        As many as end in `_LONGEST` seconds: what they wrote is on the disk twice until it is recorded.
        """
        if self._task is None:
            return 0
        return min(int(self._width * _LONGEST / max(self._task, 1e-3)), _MOST)

    def left(self, waiting: int) -> float:
        """Seconds until the record of `waiting` results is due."""
        return 0.0 if waiting >= _MOST else max(self._last + self._pause - self._clock(), 0.0)

    @contextmanager
    def record(self) -> Iterator[None]:
        """The block makes the waiting results durable."""
        started = self._clock()
        yield
        self._last = self._clock()
        self._pause = min(max(_SHARE * (self._last - started), _SHORTEST), _LONGEST)
