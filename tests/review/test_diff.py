"""`git ml diff` in real repositories."""

import json
import random
import socket
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.end_to_end.project import Project, prepared

TRAIN = """
alpha=$(sed -n 's/.*"alpha": *\\([0-9.]*\\).*/\\1/p' pfs/params.json params.json 2>/dev/null | head -n 1)
rows=$(cat pfs/training/* | wc -l)
printf '{"accuracy": %s, "loss": %s, "rows": %d}\\n' "$alpha" "0.25" "$rows" > pfs/out/metrics.json
cat pfs/training/* | sort > pfs/out/model.txt
"""
PIPELINE: dict[str, Any] = {
    "stages": [
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "train.sh"]},
            "input": {"pfs": {"repo": "training", "glob": "/"}},
            "params": ["params.json:alpha"],
            "metrics": [
                {"path": "metrics.json", "name": "accuracy", "goal": "max", "tolerance": 0.01, "gate": {"min": 0.7}},
                {"path": "metrics.json", "name": "loss", "goal": "min"},
                "metrics.json",
            ],
        },
        {
            "pipeline": {"name": "inference"},
            "transform": {"cmd": ["sh", "-c", "cat pfs/input/* pfs/model/model.txt > pfs/out/all"]},
            "input": {"cross": [{"pfs": {"repo": "input", "glob": "/"}}, {"pfs": {"repo": "model", "glob": "/"}}]},
        },
    ]
}


@prepared
def project(tmp_path: Path) -> Project:
    """Two results: accuracy 0.9, then 0.8 with one row more."""
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE))
    project.write("train.sh", TRAIN)
    project.write("params.json", '{"alpha": 0.9, "other": 1}\n')
    project.write("training/a.csv", "1\n2\n")
    project.write("input/one", "1\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "first")
    project.ml("run")
    project.git("tag", "first")
    project.write("params.json", '{"alpha": 0.8, "other": 2}\n')
    project.write("training/b.csv", "3\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "second")
    project.ml("run")
    return project


def test_what_it_cost_and_who_made_it(project: Project) -> None:
    project.git("config", "ml.auto", "false")
    project.ml("install")
    project.write("input/two", "2\n")
    noise = random.Random(3).randbytes(3_000_000)
    project.write("training/big.csv", noise)
    project.ml("track", "training/big.csv")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "third")
    project.ml("run")
    before = project.head()
    project.write("training/big.csv", noise + b"more")
    project.write("input/three", "3\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "fourth")
    source = project.head()
    project.ml("run")
    found = project.json("diff", f"{before}..HEAD")
    files = {each["path"]: each for each in found["files"]}
    # of what was only appended to no more than the last chunks are new
    assert files["training/big.csv"]["new_size"] == len(noise) + 4
    assert 4 <= files["training/big.csv"]["stored"] < len(noise) / 4
    assert files["input/three"]["stored"] == files["input/three"]["new_size"]
    [made] = found["made_by"]
    assert sorted(made["stages"]) == ["inference", "model"]
    assert made["source"] == source
    assert made["host"] == socket.gethostname()
    said = project.ml("diff", f"{before}..HEAD").stdout
    assert f"{made['run']}  {source[:10]}" in said
    assert "of new content stored" in said


def test_datums_of_the_old_side_are_reused(project: Project) -> None:
    pipeline = json.loads(json.dumps(PIPELINE))
    pipeline["stages"][1]["transform"]["cmd"][2] = 'for f in pfs/input/*; do cp "$f" pfs/out; done'
    pipeline["stages"][1]["input"]["cross"][0]["pfs"]["glob"] = "/*"
    project.write("pipeline.json", json.dumps(pipeline))
    project.git("commit", "-q", "-am", "datums")
    project.ml("run")
    before = project.head()
    project.write("input/two", "2\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "more input")
    project.ml("run")
    [cost] = project.json("diff", f"{before}..HEAD")["costs"]
    assert (cost["stage"], cost["new"]["tasks"], cost["reused"]) == ("inference", 2, 1)
    assert "1 of 2 datums computed, 1 reused" in project.ml("diff", f"{before}..HEAD").stdout


def test_what_changed(project: Project) -> None:
    found = project.json("diff", "first..HEAD")
    assert found["schema"] == "gitml/diff/1"
    assert found["fresh"] is True
    assert found["gates_broken"] == []
    metrics = {each["name"]: each for each in found["metrics"]}
    assert metrics["accuracy"]["verdict"] == "worse"
    assert (metrics["accuracy"]["old"], metrics["accuracy"]["new"]) == (0.9, 0.8)
    assert metrics["accuracy"]["gate"] == {"min": 0.7, "max": None}
    assert metrics["loss"]["verdict"] == "same"
    assert metrics["rows"]["verdict"] == "changed"
    stages = {each["stage"]: each for each in found["stages"]}
    assert stages["model"]["what"] == stages["inference"]["what"] == "made anew"
    assert "parameter 'params.json:alpha' 0.9 → 0.8" in stages["model"]["causes"]
    assert "input 'training' changed (1 file added)" in stages["model"]["causes"]
    assert stages["inference"]["causes"] == "input 'model' changed (2 files changed)"
    # a key that nobody reads is no parameter
    assert found["params"] == [
        {"file": "params.json", "key": "alpha", "stages": ["model"], "old": 0.9, "new": 0.8}
    ]  # fmt: skip
    files = {each["path"]: (each["what"], each["role"], each["stage"]) for each in found["files"]}
    assert files == {
        "inference/all": ("changed", "output", "inference"),
        "model/metrics.json": ("changed", "output", "model"),
        "model/model.txt": ("changed", "output", "model"),
        "params.json": ("changed", "parameters", None),
        "training/b.csv": ("added", "data", None),
    }
    assert {each["stage"] for each in found["costs"]} == {"model", "inference"}
    assert all(each["new"]["seconds"] > 0 and each["new"]["tasks"] == 1 for each in found["costs"])
    assert all(each["new"]["cpu_seconds"] is None or 0 < each["new"]["cpu_seconds"] < 60 for each in found["costs"])


def test_the_last_change_needs_no_argument(project: Project) -> None:
    last, named = project.json("diff"), project.json("diff", "first..HEAD")
    assert last["old"]["commit"] == project.head("HEAD~2")
    assert {**last, "old": None} == {**named, "old": None}
    project.write("unrelated", "x\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "third")
    assert project.json("diff")["old"]["commit"] == last["old"]["commit"]


def test_three_dots_begin_where_both_parted(project: Project) -> None:
    project.git("switch", "-q", "-c", "side", "first")
    project.write("input/two", "2\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "side")
    project.ml("run")
    found = project.json("diff", "main...side")
    assert found["old"]["commit"] == project.head("first^0")
    assert [each["stage"] for each in found["stages"]] == ["inference"]
    two = project.json("diff", "main..side")
    assert [each["stage"] for each in two["stages"]] == ["model", "inference"]


def test_the_worktree(project: Project) -> None:
    project.write("params.json", '{"alpha": 0.6, "other": 2}\n')
    before = project.git("status", "--porcelain"), project.git("stash", "list"), project.head()
    found = project.json("diff", "HEAD")
    assert found["new"]["worktree"] is True
    assert found["fresh"] is False
    assert found["params"][0]["new"] == 0.6
    stages = {each["stage"]: each for each in found["stages"]}
    assert stages["model"]["state"] == "stale"
    # the number is that of other inputs
    assert next(each for each in found["metrics"] if each["name"] == "accuracy")["fresh"] is False
    assert before == (project.git("status", "--porcelain"), project.git("stash", "list"), project.head())
    said = project.ml("diff", "HEAD").stdout
    assert "NOT results of the worktree: model (stale)" in said


def test_exit_codes(project: Project) -> None:
    assert project.ml("diff", "first..HEAD", "--gate").returncode == 0
    assert project.ml("diff", "first..HEAD", "--exit-code", check=False).returncode == 1
    assert project.ml("diff", "HEAD..HEAD", "--exit-code").returncode == 0
    project.write("params.json", '{"alpha": 0.6, "other": 2}\n')
    project.git("commit", "-q", "-am", "third")
    # results are not those of these inputs yet
    assert project.ml("diff", "first..HEAD", "--gate", check=False).returncode == 1
    project.ml("run")
    done = project.ml("diff", "first..HEAD", "--gate", check=False)
    assert done.returncode == 1
    assert "gate broken: accuracy ≥ 0.7" in done.stdout
    assert project.ml("diff", "first..HEAD", "--gate", "--tolerance", "1", check=False).returncode == 1


def test_blocks_and_tolerances(project: Project) -> None:
    said = project.ml("diff", "first..HEAD", "--only", "metrics,params").stdout
    assert "Metrics" in said
    assert "Parameters" in said
    assert "Files" not in said
    assert "2 worse" not in said
    assert "worse" not in project.ml("diff", "first..HEAD", "--stat", "--tolerance", "accuracy=0.2").stdout
    assert len(project.ml("diff", "first..HEAD", "--stat").stdout.splitlines()) == 2
    done = project.ml("diff", "first..HEAD", "--only", "colours", check=False)
    assert done.returncode == 128
    assert "there is no block 'colours'" in done.stderr


def test_paths_limit_files(project: Project) -> None:
    found = json.loads(project.ml("diff", "first..HEAD", "--json", "--", "training", "model/*.json").stdout)
    assert [each["path"] for each in found["files"]] == ["model/metrics.json", "training/b.csv"]
    assert [each["path"] for each in project.json("diff", "first..HEAD", "training")["files"]] == ["training/b.csv"]


def test_markdown(project: Project) -> None:
    said = project.ml("diff", "first..HEAD", "--md").stdout
    first, last = project.head("first^0"), project.head()
    assert said.startswith(f"<!-- gitml:report v1 {first}..{last} -->\n")
    assert "| `model` | `accuracy ↑` | 0.9 | 0.8 | -0.1 (-11.1 %) | ❌ worse |" in said
    assert f"git ml diff {first[:10]}..{last[:10]}" in said
    short = project.ml("diff", "first..HEAD", "--md", "--max-chars", "900").stdout
    assert len(short) <= 901
    assert "Left out" in short


def test_junit_and_openmetrics(project: Project, tmp_path: Path) -> None:
    project.write("params.json", '{"alpha": 0.6, "other": 2}\n')
    project.git("commit", "-q", "-am", "third")
    project.ml("run")
    project.ml("diff", "first..HEAD", "--junit", "gates.xml", "--openmetrics", "metrics.txt")
    suites = {each.get("name"): each for each in ElementTree.fromstring(project.read("gates.xml"))}
    assert suites["gates"].get("failures") == "1"
    (case,) = suites["gates"].findall("testcase")
    assert case.get("name") == "accuracy"
    assert case.find("failure") is not None
    assert suites["fresh"].get("failures") == "0"
    lines = project.read("metrics.txt").splitlines()
    assert 'gitml_metric{stage="model",name="accuracy"} 0.6' in lines
    assert lines[-1] == "# EOF"


def test_a_pipeline_that_cannot_be_read_is_said(project: Project) -> None:
    project.write("pipeline.json", "{")
    project.git("commit", "-q", "-am", "broken")
    found = project.json("diff", "first..HEAD")
    assert "pipeline.json" in found["new"]["problem"]
    assert found["fresh"] is False
    assert all(each["verdict"] == "gone" for each in found["metrics"])
    assert project.ml("diff", "first..HEAD", "--gate", check=False).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "'nothing' is neither a revision nor a file"),
        (["nothing..HEAD"], "unknown revision 'nothing'"),
        (["first", "HEAD"], "two revisions are written with two dots"),
        (["--tolerance", "x=y"], "'x=y' is no tolerance"),
    ],
)
def test_what_is_typed_wrong(project: Project, arguments: list[str], message: str) -> None:
    done = project.ml("diff", *arguments, check=False)
    assert done.returncode == 128
    assert message in done.stderr


def test_without_results(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.git("init", "-q")
    assert "there is no commit yet" in project.ml("diff", check=False).stderr
    project.write("a", "1\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    assert "HEAD has no results yet, so there is nothing to compare" in project.ml("diff").stderr
    assert project.json("diff")["old"]["commit"] == project.head()
    project.write("a", "2\n")
    project.git("commit", "-q", "-am", "two")
    said = project.ml("diff", "HEAD~1..HEAD").stdout
    assert "no pipeline at" in said
    assert "1 changed" in said


def test_names_that_others_chose(project: Project) -> None:
    pipeline = json.loads(json.dumps(PIPELINE))
    project.write("training/@everyone `x` | <b>", "4\n")
    project.write("training/new\nline\x1b[31m", "5\n")
    project.write("pipeline.json", json.dumps(pipeline))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "hostile [x](http://example.org) @someone")
    project.ml("run")
    said = project.ml("diff", "first..HEAD", "--md").stdout
    assert "@someone" not in said
    assert "``training/@everyone `x` \\| <b>``" in said
    assert "\x1b" not in said
    assert "\x1b[31m" not in project.ml("diff", "first..HEAD").stdout


def test_the_output_ends_with_its_reader(project: Project) -> None:
    done = subprocess.run(
        "git ml diff first..HEAD | head -n 1", shell=True, cwd=project.path, env=project.environment(),
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stderr == b""
