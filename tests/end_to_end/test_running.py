"""The fields that say how a stage runs, in real repositories."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import Project, small_project


def stage(name: str, script: str, glob: str = "/*", transform: dict[str, Any] | None = None, **fields: Any) -> Any:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-e"], "stdin": script.splitlines(), **(transform or {})},
        "input": {"pfs": {"repo": "input", "glob": glob}},
        **fields,
    }


def project_with(path: Path, *stages: Any, **document: Any) -> Project:
    return small_project(path, {"stages": list(stages), **document})


COPY = "name=$(ls pfs/input)\ncp pfs/input/* pfs/out\n"


def test_a_time_limit_for_the_whole_stage_keeps_what_is_done(tmp_path: Path) -> None:
    slow = stage("slow", COPY + "[ $name != y.csv ] || sleep 100", job_timeout="2s", datum_tries=1)
    project = project_with(tmp_path / "project", slow)
    project.commit("first")
    assert project.states() == {"slow": "failed"}
    assert "stopped after 2 s, the time limit of a job, with 1 of 2 datums done" in project.stage("slow")["reason"]
    project.write("input/y.csv", "quick\n")
    project.write("pipeline.json", project.read("pipeline.json").replace("2s", "100s"))
    project.git("mv", "input/y.csv", "input/z.csv")
    project.commit("nothing slow is left")
    assert project.states() == {"slow": "fresh"}
    assert project.executions() == 2, "what was done before the time was over is computed once"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no memory to lie in")
def test_workspaces_in_memory_go_with_the_run_and_with_a_killed_runner(tmp_path: Path) -> None:
    where = "df pfs/input | tail -n 1 | cut -d' ' -f1 > pfs/out/fs-$(ls pfs/input)\n"
    memory = {"memory_volume": True}
    project = project_with(tmp_path / "project", stage("quick", where + COPY, transform=memory))
    project.commit("first")
    assert project.states() == {"quick": "fresh"}
    assert project.read("quick/fs-x.csv").strip() in {"tmpfs", "shm"}
    slow = stage("quick", "touch pfs/out/a\n[ ! -e pfs/input/x.csv ] || sleep 100", transform=memory)
    project.write("pipeline.json", json.dumps({"stages": [slow]}))
    project.commit("slow", wait=False)
    project.until(lambda: list((project.path / ".git/ml/runs").glob("*/*/tasks/*/*/pfs/out/a")))
    (link,) = (project.path / ".git/ml/runs").glob("*/work")
    place = link.readlink().parent
    assert place.parent == Path("/dev/shm")
    project.kill_runner()
    assert place.exists()
    slow["transform"]["stdin"] = COPY.splitlines()
    project.write("pipeline.json", json.dumps({"stages": [slow]}))
    project.commit("quick again")
    assert project.states() == {"quick": "fresh"}
    assert not place.exists()


def test_every_job_computes_every_datum_when_the_stage_runs(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", stage("always", COPY, reprocess_spec="every_job"))
    project.commit("first")
    assert project.executions() == 2
    project.write("README", "nothing to do with it")
    project.commit("nothing of the stage changes")
    assert project.executions() == 2
    project.write("input/z.csv", "z\n")
    project.commit("one more")
    assert project.executions() == 5
    project.write("input/x.csv", "broken\n")
    project.write(
        "pipeline.json", project.read("pipeline.json").replace("cp pfs", "grep -v broken pfs/input/*; cp pfs")
    )
    project.commit("one fails")
    assert project.states() == {"always": "failed"}
    done = project.executions()
    project.ml("run", check=False)
    assert project.executions() == done, "a retry takes what this very run has computed"
    project.git("reset", "-q", "--hard", "HEAD~1")
    assert project.states() == {"always": "fresh"}


def test_a_datum_that_a_limit_ended_says_which(tmp_path: Path) -> None:
    big = stage("big", COPY + "[ $name != y.csv ] || head -c 1000000 /dev/zero > pfs/out/z", datum_tries=1)
    big["resource_limits"] = {"disk": "100k", "cpu": 0.5}
    project = project_with(tmp_path / "project", big)
    project.commit("first")
    reason = project.stage("big")["reason"]
    assert "datum 'input/y.csv': 'sh' failed: a file that it wrote was cut off, and its disk space is limited" in reason
    run = (project.path / ".git/ml/latest").read_text()
    shown = " ".join(project.ml("show", run).stdout.split())
    assert "limits big: cpu by affinity, disk by RLIMIT_FSIZE, sum of sizes" in shown


def test_a_secret_that_is_missing_fails_the_stage_here_only(tmp_path: Path) -> None:
    needy = stage("needy", COPY + 'echo "got $TOKEN"', transform={"secrets": [
        {"name": "api", "env_var": "TOKEN", "key": "token"}
    ]})  # fmt: skip
    project = project_with(tmp_path / "project", needy)
    project.commit("first")
    assert project.executions() == 0
    said = project.ml("run", check=False)
    assert said.returncode == 2
    assert "secret 'api' has no key 'token' here" in said.stdout
    assert "git ml secret set api token" in said.stderr
    project.run("git", "ml", "secret", "set", "api", "token", stdin=b"s3cr3t-value\n")
    assert project.json("secret", "ls")["secrets"] == {"api": ["token"]}
    assert project.ml("secret", "ls").stdout == "api  token\n"
    project.ml("run")
    assert project.states() == {"needy": "fresh"}
    everything = project.git("cat-file", "--batch-all-objects", "--batch", "--buffer")
    assert "got ***" in everything
    assert "s3cr3t-value" not in everything
    project.ml("secret", "rm", "api")
    assert project.ml("secret", "rm", "api", check=False).returncode == 128


PYTHON_BATCH = """
import pathlib, subprocess
while True:
    subprocess.run(["pachctl", "next", "datum"], check=True)
    env = dict(line.split("=", 1) for line in pathlib.Path("pfs/.env").read_text().splitlines())
    source = pathlib.Path(env["input"])
    assert [path.name for path in pathlib.Path("pfs/input").iterdir()] == [source.name]
    assert "PACH_DATUM_ID" in env
    (pathlib.Path("pfs/out") / source.name).write_text(source.read_text().upper())
    print("did", source.name, flush=True)
"""


def test_a_process_that_takes_datum_after_datum(tmp_path: Path) -> None:
    batch = stage(
        "upper", "", transform={"cmd": ["python3", "code.py"], "stdin": [], "datum_batching": True},
        code=["code.py"], parallelism_spec={"constant": 2},
    )  # fmt: skip
    project = project_with(tmp_path / "project", batch)
    project.write("code.py", PYTHON_BATCH)
    for number in range(12):
        project.write(f"input/{number}.csv", f"n{number}\n")
    project.commit("first")
    assert project.states() == {"upper": "fresh"}
    assert project.read("upper/7.csv") == "N7\n"
    assert project.executions() == 14
    logs = project.ml("logs").stdout
    assert logs.count("in a new process") == 2
    assert "── upper · input/7.csv · success" in logs
    assert logs.count("did ") == 14
    verified = project.ml("verify", "--recompute", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    project.write("input/a.csv", "a\n")
    project.commit("only what is new is done")
    assert project.executions() == 15
    assert project.read("upper/a.csv") == "A\n"
    project.write("pipeline.json", project.read("pipeline.json").replace('"datum_batching": true', '"debug": false'))
    project.commit("the same command means something else now")
    assert project.states() == {"upper": "failed"}
    assert "pachctl" in project.ml("logs", "--failed").stdout
