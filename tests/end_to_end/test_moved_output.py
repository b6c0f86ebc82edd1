"""A stage whose results are to go elsewhere: nothing is computed, and a revert of that holds."""

import json
from pathlib import Path
from typing import Any

from tests.end_to_end.project import small_project


def pipeline(**fields: Any) -> dict[str, Any]:
    transform = {"cmd": ["sh", "-c", "cp /pfs/data/f /pfs/out/"]}
    source = {"pfs": {"repo": "data", "glob": "/"}}
    return {"stages": [{"pipeline": {"name": "s"}, "transform": transform, "input": source, **fields}]}


def test_a_result_follows_its_output_and_can_be_taken_back(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project", pipeline())
    project.write("data/f", "1\n")
    project.commit("first")
    assert (project.path / "s" / "f").read_text() == "1\n"
    project.write("pipeline.json", json.dumps(pipeline(output="elsewhere")))
    project.commit("elsewhere")
    assert (project.path / "elsewhere" / "f").read_text() == "1\n"
    assert project.git("log", "-1", "--format=%s") == "gitml: restore s"
    project.git("revert", "--no-edit", "HEAD")
    project.wait()
    assert not (project.path / "elsewhere").exists()
    assert "held" in project.ml("status").stdout
