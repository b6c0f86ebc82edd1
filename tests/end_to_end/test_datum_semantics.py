"""What becomes of datums, as Pachyderm's tests have it: failed, recovered, deleted, moved, in each other's way."""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import Project, small_project


def project_with(path: Path, script: str, err: str = "", **fields: Any) -> Project:
    transform: dict[str, Any] = {"cmd": ["sh", "-e"], "stdin": [script]}
    if err:
        transform |= {"errCmd": ["sh", "-e"], "errStdin": [err]}
    stage = {
        "pipeline": {"name": "out"},
        "transform": transform,
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
        "datum_tries": 1,
        **fields,
    }
    return small_project(path, {"stages": [stage]})


def counts(project: Project) -> tuple[int, int, int, int]:
    (stage,) = project.json("run", check=False)["stages"]
    return stage["ran"], stage["cached"], stage["recovered"], stage["failed"]


def test_failed_and_recovered_datums(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    project = project_with(
        tmp_path / "project",
        f"grep -qs good pfs/data/* || test -e '{mended}'; cp pfs/data/* pfs/out",
        "grep -q fair pfs/data/*",
    )
    for name, text in {"1": "good", "2": "bad", "3": "fair"}.items():
        project.write(f"data/file{name}", text)
    project.git("config", "ml.auto", "false")
    project.git("config", "ml.sandbox", "none")  # the task looks at a file outside
    project.commit("three files")
    assert counts(project) == (2, 0, 1, 1)  # what ran has the recovered one
    assert not (project.path / "out").exists()
    project.git("rm", "-q", "data/file2")
    project.commit("without the bad one")
    assert counts(project)[2:] == (1, 0)
    assert [path.name for path in (project.path / "out").iterdir()] == ["file1"]
    mended.touch()
    assert counts(project) == (0, 2, 0, 0)  # nothing changed
    project.write("data/file4", "good")
    project.commit("another")
    assert counts(project) == (2, 1, 0, 0)  # the new one, and the recovered one again
    assert sorted(path.name for path in (project.path / "out").iterdir()) == ["file1", "file3", "file4"]
    assert project.states() == {"out": "fresh"}


def test_another_error_command_is_another_stage(tmp_path: Path) -> None:
    """The counts are those of Pachyderm's TestPipelineErrorHandling: nothing is skipped, also not what succeeded."""
    project = project_with(tmp_path / "project", "grep good pfs/data/*; cp pfs/data/* pfs/out", "grep fair pfs/data/*")
    for name, text in {"1": "good", "2": "bad", "3": "fair"}.items():
        project.write(f"data/file{name}", text)
    project.git("config", "ml.auto", "false")
    project.commit("three files")
    assert counts(project) == (2, 0, 1, 1)
    project.write("pipeline.json", project.read("pipeline.json").replace('"grep fair pfs/data/*"', '"true"'))
    project.commit("an error command that never fails")
    assert counts(project) == (3, 0, 2, 0)
    assert [path.name for path in (project.path / "out").iterdir()] == ["file1"]


def test_outputs_of_datums_that_went_are_gone_and_may_be_another_datums(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", 'cp "$data" "pfs/out/$(cat "$data")"; mkdir pfs/out/empty')
    project.write("data/a", "x")
    project.write("data/b", "y")
    project.commit("two")
    assert project.git("ls-tree", "--name-only", "HEAD:out").split() == ["x", "y"]
    project.git("mv", "data/a", "data/c")
    project.commit("the same path from another datum")
    assert project.git("ls-tree", "--name-only", "HEAD:out").split() == ["x", "y"]
    project.write("data/c", "z")
    project.commit("another path")
    assert project.git("ls-tree", "--name-only", "HEAD:out").split() == ["y", "z"]
    assert not (project.path / "out/empty").exists()


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_file_in_the_way_of_a_directory(tmp_path: Path, order: str) -> None:
    project = project_with(
        tmp_path / "project",
        'if grep -q dir "$data"; then mkdir -p pfs/out/p/q; cp "$data" pfs/out/p/q/r; else cp "$data" pfs/out/p; fi',
    )
    for name, text in zip(order, ("dir", "file"), strict=True):
        project.write(f"data/{name}", text)
    project.commit("two that clash")
    reason = project.stage("out")["reason"]
    # said of the second one, when it has ended, not when all have
    how = "is a file from one datum and a directory from another"
    assert reason == f"datum 'data/b': output 'p' {how}: data/a and data/b"
