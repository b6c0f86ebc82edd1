"""Tasks under bubblewrap: a real `/pfs`, the host read-only, the repository out of sight, no network.

The root directory is an empty one with every top-level directory of the host bound read-only, so that any
interpreter works where it is installed. Above that: private /tmp, /dev and /proc, the workspace at a fixed path,
and an empty directory over each place that holds what was not declared.
Options as in bwrap(1), 0.4 and later.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitml.errors import UserError
from gitml.pipeline.users import UnknownUserError, ids
from gitml.pipeline.view import Direct, Inside, Variables
from gitml.pipeline.workspace import Workspace

WORKSPACE = "/workspace"
"""Where the top of the workspace is inside."""

_TMP = "/tmp"  # noqa: S108 - the one inside, which is private
_OWN = frozenset({"dev", "proc", "sys", "tmp", "pfs", "workspace"})
_DEVICES = ("dri", "kfd", "fuse")
_EXEC = b"bwrap: execvp "


class BubblewrapError(UserError):
    """Bubblewrap cannot be used here. Carries the `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"cannot run tasks under bubblewrap: {reason}",
            hint="install bubblewrap and allow user namespaces, or: git config ml.sandbox auto",
        )
        self.reason = reason


class Bubblewrap:
    """Runs tasks under bubblewrap.

    `hidden` directories are empty inside, but for what of `shown` lies in them. Tasks are `user[:group]` if that is
    given: by name one of this machine. What they write is ours outside. Raise `BubblewrapError` if a trial run fails.
    """

    name = "bwrap"
    notice: str | None
    reports = True
    is_opaque = False
    holds: frozenset[str] = frozenset()
    image: Variables | None = None
    digest: str | None = None

    def __init__(self, *, hidden: Iterable[Path], shown: Iterable[Path], network: bool, user: str = "") -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise BubblewrapError("'bwrap' is not installed")
        self._program = program
        self._hidden = outermost(path.resolve() for path in hidden)
        if Path("/") in self._hidden:
            raise BubblewrapError("the worktree is '/'")
        concealed = [*self._hidden, Path(_TMP)]
        self._shown = outermost(
            path
            for given in shown
            for path in {whole(given), whole(given).resolve()}
            if path.is_absolute() and os.access(path, os.F_OK) and path not in concealed and is_below(path, concealed)
        )
        self._network = network
        self._host: dict[tuple[str, ...], list[str]] = {}
        self.notice = None
        self._user: tuple[int, int] | None = None
        try:
            self._user = ids(Path("/"), user) if user else None
        except UnknownUserError as error:
            self.notice = f"commands run as you: this machine has not {error.message}"
        try:
            self._try()
        except BubblewrapError as error:
            if self._user is None:
                raise
            self._user = None
            self._host.clear()
            self._try()
            self.notice = f"commands run as you, not as user '{user}': {error.reason}"

    def view(self, workspace: Workspace) -> "BubblewrapView":
        """How a task sees `workspace`."""
        return BubblewrapView(self, workspace.work, workspace.tmp, workspace.mounts, workspace.shown)

    def fault(self, status: int, output: bytes) -> str | None:
        """What bwrap says when it cannot execute the command."""
        return start_fault(status, output)

    def close(self) -> None:
        """Nothing."""

    def is_hidden(self, path: Path) -> bool:
        """Whether a path of the host cannot be seen inside."""
        return is_below(path, [*self._hidden, Path(_TMP)]) and not is_below(path, self._shown)

    def options(
        self, work: Path, tmp: Path, mounts: Mapping[str, Path], shown: Mapping[str, Path] | None = None
    ) -> list[str]:
        """The options that build the file system and the namespaces for one workspace; `shown` is read-only inside."""
        targets = [Path(target) for target in [*mounts, *(shown or {})]]
        result = [*self._of_host(targets), "--bind", str(tmp), _TMP]
        covered = [path for path in self._hidden if not is_below(path, [Path(_TMP), Path(WORKSPACE), *targets])]
        for path in covered:
            result += ["--tmpfs", str(path)]
        result += ["--bind", str(work), WORKSPACE, "--bind", str(work / "pfs"), "/pfs"]
        for path in self._shown:
            result += ["--ro-bind", str(path), str(path)]
        for target, source in mounts.items():
            result += ["--bind", str(source), target]
        for target, source in (shown or {}).items():
            result += ["--ro-bind", str(source), target]
        for path in covered:
            result += ["--remount-ro", str(path)]
        # after each bind bwrap reads the list of all mounts; this one brings many of its own, so it comes last
        result += bound(Path("/sys"), targets)
        return result

    def _of_host(self, targets: Sequence[Path]) -> list[str]:
        """The options that are the same for every workspace with room for mounts at `targets`; looked up once."""
        known = self._host.get(tuple(map(str, targets)))
        if known is None:
            known = [self._program, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc"]
            known += ["--unshare-uts", "--cap-drop", "ALL"]
            if self._user is not None:
                known += ["--unshare-user", "--uid", str(self._user[0]), "--gid", str(self._user[1])]
            if not self._network:
                known.append("--unshare-net")
            for entry in sorted(os.listdir("/")):
                if entry not in _OWN:
                    known += bound(Path("/", entry), targets)
            known += ["--proc", "/proc", "--dev", "/dev", *devices()]
            self._host[tuple(map(str, targets))] = known
        return known

    def _try(self) -> None:
        with tempfile.TemporaryDirectory(prefix="gitml-") as directory:
            work, tmp = Path(directory, "work"), Path(directory, "tmp")
            (work / "pfs").mkdir(parents=True)
            tmp.mkdir()
            done = subprocess.run(
                [*self.options(work, tmp, {}), "--chdir", WORKSPACE, "--", "/bin/sh", "-c", "test -d /pfs"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                env={},
            )
        if done.returncode != 0:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise BubblewrapError(lines[-1] if lines else f"a trial ended with status {done.returncode}")


class BubblewrapView(Direct):
    """A workspace at `/workspace`, its inputs at `/pfs`."""

    def __init__(
        self, sandbox: Bubblewrap, work: Path, tmp: Path, mounts: Mapping[str, Path], shown: Mapping[str, Path]
    ) -> None:
        self._sandbox = sandbox
        self._work = work
        self._tmp = tmp
        self._mounts = mounts
        self._read_only = shown
        self.tmp = _TMP
        self.home = f"{_TMP}/home"

    def rewrite(self, text: str) -> str:
        """`text` itself: `/pfs` is real."""
        return text

    def directory(self, working_dir: str | None) -> str:
        """The top of the workspace, a directory below it, or an absolute one."""
        return str(Path(WORKSPACE, working_dir or ""))

    def host(self, path: str) -> Path | None:
        """What `path` is outside, None if it cannot be seen inside."""
        asked = Path(os.path.normpath(path))
        places = {**self._mounts, **self._read_only, "/pfs": self._work / "pfs", WORKSPACE: self._work}
        for place, source in sorted(places.items(), key=lambda item: -len(item[0])):
            if asked.is_relative_to(place):
                return source / asked.relative_to(place)
        if self._sandbox.is_hidden(asked):
            return self._tmp / asked.relative_to(_TMP) if asked.is_relative_to(_TMP) else None
        return asked

    def arguments(self, inside: Inside, status_fd: int | None, hold_fd: int | None = None) -> list[str]:
        """The invocation of bwrap."""
        result = self._sandbox.options(self._work, self._tmp, self._mounts, self._read_only)
        return [*result, *reporting(status_fd, hold_fd), "--chdir", inside.directory, "--", *inside.command]

    def variables(self, inside: Inside) -> dict[str, str]:
        """Those of the command: bwrap passes them on."""
        return dict(inside.variables)

    def cwd(self, directory: str) -> Path:  # noqa: ARG002 - bwrap changes the directory itself
        """Anywhere."""
        return Path("/")


def start_fault(status: int, output: bytes) -> str | None:
    """Why bwrap could not execute a command, by how it ended; None if it did."""
    if status != 1 or not output.startswith(_EXEC):
        return None
    return output.decode("utf-8", "replace").splitlines()[0].rpartition(": ")[2]


def reporting(status_fd: int | None, hold_fd: int | None) -> list[str]:
    """Options by which bwrap tells of the process inside, and waits to be let go when all is ready."""
    result = [] if status_fd is None else ["--json-status-fd", str(status_fd)]
    return result if hold_fd is None else [*result, "--block-fd", str(hold_fd)]


def bound(path: Path, targets: Sequence[Path], root: Path = Path("/")) -> list[str]:
    """Options that show read-only at `path` what `root` has there, with room for mounts at `targets` below it.

    A mount point cannot be made in a read-only directory; so the directories that lead to a target are new ones,
    and everything else in them is bound one by one.
    """
    if path in targets:
        return []
    source = root / path.relative_to("/")
    if source.is_symlink():
        return ["--symlink", os.readlink(source), str(path)]  # noqa: PTH115 - the text as it is
    if not source.is_dir():
        wanted = source.is_file() and (len(path.parts) > 2 or root != Path("/"))
        return ["--ro-bind", str(source), str(path)] if wanted else []
    if not any(target.is_relative_to(path) for target in targets):
        return ["--dir", str(path)] if _is_empty(source) else ["--ro-bind-try", str(source), str(path)]
    result = ["--dir", str(path)]
    with contextlib.suppress(PermissionError):  # what cannot be listed stays out of sight
        for inner in sorted(source.iterdir()):
            result += bound(path / inner.name, targets, root)
    return result


def devices() -> list[str]:
    """Options that show graphics and compute devices, which the private /dev lacks."""
    return [argument for path in graphics() for argument in ("--dev-bind", str(path), str(path))]


def graphics() -> list[Path]:
    """The graphics and compute devices of this machine."""
    found = [path for path in map(Path("/dev").joinpath, _DEVICES) if path.exists()]
    return [*found, *sorted(Path("/dev").glob("nvidia*"))]


def _is_empty(directory: Path) -> bool:
    """Whether nothing below a directory can be had, now or by an automounter; then it is not worth a mount."""
    if os.path.ismount(directory):
        return False
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is None
    except PermissionError:
        return not os.access(directory, os.X_OK)
    except OSError:
        return False


def whole(path: Path) -> Path:
    """The installation that a directory of programs belongs to, if it is a virtual environment."""
    # not `is_file`, which raises for directories of the search path that are closed to us
    return path.parent if os.access(path.parent / "pyvenv.cfg", os.R_OK) else path


def is_below(path: Path, tops: Iterable[Path]) -> bool:
    """Whether `path` is one of `tops` or lies in one."""
    return any(path.is_relative_to(top) for top in tops)


def outermost(paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` that lie in no other one, sorted."""
    result: list[Path] = []
    for path in sorted(set(paths)):
        if not is_below(path, result):
            result.append(path)
    return result
