"""A project with its first results, which many tests begin with: built once, copied for each."""

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.project import Project, small_project


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves a project with its first results, for the others to copy."""
    return tmp_path_factory.mktemp("built") / "project"


@pytest.fixture
def first_results(tmp_path: Path, built: Path) -> Project:
    """Two quick stages, first results committed; a copy in which `git ml install` was not run yet."""
    if not built.exists():
        first = small_project(built)
        first.commit("first")
        assert first.states() == {"model": "fresh", "inference": "fresh"}
    shutil.copytree(built, tmp_path / "project", symlinks=True)
    project = Project(tmp_path / "project")
    project.git("update-index", "-q", "--refresh")
    return project


@pytest.fixture
def project(first_results: Project) -> Project:
    """Two quick stages, first results committed, set up."""
    first_results.ml("install")
    return first_results
