import io

import pytest

from gitml.meter import Meter, format_size


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_says_how_much_how_fast_and_how_long_still() -> None:
    meter = Meter("filling in", Terminal())
    meter.expect(3, 400_000_000)
    meter.advance(100_000_000)
    assert meter.describe(2.0) == "25% (100.0 MB of 400.0 MB in 3 files), 50.0 MB/s, 0:06 left"
    meter.expect(1, 800_000_000_000)
    assert meter.describe(2.0) == "0% (100.0 MB of 800.4 GB in 4 files), 50.0 MB/s, 4:26:46 left"


def test_one_file_and_nothing_at_all() -> None:
    meter = Meter("filling in", Terminal())
    assert meter.describe(0.0) == "100% (0 B of 0 B in 0 files), 0 B/s"
    meter.expect(1, 10)
    assert meter.describe(0.0) == "0% (0 B of 10 B in 1 file), 0 B/s"


def test_files_that_come_one_after_the_other() -> None:
    meter = Meter("reading", Terminal())
    for _ in range(3):
        meter.begin(1_000_000)
        meter.advance(1_000_000)
    assert meter.describe(2.0) == "3.0 MB in 3 files, 1.5 MB/s"
    meter.begin(400_000_000)
    assert meter.describe(0.0) == "3.0 MB in 4 files, 0 B/s"
    meter.advance(100_000_000)
    assert meter.describe(2.0) == "103.0 MB in 4 files, 51.5 MB/s; 25% of this one (400.0 MB), 0:06 left"
    meter.advance(310_000_000)  # it grows
    assert meter.describe(2.0).endswith("102% of this one (400.0 MB), 0:00 left")


def test_a_terminal_sees_it_once_it_takes_long_and_is_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gitml.meter.time.monotonic", lambda: now[0])
    terminal = Terminal()
    with Meter("filling in", terminal) as meter:
        meter.expect(1, 1000)
        meter.advance(100)
        assert terminal.getvalue() == ""
        now[0] += 2
        meter.advance(100)
        assert terminal.getvalue() == "\r\x1b[Kfilling in: 20% (200 B of 1.0 kB in 1 file), 100 B/s, 0:08 left"
        meter.advance(100)
    assert terminal.getvalue().endswith("left\r\x1b[K")
    assert terminal.getvalue().count("filling in") == 1


def test_a_pipe_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gitml.meter.time.monotonic", lambda: now[0])
    pipe = io.StringIO()
    with Meter("filling in", pipe) as meter:
        now[0] += 60
        meter.advance(100)
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e6, "2.5 MB"), (3e9, "3.0 GB"), (4e15, "4000.0 TB")],
)
def test_sizes(number: float, text: str) -> None:
    assert format_size(number) == text
