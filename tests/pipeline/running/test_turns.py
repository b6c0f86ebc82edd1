import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitml.pipeline.process import Command, run_process
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.task import TaskOutcome, TaskStoppedError
from gitml.pipeline.turns import Turns, ready_ahead

Run = Callable[..., TaskOutcome]


def test_turns_come_in_the_order_in_which_they_were_taken() -> None:
    turns = Turns(1, is_over=lambda: False, stopped=TaskStoppedError)
    taken = [turns.take() for _ in range(20)]
    order: list[int] = []
    inside = 0

    def go(number: int) -> None:
        nonlocal inside
        taken[number].begin()
        inside += 1
        assert inside == 1
        order.append(number)
        inside -= 1
        taken[number].end()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(go, reversed(range(20))))
    assert order == list(range(20))


def test_a_turn_that_never_begins_keeps_nobody_waiting() -> None:
    turns = Turns(1, is_over=lambda: False, stopped=TaskStoppedError)
    first, second = turns.take(), turns.take()
    first.end()
    second.begin()
    second.end()
    second.end()  # as often as one likes
    third, fourth = turns.take(), turns.take()
    third.begin()
    waiting = threading.Thread(target=fourth.begin)
    waiting.start()
    assert fourth.began is None  # the second end of the second one gave nobody a place
    third.end()
    waiting.join(10)
    assert fourth.began is not None


def test_no_turn_begins_once_all_is_over() -> None:
    over = threading.Event()
    turns = Turns(1, is_over=over.is_set, stopped=TaskStoppedError)
    first, second = turns.take(), turns.take()
    first.begin()
    over.set()
    with pytest.raises(TaskStoppedError):
        second.begin()


def test_a_command_begins_with_its_turn_and_not_before(run: Run, tmp_path: Path) -> None:
    turns = Turns(1, is_over=lambda: False, stopped=TaskStoppedError)
    before, turn = turns.take(), turns.take()
    before.begin()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, "ls /proc/self/fd > /pfs/out/o", {"x": {"a": "1"}}, turn=turn)
        tasks = tmp_path / "the run's" / "tasks"
        while not list(tasks.glob("*/*/pfs/x/a")):
            pass  # its workspace is made meanwhile
        assert not list(tasks.glob("*/*/pfs/out/o"))
        before.end()
        outcome = running.result(60)
    with outcome:
        assert outcome.workspace is not None
        assert (outcome.workspace.out / "o").read_text().split() == ["0", "1", "2", "3"]  # nothing that it waited for
        assert turn.began is not None
        assert before.began is not None
        assert turn.began > before.began


def test_what_waits_is_ended_when_all_is_over(run: Run, tmp_path: Path) -> None:
    over = threading.Event()
    turns = Turns(1, is_over=over.is_set, stopped=TaskStoppedError)
    turns.take().begin()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, "echo ran > /pfs/out/o", {"x": {"a": "1"}}, turn=turns.take())
        tasks = tmp_path / "the run's" / "tasks"
        while not list(tasks.glob("*/*/pfs/x/a")):
            pass
        over.set()
        with pytest.raises(TaskStoppedError):
            running.result(60)
    assert list(tasks.iterdir()) == []
    assert str(tasks).encode() not in subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout


def test_all_attempts_of_a_task_are_one_turn(run: Run) -> None:
    turns = Turns(1, is_over=lambda: False, stopped=TaskStoppedError)
    turn, following = turns.take(), turns.take()
    waiting = threading.Thread(target=following.begin)
    waiting.start()
    outcome = run("exit 1", turn=turn, datum_tries=2)
    assert outcome.attempts == 2
    assert following.began is None
    turn.end()
    waiting.join(10)
    assert following.began is not None


def test_the_time_limit_counts_from_the_turn(tmp_path: Path) -> None:
    turned = threading.Event()

    def turn() -> None:
        assert not turned.wait(0.3)  # longer than the limit

    command = Command(
        arguments=lambda *_: ["true"], environment={"PATH": "/usr/bin:/bin"}, cwd=tmp_path, stdin=None, reports=False,
        turn=turn,
    )  # fmt: skip
    ended = run_process(command, sink=lambda _: None, timeout=0.25)
    assert not ended.timed_out


def test_what_needs_its_part_of_the_machine_first_is_not_made_ahead(make_stage: Callable[..., Stage]) -> None:
    plain = make_stage("s", ["true"])
    assert ready_ahead(plain) == 1
    assert ready_ahead(make_stage("s", ["true"], datum_batching=True)) == 0
