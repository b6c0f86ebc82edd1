"""When an input with a trigger counts as changed: decided from history, so that every clone decides alike.

Until the condition holds, counted from what the stage's record has, the input stays as it is there. Times are those
that committers wrote down; there is no clock.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from gitml.pipeline.schedule import parse_schedule
from gitml.pipeline.spec.model import Trigger
from gitml.record import record
from gitml.store.pointer import MAX_POINTER_SIZE, is_pointer, parse_pointer
from gitml.store.tree import MODE_GITLINK, Entry, Snapshot


@record
class Since:
    """What happened at the path of an input since it was something earlier. Times: seconds since the epoch."""

    times: tuple[int, ...]
    """Of the commits that touched it since, the newest first."""
    before: int
    """Of the commit that made it what it was."""


def has_fired(
    trigger: Trigger, snapshot: Snapshot, before: Entry, now: Entry, since: Since | None, committed: int
) -> bool:
    """Whether the condition holds between the entries `before` and `now`.

    `committed` is the time of the commit that is evaluated. True where history does not reach back to `before`: a
    shallow clone must not keep a stage back for ever.
    """
    if since is None:
        return True
    conditions: list[bool] = []
    if trigger.cron:
        conditions.append(_ticks(trigger.cron, since.before, committed))
    if trigger.rate_limit:
        # as Pachyderm: the tick lies before the new head, not at it
        conditions.append(_ticks(trigger.rate_limit, since.before, max(since.times, default=since.before) - 1))
    if trigger.commits:
        conditions.append(len(since.times) >= trigger.commits)
    if trigger.size:
        conditions.append(_growth(snapshot, before, now) >= trigger.size)
    return all(conditions) if trigger.all else any(conditions)


def _ticks(spec: str, after: int, until: int) -> bool:
    tick = next(parse_schedule(spec).after(datetime.fromtimestamp(after, UTC)), None)
    return tick is not None and tick.timestamp() <= until


def _growth(snapshot: Snapshot, before: Entry, now: Entry) -> int:
    """Bytes of content that `now` has more than `before`. Only what differs is read."""
    return sum(sign * _size(snapshot, entry) for sign, entry in _differing(snapshot, before, now))


def _differing(snapshot: Snapshot, before: Entry | None, now: Entry | None) -> Iterator[tuple[int, Entry]]:
    if before == now:
        return
    old = snapshot.entries(before.oid) if before is not None and before.is_tree else {}
    new = snapshot.entries(now.oid) if now is not None and now.is_tree else {}
    for sign, entry in ((-1, before), (1, now)):
        if entry is not None and not entry.is_tree and entry.mode != MODE_GITLINK:
            yield sign, entry
    for name in dict.fromkeys([*old, *new]):
        yield from _differing(snapshot, old.get(name), new.get(name))


def _size(snapshot: Snapshot, entry: Entry) -> int:
    data = snapshot.odb.read(entry.oid)[1]
    return parse_pointer(data).size if len(data) <= MAX_POINTER_SIZE and is_pointer(data) else len(data)
