"""How a task is kept to its workspace, and what `/pfs` is for it.

Two ways: bubblewrap, with a real `/pfs` and everything else of the repository out of sight, and a stand-in for
machines without it, which rewrites `/pfs` wherever it passes by and cannot hide anything.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.pipeline.bubblewrap import Bubblewrap, BubblewrapError
from gitml.pipeline.view import Inside, Sandbox, Variables, View
from gitml.pipeline.workspace import Workspace

__all__ = ["Sandbox", "StandIn", "View", "choose_sandbox", "sandbox_of"]

_GOES_ON = re.compile(r"[\w./~})*?\]-]\Z")
"""A place does not begin here, a path goes on: 'a/pfs', '$HOME/pfs', 's3://pfs'."""

_OPTION = re.compile(r"(.*\s)?-\w", re.DOTALL)
"""But after the letter of an option it does: '-o/pfs/out'."""


class StandInView:
    """The workspace under its own path."""

    def __init__(self, workspace: Workspace) -> None:
        self._work = str(workspace.alias / "work")
        self.tmp = str(workspace.alias / "tmp")
        self.home = str(workspace.alias / "tmp" / "home")
        places = {"/pfs": self._work + "/pfs"}
        for target in workspace.mounts:
            places[target] = str(workspace.alias / "mounts") + target
        places |= {target: str(source) for target, source in workspace.shown.items()}
        self._places = places
        longest_first = sorted(places, key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + r")(?![\w.-])")

    def rewrite(self, text: str) -> str:
        """`text` with every place replaced by the path that stands for it."""
        return self._pattern.sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        before = match.string[max(0, match.start() - 3) : match.start()]
        if _GOES_ON.search(before) and not _OPTION.fullmatch(before):
            return match[0]
        return self._places[match[1]]

    def directory(self, working_dir: str | None) -> str:
        """The top of the workspace, a directory below it, or what stands for an absolute one."""
        if working_dir is None or working_dir == "/":
            return self._work
        return self.rewrite(working_dir) if working_dir.startswith("/") else f"{self._work}/{working_dir}"

    def host(self, path: str) -> Path | None:
        """The same path: nothing is hidden."""
        return Path(path)

    def arguments(
        self,
        inside: Inside,
        status_fd: int | None,  # noqa: ARG002 - as in View
        hold_fd: int | None = None,  # noqa: ARG002 - as in View
    ) -> list[str]:
        """The command itself."""
        return list(inside.command)

    def variables(self, inside: Inside) -> dict[str, str]:
        """Those of the command."""
        return dict(inside.variables)

    def cwd(self, directory: str) -> Path:
        """The directory itself."""
        return Path(directory)

    def end(self) -> None:
        """Nothing: the processes of a task are our own."""


class StandIn:
    """Runs tasks without a sandbox. `reason` says why there is none."""

    name = "none"
    reports = False
    is_opaque = False
    holds: frozenset[str] = frozenset()
    image: Variables | None = None
    digest: str | None = None

    def __init__(self, reason: str) -> None:
        self.notice = (
            f"tasks run without a sandbox ({reason}): '/pfs' is the workspace's 'pfs' directory, rewritten in "
            "commands but not inside programs, and undeclared files are not hidden"
        )

    def view(self, workspace: Workspace) -> View:
        """How a task sees `workspace`."""
        return StandInView(workspace)

    def fault(self, status: int, output: bytes) -> str | None:  # noqa: ARG002 - as in Sandbox
        """None: there is nothing that could fail."""
        return None

    def close(self) -> None:
        """Nothing."""


def choose_sandbox(
    setting: str,
    *,
    worktree: Path | None = None,
    git_dir: Path | None = None,
    network: bool = False,
    user: str = "",
    environ: Mapping[str, str] | None = None,
) -> Sandbox:
    """The sandbox for a run.

    `setting` is 'auto' (bubblewrap where it works), 'bwrap' or 'none'; `worktree` and `git_dir` (the
    common one) are hidden from tasks; `environ`, by default our own, names the interpreters that tasks may
    use though they lie there; `network` says whether tasks may use the network, `user` as whom they run under
    bubblewrap.
    Raise `UserError` if bubblewrap is demanded and does not work, or for another setting.
    """
    if setting == "none":
        return StandIn("as configured")
    if setting not in {"auto", "bwrap"}:
        raise UserError(f"unknown sandbox '{setting}'", hint="use auto, bwrap or none: git config ml.sandbox auto")
    source = os.environ if environ is None else environ
    interpreters = [*source.get("PATH", os.defpath).split(":"), source.get("VIRTUAL_ENV", "")]
    interpreters += [sys.prefix, sys.base_prefix]
    hidden = [path for path in (worktree, git_dir) if path is not None]
    try:
        shown = [Path(path) for path in interpreters if path]
        return Bubblewrap(hidden=hidden, shown=shown, network=network, user=user)
    except BubblewrapError as error:
        if setting == "bwrap":
            raise
        return StandIn(error.reason)


def sandbox_of(repo: Repository, user: str = "") -> Sandbox:
    """The sandbox that a repository is set to, for tasks of `user`; raise `UserError` as `choose_sandbox` does."""
    return choose_sandbox(
        repo.config("ml.sandbox") or "auto",
        worktree=repo.worktree,
        git_dir=repo.common_dir,
        network=repo.config_bool("ml.network", False),
        user=user,
    )
