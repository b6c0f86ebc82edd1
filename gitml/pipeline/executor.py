"""Where the tasks of a stage are computed: on this machine, or by workers elsewhere.

A stage run gives out tasks and takes them back as they end. It judges, records and publishes alike wherever they ran,
so that a result from a worker is found again by the same key.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gitml.errors import GitmlError, UserError
from gitml.pipeline.code import CodeFile
from gitml.pipeline.collect import Collected
from gitml.pipeline.datum import Datum
from gitml.pipeline.process import Stop
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.spec.running import EXECUTORS
from gitml.pipeline.task import TaskOutcome
from gitml.record import field, record
from gitml.store.tree import Snapshot

LOCAL, DASK = EXECUTORS
"""What a specification, `ml.executor` and `--executor` may say."""


class ExecutorError(UserError):
    """Tasks cannot be computed where they should be; it says nothing about the datums."""


@record
class Task:
    """One datum to compute, and its key."""

    datum: Datum
    key: str


@record(frozen=False)
class Ended:
    """A task that is over: with an outcome, or with what kept it from running."""

    task: Task
    outcome: TaskOutcome | None
    error: GitmlError | None
    log: Path
    seconds: float
    """Time in all that the task took, its workspace included."""
    collected: Collected | None = None
    """What it wrote, if that is in the repository already and a data commit covers it; else the outcome has it."""

    @property
    def has_failed(self) -> bool:
        """Whether it is certain that there is no result."""
        return self.outcome.state == "failed" if self.outcome is not None else self.error is not None


@record(kw_only=True)
class Work:
    """What the tasks of one stage run have in common."""

    stage: Stage
    snapshot: Snapshot
    """The tree that the stage runs on."""
    run: str
    commits: Mapping[str, str]
    """Commit of an input, by its name, as a task sees it."""
    code: tuple[CodeFile, ...]
    files: Mapping[bytes, bytes]
    """Parameters, as files at repository paths."""
    logs: Path
    """Directory for the logs of tasks, `<key>.log` each."""
    parallel: int | None
    """Tasks at once that the user asked for; None: as the stage says."""
    stop: Stop
    """Set when running tasks must end."""
    is_over: Callable[[], bool]
    """Whether no further task may start."""


@record(frozen=False)
class Facts:
    """What is known afterwards of how tasks ran."""

    notices: dict[str, None] = field(default_factory=dict)
    """Sentences for the user, each once, in order."""
    means: dict[str, str] = field(default_factory=dict)
    """How the limits of the stage were held."""
    sandboxes: set[str] = field(default_factory=set)
    """Names of the sandboxes that tasks ran in."""
    hosts: set[str] = field(default_factory=set)
    """Names of the machines that they ran on."""

    def document(self) -> dict[str, Any]:
        """Where tasks ran, as it is stored with their run."""
        return {"executor": DASK, "hosts": sorted(self.hosts), "sandboxes": sorted(self.sandboxes)}


class Executor(Protocol):
    """Computes tasks."""

    @property
    def facts(self) -> Facts:
        """What is known of the tasks that ended so far."""
        ...

    def run(self, work: Work, tasks: Iterable[Task]) -> Generator[list[Ended], None, None]:
        """Compute `tasks`; give those that ended, in batches. What was given is recorded when the next is asked for.

        Close the iterator to end what is under way. Raise `ExecutorError`.
        """
        ...
