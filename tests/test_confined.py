"""A process with limits: its answer, or what kept it from giving one. Programs of the shell stand in for Python."""

import sys
from pathlib import Path
from typing import Any

import pytest

from gitml.confined import Cause, Failure, ask


def asked(where: Path, monkeypatch: pytest.MonkeyPatch, program: str, **given: Any) -> Any:
    script = where / "python"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return ask("some.module", ["one", "two"], **{"clock": 20, "answer": 1000} | given)


@pytest.mark.parametrize(
    ("program", "failure"),
    [
        ("exit 3", Failure(Cause.ENDED, 3)),
        ("echo no", Failure(Cause.NONSENSE, 0)),
        ("exit 77", Failure(Cause.MEMORY, 77)),
        ("echo 'memory allocation of 8 bytes failed' >&2; kill -ABRT $$", Failure(Cause.MEMORY, -6)),
        ("head -c 200000 /dev/zero >&2; exit 4", Failure(Cause.ENDED, 4)),
        ("kill -KILL $$", Failure(Cause.KILLED, -9)),
        ("kill -XCPU $$", Failure(Cause.PROCESSOR, -24)),
        ("exec head -c 2000 /dev/zero", Failure(Cause.LENGTH, 0)),
    ],
)
def test_why_there_is_no_answer(
    program: str, failure: Failure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = asked(tmp_path, monkeypatch, program)
    assert found.cause == failure.cause
    # whether a process that wrote too much was killed or ended before is chance
    assert found.status == failure.status or failure.cause == Cause.LENGTH


def test_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(tmp_path, monkeypatch, "exec sleep 60", clock=0.2) == Failure(Cause.CLOCK, -9)


def test_the_answer_the_arguments_and_an_empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    program = 'shift 6; printf \'["%s", "%s", "%s", "%s"]\' "$1" "$2" "$3" "$SECRET"'
    assert asked(tmp_path, monkeypatch, program) == ["some.module", "one", "two", ""]


def test_a_module_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [str(1 << 30), "20"]
    found = ask("gitml.formats.child", [*limits, "summarize", "m.pkl", "/nowhere"], clock=40, answer=1000)
    assert found["opaque"] == "not a file"
