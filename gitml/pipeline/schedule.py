"""When a cron input ticks: schedules as Pachyderm writes them, all in UTC, so that no hour is skipped or comes twice.

Five fields (minute, hour, day of month, month, day of week), `@hourly` and its like, `@every 10s`, `@never`.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from gitml.errors import UserError
from gitml.record import record

MOST_TICKS = 1000
"""Ticks of one input that are caught up at a time."""

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = re.compile(r"@every\s+((?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+)")
_PART = re.compile(r"([0-9.]+)(ms|s|m|h)")
_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_TICK = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@record
class Schedule:
    """A parsed schedule. Without `fields` and `every` it never ticks."""

    fields: str = ""
    every: int = 0
    """Whole seconds between ticks; 0: as `fields` say."""

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The ticks after `moment` (which has a time zone), in order, without end unless it never ticks."""
        moment = moment.astimezone(UTC)
        if self.fields:
            from cronsim import CronSim  # noqa: PLC0415 - as below

            yield from CronSim(self.fields, moment)
        while self.every:
            moment += timedelta(seconds=self.every)
            yield moment


def parse_schedule(text: str) -> Schedule:
    """The schedule written as `text`; raise `UserError`."""
    text = text.strip()
    if text == "@never":
        return Schedule()
    every = _EVERY.fullmatch(text)
    if every is not None:
        seconds = sum(float(number) * _UNIT[unit] for number, unit in _PART.findall(every[1]))
        return Schedule(every=max(1, int(seconds)))  # as Pachyderm: whole seconds, one at least
    fields = _NICKNAMES.get(text, text).replace("?", "*")
    hint = 'write "0 3 * * *", "@daily", "@every 10m" or "@never"; times are UTC'
    if len(fields.split()) != 5:
        raise UserError(f"'{text}' is not a schedule of five fields", hint=hint)
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - few pipelines have a schedule, all are read

    try:
        CronSim(fields, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise UserError(f"'{text}' is not a schedule: {str(error).lower()}", hint=hint) from None
    return Schedule(fields=fields)


def parse_moment(text: str) -> datetime:
    """A time of RFC 3339, in UTC; raise `ValueError`."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC)


def tick_name(moment: datetime) -> bytes:
    """The file that stands for a tick: its time in RFC 3339, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def last_tick(names: Iterable[bytes]) -> datetime | None:
    """The newest tick among the names of files, None if there is none."""
    found = []
    for name in names:
        if _TICK.fullmatch(name):
            try:
                found.append(parse_moment(name.decode()))
            except ValueError:
                continue  # a name like a time that is none
    return max(found, default=None)


def due(schedule: Schedule, since: datetime, now: datetime) -> list[datetime]:
    """The ticks after `since` up to `now`, the oldest first, at most `MOST_TICKS`."""
    found: list[datetime] = []
    for tick in schedule.after(since):
        if tick > now or len(found) == MOST_TICKS:
            break
        found.append(tick)
    return found
