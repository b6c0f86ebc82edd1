"""Files at an output that no run made, where no result ever stood: what the evaluation says of them."""

from collections.abc import Callable

import pytest

from gitml.pipeline.failure import FailureInfo
from gitml.pipeline.plan import State, build_record
from gitml.pipeline.spec.model import PfsInput, Stage
from gitml.record import replace
from gitml.store.tree import Snapshot
from tests.pipeline.test_plan import FILES, Known, one, place, publish, stage

MakeTree = Callable[..., Snapshot]


@pytest.fixture
def model(pfs_input: Callable[..., PfsInput]) -> Stage:
    return stage("model", pfs_input("training"))


def test_they_are_told_from_what_a_run_made(model: Stage, tree: MakeTree) -> None:
    mine = tree({**FILES, "model/deep/a": "mine"})
    status = one(model, mine)
    assert (status.state, status.reason, status.foreign) == (State.STALE, "first run", True)
    assert status.key is not None
    failed = one(model, mine, Known(failures={status.key: FailureInfo("", "no")}))
    assert (failed.state, failed.foreign) == (State.FAILED, True)
    known = one(model, mine, Known(by_key={status.key: [tree({"b": "2"}).root]}))
    assert (known.state, known.reason) == (State.EDITED, "'model' holds files that no run made")
    assert one(model, mine, Known(by_key={status.key: [status.output]})).state is State.FRESH

    assert not one(model, tree(FILES)).foreign
    assert not one(model, mine, Known(older={status.output})).foreign, "a run made them, of whatever stage"


@pytest.mark.parametrize("kept", [{"model/.gitkeep": ""}, {"model/.gitignore": "*.tmp\n", "model/a/.gitignore": "x"}])
def test_what_only_keeps_a_directory_is_nothing(model: Stage, tree: MakeTree, kept: dict[str, str]) -> None:
    assert not one(model, tree({**FILES, **kept})).foreign
    assert one(model, tree({**FILES, **kept, "model/b": "1"})).foreign


def test_where_a_result_stood_before_there_is_nothing_foreign(model: Stage, tree: MakeTree) -> None:
    done = publish(one(model, tree(FILES)), tree(FILES), "one")
    edited = tree({"model/result": "mine", "training/a.csv": "2"}, done)
    assert (one(model, edited).state, one(model, edited).foreign) == (State.STALE, False)
    conflict = tree({".gitml/records/model.json": "<<<<<<< ours\n"}, edited)
    assert (one(model, conflict).state, one(model, conflict).foreign) == (State.STALE, False)


def test_a_new_place_for_results_may_hold_some(model: Stage, tree: MakeTree) -> None:
    done = publish(one(model, tree(FILES)), tree(FILES), "one")
    moved = replace(model, output=b"other")
    there = tree({"other/a": "mine", "training/a.csv": "2"}, done)
    assert (one(moved, there).state, one(moved, there).foreign) == (State.STALE, True)
    same = one(moved, tree({"other/a": "mine"}, done))
    assert (same.state, same.reason) == (State.EDITED, "'other' holds files that no run made")


def test_a_stage_without_datums_removes_nothing(pfs_input: Callable[..., PfsInput], tree: MakeTree) -> None:
    none = stage("model", pfs_input("training", "/*.txt"))
    mine = tree({**FILES, "model/a": "mine"})
    status = one(none, mine)
    assert (status.state, status.reason) == (State.EDITED, "'model' holds files that no run made")
    accepted = place(status, mine, status.output, build_record(status, mine, status.output, 0))
    assert one(none, accepted).state is State.FRESH
    assert one(none, tree({**FILES, "model/.gitkeep": ""})).state is State.STALE
