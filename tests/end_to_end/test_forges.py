"""Branches that nobody may push to, pull requests from forks (rows 19, 20).

Hooks of bare repositories stand for the rules of a forge.
"""

import re
from pathlib import Path

import yaml

from tests.end_to_end.project import Project

WORKFLOW = Path(__file__).resolve().parents[2] / "templates" / "ci" / "github.yml"
PROTECTED = """#!/bin/sh
while read old new ref; do
  case $ref in refs/heads/main) echo "main is protected" >&2; exit 1 ;; esac
done
"""


def bare(path: Path, source: Project, rule: str) -> Project:
    """A repository of a forge, with what `source` has, and a rule for pushes from now on."""
    path.mkdir()
    forge = Project(path)
    forge.git("init", "-q", "--bare")
    source.git("push", "-q", str(path), "main", "refs/ml/*:refs/ml/*", "--no-verify")
    (path / "hooks").mkdir(exist_ok=True)
    (path / "hooks" / "pre-receive").write_text(rule)
    (path / "hooks" / "pre-receive").chmod(0o755)
    return forge


def test_row_19_results_reach_a_protected_branch_with_the_change(project: Project, tmp_path: Path) -> None:
    forge = bare(tmp_path / "forge.git", project, PROTECTED)
    project.git("remote", "add", "origin", str(forge.path))
    project.ml("install")
    project.write("input/z.csv", "z\n")
    project.commit("z")
    head = project.head()
    refused = project.run("git", "push", "-q", "origin", "main", check=False)
    assert refused.returncode != 0
    assert "main is protected" in refused.stderr
    assert project.head() == head, "the results stay, and so does the way by a pull request"
    project.git("push", "-q", "origin", "main:topic")
    # CI looks, and commits nothing: results that came with the change are fresh, a change without them is seen
    project.git("clone", "-q", "-b", "topic", str(forge.path), str(tmp_path / "ci"))
    ci = Project(tmp_path / "ci")
    assert ci.ml("status", "--exit-code", check=False).returncode == 0
    assert ci.ml("verify").returncode == 0
    assert ci.ml("status", "--exit-code", "--rev", "HEAD~1", check=False).returncode == 1
    # a required check must run on the head of the pull request: nothing tells CI to leave results out
    assert not re.search(r"(?i)skip[ -]ci|ci[ -]skip|no[ -]ci", ci.git("log", "--format=%B"))


def test_row_20_a_pull_request_from_a_fork_is_looked_at_and_not_run(project: Project, tmp_path: Path) -> None:
    project.ml("track", "training/*.csv")
    project.write("training/large.csv", "5\n" * 60_000)
    project.commit("large")
    forge = bare(tmp_path / "forge.git", project, "")
    # the contributor, whose data and runs are in the fork only
    project.git("clone", "-q", str(forge.path), str(tmp_path / "fork"))
    fork = Project(tmp_path / "fork")
    fork.ml("install")
    fork.write("training/large.csv", "6\n" * 70_000)
    fork.write("train.sh", f"touch '{tmp_path / 'ran'}'\n" + fork.read("train.sh"))
    fork.git("config", "ml.sandbox", "none")
    fork.commit("other data")
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    fork.git("push", "-q", "--no-verify", "origin", "main:refs/pull/1/head")
    (forge.path / "hooks" / "pre-receive").write_text("#!/bin/sh\nexit 1\n")  # what CI has is a token to read
    project.git("clone", "-q", str(forge.path), str(tmp_path / "ci"))
    ci = Project(tmp_path / "ci")
    before = ci.head()
    steps = [step for step in yaml.safe_load(WORKFLOW.read_text())["jobs"]["review"]["steps"] if "run" in step]
    commands = [step["run"] for step in steps if step["run"].startswith("git ") and "comment" not in step["run"]]
    assert len(commands) == 4
    for command in commands:
        filled_in = command.replace("${{ github.event.number }}", "1")
        ci.run("sh", "-c", filled_in, extra={"GITHUB_BASE_REF": "main", "FORK": str(fork.path)})
    report = ci.read("report.md")
    assert "| `model` | `rows` | 60002 | 70002 |" in report
    assert "59,999 → 69,999 rows" in report, "the data of the fork were fetched"
    assert "code 'train.sh' changed" in report
    assert ci.head() == before
    assert not (tmp_path / "ran").exists(), "nothing of the pull request was executed"
    # where the fork cannot be read, the report says so and the job goes on
    project.git("clone", "-q", str(forge.path), str(tmp_path / "again"))
    again = Project(tmp_path / "again")
    for command in commands:
        filled_in = command.replace("${{ github.event.number }}", "1")
        again.run("sh", "-c", filled_in, extra={"GITHUB_BASE_REF": "main", "FORK": str(tmp_path / "nowhere")})
    assert "1 object of the content is not here" in again.read("report.md")
    assert "| `model` | `rows` | 60002 | 70002 |" in again.read("report.md")
