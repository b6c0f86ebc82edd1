"""A project as a user has it: a repository, the real git, the installed `git ml`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gitml.pipeline.trust import list_of
from tests.warm import can_be_warm, warm

BIN = str(Path(sys.executable).parent)

TWO_STAGES = {
    "stages": [
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "train.sh"]},
            "input": {"pfs": {"repo": "training", "glob": "/"}},
            "metrics": ["metrics.json"],
        },
        {
            "pipeline": {"name": "inference"},
            "transform": {"cmd": ["sh", "predict.sh"]},
            "input": {
                "cross": [
                    {"pfs": {"repo": "input", "glob": "/*"}},
                    {"pfs": {"repo": "model", "glob": "/"}},
                ]
            },
        },
    ]
}
TRAIN = """
cat pfs/training/* | sort > pfs/out/model.txt
printf '{"rows": %d}\\n' "$(wc -l < pfs/out/model.txt)" > pfs/out/metrics.json
"""
PREDICT = """
for file in pfs/input/*; do
  { cat "$file"; tail -n 1 pfs/model/model.txt; } > "pfs/out/$(basename "$file")"
done
"""


class Project:
    """One worktree. `git` and `ml` run in it and fail the test if they fail, unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def environment(self, **extra: str) -> dict[str, str]:
        return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **extra}

    def run(
        self, *command: str, check: bool = True, stdin: bytes | None = None, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment(**(extra or {})),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
        )
        return _judge(command, done, check=check)

    def git(self, *arguments: str, check: bool = True, **extra: str) -> str:
        return self.run("git", *arguments, check=check, extra=extra).stdout.removesuffix("\n")

    def ml(self, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        if not can_be_warm(arguments, extra):
            return self.run("git", "ml", *arguments, check=check, extra=extra)
        done = warm().run(arguments, self.path, self.environment(**extra))
        return _judge(("git", "ml", *arguments), done, check=check)

    def json(self, *arguments: str, check: bool = True) -> Any:
        return json.loads(self.ml(*arguments, "--json", check=check).stdout)

    def write(self, name: str, content: str | bytes) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def commit(self, message: str = "change", *, wait: bool = True, **extra: str) -> str:
        """Add everything, commit, wait for the results; give what `git commit` said."""
        self.git("add", "-A")
        said = self.run("git", "commit", "-q", "-m", message, extra=extra).stderr
        if wait:
            self.wait()
        return said

    def wait(self, *, check: bool = False) -> subprocess.CompletedProcess[str]:
        return self.ml("wait", "--timeout", "120", check=check)

    def states(self) -> dict[str, str]:
        return {stage["name"]: stage["state"] for stage in self.json("status")["stages"]}

    def stage(self, name: str) -> dict[str, Any]:
        return next(stage for stage in self.json("status")["stages"] if stage["name"] == name)

    def head(self, revision: str = "HEAD") -> str:
        return self.git("rev-parse", revision)

    def subjects(self) -> list[str]:
        return self.git("log", "--format=%s").splitlines()

    def is_clean(self) -> bool:
        return self.git("status", "--porcelain") == ""

    def executions(self) -> int:
        """How many tasks were ever executed here, by what the run cache keeps of them."""
        listed = self.git("ls-tree", "-r", "--name-only", "refs/ml/runs", check=False).splitlines()
        return sum(1 for path in listed if path.startswith("runs/") and "/task/" in path)

    def runner_pid(self) -> int | None:
        state = self.path / ".git" / "ml" / "latest"
        if not state.exists():
            return None
        run = json.loads((self.path / ".git" / "ml" / "runs" / state.read_text() / "state.json").read_text())
        return int(run["pid"]) if run["status"] == "running" else None

    def kill_runner(self) -> None:
        pid = self.until(self.runner_pid)
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: not _alive(pid))

    def until(self, condition: Any, seconds: float = 60) -> Any:
        """Wait for `condition` to give something true, and give that."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, "the condition never came true"
            time.sleep(0.02)
        return value


IMPORTS_SHOWN = {"PYTHONPROFILEIMPORTTIME": "1"}
"""In the environment of a command: it and all that it starts say what modules they read."""


def hooks_started(done: subprocess.CompletedProcess[str]) -> int:
    """How many hooks were more than a shell, of a command that had `IMPORTS_SHOWN`."""
    return sum(
        line.split()[-1] == "gitml.hooks" for line in done.stderr.splitlines() if line.startswith("import time:")
    )


def _judge(
    command: Sequence[str], done: subprocess.CompletedProcess[bytes], *, check: bool
) -> subprocess.CompletedProcess[str]:
    """What a command said as text; fails the test if the command has failed, or has shown a traceback."""
    result = subprocess.CompletedProcess(
        command, done.returncode, os.fsdecode(done.stdout), done.stderr.decode("utf-8", "replace")
    )
    assert "Traceback" not in result.stderr, result.stderr
    if check and result.returncode:
        raise AssertionError(f"{' '.join(command)}: {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def small_project(path: Path, pipeline: Any = None) -> Project:
    """A project with two quick shell stages, set up but without a commit."""
    path.mkdir(parents=True, exist_ok=True)
    project = Project(path)
    project.git("init", "-q")
    project.ml("install")
    project.write("pipeline.json", json.dumps(pipeline if pipeline is not None else TWO_STAGES, indent=2))
    project.write("train.sh", TRAIN)
    project.write("predict.sh", PREDICT)
    project.write("training/a.csv", "1\n2\n")
    project.write("input/x.csv", "x\n")
    project.write("input/y.csv", "y\n")
    return project


def prepared(build: Callable[[Path], Project]) -> Callable[..., Project]:
    """A fixture: the project that `build` makes in an empty directory, made once in each process, copied for each test.

    Nothing may run there any more when `build` ends, and nothing of it may name the directory.
    """
    made: list[tuple[Path, Path, dict[str, bytes]]] = []

    @pytest.fixture(name=build.__name__)
    def copied(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
        if not made:
            top = tmp_path_factory.mktemp("prepared")
            below = build(top).path.relative_to(top)
            lists = {each.name: list_of(each / ".git") for each in top.iterdir()}
            made.append((top, below, {name: path.read_bytes() for name, path in lists.items() if path.exists()}))
        top, below, reviewed = made[0]
        shutil.copytree(top, tmp_path, symlinks=True, dirs_exist_ok=True)
        project = Project(tmp_path / below)
        # what was reviewed is kept in the home directory, of which each test has its own, by the path of the clone
        for name, content in reviewed.items():
            place = list_of(tmp_path / name / ".git")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        # the index knows the files by their inodes
        project.git("update-index", "-q", "--refresh", check=False)
        return project

    return copied
