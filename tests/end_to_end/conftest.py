"""A project with its first results, which many tests begin with: built once, copied for each."""

from pathlib import Path

import pytest

from tests.end_to_end.project import Project, prepared, small_project


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
