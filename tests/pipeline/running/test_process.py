"""One process from start to end, watched directly."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitml.pipeline.process import Command, Requests, run_process


@pytest.fixture
def questions(tmp_path: Path) -> Iterator[int]:
    """A pipe with a name, on which a command asks; the end to read from."""
    os.mkfifo(tmp_path / "questions")
    descriptor = os.open(tmp_path / "questions", os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def test_what_was_printed_before_a_question_is_taken_before_it(tmp_path: Path, questions: int) -> None:
    """Else the log of a datum of a batch would end in that of the next.

    The kernel reports pipes in the order in which they became ready, and again the one that was just read. So while
    the first question is answered the second one waits in front of what was printed before it.
    """
    wait = "until [ -e answering ]; do sleep 0.01; done"
    script = f"printf 0 > questions; {wait}; printf first; printf 1 > questions; : > asked; exec sleep 0.2"
    seen: list[bytes] = []

    def take(data: bytes) -> None:
        (tmp_path / "answering").touch()
        end = time.monotonic() + 60
        while not (tmp_path / "asked").exists():
            assert time.monotonic() < end, "the command never asked again"
            time.sleep(0.01)
        seen.append(b"asked " + data)

    ended = run_process(
        Command(
            arguments=lambda _status, _hold: ["/bin/sh", "-c", script],
            environment={"PATH": os.environ["PATH"]},
            cwd=tmp_path,
            stdin=None,
            reports=False,
            requests=Requests(questions, take),
        ),
        sink=seen.append,
    )
    assert ended.status == 0
    assert seen == [b"asked 0", b"first", b"asked 1"]
