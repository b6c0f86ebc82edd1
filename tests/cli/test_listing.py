from gitml.cli.listing import newest_first
from gitml.pipeline.lease import RunState


def state(run: str, started: float) -> RunState:
    return RunState(run=run, branch=None, tip="", pid=1, host="", boot="", started=started)


def test_runs_of_one_second_are_listed_in_their_order() -> None:
    known = {"a": {"started": 100}, "d": {"started": 101}, "c": {"started": 100}, "b": {"started": 100}, "now": {}}
    began = {"a": 100.1, "b": 100.2, "c": 100.9, "d": 101.0}
    states = {run: state(run, seconds) for run, seconds in began.items()}
    assert newest_first(known, states.get) == ["now", "d", "c", "b", "a"]
    asked: list[str] = []

    def remembered(run: str) -> RunState | None:
        asked.append(run)
        return None  # another clone's

    assert newest_first(known, remembered) == ["now", "d", "a", "c", "b"]
    assert sorted(asked) == ["a", "b", "c"]
