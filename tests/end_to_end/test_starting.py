"""What git starts reads few modules, also once it has something to do."""

from pathlib import Path

import pytest

from tests.end_to_end.project import Project

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
    done = project.run(*command, extra={"PYTHONPROFILEIMPORTTIME": "1"})
    project.wait()
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert asked in loaded
    assert loaded & HEAVY == set()
