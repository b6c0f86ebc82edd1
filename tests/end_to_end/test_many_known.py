"""A new datum among very many that are known need not wait until all of these were read."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gitml.cli.context import open_context
from gitml.cli.running import perform
from gitml.pipeline.cache import RunCache, TaskResult
from gitml.pipeline.runreport import RunOptions
from tests.end_to_end.project import small_project

SCRIPT = 'name=$(basename pfs/data/*); cp "pfs/data/$name" pfs/out; echo "$name" >> "$MARKS"'


def pipeline(marks: Path, **transform: object) -> dict[str, object]:
    """One stage that copies each file, and notes its name."""
    return {
        "pipeline": {"name": "copies"},
        "transform": {"cmd": ["sh", "-c", SCRIPT], "env": {"MARKS": str(marks)}, **transform},
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
        "parallelism_spec": {"constant": 1},
        "datum_tries": 1,
    }


def test_what_is_new_runs_before_what_is_known_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = tmp_path / "marks"
    project = small_project(tmp_path / "project", pipeline(marks))
    project.git("config", "ml.sandbox", "none")  # commands leave their marks outside
    for number in range(3):
        project.write(f"data/{number}", f"{number}\n")
    project.commit()
    assert project.states() == {"copies": "fresh"}
    for name in ("data/new", "data/1"):
        project.write(name, "new\n")
    project.commit(wait=False, GITML="0")
    marks.unlink()
    read = RunCache.tasks

    def late(cache: RunCache, keys: Iterable[str]) -> Iterator[TaskResult | None]:
        deadline = time.monotonic() + 60
        while not marks.exists() or len(marks.read_text().splitlines()) < 2:
            assert time.monotonic() < deadline, "what is known was read first"
            time.sleep(0.01)
        return read(cache, keys)

    monkeypatch.setattr(RunCache, "tasks", late)
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("PATH", project.environment()["PATH"])
    with open_context() as context:
        report = perform(context, RunOptions(explicit=True))
    assert report.published is not None
    assert (report.stages["copies"].ran, report.stages["copies"].cached) == (2, 2)
    assert {path.name: path.read_text() for path in (project.path / "copies").iterdir()} == {
        "0": "0\n", "1": "new\n", "2": "2\n", "new": "new\n",
    }  # fmt: skip
