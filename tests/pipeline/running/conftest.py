"""Real tasks on objects in memory, under every sandbox."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gitml.oid import Oid
from gitml.pipeline.bubblewrap import BubblewrapError
from gitml.pipeline.datum import Datum, DatumInput
from gitml.pipeline.environment import task_environment
from gitml.pipeline.landlock import LandlockError
from gitml.pipeline.sandbox import Sandbox, choose_sandbox
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.task import TaskOutcome, run_task
from gitml.pipeline.workspace import Workspace, Workspaces
from gitml.store.odb import Kind, MemoryOdb
from gitml.store.tree import MODE_TREE, Entry, Snapshot


class StreamOdb(MemoryOdb):
    """Objects in memory, also in pieces."""

    def write_stream(self, kind: Kind, size: int, pieces: Iterable[bytes]) -> Oid:
        data = b"".join(pieces)
        assert len(data) == size
        return self.write(kind, data)

    @contextmanager
    def open(self, oid: Oid) -> Iterator[tuple[Kind, int, Iterator[bytes]]]:
        kind, data = self.read(oid)
        yield kind, len(data), (data[at : at + 1000] for at in range(0, len(data), 1000))


@pytest.fixture
def odb() -> StreamOdb:
    return StreamOdb()


@pytest.fixture
def workspaces(tmp_path: Path, odb: StreamOdb) -> Iterator[Workspaces]:
    with Workspaces(tmp_path / "the run's", odb) as result:  # a path that shells would split
        yield result


@pytest.fixture(params=["bwrap", "landlock", "none"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    (tmp_path / "repo").mkdir(exist_ok=True)
    try:
        return choose_sandbox(request.param, worktree=tmp_path / "repo")
    except (BubblewrapError, LandlockError) as error:
        pytest.skip(f"{request.param} does not work here: {error.reason}")


def whole(name: str, snapshot: Snapshot) -> DatumInput:
    return DatumInput(name, name.encode(), b"", Entry(MODE_TREE, snapshot.root))


Inputs = Mapping[str, Mapping[str | bytes, str | bytes | Entry]]


@pytest.fixture
def make_workspace(workspaces: Workspaces, tree: Callable[..., Snapshot]) -> Callable[..., Workspace]:
    """Make a workspace with whole inputs: `make_workspace({"data": {"a.txt": "1"}}, code=...)`."""

    def make(inputs: Inputs | None = None, **more: Any) -> Workspace:
        return workspaces.create([whole(name, tree(files)) for name, files in (inputs or {}).items()], **more)

    return make


Run = Callable[..., TaskOutcome]


@pytest.fixture
def run(
    sandbox: Sandbox,
    make_workspace: Callable[..., Workspace],
    make_stage: Callable[..., Stage],
    tree: Callable[..., Snapshot],
    tmp_path: Path,
) -> Run:
    """Run a command on one datum: `run(["cp", ...], {"data": {...}}, code=..., datum_tries=...)`.

    A string is a script for the shell's standard input. `each` adds to the workspace of each attempt. The log is
    `task.log`.
    """

    def start(command: str | list[str], inputs: Inputs | None = None, **fields: Any) -> TaskOutcome:
        of_task = {
            name: fields.pop(name)
            for name in ("stop", "grace", "log_limit", "share", "granted", "turn")
            if name in fields
        }
        of_workspace = {name: fields.pop(name) for name in ("code", "files", "mounts") if name in fields}
        each_workspace = iter(fields.pop("each", ()))
        extra = fields.pop("environ", {})
        if isinstance(command, str):
            fields["stdin"] = tuple(command.splitlines())
            command = ["sh", "-e"]
        stage = make_stage("stage", command, **fields)
        datum = Datum(tuple(whole(name, tree(files)) for name, files in (inputs or {}).items()))
        environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", **extra}
        return run_task(
            stage,
            make=lambda: make_workspace(inputs, **of_workspace, **next(each_workspace, {})),
            sandbox=sandbox,
            environment=task_environment(stage, datum, environ=environ, datum_id=datum.id, job_id="job"),
            log=tmp_path / "task.log",
            **of_task,
        )

    return start
