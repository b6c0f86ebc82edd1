"""What git starts reads few modules, also once it has something to do."""

from pathlib import Path

import pytest

from gitml.git.repository import Repository
from gitml.pipeline.lease import Lease
from tests.end_to_end.project import IMPORTS_SHOWN, Project, hooks_started

HEAVY = {"dataclasses", "inspect", "typer", "numpy", "yaml", "tomllib", "cronsim"}


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (("git", "ml", "status"), "gitml.cli.glance"),
        (("git", "ml", "run"), "gitml.pipeline.idle"),
        (("git", "add", "new.txt"), "gitml.filter.server"),
        (("git", "commit", "-qam", "again"), "gitml.hooks.results"),
        (("git", "checkout", "-q", "HEAD~"), "gitml.hooks.following"),
        (("git", "push", "-q", "store", "HEAD"), "gitml.remote.push"),
        (("git", "ls-remote", "-q", "store"), "gitml.remote.store"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_nothing_is_loaded_that_is_slow_to_load(
    project: Project, tmp_path: Path, command: tuple[str, ...], asked: str
) -> None:
    project.git("remote", "add", "store", f"ml::{tmp_path}/store")
    if "add" in command:
        project.ml("track", "*.txt")
        project.write("new.txt", "new\n")
    elif "commit" in command:
        project.write("training/a.csv", "3\n")
    elif "ls-remote" in command:
        project.git("push", "-q", "store", "HEAD")
    else:
        project.ml("status")  # notes that all is fresh
    done = project.run(*command, extra=IMPORTS_SHOWN)
    project.wait()
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert asked in loaded
    assert loaded & HEAVY == set()


def test_a_switch_starts_one_hook(project: Project) -> None:
    project.git("checkout", "-qb", "other")
    project.write("training/a.csv", "3\n")
    project.git("commit", "-qam", "another")
    project.wait()

    def hooks_of_switch(*arguments: str) -> int:
        return hooks_started(project.run("git", "switch", "-q", *arguments, extra=IMPORTS_SHOWN))

    assert hooks_of_switch("main") == 1
    assert hooks_of_switch("-c", "third") == 1  # the worktree stays as it is, so post-checkout it is
    assert hooks_of_switch("other") == 1
    # a process of this id, and not this process
    script = 'echo "$$ 1" >.git/ml/filled; exec git switch -qc fourth'
    assert hooks_started(project.run("sh", "-c", script, extra=IMPORTS_SHOWN)) == 1
    project.git("switch", "-q", "other")
    # only once HEAD has moved can what waits be published
    Lease(Repository.discover(project.path)).park("refs/heads/none")
    assert hooks_of_switch("main") == 2
