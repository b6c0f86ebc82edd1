"""Slips that run without an error, and what is said of them."""

import json
from pathlib import Path

from tests.end_to_end.project import Project, small_project


def of(path: Path, script: str, **fields: object) -> Project:
    stage = {
        "pipeline": {"name": "model"},
        "transform": {"cmd": ["sh", "-e"], "stdin": [script]},
        "input": {"pfs": {"repo": "training", "glob": "/"}},
        **fields,
    }
    return small_project(path, {"stages": [stage]})


def test_a_metric_that_the_results_do_not_have(tmp_path: Path) -> None:
    gate = [
        {"path": "metrics.json", "name": "acuracy", "gate": {"min": 0.9}},
        {"path": "metric.json", "name": "accuracy"},
    ]
    project = of(tmp_path / "project", "echo '{\"accuracy\": 0.95}' > /pfs/out/metrics.json", metrics=gate)
    project.commit("first")
    said = project.wait().stderr
    assert "warning: model: there is no 'acuracy' in 'metrics.json'; there are: accuracy" in said
    assert "warning: model: there is no file of metrics 'metric.json' that can be read" in said
    assert project.states() == {"model": "fresh"}
    done = project.ml("diff", "--gate", "HEAD~1..HEAD", check=False)
    assert done.returncode == 1
    assert "gate broken: acuracy ≥ 0.9" in done.stdout


def test_a_stage_that_writes_nothing(tmp_path: Path) -> None:
    project = of(tmp_path / "project", "cat /pfs/training/* > result.txt")
    project.commit("first")
    assert "warning: model: it wrote nothing to /pfs/out" in project.wait().stderr


def test_waiting_does_not_repeat_an_earlier_run(project: Project) -> None:
    project.write("notes", "nothing of a stage's")
    project.commit("notes")
    said = project.wait().stderr
    assert "datum" not in said
    assert "no run is under way" in said


def test_validate_finds_parameters_that_are_not_there(tmp_path: Path) -> None:
    project = of(tmp_path / "project", "cat params.json > /pfs/out/p", params=["params.json:trian"])
    project.write("params.json", '{"train": 1}')
    done = project.ml("validate", check=False)
    assert done.returncode == 128
    assert "pipeline.json: parameter 'trian' of stage 'model' is not in 'params.json'" in done.stdout
    assert "the nearest key is 'train'" in done.stdout
    project.write("pipeline.json", project.read("pipeline.json").replace("trian", "train"))
    assert json.loads(project.ml("validate", "--json").stdout)["valid"]
