"""Schedules of cron inputs, against the rules of cron."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from gitml.errors import UserError
from gitml.pipeline.schedule import MOST_TICKS, due, last_tick, parse_moment, parse_schedule, tick_name

START = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("@hourly", ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"]),  # no hour is missing in UTC
        ("30 2 * * *", ["2026-03-29T02:30", "2026-03-30T02:30"]),
        ("@every 10s", ["2026-03-28T23:30:10", "2026-03-28T23:30:20"]),
        ("@every 1h30m", ["2026-03-29T01:00", "2026-03-29T02:30"]),
        ("*/20 22-23 * * *", ["2026-03-28T23:40", "2026-03-29T22:00"]),
        ("0 0 13 * FRI", ["2026-04-03T00:00", "2026-04-10T00:00", "2026-04-13T00:00"]),  # either day will do
        ("0 0 ? * 0", ["2026-03-29T00:00", "2026-04-05T00:00"]),
        ("0 0 * * 7", ["2026-03-29T00:00"]),
        ("0 12 1 JAN,jul *", ["2026-07-01T12:00", "2027-01-01T12:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00"]),
        ("@monthly", ["2026-04-01T00:00"]),
        ("@yearly", ["2027-01-01T00:00"]),
        ("@never", []),
    ],
)
def test_ticks(text: str, ticks: list[str]) -> None:
    found = islice(parse_schedule(text).after(START), len(ticks) or 1)
    assert list(found) == [datetime.fromisoformat(tick).replace(tzinfo=UTC) for tick in ticks]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@often",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "0 0 31 2 *",
        "@every",
        "@every 5",
        "TZ=Asia/Tokyo 0 0 * * *",
    ],
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(UserError, match="is not a schedule"):
        parse_schedule(text)


def test_what_is_due_comes_in_order_and_not_all_at_once() -> None:
    hourly = parse_schedule("@hourly")
    assert due(hourly, START, START + timedelta(minutes=29)) == []
    assert due(hourly, START, START + timedelta(minutes=90)) == [
        START + timedelta(minutes=30),
        START + timedelta(minutes=90),
    ]
    every = parse_schedule("@every 1s")
    first = due(every, START, START + timedelta(days=1))
    assert len(first) == MOST_TICKS
    assert due(every, first[-1], START + timedelta(days=1))[0] == first[-1] + timedelta(seconds=1)


def test_names_of_ticks_are_their_times() -> None:
    assert tick_name(parse_moment("2026-01-02T03:04:05+01:00")) == b"2026-01-02T02:04:05Z"
    names = [b"2026-01-02T02:04:05Z", b"2025-01-02T02:04:05Z", b"README", b"2026-13-02T02:04:05Z"]
    assert last_tick(names) == parse_moment("2026-01-02T02:04:05Z")
    assert last_tick([b"README"]) is None
    with pytest.raises(ValueError, match="zone"):
        parse_moment("2026-01-02T03:04:05")
