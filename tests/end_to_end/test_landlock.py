"""A project whose stages run under Landlock, and what its user is told."""

import json
from pathlib import Path

import pytest

from gitml.pipeline import landlock
from gitml.pipeline.landlock import LandlockError
from tests.end_to_end.project import Project, small_project

FORBIDDEN = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"


@pytest.fixture
def version() -> int:
    try:
        return landlock.version()
    except LandlockError as error:
        pytest.skip(f"Landlock does not work here: {error.reason}")


@pytest.fixture
def project(tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> Project:
    """On a machine that forbids bubblewrap."""
    assert version
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bwrap").write_text(FORBIDDEN)
    (tmp_path / "bin/bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return small_project(tmp_path / "project")


def one(*lines: str) -> str:
    transform = {"cmd": ["sh", "-e"], "stdin": lines}
    stage = {
        "pipeline": {"name": "one"}, "transform": transform, "datum_tries": 1,
        "input": {"pfs": {"repo": "input", "glob": "/"}},
    }  # fmt: skip
    return json.dumps({"stages": [stage]})


def test_the_level_is_recorded_and_told(project: Project, version: int) -> None:
    project.write("pipeline.json", one("cat /pfs/input/* > /pfs/out/all"))
    project.commit("first", wait=False, GITML="0")
    done = project.ml("run")
    assert project.read("one/all") == "x\ny\n"
    assert f"tasks run under Landlock, version {version} (bwrap: No permissions to create new" in done.stderr
    run = (project.path / ".git/ml/latest").read_text()
    assert project.json("show", run)["runs"][0]["record"]["sandbox"] == f"landlock-abi{version}"
    assert f"landlock-abi{version}" in project.ml("show", run).stdout
    assert f"tasks run under Landlock, version {version}" in project.ml("doctor", check=False).stdout


def test_what_is_refused_is_explained(project: Project) -> None:
    file = project.path / "training/a.csv"
    script = f"cat '{file}' > pfs/out/all"
    project.write("pipeline.json", one(script))
    project.commit("first")
    assert project.stage("one")["state"] == "failed"
    assert project.stage("one")["hint"] == (
        f"Landlock refuses what a stage does not declare: make '{file}' an input or 'code'"
    )
    for script, hint in (
        ("echo 1 > /tmp/gitml-nobody", "under Landlock a task has no /tmp: write temporary files to $TMPDIR"),
        ("echo 1 > /usr/new-file-of-gitml", "Landlock may have refused '/usr/new-file-of-gitml'"),
        (
            "exec python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 9))'",
            "git config ml.network true allows it",
        ),
    ):
        project.write("pipeline.json", one(script))
        project.commit("another")
        assert project.stage("one")["state"] == "failed"
        assert hint in project.stage("one")["hint"]


def test_it_can_be_chosen(project: Project, version: int) -> None:
    project.git("config", "ml.sandbox", "landlock")
    project.write("pipeline.json", one("cp pfs/input/x.csv pfs/out/a"))
    project.commit("first", wait=False, GITML="0")
    assert f"Landlock, version {version} (as configured)" in project.ml("run").stderr
    project.git("config", "ml.sandbox", "bwrap")
    done = project.ml("doctor", check=False)
    assert done.returncode == 1
    assert "! cannot run tasks under bubblewrap: bwrap: No permissions to create new namespace" in done.stdout
    assert "filter and hooks are in place" in done.stdout
    project.git("config", "ml.sandbox", "seatbelt")
    project.write("input/x.csv", "z\n")
    project.commit("second", wait=False, GITML="0")
    done = project.ml("run", check=False)
    assert "unknown sandbox 'seatbelt'" in done.stderr
    assert "use auto, bwrap, landlock or none" in done.stderr
