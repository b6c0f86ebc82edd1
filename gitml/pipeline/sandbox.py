"""How a task is kept to its workspace, and what `/pfs` is for it.

Three ways, the best first: bubblewrap, with a real `/pfs` and everything else of the repository out of sight; Landlock,
by which the kernel refuses what is not a task's to read or write, but nothing gets another place; and a stand-in for
machines without either. The last two rewrite `/pfs` wherever it passes by.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.pipeline.bubblewrap import Bubblewrap, BubblewrapError, graphics, is_below
from gitml.pipeline.environment import inherited_environment
from gitml.pipeline.landlock import KNOWN, OWN, READ, WRITE, Domain, LandlockError, Right, version
from gitml.pipeline.readable import hidden_places, readable_places
from gitml.pipeline.view import Begin, Direct, Inside, Sandbox, Started, Variables, View
from gitml.pipeline.workspace import Workspace

__all__ = ["Landlocked", "Sandbox", "StandIn", "View", "choose_sandbox", "sandbox_of"]

_OF_DEVICES = Right.READ_FILE | Right.IOCTL_DEV | WRITE
_DEVICES = {
    **{Path("/dev", name): _OF_DEVICES for name in ("null", "zero", "full", "random", "urandom")},
    # memory and semaphores that processes share lie there by names that only they know: nothing is listed
    Path("/dev/shm"): Right.READ_FILE | WRITE | Right.MAKE_REG | Right.REMOVE_FILE,  # noqa: S108 - names are theirs
}

_GOES_ON = re.compile(r"[\w./~})*?\]-]\Z")
"""A place does not begin here, a path goes on: 'a/pfs', '$HOME/pfs', 's3://pfs'."""

_OPTION = re.compile(r"(.*\s)?-\w", re.DOTALL)
"""But after the letter of an option it does: '-o/pfs/out'."""


class StandInView(Direct):
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


class Landlocked:
    """Runs tasks under Landlock; `reason` says why not under bubblewrap.

    `repository` are directories that are hidden but for virtual environments, `programs` those that tasks may read
    although they lie in a home, `environ` names the home. Raise `LandlockError` if a trial run fails.
    """

    reports = False
    is_opaque = False
    holds: frozenset[str] = frozenset()
    image: Variables | None = None
    digest: str | None = None

    def __init__(
        self,
        reason: str,
        *,
        repository: Iterable[Path],
        programs: Iterable[Path],
        network: bool,
        environ: Mapping[str, str],
    ) -> None:
        self._abi = version()
        self.name = f"landlock-abi{self._abi}"
        self._network = network
        closed = [path.resolve() for path in repository]
        if Path("/") in closed:
            raise LandlockError("the worktree is '/'")
        self._readable = readable_places(hidden_places(closed, environ), closed, programs)
        rules = [(path, READ) for path in self._readable] + [*_DEVICES.items()]
        rules += [(path, _OF_DEVICES) for path in graphics()]
        self.domain = Domain(self._abi, rules, network=network)
        self._judged: dict[str, bool] = {}
        self._try()
        self.notice = (
            f"tasks run under Landlock, version {self._abi} ({reason}): '/pfs' is the workspace's 'pfs' directory, "
            f"rewritten in commands but not inside programs; {self._limits()}"
        )

    def view(self, workspace: Workspace) -> View:
        """How a task sees `workspace`."""
        return LandlockView(self, workspace)

    def fault(self, status: int, output: bytes) -> str | None:  # noqa: ARG002 - as in Sandbox
        """None: what cannot be started is never begun."""
        return None

    def close(self) -> None:
        """Nothing."""

    def may_read(self, path: str) -> bool:
        """Whether every task may read what is at an absolute path; remembered."""
        known = self._judged.get(path)
        if known is None:
            real = Path(path).resolve()
            known = is_below(real, [*self._readable, *_DEVICES])
            self._judged[path] = known
        return known

    def _limits(self) -> str:
        """What a task can do all the same, and what it cannot but should."""
        missing = [
            ("TCP", 4, not self._network), ("UDP", KNOWN + 1, not self._network), ("cutting off files", 3, True),
            ("signals to your processes", 6, True), ("changes of modes and times", KNOWN + 1, True),
        ]  # fmt: skip
        found = [
            what if since > KNOWN else f"{what} (version {since} does)"
            for what, since, wanted in missing
            if wanted and self._abi < since
        ]
        moves = "" if self._abi >= 2 else "; files cannot be renamed into another directory"
        return f"it does not keep them from {', '.join(found)}{moves}"

    def _try(self) -> None:
        """Raise `LandlockError` unless a task can write in its place and not beside it."""
        with tempfile.TemporaryDirectory(prefix="gitml-") as directory:
            own = Path(directory, "own")
            own.mkdir()
            command = ["/bin/sh", "-c", "(: > own/file) && ! (: > file)"]
            try:
                done = self.domain.start(
                    lambda: subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                        env={}, cwd=directory,
                    ),
                    [(own, OWN)],
                )  # fmt: skip
                status = done.wait()
            except OSError as error:
                raise LandlockError(error.strerror or str(error)) from None
        if status != 0:
            raise LandlockError(f"a trial ended with status {status}")


class LandlockView(StandInView):
    """The workspace under its own path, and nothing beside it."""

    def __init__(self, sandbox: Landlocked, workspace: Workspace) -> None:
        super().__init__(workspace)
        self._sandbox = sandbox
        self._workspace = workspace
        self._tops = (workspace.top, workspace.alias)

    def host(self, path: str) -> Path | None:
        """The same path if it can be read."""
        asked = os.path.normpath(path)
        shown = is_below(Path(asked), [*self._tops, *self._workspace.shown.values()])
        return Path(asked) if shown or self._sandbox.may_read(asked) else None

    def start(self, begin: Begin, doors: Sequence[Path]) -> Started:
        """What `begin` gives, in a thread that has no more rights than the task."""
        workspace = self._workspace
        rules = [(workspace.work, OWN), (workspace.tmp, OWN), (workspace.top / "mounts", OWN)]
        for source in workspace.shown.values():
            rules += [(source, READ), *((pipe, Right.WRITE_FILE) for pipe in source.iterdir() if pipe.is_fifo())]
        return self._sandbox.domain.start(begin, [*rules, *((door, WRITE) for door in doors)])


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

    `setting` is 'auto' (bubblewrap where it works, else Landlock, else none), 'bwrap', 'landlock' or 'none'; `worktree`
    and `git_dir` (the common one) are hidden from tasks; `environ`, by default our own, names the interpreters that
    tasks may use though they lie there; `network` says whether tasks may use the network, `user` as whom they run under
    bubblewrap. Raise `UserError` if what is demanded does not work, or for another setting.
    """
    if setting == "none":
        return StandIn("as configured")
    if setting not in {"auto", "bwrap", "landlock"}:
        raise UserError(
            f"unknown sandbox '{setting}'", hint="use auto, bwrap, landlock or none: git config ml.sandbox auto"
        )
    source = os.environ if environ is None else environ
    interpreters = [*source.get("PATH", os.defpath).split(":"), source.get("VIRTUAL_ENV", "")]
    interpreters += [sys.prefix, sys.base_prefix]
    hidden = [path for path in (worktree, git_dir) if path is not None]
    shown = [Path(path) for path in interpreters if path]
    reason = "as configured"
    if setting != "landlock":
        try:
            return Bubblewrap(hidden=hidden, shown=shown, network=network, user=user)
        except BubblewrapError as error:
            if setting == "bwrap":
                raise
            reason = error.reason
    # libraries and certificates that variables name which tasks inherit
    named = [Path(path) for value in inherited_environment(source).values() for path in value.split(":")]
    try:
        return Landlocked(reason, repository=hidden, programs=[*shown, *named], network=network, environ=source)
    except LandlockError as error:
        if setting == "landlock":
            raise
        return StandIn(f"{reason}; Landlock: {error.reason}")


def sandbox_of(repo: Repository, user: str = "") -> Sandbox:
    """The sandbox that a repository is set to, for tasks of `user`; raise `UserError` as `choose_sandbox` does."""
    return choose_sandbox(
        repo.config("ml.sandbox") or "auto",
        worktree=repo.worktree,
        git_dir=repo.common_dir,
        network=repo.config_bool("ml.network", False),
        user=user,
    )
