"""What many tests begin with: built once, copied for each."""

from pathlib import Path

import pytest

from tests.conftest import run_git
from tests.end_to_end.project import Project, prepared, small_project
from tests.end_to_end.travel import noise


@prepared
def first_results(tmp_path: Path) -> Project:
    """Two quick stages, first results committed; a copy in which `git ml install` was not run yet."""
    project = small_project(tmp_path / "project")
    project.commit("first")
    assert project.states() == {"model": "fresh", "inference": "fresh"}
    return project


@pytest.fixture
def project(first_results: Project) -> Project:
    """Two quick stages, first results committed, set up."""
    first_results.ml("install")
    return first_results


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    where = tmp_path / "served" / "server.git"
    where.parent.mkdir()
    run_git(tmp_path, "init", "-q", "--bare", str(where))
    run_git(where, "config", "http.receivepack", "true")
    return where


@prepared
def work(tmp_path: Path) -> Project:
    """A clone that is set up, with two commits of data."""
    where = tmp_path / "work"
    where.mkdir()
    project = Project(where)
    project.git("init", "-q", "-b", "main")
    project.ml("install")
    project.write(".gitattributes", "data/** filter=ml -text\n")
    for version in (1, 2):
        project.write("data/changed", noise(version))
        project.write(f"data/{version}", noise(10 + version))
        project.git("add", "-A")
        project.git("commit", "-q", "-m", f"v{version}")
    return project
