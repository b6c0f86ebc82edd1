"""Tasks under bubblewrap with an unpacked image as their root directory.

The image is read-only; /pfs, /workspace, /tmp, /run and the home directory are the task's own. The task is the user
that the stage names or else the image, by a user namespace: whatever it writes is ours outside. The network is off
unless allowed.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from gitml.pipeline.bubblewrap import WORKSPACE, BubblewrapError, bound, devices, reporting, start_fault
from gitml.pipeline.imagestore import Unpacked
from gitml.pipeline.unpack import ImageError, inside
from gitml.pipeline.users import UnknownUserError, ids
from gitml.pipeline.view import Direct, Inside, Variables
from gitml.pipeline.workspace import Workspace

_TMP = "/tmp"  # noqa: S108 - the one inside, which is private
_OWN = frozenset({"dev", "proc", "sys", "tmp", "run", "pfs", "workspace"})
_OF_NETWORK = ("/etc/resolv.conf", "/etc/hosts")


class ImageRoot:
    """Runs tasks in an image, as `user` if one is given.

    Raise `BubblewrapError` if bubblewrap is not there, `ImageError` for an unknown user.
    """

    name = "bwrap"
    notice: str | None = None
    reports = True
    is_opaque = False
    holds: frozenset[str] = frozenset()

    def __init__(self, unpacked: Unpacked, *, network: bool, user: str = "") -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise BubblewrapError("'bwrap' is not installed")
        self._program = program
        self._network = network
        self.root = unpacked.root
        self.working_dir = unpacked.image.working_dir
        self.image: Variables | None = unpacked.image.variables
        self.digest: str | None = unpacked.image.digest
        try:
            self._user = ids(self.root, user or unpacked.image.user)
        except UnknownUserError as error:
            raise ImageError(f"it is to run as {error.message}, which it does not have") from None

    def view(self, workspace: Workspace) -> "ImageView":
        """How a task sees `workspace`."""
        return ImageView(self, workspace)

    def fault(self, status: int, output: bytes) -> str | None:
        """What bwrap says when it cannot execute the command."""
        return start_fault(status, output)

    def close(self) -> None:
        """Nothing: the image stays for the next run."""

    def options(self, work: Path, tmp: Path, mounts: Mapping[str, Path], shown: Mapping[str, Path]) -> list[str]:
        """The options that build the file system and the namespaces for one workspace; `shown` is read-only inside."""
        result = [self._program, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc"]
        result += ["--unshare-uts", "--cap-drop", "ALL"]
        result += ["--unshare-user", "--uid", str(self._user[0]), "--gid", str(self._user[1])]
        read_only = dict(shown)
        if self._network:
            read_only |= {place: Path(place) for place in _OF_NETWORK if Path(place).is_file()}
        else:
            result.append("--unshare-net")
        # where links of the image lead, as a mount cannot go through one
        binds = [("--bind", "/" + inside(self.root, target), source) for target, source in mounts.items()]
        binds += [("--ro-bind", "/" + inside(self.root, target), source) for target, source in read_only.items()]
        targets = [Path(target) for _, target, _ in binds]
        for entry in sorted(os.listdir(self.root)):
            if entry not in _OWN:
                result += bound(Path("/", entry), targets, self.root)
        result += ["--proc", "/proc", "--dev", "/dev", *devices(), "--ro-bind", "/sys", "/sys", "--tmpfs", "/run"]
        result += ["--bind", str(tmp), _TMP, "--bind", str(work), WORKSPACE, "--bind", str(work / "pfs"), "/pfs"]
        for option, target, source in binds:
            result += [option, str(source), target]
        return result


class ImageView(Direct):
    """A workspace at `/workspace`, its inputs at `/pfs`, the image everywhere else."""

    def __init__(self, sandbox: ImageRoot, workspace: Workspace) -> None:
        self._sandbox = sandbox
        self._workspace = workspace
        self.tmp = _TMP
        self.home = f"{_TMP}/home"

    def rewrite(self, text: str) -> str:
        """`text` itself: `/pfs` is real."""
        return text

    def directory(self, working_dir: str | None) -> str:
        """What the stage says, else what the image says, else the top of the workspace."""
        return starting_place(working_dir, self._sandbox.working_dir)

    def host(self, path: str) -> Path | None:
        """What `path` is outside."""
        asked = Path(os.path.normpath(path))
        work = self._workspace.work
        places = {**self._workspace.mounts, **self._workspace.shown, "/pfs": work / "pfs", WORKSPACE: work}
        places[_TMP] = self._workspace.tmp
        for place, source in sorted(places.items(), key=lambda item: -len(item[0])):
            if asked.is_relative_to(place):
                return source / asked.relative_to(place)
        return self._sandbox.root / inside(self._sandbox.root, str(asked))

    def arguments(self, inside: Inside, status_fd: int | None, hold_fd: int | None = None) -> list[str]:
        """The invocation of bwrap."""
        workspace = self._workspace
        result = self._sandbox.options(workspace.work, workspace.tmp, workspace.mounts, workspace.shown)
        return [*result, *reporting(status_fd, hold_fd), "--chdir", inside.directory, "--", *inside.command]

    def variables(self, inside: Inside) -> dict[str, str]:
        """Those of the command: bwrap passes them on."""
        return dict(inside.variables)

    def cwd(self, directory: str) -> Path:  # noqa: ARG002 - bwrap changes the directory itself
        """Anywhere."""
        return Path("/")


def starting_place(working_dir: str | None, of_image: str) -> str:
    """Where a command of an image starts: what the stage says comes before what the image says."""
    if working_dir is not None:
        return str(Path(WORKSPACE, working_dir))
    # an image that does not say would start in '/', where there is nothing of the task's but 'pfs'
    return WORKSPACE if of_image in {"", "/"} else str(Path("/", of_image))
