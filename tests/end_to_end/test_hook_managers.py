"""Hooks that a manager starts from its own list (row 22); what managers leave in `.git/hooks` is in test_install."""

import shutil
from pathlib import Path

import yaml

from tests.end_to_end.project import Project

TOP = Path(__file__).resolve().parents[2]


def test_row_22_hooks_for_the_list_of_pre_commit(project: Project, tmp_path: Path) -> None:
    hooks = {each["stages"][0]: each for each in yaml.safe_load((TOP / ".pre-commit-hooks.yaml").read_text())}
    assert set(hooks) == {"post-commit", "post-merge", "post-rewrite"}
    assert all(each["always_run"] and not each["pass_filenames"] for each in hooks.values())

    def start(event: str, where: Project = project, **extra: str) -> str:
        """As pre-commit does: no arguments, they are in the environment."""
        return where.run(*hooks[event]["entry"].split(), extra={"PRE_COMMIT": "1", **extra}).stderr

    shutil.copytree(project.path, tmp_path / "elsewhere")
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.ml("uninstall")
    for each in (project, elsewhere):
        each.write("input/x.csv", "new\n")
        each.git("commit", "-q", "-a", "-m", "new", GITML="0")
    assert start("post-commit", elsewhere) == "", "nothing acts where nobody installed gitml"
    assert start("post-merge", PRE_COMMIT_IS_SQUASH_MERGE="1") == ""
    assert start("post-rewrite", PRE_COMMIT_REWRITE_COMMAND="amend") == ""
    assert "1 stage queued" in start("post-rewrite", PRE_COMMIT_REWRITE_COMMAND="rebase")
    project.wait()
    assert project.states()["inference"] == "fresh"
    project.write("input/x.csv", "newer\n")
    project.git("commit", "-q", "-a", "-m", "newer", GITML="0")
    assert "1 stage queued" in start("post-commit")
    project.wait()
    assert project.states()["inference"] == "fresh"
    assert elsewhere.states()["inference"] == "stale"
