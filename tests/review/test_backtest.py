"""`git ml backtest`: models of some commits over inputs of others, in real repositories."""

import csv
import io
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import Project, prepared

PIPELINE: dict[str, Any] = {
    "stages": [
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "train.sh"]},
            "input": {"pfs": {"repo": "training", "glob": "/"}},
        },
        {
            "pipeline": {"name": "inference"},
            "transform": {"cmd": ["sh", "predict.sh"]},
            "input": {
                "cross": [
                    {"pfs": {"repo": "input", "glob": "/"}},
                    {"pfs": {"repo": "model", "glob": "/"}},
                ]
            },
            "metrics": ["metrics.json"],
        },
    ]
}
TRAIN = "cat pfs/training/weight > pfs/out/weight\n"
PREDICT = """
test -e pfs/input/broken && { echo cannot; exit 3; }
echo "$(cat pfs/input/value) * $(cat pfs/model/weight)" > pfs/out/product
printf '{"product": %d}\\n' "$(($(cat pfs/input/value) * $(cat pfs/model/weight)))" > pfs/out/metrics.json
"""


@prepared
def project(tmp_path: Path) -> Project:
    """Two results: weight 2 over value 10 (tag one), weight 3 over value 100 (tag two)."""
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE))
    project.write("train.sh", TRAIN)
    project.write("predict.sh", PREDICT)
    for tag, weight, value in (("one", 2, 10), ("two", 3, 100)):
        project.write("training/weight", f"{weight}\n")
        project.write("input/value", f"{value}\n")
        save(project, f"state {tag}")
        project.ml("run")
        project.git("tag", tag)
    return project


def save(project: Project, message: str) -> str:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", message)
    return project.head()


def products(project: Project, *arguments: str) -> dict[tuple[str, str], float]:
    found = project.json("backtest", "inference", *arguments)
    return {(each["input"]["name"], each["model"]["name"]): each["metrics"]["product"] for each in found["results"]}


ALL = ("--model", "one", "--model", "two", "--input", "one", "--input", "two")


def test_every_combination_and_what_is_known_comes_from_the_cache(project: Project) -> None:
    runs, head = project.executions(), project.head()
    expected = {("one", "one"): 20, ("one", "two"): 30, ("two", "one"): 200, ("two", "two"): 300}
    assert products(project, *ALL) == expected
    # those on the diagonal had been run
    assert project.executions() == runs + 2
    assert products(project, *ALL) == expected
    assert project.executions() == runs + 2
    assert (project.head(), project.is_clean()) == (head, True)
    # a branch that comes to the same inputs finds them too
    project.write("input/value", "10\n")
    save(project, "old input")
    project.ml("run")
    assert json.loads(project.read("inference/metrics.json")) == {"product": 30}
    assert project.executions() == runs + 2


def test_as_a_table(project: Project) -> None:
    done = project.ml("backtest", "inference", *ALL)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["product", "one", "two"],
        ["one", "20", "30"],
        ["two", "200", "300"],
    ]
    assert "2 datums run, 2 from cache" in done.stderr
    rows = list(csv.DictReader(io.StringIO(project.ml("backtest", "inference", *ALL, "--csv").stdout)))
    assert [(row["input"], row["model"], row["product"]) for row in rows] == [
        ("one", "one", "20.0"),
        ("one", "two", "30.0"),
        ("two", "one", "200.0"),
        ("two", "two", "300.0"),
    ]
    assert rows[0]["input_commit"] == project.head("one^{commit}")


def test_code_and_specification_are_those_of_head(project: Project) -> None:
    project.write("predict.sh", PREDICT.replace('))" >', ' + 1))" >'))
    save(project, "one more")
    assert products(project, "--model", "one", "--input", "two") == {("two", "one"): 201}


def test_without_metrics_files_are_counted(project: Project) -> None:
    plain = json.loads(json.dumps(PIPELINE))
    del plain["stages"][1]["metrics"]
    project.write("pipeline.json", json.dumps(plain))
    save(project, "no metrics")
    done = project.ml("backtest", "inference", "--model", "one", "--input", "two")
    assert done.stdout.splitlines()[0].split() == ["files", "one"]
    assert done.stdout.splitlines()[1].startswith("two    2 files ")
    result = project.json("backtest", "inference", "--model", "one", "--input", "two")["results"][0]
    assert [(each["path"], each["size"]) for each in result["files"]] == [("metrics.json", 17), ("product", 8)]


def test_results_on_a_branch(project: Project) -> None:
    project.ml("install", "--no-fetch")
    project.write("predict.sh", PREDICT + "head -c 200000 pfs/input/value pfs/input/noise > pfs/out/big\n")
    project.write(".gitattributes", "inference/big filter=ml -text\n")
    project.write("input/noise", os.urandom(200_000))
    head = save(project, "large")
    project.wait()
    head = project.head()
    found = project.json("backtest", "inference", "--model", "one", "--input", "HEAD", "--branch", "results/x")
    assert project.head("results/x") == found["commit"]
    assert project.head("results/x^") == head == project.head()
    assert project.is_clean()
    names = project.git("diff", "--name-only", head, "results/x").splitlines()
    below = f"backtest/inference/input-{head[:12]}/model-{project.head('one^{commit}')[:12]}"
    assert names == [
        "backtest/inference/.gitattributes", f"{below}/big", f"{below}/metrics.json", f"{below}/product",
        "backtest/inference/results.csv",
    ]  # fmt: skip
    assert project.git("cat-file", "-p", f"results/x:{below}/big").startswith("gitml pointer 1")
    # the same again is no new commit
    again = project.json("backtest", "inference", "--model", "one", "--input", head, "--branch", "results/x")
    assert project.git("rev-list", "--count", f"{head}..results/x") in ("1", "2")
    assert again["results"][0]["output"] == found["results"][0]["output"]
    tip = project.head("results/x")
    assert (
        project.json("backtest", "inference", "--model", "one", "--input", head, "--branch", "results/x")["commit"]
        == tip
    )
    project.git("switch", "-q", "results/x")
    assert (project.path / below / "big").stat().st_size > 200_000
    assert project.is_clean()
    assert "is checked out" in refused(project, "--model", "one", "--input", "one", "--branch", "results/x")


def test_a_combination_that_fails(project: Project) -> None:
    project.write("input/broken", "x\n")
    save(project, "broken")
    before = project.git("for-each-ref", "refs/heads")
    done = project.ml(
        "backtest", "inference", "--model", "one", "--input", "one", "--input", "HEAD", "--branch", "r", check=False
    )
    assert done.returncode == 2
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["product", "one"],
        ["one", "20"],
        ["HEAD", "failed"],
    ]
    assert "exit status 3" in done.stderr
    assert "cannot" in done.stderr
    assert "nothing was committed" in done.stderr
    assert project.git("for-each-ref", "refs/heads") == before


def test_which_input_is_the_model(project: Project) -> None:
    # of a stage that reads only data, any input can be asked about by name
    more = json.loads(json.dumps(PIPELINE))
    more["stages"][1]["input"]["cross"][1]["pfs"] = {"repo": "training", "name": "model", "glob": "/"}
    project.write("pipeline.json", json.dumps(more))
    save(project, "reads data")
    said = refused(project, "--model", "one", "--input", "two")
    assert "which input of 'inference' is the model? no input is made by another stage" in said
    assert "--model NAME=REV, where NAME is one of input, model" in said
    assert products(project, "--model", "model=one", "--input", "two") == {("two", "one"): 200}
    assert products(project, "--model", "training=one", "--input", "two") == {("two", "one"): 200}
    assert products(project, "--model", "input=one", "--input", "two") == {("two", "one"): 30}
    said = refused(project, "--model", "model=one", "--model", "input=one", "--input", "two")
    assert "all models must be of one input" in said


def refused(project: Project, *arguments: str, stage: str = "inference") -> str:
    done = project.ml("backtest", stage, *arguments, check=False)
    assert done.returncode == 128, done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nothing", "--input", "one"], "unknown revision 'nothing'"),
        (["--model", "x=one", "--input", "one"], "stage 'inference' has no input 'x'"),
        (["--model", "one~2", "--input", "one"], "unknown revision 'one~2'"),
        (["--model", "one~1", "--input", "one"], "there is no 'model' in 'one~1'"),
        (["--model", "one", "--input", "one", "--branch", "a..b"], "'a..b' is no name of a branch"),
        (["--model", "one", "--input", "one", "--branch", "main"], "branch 'main' is checked out"),
        (["--model", "one", "--input", "one", "--csv", "--json"], "--csv and --json exclude each other"),
    ],
)
def test_what_is_typed_wrong(project: Project, arguments: list[str], message: str) -> None:
    assert message in refused(project, *arguments)


def test_a_stage_that_has_no_model(project: Project) -> None:
    assert "there is no stage 'x'" in refused(project, "--model", "one", "--input", "one", stage="x")
    said = refused(project, "--model", "training=one", "--input", "one", stage="model")
    assert "reads nothing but 'training'" in said


def test_ctrl_c_keeps_what_is_finished(project: Project) -> None:
    project.write("predict.sh", PREDICT + "test $(cat pfs/model/weight) = 3 && sleep 20; true\n")
    save(project, "slow for one of them")
    process = subprocess.Popen(
        ["git-ml", "backtest", "inference", "--model", "one", "--model", "two", "--input", "one"], cwd=project.path,
        env=project.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    runs = project.executions()
    project.until(lambda: project.executions() == runs + 1)
    project.until(lambda: list((project.path / ".git" / "ml" / "runs").glob("*/*/tasks/*")))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert [line.split() for line in out.splitlines()] == [["product", "one", "two"], ["one", "20", "-"]]
    assert products(project, "--model", "one", "--input", "one") == {("one", "one"): 20}
    assert project.executions() == runs + 1
