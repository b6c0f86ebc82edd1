"""What people meet in their first hour: failures that explain themselves, what does not count yet, where to look."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import TWO_STAGES, Project, small_project


def stage(name: str, command: list[str], repo: str = "data", **fields: Any) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": command},
        "input": {"pfs": {"repo": repo, "glob": "/*"}},
        "datum_tries": 1,
        **fields,
    }


def project_of(path: Path, *stages: dict[str, Any], **files: str) -> Project:
    path.mkdir()
    project = Project(path)
    project.git("init", "-q", "-b", "main")
    project.ml("install")
    project.write("pipeline.json", json.dumps({"stages": stages}))
    project.write("data/a.csv", "1\n")
    for name, text in files.items():
        project.write(name, text)
    return project


PYTHON = [sys.executable, "task.py"]


@pytest.fixture
def undeclared(tmp_path: Path) -> Project:
    files = {"task.py": 'print("hello")\nopen("settings.json")\n', "settings.json": "{}"}
    project = project_of(tmp_path / "project", stage("one", PYTHON, datum_tries=3), **files)
    project.commit("first")
    return project


def test_a_failure_says_what_the_command_said_last(undeclared: Project) -> None:
    reason = "No such file or directory: 'settings.json'"
    assert undeclared.stage("one")["reason"].endswith(
        f"ended with exit status 1: FileNotFoundError: [Errno 2] {reason}"
    )
    assert reason in undeclared.wait().stderr


def test_a_file_that_is_not_declared(undeclared: Project) -> None:
    hint = (
        "'settings.json' is in the commit, but a task sees only what its stage declares: "
        'if it has parameters add it, "params": ["settings.json"], else to \'code\', or read it as an input'
    )
    assert undeclared.stage("one")["hint"] == hint
    for said in (
        undeclared.ml("status").stdout, undeclared.ml("logs").stderr, undeclared.wait().stderr,
        undeclared.ml("run", check=False).stdout,
    ):  # fmt: skip
        assert said.count(hint) == 1
    # what the hint says is what helps
    pipeline = {"stages": [stage("one", PYTHON, params=["settings.json"])]}
    undeclared.write("pipeline.json", json.dumps(pipeline))
    undeclared.commit("declared")
    assert undeclared.states() == {"one": "fresh"}


def test_what_only_waits_for_a_failure_is_not_to_be_run(tmp_path: Path) -> None:
    after = stage("two", ["true"], "one")
    project = project_of(tmp_path / "project", stage("one", ["false"]), after)
    project.commit("first")
    said = project.ml("status").stdout
    assert project.states() == {"one": "failed", "two": "stale"}
    assert '"git ml logs --failed"' in said
    assert "git ml run" not in said
    other = stage("three", ["true"])
    pipeline = json.loads(project.read("pipeline.json"))
    project.write("pipeline.json", json.dumps({"stages": [*pipeline["stages"], other]}))
    project.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-a", "-m", "one more")
    assert '"git ml run"' in project.ml("status").stdout


def test_a_file_of_code_that_is_not_declared(tmp_path: Path) -> None:
    files = {"task.py": 'open("words.txt")\n', "words.txt": "one\n"}
    project = project_of(tmp_path / "project", stage("one", PYTHON), **files)
    project.commit("first")
    assert project.stage("one")["hint"].endswith('add it, "code": ["task.py", "words.txt"], or read it as an input')


def test_a_file_that_was_not_committed(tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", stage("one", ["sh", "-c", "cat notes.txt"]))
    project.git("add", "-A")
    project.write("notes.txt", "mine\n")
    project.git("commit", "-q", "-m", "first")
    project.wait()
    assert project.stage("one")["hint"].startswith("'notes.txt' is in no commit")


def test_an_input_that_is_looked_for_where_it_is_in_the_repository(tmp_path: Path) -> None:
    files = {"task.py": "open('data/a.csv')\n"}
    project = project_of(tmp_path / "project", stage("one", PYTHON), **files)
    project.commit("first")
    assert project.stage("one")["hint"] == (
        "'data/a.csv' is of an input, and a task finds inputs below /pfs: read '/pfs/data/a.csv'"
    )


def test_a_module_that_is_not_installed(tmp_path: Path) -> None:
    files = {"task.py": "import nowhere_to_be_found.part\n"}
    project = project_of(tmp_path / "project", stage("one", ["python3", "task.py"]), **files)
    project.commit("first")
    hint = project.stage("one")["hint"]
    assert "lacks 'nowhere_to_be_found'" in hint
    assert "python3" in hint
    assert "git ml retry" in hint


def test_attempts_that_printed_the_same_stand_once(undeclared: Project) -> None:
    told = undeclared.ml("logs").stdout
    assert told.count("Traceback") == 1
    assert told.count("hello") == 1
    assert "3 attempts printed this, each the same" in told


def test_two_datums_that_write_one_file(tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", stage("one", ["sh", "-c", "echo $RANDOM$$ > /pfs/out/same"]))
    project.write("data/b.csv", "2\n")
    project.commit("first")
    said = project.wait().stderr
    assert "put the datum into the name" in said
    assert "git ml logs" not in said.split("one failed")[-1]


def test_changes_that_are_in_no_commit(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project", TWO_STAGES)
    project.commit("start")
    for command in (("run",), ("run", "-n"), ("why", "model")):
        assert "not committed" not in project.ml(*command).stderr
    project.write("train.sh", project.read("train.sh") + "\n# more\n")
    project.write("input/new.csv", "7\n")
    project.write("unrelated.txt", "\n")
    for command in (("run",), ("run", "-n"), ("why", "model")):
        lines = project.ml(*command).stderr.splitlines()
        assert sorted(lines[0].removeprefix("note: ").partition(": ")[2].split(", ")) == [
            "'input/new.csv' (untracked)", "'train.sh'"
        ]  # fmt: skip
    assert "not committed, so it does not count yet" in project.ml("status").stdout
    assert sorted(project.json("status")["uncommitted"]) == ["input/new.csv", "train.sh"]


def test_logs_of_a_stage_that_the_latest_run_did_not_run(tmp_path: Path) -> None:
    project = project_of(
        tmp_path / "project", stage("one", ["echo", "said by one"]), stage("two", ["echo", "said by two"], "other")
    )
    project.write("other/b.csv", "1\n")
    project.commit("first")
    project.write("other/b.csv", "2\n")
    project.commit("second")
    done = project.ml("logs", "one")
    assert "said by one" in done.stdout
    assert "said by two" not in done.stdout
    assert "did not run 'one'; this is the latest that did" in done.stderr
    assert "the latest that did" not in project.ml("logs", "two").stderr


def test_failed_logs_after_a_run_of_something_else(tmp_path: Path) -> None:
    project = project_of(
        tmp_path / "project", stage("one", ["sh", "-c", "echo broken; exit 3"]), stage("two", ["true"], "other")
    )
    project.write("other/b.csv", "1\n")
    project.commit("first")
    project.write("other/b.csv", "2\n")
    project.commit("second")
    done = project.ml("logs", "--failed")
    assert "broken" in done.stdout
    assert "did not run anything that failed" in done.stderr


def test_logs_of_a_run_that_was_killed(tmp_path: Path) -> None:
    slow = stage("slow", ["sh", "-c", "echo begun; sleep $(cat /pfs/data/*)"], "data", datum_tries=1)
    project = project_of(tmp_path / "project", slow)
    project.write("data/a.csv", "0\n")
    project.write("data/b.csv", "600\n")
    project.commit("first", wait=False)
    project.until(lambda: "a.csv" in project.ml("logs", check=False).stdout)
    project.kill_runner()
    said = project.ml("logs", "--failed").stderr
    assert "first" in said.splitlines()[0]
    assert "not known" not in said
    assert "it ended without a word; git ml resume" in said


def test_all_that_is_wrong_with_a_specification(tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", {"name": "one", "cmd": ["true"], "datum_tries": "3"})
    said = project.commit("first", wait=False)
    assert "stages[0].name: unknown field" in said
    assert "'name' belongs in 'pipeline'" in said
    assert "1 more problem; all of them: git ml validate" in said
    assert "git ml validate" in project.ml("run", check=False).stderr


def test_a_terminal_without_the_environment(tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", stage("one", ["true"]))
    project.git("add", "-A")
    path = os.pathsep.join(
        each for each in os.environ["PATH"].split(os.pathsep) if not (Path(each) / "git-ml").exists()
    )
    said = project.run("env", f"PATH={path}", "SHLVL=1", "git", "commit", "-q", "-m", "first").stderr
    assert "the environment of gitml is not active here" in said
    assert str(Path(sys.executable).parent) in said
    project.wait()


def test_what_was_stopped_stays_stopped_after_undo(tmp_path: Path) -> None:
    slow = stage("slow", ["sh", "-c", "sleep $(cat /pfs/other/b.csv)"], "other")
    project = project_of(tmp_path / "project", stage("one", ["sh", "-c", "cp /pfs/data/* /pfs/out/"]), slow)
    project.write("other/b.csv", "0\n")
    project.commit("first")
    project.write("other/b.csv", "600\n")
    project.commit("second", wait=False)
    project.until(lambda: project.states()["slow"] == "running")
    project.ml("stop")
    said = project.ml("undo").stderr
    assert "the run that was stopped stays so; git ml resume goes on" in said
    assert project.states()["slow"] != "running"
    assert not list((project.path / ".git/ml/requests").iterdir())


def test_the_first_results_are_compared_with_what_they_were_made_from(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project", TWO_STAGES)
    project.commit("start")
    found = project.json("diff")
    assert found["old"]["commit"] == project.head("HEAD~1")
    assert {each["what"] for each in found["stages"]} == {"first result"}


def test_states_that_nothing_has(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project", TWO_STAGES)
    project.commit("start")
    for kind in ("runs", "stages", "outputs"):
        done = project.ml("ls", kind, "--state", "nosuch", check=False)
        assert done.returncode == 128
        assert f"'nosuch' is no state of {kind}" in done.stderr
        assert "states: " in done.stderr
    assert project.ml("ls", "runs", "--state", "published").stdout
    assert project.ml("ls", "runs", "--state", "lost").stdout == ""


def test_an_input_that_is_a_file_is_drawn_as_one(tmp_path: Path) -> None:
    only = stage("one", ["true"], "data")
    only["input"] = {"pfs": {"repo": "data/a.csv", "glob": "/"}}
    project = project_of(tmp_path / "project", only)
    project.commit("first")
    assert "└── data/a.csv  /" in project.ml("dag").stdout


def test_help_for_a_command(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project.ml("help").stdout == project.ml("-h").stdout
    assert project.ml("help", "run").stdout == project.ml("run", "-h").stdout
    assert project.ml("help", "cron", "tick").stdout == project.ml("cron", "tick", "-h").stdout
    done = project.ml("help", "nosuch", check=False)
    assert done.returncode == 129
    assert "no such command 'nosuch'" in done.stderr


def test_a_commit_is_not_what_why_explains(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project", TWO_STAGES)
    project.commit("start")
    said = project.ml("why", "HEAD", check=False).stderr
    assert "git ml why HEAD:PATH" in said
    assert "git ml why --reaches HEAD" in said
