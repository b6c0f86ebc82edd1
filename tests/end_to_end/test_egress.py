"""Egress as a user meets it: with hooks, in `status` and `logs`, after failures, on other branches, in other clones."""

import json
from pathlib import Path

from tests.end_to_end.project import Project, small_project


def test_results_leave_once_they_are_committed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    spec = {
        "pipeline": {"name": "model"},
        "transform": {"cmd": ["sh", "-c", "cp /pfs/input/* /pfs/out"]},
        "input": {"pfs": {"repo": "input", "glob": "/*"}},
    }
    project = small_project(tmp_path / "project", {"stages": [spec]})
    project.commit("no egress yet")
    assert project.stage("model")["egress"] is None

    # whoever commits the address has what is there copied; nothing is computed for it
    out.write_text("in the way\n")
    project.write("pipeline.json", json.dumps({"stages": [{**spec, "egress": {"URL": str(out)}}]}))
    project.commit("egress")
    assert project.executions() == 2
    found = project.stage("model")
    assert (found["state"], found["egress"]["state"]) == ("fresh", "failed")
    shown = project.ml("status").stdout
    assert f"model → file://{out}: failed: " in shown
    assert '(use "git ml egress" to copy results out again)' in shown
    assert "egress to file://" in project.ml("logs", "model", "--failed").stdout
    failed = project.ml("egress", check=False)
    assert failed.returncode == 128
    assert failed.stderr.startswith("error: model: ")
    project.write("input/z.csv", "z\n")
    project.commit("another result is safe", wait=False)
    assert "committed, but not copied by egress" in project.wait().stderr
    assert project.read("model/z.csv") == "z\n"
    run = project.ml("run", check=False)
    assert run.returncode == 2
    assert "nothing to commit" in run.stdout

    out.unlink()
    assert project.ml("egress", "--dry-run").stdout == f"  model: 3 files would be copied to file://{out}\n"
    assert not out.exists()
    project.write("README", "nothing of the stage changes, and the run tries again\n")
    project.commit("readme")
    assert sorted(path.name for path in out.iterdir()) == ["x.csv", "y.csv", "z.csv"]
    assert project.stage("model")["egress"] == {
        "url": f"file://{out}", "state": "copied", "files": 3, "total": 3, "message": "",
    }  # fmt: skip
    assert project.ml("egress").stdout == f"  model: 0 files copied to file://{out}\n"
    assert "up to date" in project.ml("logs").stdout

    # a revert is a result like any other
    (out / "z.csv").write_text("newer\n")
    project.write("input/y.csv", "bad\n")
    project.commit("bad data")
    assert (out / "y.csv").read_text() == "bad\n"
    project.git("revert", "--no-edit", "HEAD~1")
    project.wait()
    assert (out / "y.csv").read_text() == project.read("model/y.csv") != "bad\n"
    assert (out / "z.csv").read_text() == "newer\n"

    # other branches do not replace what others use, unless they are told to
    project.git("switch", "-q", "-c", "trial")
    project.write("input/y.csv", "trial\n")
    project.git("config", "ml.auto", "false")
    project.commit("trial", wait=False)
    assert "model: branch 'trial' is not in ml.egressBranches" in project.ml("run").stderr
    project.git("config", "ml.auto", "true")
    assert project.read("model/y.csv") == "trial\n"
    assert (out / "y.csv").read_text() != "trial\n"
    assert project.json("egress")["stages"][0]["files"] == 1
    assert (out / "y.csv").read_text() == "trial\n"
    project.git("config", "ml.egressBranches", "main tri*")
    project.write("input/y.csv", "more\n")
    project.commit("more")
    assert (out / "y.csv").read_text() == "more\n"

    # a clone leaves it to those who publish; and where results go is part of what is reviewed
    project.git("clone", "-q", "-b", "trial", str(project.path), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.git("config", "ml.egressBranches", "*")
    clone.ml("install")
    clone.ml("run")
    assert clone.stage("model")["egress"]["state"] == "elsewhere"
    assert "not copied from this clone" in clone.ml("status").stdout
    elsewhere = {**spec, "egress": {"object_storage": {"url": f"file://{tmp_path}/stolen"}}}
    project.write("pipeline.json", json.dumps({"stages": [elsewhere]}))
    project.git("config", "ml.auto", "false")
    project.write("input/w.csv", "w\n")
    project.commit("another address", wait=False)
    clone.git("pull", "-q", "--no-rebase")
    clone.wait()
    assert clone.states() == {"model": "stale"}
    assert not (tmp_path / "stolen").exists()
    assert f"file://{tmp_path}/stolen" in clone.ml("trust", "--show", check=False).stdout
    clone.ml("run")
    assert (tmp_path / "stolen/w.csv").read_text() == "w\n"
