"""When results are made durable."""

from gitml.pipeline.rhythm import Rhythm


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(rhythm: Rhythm, clock: Clock, seconds: float) -> None:
    with rhythm.record():
        clock.now += seconds


def test_the_first_result_does_not_wait() -> None:
    assert Rhythm(2, Clock()).left(1) == 0


def test_results_of_short_tasks_wait_so_that_records_take_a_fifth_of_the_time() -> None:
    clock = Clock()
    rhythm = Rhythm(2, clock)
    record(rhythm, clock, 0.1)
    assert abs(rhythm.left(1) - 0.4) < 1e-9
    clock.now += 0.3
    assert abs(rhythm.left(30) - 0.1) < 1e-9
    clock.now += 0.2
    assert rhythm.left(50) == 0


def test_no_result_waits_longer_than_two_seconds() -> None:
    clock = Clock()
    rhythm = Rhythm(2, clock)
    record(rhythm, clock, 30.0)
    assert rhythm.left(1) == 2.0


def test_the_result_of_a_task_that_took_longer_does_not_wait() -> None:
    clock = Clock()
    rhythm = Rhythm(2, clock)
    record(rhythm, clock, 0.5)
    clock.now += 3.0
    assert rhythm.left(1) == 0


def test_many_results_are_recorded_before_their_time() -> None:
    clock = Clock()
    rhythm = Rhythm(2, clock)
    record(rhythm, clock, 0.4)
    assert rhythm.left(511) > 1
    assert rhythm.left(512) == 0


def test_no_more_tasks_run_ahead_than_end_in_two_seconds() -> None:
    rhythm = Rhythm(2, Clock())
    assert rhythm.ahead == 0  # nothing is known of them
    rhythm.ended(0.5)
    assert rhythm.ahead == 8
    for _ in range(100):
        rhythm.ended(60.0)
    assert rhythm.ahead == 0
    for _ in range(200):
        rhythm.ended(0.0)
    assert rhythm.ahead == 512
