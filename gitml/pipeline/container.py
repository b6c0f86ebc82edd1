"""Tasks in containers of docker, podman or apptainer.

The engine has the image or fetches it, and runs one container for each command: the workspace at /workspace, /pfs and
/tmp, the user who runs gitml, no capabilities, no network unless allowed. The entry point of an image is not used, as
in Pachyderm.

A container of docker or podman is no child of ours. So limits are told to the engine, and what would end a process of
ours has to end the container by its name: after a time-out, and when the runner dies, by a guard that waits for that.
Apptainer runs containers as children, so everything is as without one.
"""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gitml.liveness import is_alive
from gitml.pipeline.archive import variables_of
from gitml.pipeline.bubblewrap import WORKSPACE
from gitml.pipeline.imageroot import starting_place
from gitml.pipeline.process import Command, Stop, run_process
from gitml.pipeline.unpack import ImageError
from gitml.pipeline.view import Direct, Inside, Variables
from gitml.pipeline.workspace import Workspace

ENGINES = ("podman", "docker", "apptainer")
"""In the order in which they are tried: podman needs no service that is root."""

_TMP = "/tmp"  # noqa: S108 - the one inside, which is private
_LABEL = "gitml.run"
_MARK = "container"
"""File of a workspace that names the container which may run in it."""
_PATIENCE = 60.0
"""Seconds for an answer of an engine that does not run anything."""
_ENGINES_OWN = frozenset({"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "REGISTRY_AUTH_FILE"})
_ENGINES_PREFIXES = ("XDG_", "DBUS_", "DOCKER_", "CONTAINER", "PODMAN_", "STORAGE_", "SSL_CERT_", "LC_", "BUILDAH_")
_FAILED = frozenset({1, 125, 126, 127})
"""Statuses of the engines, and 1 of the process that `--init` of podman puts before the command."""
_SAID = re.compile(rb"(?:docker: |Error: |ERROR \(catatonit:\d+\): |\[FATAL tini \(\d+\)\] )(.*)")
_INIT = ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/bin/catatonit")
_GUARD = """read -r word && exit 0
for pause in 1 2 4; do
  found=$("$0" ps --all --quiet --filter "label=$1")
  [ -n "$found" ] && { "$0" kill $found; "$0" rm --force $found; }
  sleep $pause
done
"""
"""Waits for a line. End of file without one: the runner died; what was starting then may come a little later."""


class EngineError(ImageError):
    """A container engine cannot be used, or failed."""


class Engine:
    """An installed container engine."""

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.program = program

    @classmethod
    def find(cls, name: str) -> "Engine | None":
        """The engine called so, None if it is not installed."""
        program = shutil.which(name)
        return cls(name, program) if program is not None else None

    def fault(self) -> str | None:
        """Why it does not work, None if it does: docker wants its service."""
        return self._ask("--version" if self.name == "apptainer" else "info")[1]

    def inspect(self, image: str) -> Mapping[str, Any] | None:
        """What docker or podman knows of an image that it has, None if it has none called so."""
        text, fault = self._ask("image", "inspect", image)
        if fault is not None:
            return None
        with contextlib.suppress(ValueError, IndexError, TypeError):
            found = json.loads(text)[0]
            return found if isinstance(found, dict) else None
        return None

    def pull(self, image: str, stop: Stop | None, *, before: Sequence[str] = ()) -> None:
        """Fetch an image; raise `EngineError` if that fails or is stopped."""
        said: list[bytes] = []
        command = [self.program, "pull", *before, image]
        ended = run_process(
            Command(
                arguments=lambda *_: command, environment=dict(os.environ), cwd=Path("/"), stdin=None, reports=False
            ),
            sink=said.append,
            stop=stop,
        )
        if ended.stopped:
            raise EngineError("stopped while the image was fetched")
        if ended.status != 0:
            lines = b"".join(said).decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1] if lines else f"it ended with status {ended.status}"
            raise EngineError(
                f"{self.name} cannot fetch the image '{image}': {reason}",
                hint='"images" of pipeline.json may say what stands for it: an archive, or code that the host runs',
            )

    def _ask(self, *arguments: str) -> tuple[str, str | None]:
        """What it prints, and why it failed if it did."""
        try:
            done = subprocess.run(
                [self.program, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return "", str(error)
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace"), None
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return "", lines[-1] if lines else f"it ended with status {done.returncode}"


class Container:
    """Runs tasks in containers of docker or podman.

    `image` is a name that the engine knows or can fetch, `digest` what it must be. Raise `EngineError` if the engine
    has no such image and cannot fetch it.
    """

    notice: str | None = None
    reports = False
    is_opaque = True
    holds = frozenset({"memory", "cpu", "disk"})

    def __init__(self, engine: Engine, image: str, digest: str | None, *, network: bool, stop: Stop | None) -> None:
        found = engine.inspect(image)
        if found is None or (digest is not None and digest not in _digests(found)):
            name = image if digest is None or "@" in image else f"{_untagged(image)}@{digest}"
            engine.pull(name, stop)
            found = engine.inspect(name)
        if found is None or (digest is not None and digest not in _digests(found)):
            raise EngineError(f"{engine.name} has no image '{image}'" + (f" with digest {digest}" if digest else ""))
        self._engine = engine
        self._id = _prefixed(str(found.get("Id") or found.get("ID") or image))
        self.name = engine.name
        self.digest: str | None = self._id
        self.pin = next((each for each in _digests(found) if each != self._id), self._id)
        """The digest by which the image is found on other machines, if it came from a registry."""
        config = found.get("Config")
        config = config if isinstance(config, dict) else {}
        self.working_dir = str(config.get("WorkingDir") or "")
        self.image: Variables | None = variables_of(config)
        self._network = network
        self._token = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = None

    def view(self, workspace: Workspace) -> "ContainerView":
        """How a task sees `workspace`."""
        with self._lock:
            if self._guard is None:
                self._guard = subprocess.Popen(
                    ["/bin/sh", "-c", _GUARD, self._engine.program, f"{_LABEL}={self._token}"],
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    start_new_session=True, cwd="/",
                )  # fmt: skip
        return ContainerView(self, workspace)

    def fault(self, status: int, output: bytes) -> str | None:
        """What the engine says when it cannot start a container or a command in it."""
        if status not in _FAILED:
            return None
        found = _SAID.match(output)
        return found[1].decode("utf-8", "replace").strip() if found is not None else None

    def close(self) -> None:
        """Tell the guard that no container is left."""
        if self._guard is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.communicate(b"done\n")
            self._guard = None

    def options(self, workspace: Workspace, inside: Inside, name: str) -> list[str]:
        """The whole command line of the engine."""
        result = [self._engine.program, "run", "--rm", "--interactive", "--name", name]
        result += ["--label", f"{_LABEL}={self._token}", "--pull", "never", "--cap-drop", "ALL"]
        result += ["--security-opt", "no-new-privileges", "--security-opt", "label=disable"]
        result += ["--user", f"{os.getuid()}:{os.getgid()}"]
        if self.name == "podman":
            result.append("--http-proxy=false")
            if os.getuid() != 0:
                result += ["--userns", "keep-id"]
        if self.name == "docker" or any(Path(each).exists() for each in _INIT):
            result.append("--init")  # else the command were process 1, which does not hear SIGTERM
        if not self._network:
            result += ["--network", "none"]
        limits = inside.limits
        if limits.memory:
            result += ["--memory", str(limits.memory), "--memory-swap", str(limits.memory)]
        if limits.cpu:
            result += ["--cpus", f"{limits.cpu:g}"]
        if limits.disk:
            result += ["--ulimit", f"fsize={limits.disk}:{limits.disk}"]
        for number in inside.gpus or ():
            docker = self.name == "docker"
            result += ["--gpus", f"device={number}"] if docker else ["--device", f"nvidia.com/gpu={number}"]
        for target, source, writable in places(workspace):
            fields = ["type=bind", f"source={source.absolute()}", f"target={target}"]
            result += ["--mount", _as_csv(fields if writable else [*fields, "readonly"])]
        for variable, value in inside.variables.items():
            # values may be secret and command lines are not; but some names mean something to the engine itself
            result += ["--env", f"{variable}={value}" if _is_engines(variable) else variable]
        return [*result, "--workdir", inside.directory, "--entrypoint", "", self._id, *inside.command]

    def new_name(self) -> str:
        """A name for one container."""
        return f"gitml-{self._token}-{next(self._numbers)}"

    def remove(self, name: str) -> None:
        """End a container, whatever it does; nothing if there is none called so."""
        _remove(self._engine.program, name)


class ContainerView(Direct):
    """A workspace in a container: at `/workspace`, its inputs at `/pfs`."""

    def __init__(self, sandbox: Container, workspace: Workspace) -> None:
        self._sandbox = sandbox
        self._workspace = workspace
        self._name = sandbox.new_name()
        self.tmp = _TMP
        self.home = f"{_TMP}/home"

    def rewrite(self, text: str) -> str:
        """`text` itself: `/pfs` is real."""
        return text

    def directory(self, working_dir: str | None) -> str:
        """What the stage says, else what the image says, else the top of the workspace."""
        return starting_place(working_dir, self._sandbox.working_dir)

    def host(self, path: str) -> Path | None:  # noqa: ARG002 - as in View
        """None: the engine has the files."""
        return None

    def arguments(
        self,
        inside: Inside,
        status_fd: int | None,  # noqa: ARG002 - as in View
        hold_fd: int | None = None,  # noqa: ARG002 - as in View
    ) -> list[str]:
        """The invocation of the engine."""
        mark = self._workspace.top / _MARK
        mark.write_text(f"{self._sandbox._engine.program}\n{self._name}\n")
        return self._sandbox.options(self._workspace, inside, self._name)

    def variables(self, inside: Inside) -> dict[str, str]:
        """Those with which the engine finds its images, and those of the command."""
        own = {name: value for name, value in os.environ.items() if _is_engines(name)}
        return own | {name: value for name, value in inside.variables.items() if not _is_engines(name)}

    def cwd(self, directory: str) -> Path:  # noqa: ARG002 - the engine changes the directory itself
        """Anywhere."""
        return Path("/")

    def end(self) -> None:
        """End the container."""
        self._sandbox.remove(self._name)


class Apptainer:
    """Runs tasks in containers of apptainer, from the image file `image` that `apptainer_image` made."""

    name = "apptainer"
    notice: str | None = None
    reports = False
    is_opaque = True
    holds: frozenset[str] = frozenset()
    image: Variables | None = MappingProxyType({})

    def __init__(self, engine: Engine, image: Path, *, network: bool) -> None:
        self._engine = engine
        self._image = image
        self._network = network
        with image.open("rb") as file:
            self.digest: str | None = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def view(self, workspace: Workspace) -> "ApptainerView":
        """How a task sees `workspace`."""
        return ApptainerView(self, workspace)

    def fault(self, status: int, output: bytes) -> str | None:
        """What apptainer says when it cannot start a container or a command in it."""
        if status != 255 or not output.startswith(b"FATAL:"):
            return None
        return output.decode("utf-8", "replace").splitlines()[0].partition(":")[2].strip()

    def close(self) -> None:
        """Nothing."""

    def options(self, workspace: Workspace, inside: Inside) -> list[str]:
        """The whole command line of the engine."""
        result = [self._engine.program, "--silent", "exec", "--containall", "--cleanenv", "--no-eval"]
        result += ["--writable-tmpfs", "--home", f"{workspace.tmp / 'home'}:{_TMP}/home"]
        if not self._network:
            result += ["--net", "--network", "none"]
        if inside.gpus:
            result.append("--nv")
        for target, source, writable in places(workspace):
            result += ["--bind", f"{source.absolute()}:{target}" + ("" if writable else ":ro")]
        return [*result, "--pwd", inside.directory, str(self._image), *inside.command]


class ApptainerView(Direct):
    """A workspace in a container of apptainer."""

    def __init__(self, sandbox: Apptainer, workspace: Workspace) -> None:
        self._sandbox = sandbox
        self._workspace = workspace
        self.tmp = _TMP
        self.home = f"{_TMP}/home"

    def rewrite(self, text: str) -> str:
        """`text` itself: `/pfs` is real."""
        return text

    def directory(self, working_dir: str | None) -> str:
        """What the stage says, else the top of the workspace: apptainer keeps no working directory of an image."""
        return starting_place(working_dir, "")

    def host(self, path: str) -> Path | None:  # noqa: ARG002 - as in View
        """None: the engine has the files."""
        return None

    def arguments(
        self,
        inside: Inside,
        status_fd: int | None,  # noqa: ARG002 - as in View
        hold_fd: int | None = None,  # noqa: ARG002 - as in View
    ) -> list[str]:
        """The invocation of apptainer."""
        return self._sandbox.options(self._workspace, inside)

    def variables(self, inside: Inside) -> dict[str, str]:
        """Our own, and those of the command under the names by which apptainer passes them on."""
        passed = {f"APPTAINERENV_{name}": value for name, value in inside.variables.items() if name != "HOME"}
        own = {name: value for name, value in os.environ.items() if not name.startswith(_PASSED_ON)}
        return own | passed

    def cwd(self, directory: str) -> Path:  # noqa: ARG002 - apptainer changes the directory itself
        """Anywhere."""
        return Path("/")


_PASSED_ON = ("APPTAINERENV_", "SINGULARITYENV_")


def apptainer_image(engine: Engine, image: str, directory: Path, stop: Stop | None) -> Path:
    """The image file for an image of a registry, in `directory`, fetched now if it is not there.

    Raise `EngineError` if that fails.
    """
    file = directory / f"{hashlib.sha256(image.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.sif"
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in directory.glob("fetch-*.sif"):
            if not is_alive(int(left.name.split("-")[1])):
                left.unlink(missing_ok=True)
        partial = directory / f"fetch-{os.getpid()}-{secrets.token_hex(4)}.sif"
        try:
            engine.pull(f"docker://{image}", stop, before=("--force", str(partial)))
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    return file


def places(workspace: Workspace) -> list[tuple[str, Path, bool]]:
    """What of the host a container shows: where, which directory or file, and whether it may be written."""
    found = [(WORKSPACE, workspace.work, True), ("/pfs", workspace.pfs, True), (_TMP, workspace.tmp, True)]
    found += [(target, source, True) for target, source in workspace.mounts.items()]
    return found + [(target, source, False) for target, source in workspace.shown.items()]


def remove_containers(directories: Iterable[Path]) -> None:
    """End the containers that a killed runner left running in workspaces below `directories`."""
    for mark in (mark for directory in directories for mark in directory.glob(f"tasks/*/{_MARK}")):
        with contextlib.suppress(OSError, ValueError):
            program, name = mark.read_text().splitlines()
            _remove(program, name)


def _remove(program: str, name: str) -> None:
    # podman would first ask what runs there to end, and wait for ten seconds
    for words in (["kill"], ["rm", "--force"]):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [program, *words, name],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                check=False, timeout=_PATIENCE,
            )  # fmt: skip


def _is_engines(name: str) -> bool:
    """Whether a variable is one that docker or podman themselves look at."""
    return name in _ENGINES_OWN or name.upper().startswith(_ENGINES_PREFIXES) or name.upper().endswith("_PROXY")


def _digests(found: Mapping[str, Any]) -> list[str]:
    """Every digest by which an image may be called."""
    names = [*(found.get("RepoDigests") or []), str(found.get("Digest") or ""), str(found.get("Id") or "")]
    return [_prefixed(str(name).rpartition("@")[2]) for name in names if name]


def _prefixed(digest: str) -> str:
    """Podman gives ids without the name of the hash."""
    return f"sha256:{digest}" if len(digest) == 64 and ":" not in digest else digest


def _untagged(image: str) -> str:
    """The name without its tag; a colon before the last slash is that of a port."""
    head, slash, last = image.rpartition("/")
    return head + slash + last.partition(":")[0]


def _as_csv(fields: Sequence[str]) -> str:
    """As docker and podman read mounts, so that paths may hold commas."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()
