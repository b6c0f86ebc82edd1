"""`git ml rollback`: real reverts in real repositories."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import Project, prepared
from tests.end_to_end.test_terminal import Terminal

PIPELINE = {
    "stages": [
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "train.sh"]},
            "input": {"pfs": {"repo": "training", "glob": "/"}},
            "metrics": [{"path": "metrics.json", "name": "accuracy", "goal": "max", "tolerance": 0.001},
                        {"path": "metrics.json", "name": "rows"}],
        },
        {
            "pipeline": {"name": "inference"},
            "transform": {"cmd": ["sh", "predict.sh"]},
            "input": {
                "cross": [
                    {"pfs": {"repo": "input", "glob": "/*"}},
                    {"pfs": {"repo": "model", "glob": "/"}},
                ]
            },
        },
    ]
}  # fmt: skip
TRAIN = """
printf '{"accuracy": %s, "rows": 1}\\n' "$(cat pfs/training/accuracy)" > pfs/out/metrics.json
"""
PREDICT = """
for file in pfs/input/*; do cat "$file" pfs/model/metrics.json > "pfs/out/$(basename "$file")"; done
"""


@prepared
def project(tmp_path: Path) -> Project:
    """Three results: 0.9, 0.95, 0.5; before the last one a commit that nothing reads."""
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE))
    project.write("train.sh", TRAIN)
    project.write("predict.sh", PREDICT)
    project.write("input/x", "x\n")
    for accuracy in ("0.9", "0.95"):
        change(project, accuracy)
        project.ml("run")
    project.git("tag", "good")
    project.write("README", "nothing reads it\n")
    save(project, "a note")
    project.git("tag", "bad-data", change(project, "0.5"))
    project.ml("run")
    project.git("tag", "bad-result")
    return project


def save(project: Project, message: str) -> str:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", message)
    return project.head()


def change(project: Project, accuracy: str) -> str:
    project.write("training/accuracy", f"{accuracy}\n")
    return save(project, f"accuracy {accuracy}")


def accuracy(project: Project) -> float:
    value = json.loads(project.read("model/metrics.json"))["accuracy"]
    assert json.loads(project.read("inference/x").splitlines()[1])["accuracy"] == value
    return float(value)


def run_of(project: Project, revision: str) -> str:
    return project.git("log", "-1", "--format=%(trailers:key=Gitml-Run,valueonly)", revision).strip()


def reverts(project: Project, *arguments: str) -> list[tuple[str, str]]:
    found = project.json("rollback", *arguments)
    return [(each["commit"], each["why"]) for each in found["reverts"]]


def refused(project: Project, *arguments: str, code: int = 128) -> str:
    before = project.head(), project.git("status", "--porcelain")
    done = project.ml("rollback", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert (project.head(), project.git("status", "--porcelain")) == before
    return done.stderr


def test_a_dry_run_shows_and_does_nothing(project: Project) -> None:
    head = project.head()
    found: dict[str, Any] = project.json("rollback", run_of(project, "HEAD"), "-n")
    assert (found["kind"], found["head"]) == ("run", None)
    assert [(each["commit"], each["why"], each["merge"]) for each in found["reverts"]] == [(head, "result", False)]
    assert {"stage": "model", "name": "accuracy", "now": 0.5, "after": 0.95} in found["metrics"]
    said = project.ml("rollback", "accuracy", "--dry-run")
    assert "gitml: update model, inference" in said.stdout
    assert "the inputs stay" in said.stderr
    assert project.head() == head


def test_a_run_is_held_and_predictions_follow(project: Project) -> None:
    runs = project.executions()
    assert "1 commit reverted" in project.ml("rollback", run_of(project, "HEAD"), "-y").stdout
    assert project.subjects()[0] == 'Revert "gitml: update model, inference"'
    assert accuracy(project) == 0.95
    assert project.states() == {"model": "held", "inference": "fresh"}
    project.ml("run")
    assert accuracy(project) == 0.95
    assert project.executions() == runs


def test_a_run_with_its_cause_is_as_before(project: Project) -> None:
    runs = project.executions()
    project.ml("rollback", run_of(project, "HEAD"), "--with-cause", "-y")
    assert project.subjects()[:2] == ['Revert "accuracy 0.5"', 'Revert "gitml: update model, inference"']
    assert accuracy(project) == 0.95
    assert project.read("training/accuracy") == "0.95\n"
    assert project.read("README") == "nothing reads it\n"
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == runs


def test_bad_data_brings_the_old_results_back_from_the_cache(project: Project) -> None:
    project.ml("install", "--no-fetch")
    runs = project.executions()
    project.ml("rollback", "bad-data", "-y")
    project.wait()
    assert accuracy(project) == 0.95
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == runs
    assert project.subjects()[:2] == ["gitml: restore model, inference", 'Revert "accuracy 0.5"']


def test_a_metric_goes_back_to_before_it_got_worse(project: Project) -> None:
    change(project, "0.4")
    project.ml("run")
    worse = project.head()
    assert reverts(project, "accuracy", "-n") == [(worse, "result")]
    project.ml("rollback", "accuracy", "-y")
    assert accuracy(project) == 0.5
    # and once more: results since it was better, the revert among them
    project.ml("rollback", "model:accuracy", "-y")
    assert accuracy(project) == 0.95
    assert "'accuracy' of 'model' is not worse than before: it is 0.95" in refused(project, "accuracy", "-y")


def test_a_metric_with_its_cause(project: Project) -> None:
    expected = [(project.head("bad-result"), "result"), (project.head("bad-data"), "cause")]
    assert reverts(project, "accuracy", "--with-cause", "-y") == expected
    assert accuracy(project) == 0.95
    assert set(project.states().values()) == {"fresh"}


def test_the_cause_may_be_a_specification_in_a_file_of_its_own(project: Project) -> None:
    project.write("model.json", json.dumps(PIPELINE["stages"][0]))
    project.write("pipeline.json", json.dumps({"stages": ["model.json", PIPELINE["stages"][1]]}))
    change(project, "0.9")
    project.ml("run")
    worse = PIPELINE["stages"][0] | {"transform": {"cmd": ["sh", "-c", "sh train.sh; sed -i s/0.9/0.1/ pfs/out/*"]}}
    project.write("model.json", json.dumps(worse | {"code": ["train.sh"]}))
    cause = save(project, "another command")
    project.ml("run")
    assert accuracy(project) == 0.1
    result, run = project.head(), run_of(project, "HEAD")
    assert reverts(project, run, "--with-cause", "-y") == [(result, "result"), (cause, "cause")]
    assert accuracy(project) == 0.9


def test_several_commits_may_be_the_cause(project: Project) -> None:
    for value in ("0.41", "0.42", "0.4"):
        change(project, value)
    project.ml("run")
    said = refused(project, "accuracy", "--with-cause", "-n")
    assert "3 commits may have made 'accuracy' worse" in said
    assert "git ml bisect --metric accuracy" in said


def test_a_conflict_leaves_everything_as_it_was(project: Project) -> None:
    change(project, "0.7")
    project.write("mine", "not tracked\n")
    said = refused(project, "bad-data", "-y")
    assert "conflicts with later changes of 'training/accuracy'; nothing was changed" in said
    assert "git revert" in said
    # also where some of several commits could be reverted
    project.ml("run")
    change(project, "0.6")
    said = refused(project, "HEAD~1", "--with-cause", "-y")
    assert "conflicts with later changes" in said
    assert not (project.path / ".git" / "REVERT_HEAD").exists()
    assert not (project.path / ".git" / "sequencer").exists()


def test_what_is_in_the_way(project: Project) -> None:
    project.write("train.sh", TRAIN + "# edited\n")
    assert "changes that are not committed, the first in 'train.sh'" in refused(project, "HEAD", "-y")
    project.git("checkout", "-q", "--", "train.sh")
    project.git("revert", "--no-commit", "bad-data")
    assert "a revert is under way" in refused(project, "HEAD", "-y")
    project.git("revert", "--abort")
    assert "nobody is here to be asked" in refused(project, "HEAD")


def test_a_merge_needs_a_side(project: Project) -> None:
    project.git("switch", "-q", "-c", "side", "good")
    project.write("input/y", "y\n")
    save(project, "more input")
    project.git("switch", "-q", "main")
    project.git("merge", "-q", "--no-edit", "side")
    assert "is a merge: nothing says which side stays" in refused(project, "HEAD", "-y")
    assert "-m is for a merge" in refused(project, "bad-data", "-m", "1", "-y")
    project.ml("rollback", "HEAD", "-m", "1", "-y")
    assert not (project.path / "input" / "y").exists()


def test_nothing_is_to_be_done(project: Project) -> None:
    project.ml("rollback", "bad-data", "-y")
    assert "is reverted already" in refused(project, "bad-data", "-y")
    project.git("switch", "-q", "-c", "other", "good")
    assert "is not in the history of HEAD" in refused(project, "bad-result", "-y")
    assert "has no result in the history of HEAD" in refused(project, run_of(project, "bad-result"), "-y")


def test_a_shallow_clone_does_not_remove_everything(project: Project, tmp_path: Path) -> None:
    shallow = Project(tmp_path / "shallow")
    project.git("clone", "-q", "--depth", "1", f"file://{project.path}", str(shallow.path))
    assert "this clone is cut off at commit" in refused(shallow, "HEAD", "-y")
    shallow.git("fetch", "-q", "--deepen=1")
    shallow.ml("rollback", "HEAD", "-y")
    assert accuracy(shallow) == 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no run, commit or metric 'nothing'"),
        (["rows"], "'rows' has no goal"),
        (["inference:accuracy"], "there is no run, commit or metric 'inference:accuracy'"),
        (["bad-data", "--with-cause"], "'bad-data' is no result"),
        (["accuracy"], "'accuracy' is a commit and a metric"),
    ],
)
def test_what_is_typed_wrong(project: Project, arguments: list[str], message: str) -> None:
    if message.endswith("is a commit and a metric"):
        project.git("branch", "accuracy")
    assert message in refused(project, *arguments, "-n")


@pytest.mark.parametrize(("answer", "value"), [(b"n\n", 0.5), (b"y\n", 0.95)])
def test_in_a_terminal_it_asks(project: Project, answer: bytes, value: float) -> None:
    terminal = Terminal(project, "git-ml", "rollback", "accuracy")
    terminal.read_until("Revert 1 commit?")
    assert accuracy(project) == 0.5
    terminal.press(answer)
    said = terminal.end()
    assert ("nothing was changed" in said) == (value == 0.5)
    assert accuracy(project) == value
