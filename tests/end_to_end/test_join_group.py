"""Stages with joins and groups in real repositories: they run, are cached, and only what is affected runs again."""

from pathlib import Path
from typing import Any

from tests.end_to_end.project import Project, small_project

SHOW = """
for file in pfs/[pr]*/*; do
  echo "${file#pfs/}: $(cat "$file")"
done > "pfs/out/$NAME"
"""


def stage(name: str, kind: str, key: str) -> dict[str, Any]:
    field = {"join": "join_on", "group": "group_by"}[kind]
    one, other = (f"PACH_DATUM_{repo}_{field.upper()}" for repo in ("readings", "parameters"))
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-c", f'NAME="${{{one}:-${other}}}" sh show.sh']},
        "code": ["show.sh"],
        "input": {
            kind: [{"pfs": {"repo": repo, "glob": "/(*)-(*).csv", field: key}} for repo in ("readings", "parameters")]
        },
    }


def project_with(path: Path, *stages: dict[str, Any]) -> Project:
    project = small_project(path, {"stages": list(stages)})
    project.write("show.sh", SHOW)
    for name, text in {
        "readings/a-1.csv": "r a1", "readings/a-2.csv": "r a2", "readings/b-1.csv": "r b1",
        "parameters/a-1.csv": "p a1", "parameters/b-1.csv": "p b1", "parameters/c-1.csv": "p c1",
    }.items():  # fmt: skip
        project.write(name, f"{text}\n")
    project.commit("first")
    return project


def outputs(project: Project, stage: str) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in sorted((project.path / stage).iterdir())}


def test_a_join_runs_for_each_match_and_again_for_the_one_that_changed(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", stage("pairs", "join", "$1$2"))
    assert outputs(project, "pairs") == {
        "a1": ["parameters/a-1.csv: p a1", "readings/a-1.csv: r a1"],
        "b1": ["parameters/b-1.csv: p b1", "readings/b-1.csv: r b1"],
    }
    assert project.executions() == 2
    project.write("readings/a-1.csv", "new\n")
    project.commit("a changes")
    assert outputs(project, "pairs")["a1"] == ["parameters/a-1.csv: p a1", "readings/a-1.csv: new"]
    assert project.executions() == 3
    project.write("parameters/a-2.csv", "p a2\n")
    project.commit("a second pair")
    assert outputs(project, "pairs")["a2"] == ["parameters/a-2.csv: p a2", "readings/a-2.csv: r a2"]
    assert project.executions() == 4
    project.git("revert", "--no-edit", "HEAD~1")
    project.wait()
    assert sorted(outputs(project, "pairs")) == ["a1", "b1"]
    assert project.executions() == 4, "what was known was computed again"
    assert project.states() == {"pairs": "fresh"}


def test_a_group_runs_for_each_text_and_again_for_the_one_that_changed(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", stage("sets", "group", "$1"))
    assert outputs(project, "sets") == {
        "a": ["parameters/a-1.csv: p a1", "readings/a-1.csv: r a1", "readings/a-2.csv: r a2"],
        "b": ["parameters/b-1.csv: p b1", "readings/b-1.csv: r b1"],
        "c": ["parameters/c-1.csv: p c1"],
    }
    assert project.executions() == 3
    project.git("mv", "readings/a-2.csv", "readings/c-2.csv")
    project.commit("a reading belongs elsewhere")
    assert outputs(project, "sets")["a"] == ["parameters/a-1.csv: p a1", "readings/a-1.csv: r a1"]
    assert outputs(project, "sets")["c"] == ["parameters/c-1.csv: p c1", "readings/c-2.csv: r a2"]
    assert project.executions() == 5


def test_another_text_to_join_on_is_a_reason_to_run(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", stage("pairs", "join", "$1$2"))
    project.write("pipeline.json", project.read("pipeline.json").replace('"$1$2"', '"$2$1"'))
    project.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-a", "-m", "the other way round")
    assert project.stage("pairs")["state"] == "stale"
    assert "specification (input) changed" in project.stage("pairs")["reason"]
    project.ml("run")
    assert sorted(outputs(project, "pairs")) == ["1a", "1b"]
