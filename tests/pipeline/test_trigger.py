"""Triggers: which changes of an input count, by what happened since the record."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gitml.pipeline.plan import State, evaluate_stage, key_at
from gitml.pipeline.spec import SpecError, load_pipeline
from gitml.pipeline.spec.model import PfsInput, Trigger
from gitml.pipeline.trigger import Since, has_fired
from gitml.record import replace
from gitml.store.tree import Snapshot
from tests.pipeline.test_plan import Known, one, pipeline, publish, stage
from tests.pipeline.test_sources import two
from tests.pipeline.test_spec_errors import DATA, tree_with
from tests.pipeline.test_spec_errors import stage as spec

MakeTree = Callable[..., Snapshot]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


MONDAY = at("2026-01-05T10:00")


@pytest.mark.parametrize(
    ("trigger", "times", "committed", "fired"),
    [
        (Trigger(commits=2), [MONDAY + 1], MONDAY, False),
        (Trigger(commits=2), [MONDAY + 2, MONDAY + 1], MONDAY, True),
        (Trigger(size=100), [MONDAY + 1], MONDAY, False),
        (Trigger(size=99), [MONDAY + 1], MONDAY, True),
        (Trigger(rate_limit="@daily"), [at("2026-01-05T23:00")], at("2026-01-07"), False),
        (Trigger(rate_limit="@daily"), [at("2026-01-06T00:00:00")], at("2026-01-07"), False),
        (Trigger(rate_limit="@daily"), [at("2026-01-06T00:00:01")], at("2026-01-07"), True),
        (Trigger(cron="@daily"), [MONDAY + 1], at("2026-01-05T23:59:59"), False),
        (Trigger(cron="@daily"), [MONDAY + 1], at("2026-01-06T00:00:00"), True),
        (Trigger(cron="@never"), [MONDAY + 1], at("2030-01-01"), False),
        (Trigger(size=1000, commits=1), [MONDAY + 1], MONDAY, True),
        (Trigger(size=1000, commits=1, all=True), [MONDAY + 1], MONDAY, False),
        (Trigger(size=90, commits=1, all=True), [MONDAY + 1], MONDAY, True),
    ],
)
def test_conditions(trigger: Trigger, times: list[int], committed: int, fired: bool, tree: MakeTree) -> None:
    before = tree({"data/a": "x" * 10, "data/same/b": "y"})
    now = tree({"data/a": "x" * 9, "data/c/d": "z" * 100}, before)  # 99 bytes more
    entries = [each.get(b"data") for each in (before, now)]
    assert entries[0] is not None
    assert entries[1] is not None
    since = Since(tuple(times), MONDAY)
    assert has_fired(trigger, now, entries[0], entries[1], since, committed) is fired
    assert has_fired(trigger, now, entries[0], entries[1], None, committed)


def test_the_input_stays_as_recorded_until_the_trigger_fires(tree: MakeTree, pfs_input: Any) -> None:
    slow: PfsInput = replace(pfs_input("slow"), trigger=Trigger(commits=2))
    reads = two(pfs_input("data"), slow)
    first = tree({"data/a": "1", "slow/a": "1"})
    done = publish(one(reads, first), first, "r")
    changed = tree({"slow/a": "2"}, done)
    known = Known(touched=Since((2,), 1))
    assert one(reads, changed, known).state is State.FRESH
    assert key_at(pipeline(reads), "model", changed) == one(reads, first).key
    other = one(reads, tree({"data/a": "2"}, changed), known)
    assert other.state is State.STALE
    assert other.reason == "input 'data' changed (1 file changed)"
    assert other.reading.entries[slow] == first.get(b"slow")
    assert evaluate_stage(pipeline(reads), reads, changed, known, (), current=True).state is State.STALE
    known.touched = Since((3, 2), 1)
    assert one(reads, changed, known).reason == "input 'slow' changed (1 file changed)"
    alone = stage("alone", slow, cmd=("true",))
    assert one(alone, first, known).reason == "first run"


def load(**trigger: Any) -> PfsInput:
    stages = [spec(input={"pfs": {"repo": "training", "glob": "/", "trigger": trigger}})]
    pipeline = load_pipeline(tree_with({**DATA, "pipeline.json": json.dumps(stages)}))
    assert pipeline is not None
    return pipeline.stages[0].inputs[0]


def test_what_is_read() -> None:
    assert load(size="1.5MB", commits="3", all=True).trigger == Trigger(size=1_500_000, commits=3, all=True)
    assert load(size="1 KiB").trigger == Trigger(size=1024)
    assert load(cronSpec="@daily", branch="staging").branch == "staging"
    assert load(rateLimitSpec="@hourly", branch="master").trigger == Trigger(rate_limit="@hourly")


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ({}, "a trigger without a condition"),
        ({"size": "0", "all": True}, "a trigger without a condition"),
        ({"size": "much"}, "expected a size"),
        ({"cron_spec": "daily"}, "is not a schedule"),
        ({"rate_limit_spec": "daily"}, "is not a schedule"),
        ({"cron_spec": "@daily", "size": "1M"}, "'cron_spec' with other conditions"),
        ({"commits": 1, "branch": "a b"}, "is not the name of a branch"),
    ],
)
def test_what_is_refused(trigger: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as raised:
        load(**trigger)
    assert message in raised.value.message
