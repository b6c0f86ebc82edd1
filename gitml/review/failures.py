"""Which datums of a stage failed, and how their logs end."""

from gitml.pipeline.cache import RunCache
from gitml.pipeline.failure import told_once
from gitml.pipeline.plan import StageStatus
from gitml.review.comparison import Failure

_MOST = 10
"""Datums of a stage."""
_LINES = 30
"""Lines of a log, its last ones."""


def failures(cache: RunCache, status: StageStatus) -> tuple[Failure, ...]:
    """The first datums that failed, as far as this clone has the run; what the stage says of itself otherwise."""
    failure = status.failure
    if failure is None or status.key is None:
        return ()
    run = str((cache.failure_record(status.key) or {}).get("run", ""))
    tasks = cache.tasks_of(run) if failure.failed > 1 and run else []
    failed = [task for task in tasks if (task.get("stage"), task.get("state")) == (status.stage.name, "failed")]
    if not failed:
        return (Failure(datum=failure.datum, message=failure.message, last_lines=failure.last_lines[-_LINES:]),)
    # the datum that the stage names comes first
    failed.sort(key=lambda task: (task.get("datum") != failure.datum, str(task.get("datum"))))
    return tuple(
        Failure(
            datum=str(task.get("datum")), message=str(task.get("message")),
            last_lines=_last_lines(cache.log(run, str(task.get("key")))),
        )
        for task in failed[:_MOST]
    )  # fmt: skip


def _last_lines(log: bytes) -> tuple[str, ...]:
    return tuple(told_once(log.decode("utf-8", "replace").splitlines())[-_LINES:])
