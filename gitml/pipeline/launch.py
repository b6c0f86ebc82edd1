"""Starting the runner as a process of its own, and where a server has it put results: what hooks need to know of it."""

import os
import subprocess
import sys
from pathlib import Path
from shlex import quote
from shutil import which

from gitml.errors import UserError
from gitml.git.command import clean_environment
from gitml.git.repository import Repository
from gitml.pipeline.lease import Lease


def runs_by_itself(repo: Repository) -> bool:
    """Whether hooks may start runs: not in CI, not where `ml.auto` is off."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        return False
    return repo.config_bool("ml.auto", True)


def start_runner(repo: Repository) -> None:
    """Start the runner as a process of its own: new session, no descriptor of ours, its words in a log."""
    lease = Lease(repo)
    lease.log.parent.mkdir(parents=True, exist_ok=True)
    where = repo.worktree or repo.git_dir
    with lease.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gitml", "runner", str(where)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path("/"),
            env=_runner_environment(repo),
            start_new_session=True,
            close_fds=True,
        )
    lease.note_start(process.pid)
    process.returncode = 0  # it outlives us on purpose: no warning when the object goes


def missing_environment(repo: Repository) -> str | None:
    """A sentence if the programs that tasks find now are hardly those meant: gitml itself is not on PATH."""
    directory = Path(sys.executable).parent
    if not (directory / "git-ml").exists() or which("git-ml", path=_runner_environment(repo).get("PATH")):
        return None
    activate = directory / "activate"
    how = f". {quote(str(activate))}" if activate.is_file() else f"put {directory} on PATH"
    return f"the environment of gitml is not active here, so tasks get other programs, Python too; to have it: {how}"


def _runner_environment(repo: Repository) -> dict[str, str]:
    environment = clean_environment()
    recorded = repo.config("ml.path")
    if recorded is not None and not sys.stderr.isatty() and "SHLVL" not in environment:
        # started by a graphical client: its PATH is not the one the user works with
        environment["PATH"] = recorded
    return environment


def results_of(branch: str) -> str:
    """The ref that has the results of `branch` (a full ref name) where they are not to go onto the branch itself."""
    return "refs/ml/results/" + branch.removeprefix("refs/heads/")


def publishes_beside(repo: Repository) -> bool:
    """Whether a server leaves branches to those who push, and has results at refs of their own; raise `UserError`."""
    policy = repo.config("ml.serverPublish") or "ref"
    if policy not in ("ref", "branch"):
        raise UserError(f"ml.serverPublish is '{policy}'", hint="it is one of: ref, branch")
    return policy == "ref"
