"""What a sandbox is to the rest of the program: how a task sees its workspace, and how a command starts there."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gitml.pipeline.spec.model import Resources
from gitml.pipeline.workspace import Workspace
from gitml.record import field, record

Variables = Mapping[str, str]
Started = subprocess.Popen[bytes]
Begin = Callable[[], Started]


@record(kw_only=True)
class Inside:
    """A command as it is to run inside."""

    command: Sequence[str]
    directory: str
    """Where it starts, as `View.directory` gave it."""
    variables: Variables = field(default_factory=dict)
    limits: Resources = field(default_factory=Resources)
    """What it may take; of interest only to a sandbox that holds limits itself."""
    gpus: Sequence[str] | None = None
    """Numbers of the GPUs that it gets; None: as it comes."""


class View(Protocol):
    """One workspace as the task in it sees it. Paths are those that the task uses, unless they are `Path`."""

    @property
    def home(self) -> str:
        """Private home directory."""
        ...

    @property
    def tmp(self) -> str:
        """Private temporary directory."""
        ...

    def rewrite(self, text: str) -> str:
        """An argument, a line of input or a variable with `/pfs` and the places of code as the task finds them."""
        ...

    def directory(self, working_dir: str | None) -> str:
        """Where a command starts."""
        ...

    def host(self, path: str) -> Path | None:
        """What the absolute `path` is outside, None if it cannot be seen."""
        ...

    def arguments(self, inside: Inside, status_fd: int | None, hold_fd: int | None = None) -> list[str]:
        """What to execute so that the command runs inside; where there is a `hold_fd`, once a byte comes there."""
        ...

    def variables(self, inside: Inside) -> dict[str, str]:
        """The environment in which to execute what `arguments` gave."""
        ...

    def cwd(self, directory: str) -> Path:
        """Where to start what `arguments` gave."""
        ...

    def start(self, begin: Begin, doors: Sequence[Path]) -> Started:
        """What `begin` gives, which executes what `arguments` gave; that may write to the files `doors` besides."""
        ...

    def end(self) -> None:
        """End what still runs inside although what `arguments` gave is over; nothing if nothing does."""
        ...


class Direct:
    """What views have in common whose command is started as any process, and ends with it."""

    __slots__ = ()

    def start(self, begin: Begin, doors: Sequence[Path]) -> Started:  # noqa: ARG002 - nothing is held here
        """What `begin` gives."""
        return begin()

    def end(self) -> None:
        """Nothing: no process lives on."""


class Sandbox(Protocol):
    """A way of running tasks."""

    @property
    def name(self) -> str:
        """What run records say: 'bwrap', 'landlock-abi<n>', 'none', 'docker', 'podman' or 'apptainer'."""
        ...

    @property
    def notice(self) -> str | None:
        """What the run tells its user once, None if there is nothing to say."""
        ...

    @property
    def reports(self) -> bool:
        """Whether `View.arguments` wants a descriptor to report the inner process on, and one to wait for."""
        ...

    @property
    def is_opaque(self) -> bool:
        """Whether only a task can see which programs and directories there are inside."""
        ...

    @property
    def holds(self) -> frozenset[str]:
        """The limits ('memory', 'cpu', 'disk') to which it holds tasks itself, from outside of our processes."""
        ...

    @property
    def image(self) -> Variables | None:
        """The variables that the image of the task sets; None: the host stands for an image, with its own."""
        ...

    @property
    def digest(self) -> str | None:
        """Which image it is, `sha256:` and hex digits; None: none, or it is not known."""
        ...

    def view(self, workspace: Workspace) -> View:
        """How a task sees `workspace`."""
        ...

    def fault(self, status: int, output: bytes) -> str | None:
        """Why the sandbox could not start a command that ended so, None if it did; `output` is the beginning of it."""
        ...

    def close(self) -> None:
        """Leave nothing behind; no view may be in use."""
        ...
