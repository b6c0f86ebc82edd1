"""What is asked of a run, and what it says it did."""

from collections.abc import Collection

from gitml.git.commits import format_trailers
from gitml.oid import Oid
from gitml.pipeline.choice import Choice
from gitml.pipeline.plan import State
from gitml.pipeline.shown import StageReport
from gitml.record import field, record

DETACHED = "HEAD is detached"
"""Why results are not committed where no branch is checked out."""


@record(kw_only=True)
class RunOptions:
    """What is asked of a run."""

    choice: Choice = field(default_factory=Choice)
    """Which stages; by default all."""
    at: Oid | None = None
    """A commit that is not on a branch, instead of one: results go into the cache."""
    datums: tuple[str, ...] = ()
    """Only datums that one of these patterns means (see `choice.datum_filter`), into the cache; none: all."""
    force: bool = False
    """Compute the named stages again although their results are known."""
    explicit: bool = False
    """A person asked: failed stages are tried again, and the commands count as reviewed."""
    dry_run: bool = False
    publish: bool = True
    results: str | None = None
    """The ref that receives the result commit; None: the branch."""
    publish_wait: float = 30.0
    """Seconds to wait for a moment in which results can be published."""
    sign: bool = False
    """Sign the result commit, whatever `ml.sign` says; whoever sits there may be asked for a passphrase."""
    parallel: int | None = None
    """Datums at once, whatever the stages say."""
    executor: str | None = None
    """Where datums are computed, whatever stages and configuration say; None: as they say."""
    fail_fast: bool = False
    """Start nothing more after the first datum that fails."""
    known_only: bool = False
    """Compute nothing: only put results in place that are known."""
    restore: bool = False
    """Replace edited outputs of the chosen stages by the known result."""
    retry_recovered: bool = False
    """Compute recovered datums of the named stages again."""


@record(frozen=False)
class RunReport:
    """What a run did. `run` is empty if there was no pipeline to run."""

    run: str
    tip: Oid
    published: Oid | None = None
    parked: str = ""
    gone: str = ""
    """What is to be said if there is no such branch any more."""
    kept: tuple[bytes, ...] = ()
    stages: dict[str, StageReport] = field(default_factory=dict)
    notices: dict[str, None] = field(default_factory=dict)
    """Sentences for the user, each once, in order."""
    undelivered: dict[str, str] = field(default_factory=dict)
    """Stages whose results could not be copied out, and why."""
    asked: dict[str, int] = field(default_factory=dict)
    """How many datums of each stage the patterns mean, if only some were asked for."""
    stopped: bool = False
    tree: Oid | None = None
    """The tree of the commit with all results in place."""

    @property
    def failed(self) -> bool:
        """Whether a stage failed."""
        return any(stage.state == State.FAILED for stage in self.stages.values())


def result_message(report: RunReport, source: Oid, changed: Collection[str]) -> bytes:
    """The message of the commit that puts the results of the `changed` stages on top of `source`."""
    computed = [report.stages[name].ran > 0 or not report.stages[name].total for name in changed]
    lines = [f"gitml: {'update' if any(computed) else 'restore'} {', '.join(changed)}", ""]
    for name in changed:
        line = report.stages[name]
        run = f"{line.ran} of {line.total} datums run" if line.ran else "restored from the run cache"
        lines.append(f"{name}: {run}")
    trailers = {"Gitml-Run": report.run, "Gitml-Source": source.hex(), "Gitml-Stages": ", ".join(changed)}
    return "\n".join(lines).encode() + b"\n\n" + format_trailers(trailers)
