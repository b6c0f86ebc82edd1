"""Slips that run without an error, and what is said of them."""

import hashlib
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


def test_what_the_machine_failed_at_is_tried_again_by_the_next_commit(tmp_path: Path) -> None:
    project = of(tmp_path / "project", "wc -c < /pfs/training/large > /pfs/out/size")
    project.write(".gitattributes", "training/** filter=ml -text\n")
    project.write("training/large", bytes(range(256)) * 400)
    project.commit("first")
    url = f"file://{tmp_path}/served.git"
    project.git("clone", "-q", "--bare", str(project.path), str(tmp_path / "served.git"))
    project.git("remote", "add", "origin", url)
    project.git("push", "-q", "origin", "main")
    project.git("clone", "-q", url, str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.ml("install", "--no-fetch")
    clone.write("pipeline.json", clone.read("pipeline.json").replace("wc -c", "wc  -c"))
    clone.commit("another command")
    assert clone.wait().returncode == 2
    stage = clone.stage("model")
    assert (stage["state"], stage["hint"]) == ("stale", None), "nothing is wrong with the command and its inputs"
    assert "the last try failed: datum 'training': object " in stage["reason"]
    assert "is missing" in stage["reason"]
    assert "fetch it: git ml fetch" in clone.ml("run", check=False).stdout
    clone.ml("fetch")
    clone.write("notes", "nothing of a stage's")
    clone.commit("notes")
    assert clone.read("model/size").strip() == "102400"
    assert clone.states() == {"model": "fresh"}


def test_a_run_fetches_what_no_checkout_has_asked_for(tmp_path: Path) -> None:
    project = of(tmp_path / "project", "sha256sum < /pfs/training/large > /pfs/out/sum")
    project.write(".gitattributes", "training/** filter=ml -text\n")
    project.write("training/large", bytes(range(256)) * 400)
    project.commit("first", GITML="0")
    project.git("tag", "v1")
    project.write("training/large", bytes(range(255)) * 500)
    project.commit("second", GITML="0")
    url = f"file://{tmp_path}/served.git"
    project.git("init", "-q", "--bare", "-b", "main", str(tmp_path / "served.git"))
    project.git("remote", "add", "origin", url)
    project.git("push", "-q", "origin", "main", "v1")
    project.git("clone", "-q", url, str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.git("config", "ml.skip", "training/**")
    clone.ml("install")
    pointer = clone.read("training/large")
    assert pointer.startswith("gitml pointer")
    clone.ml("run")
    assert clone.read("model/sum").split()[0] == hashlib.sha256(bytes(range(255)) * 500).hexdigest()
    assert clone.read("training/large") == pointer, "the file is none of the run's business"
    pipeline = json.loads(clone.read("pipeline.json"))
    pipeline["stages"][0]["input"]["pfs"]["commit"] = "v1"
    clone.write("pipeline.json", json.dumps(pipeline))
    clone.commit("of v1")
    assert clone.read("model/sum").split()[0] == hashlib.sha256(bytes(range(256)) * 400).hexdigest()
