"""`git ml bisect`: who broke a metric, in real histories."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.project import Project, prepared

PIPELINE = {
    "stages": [
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "train.sh"]},
            "input": {"pfs": {"repo": "training", "glob": "/"}},
            "metrics": [{"path": "metrics.json", "name": "accuracy", "goal": "max", "gate": {"min": 0.9}}],
        }
    ]
}
TRAIN = """
test -e pfs/training/broken && exit 1
printf '{"accuracy": %s}\\n' "$(cat pfs/training/accuracy)" > pfs/out/metrics.json
cat pfs/training/* > pfs/out/model
"""


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE))
    project.write("train.sh", TRAIN)
    change(project, "0.95", "good")
    project.ml("run")
    project.git("tag", "good")
    return project


def change(project: Project, accuracy: str, message: str, **more: str) -> str:
    project.write("training/accuracy", f"{accuracy}\n")
    project.write("training/note", f"{message}\n")
    for name, content in more.items():
        project.write(f"training/{name}", content)
    project.git("add", "-A")
    project.git("commit", "-q", "-m", message)
    return project.head()


def test_each_commit_has_a_result(project: Project) -> None:
    for number, accuracy in enumerate(["0.96", "0.94", "0.6", "0.7", "0.5"]):
        culprit = change(project, accuracy, f"change {number}")
        project.ml("run")
        if accuracy == "0.6":
            project.git("tag", "culprit", culprit)
    runs = project.executions()
    found = project.json("bisect", "--metric", "accuracy")
    assert found["first_bad"] == project.head("culprit")
    assert (found["good"]["value"], found["bad"]["value"]) == (0.94, 0.6)
    assert (found["min"], found["max"]) == (0.9, None)
    assert project.executions() == runs
    # it broke a second time, for another bound
    assert project.json("bisect", "--metric", "accuracy", "--min", "0.65")["first_bad"] == project.head("HEAD~1")
    said = project.ml("bisect", "--metric", "accuracy").stdout
    assert f"first bad commit: {project.git('rev-parse', '--short', 'culprit')}" in said
    assert "change 2" in said


def test_nothing_broke(project: Project) -> None:
    change(project, "0.93", "still good")
    project.ml("run")
    found = project.json("bisect", "--metric", "accuracy")
    assert (found["first_bad"], found["good"], found["suspects"]) == (None, None, [])
    done = project.ml("bisect", "--metric", "accuracy")
    assert "is good at HEAD: good is ≥ 0.9\n" in done.stdout
    assert "its gate; --min X or --max X" in done.stderr
    done = project.ml("bisect", "--metric", "accuracy", "--min", "0.5", "--max", "1")
    assert "is good at HEAD: good is ≥ 0.5 and ≤ 1\n" in done.stdout
    assert "gate" not in done.stderr


def collapsed(project: Project, accuracies: list[str]) -> list[str]:
    """Commits of which only the last has a result."""
    commits = [change(project, accuracy, f"change {number}") for number, accuracy in enumerate(accuracies)]
    project.ml("run")
    return commits


def test_commits_without_results_are_suspects_until_they_are_run(project: Project) -> None:
    commits = collapsed(project, ["0.95", "0.96", "0.5", "0.4", "0.3"])
    found = project.json("bisect", "--metric", "accuracy")
    assert found["first_bad"] is None
    assert [each["commit"] for each in found["suspects"]] == commits
    assert [each["value"] for each in found["suspects"]] == [None, None, None, None, 0.3]
    done = project.ml("bisect", "--metric", "accuracy")
    assert "one of 5 commits did it" in done.stdout
    assert "--run computes" in done.stderr
    head, runs = project.head(), project.executions()
    found = project.json("bisect", "--metric", "accuracy", "--run")
    assert found["first_bad"] == commits[2]
    # by halves, and nothing of it is left but results in the cache
    assert project.executions() - runs <= 3
    assert project.head() == head
    assert project.is_clean()
    assert project.git("worktree", "list").count("\n") == 0
    runs = project.executions()
    assert project.json("bisect", "--metric", "accuracy")["first_bad"] == commits[2]
    assert project.executions() == runs


def test_a_commit_that_cannot_be_run_is_passed_over(project: Project) -> None:
    first = change(project, "0.95", "fine")
    second = change(project, "0.95", "cannot run", broken="x")
    (project.path / "training" / "broken").unlink()
    third = change(project, "0.5", "bad")
    project.ml("run")
    found = project.json("bisect", "--metric", "accuracy", "--run")
    assert found["first_bad"] is None
    assert [(each["commit"], each["tried"]) for each in found["suspects"]] == [(second, True), (third, False)]
    assert first not in [each["commit"] for each in found["suspects"]]


def test_a_merge_is_no_special_case(project: Project) -> None:
    project.git("switch", "-q", "-c", "side", "good")
    project.write("training/accuracy", "0.5\n")
    project.git("commit", "-q", "-am", "the one to blame")
    culprit = project.head()
    project.ml("run")
    project.git("switch", "-q", "main")
    project.write("unrelated", "1\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "unrelated")
    project.git("merge", "-q", "--no-edit", "side")
    found = project.json("bisect", "--metric", "accuracy")
    assert found["first_bad"] == culprit


def test_a_range(project: Project) -> None:
    change(project, "0.5", "bad")
    project.ml("run")
    project.git("tag", "bad")
    change(project, "0.95", "mended")
    project.ml("run")
    assert project.json("bisect", "--metric", "accuracy")["first_bad"] is None
    assert project.json("bisect", "--metric", "accuracy", "good..bad")["first_bad"] == project.head("bad~1")
    done = project.ml("bisect", "--metric", "accuracy", "bad..HEAD~1", check=False)
    assert done.returncode == 128
    assert "no earlier result of 'model' is good" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "f1"], "no stage declares a metric 'f1'"),
        (["--metric", "accuracy", "--stage", "x"], "there is no stage 'x'"),
        (["--metric", "accuracy", "--min", "0.99"], "no earlier result of 'model' is good"),
        (["--metric", "accuracy", "nothing..HEAD"], "unknown revision 'nothing'"),
    ],
)
def test_what_is_typed_wrong(project: Project, arguments: list[str], message: str) -> None:
    done = project.ml("bisect", *arguments, check=False)
    assert done.returncode == 128
    assert message in done.stderr
