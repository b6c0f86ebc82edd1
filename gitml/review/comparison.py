"""A comparison of two commits as plain values; what it says in words is `review/report`'s."""

from collections.abc import Mapping
from enum import StrEnum

from gitml.formats.compare import ModelDiff
from gitml.formats.pixels import PixelDiff
from gitml.oid import Oid
from gitml.provenance.codec import Json
from gitml.record import field, record
from gitml.tables.diff import FileDiff, Overlap
from gitml.tables.outcome import PredictionDiff
from gitml.tables.series import SeriesFile


class Verdict(StrEnum):
    """What became of a metric."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    """By more than its tolerance; without a goal nobody knows whether that is good."""
    SAME = "same"
    NEW = "new"
    GONE = "gone"


@record(kw_only=True)
class Side:
    """One of the two commits."""

    name: str
    """As it was asked for."""
    commit: Oid
    subject: str
    when: int
    """Committer date, seconds since the epoch."""
    worktree: bool = False
    """Whether this stands for the files of the worktree."""
    problem: str = ""
    """Why its pipeline cannot be read; empty if it can."""
    source: str = ""
    """The subject of the commit that it has the results of; empty if it is no result, or that is not known here."""

    @property
    def title(self) -> str:
        """What people call it: every result has the same words, what it was made from has those of somebody."""
        return self.source or self.subject


@record(kw_only=True)
class MetricChange:
    """A number among the results."""

    stage: str
    name: str
    old: float | None
    new: float | None
    verdict: Verdict
    goal: str | None = None
    """'max', 'min' or None."""
    tolerance: float = 0.0
    noise: float | None = None
    """How much the values of both sides may differ by chance; None if that is not known."""
    gate: tuple[float | None, float | None] = (None, None)
    breaks_gate: bool = False
    fresh: bool = True
    """Whether the new value belongs to the inputs of its commit."""

    @property
    def change(self) -> float | None:
        """New minus old."""
        return None if self.old is None or self.new is None else self.new - self.old


@record(kw_only=True)
class Failure:
    """A datum that failed, or a stage that did for another reason."""

    datum: str
    """Label of the datum; empty if it was none's."""
    message: str
    last_lines: tuple[str, ...]
    """Of its log."""


@record(kw_only=True)
class StageChange:
    """A stage that is new, gone, made anew, or not fresh."""

    stage: str
    what: str
    """'added', 'removed', 'first result', 'made anew', or '' if it only is not fresh."""
    causes: str = ""
    """Why it was, or is to be, made anew."""
    state: str = ""
    """Where it stands on the new side; '' if it is gone."""
    reason: str = ""
    """Why it is not fresh."""
    output_changed: bool = False
    failures: tuple[Failure, ...] = ()
    """The first datums that failed."""
    failed: int = 0
    """How many did."""

    @property
    def last_lines(self) -> tuple[str, ...]:
        """Of the first log, if it failed."""
        return self.failures[0].last_lines if self.failures else ()


@record(kw_only=True)
class ParamChange:
    """A parameter; a side is None where it is not there."""

    path: str
    key: str
    old: tuple[Json] | None
    """The value in a tuple: null is a value too."""
    new: tuple[Json] | None
    stages: tuple[str, ...]
    """Who reads it."""


class Role(StrEnum):
    """What a file is to the pipeline."""

    OUTPUT = "output"
    DATA = "data"
    CODE = "code"
    PARAMS = "parameters"
    OTHER = "other"


@record(kw_only=True)
class FileChange:
    """A file that was added, removed, changed or renamed. Sizes in bytes are those of the content."""

    path: bytes
    old_path: bytes | None
    new: bool
    gone: bool
    old_size: int | None
    new_size: int | None
    role: Role
    stage: str | None = None
    """Whose output it is."""
    stored: int | None = None
    """Bytes of it that no changed file of the old side has, before compression; None if that is not known here."""


@record(kw_only=True)
class ModelChange:
    """A model that is new or changed."""

    path: bytes
    diff: ModelDiff | None
    problem: str = ""
    """Why it could not be looked into."""


@record(kw_only=True)
class TableChange:
    """A table that changed."""

    path: bytes
    diff: FileDiff | None
    problem: str = ""
    """Why it could not be compared."""


@record(kw_only=True)
class LeakageChange:
    """What a table to train on and one to test on share; a side is None that does not have both."""

    train: bytes
    test: bytes
    old: Overlap | None
    new: Overlap | None


@record(kw_only=True)
class PredictionChange:
    """Predictions that changed."""

    stage: str
    path: bytes
    diff: PredictionDiff | None
    fresh: bool = True
    """Whether the new ones belong to the inputs of their commit."""
    problem: str = ""
    """Why they could not be compared."""


@record(kw_only=True)
class PlotChange:
    """A declared plot whose table changed; a side is None that does not have it."""

    stage: str
    path: bytes
    title: str
    x: str | None
    """None: the number of the row."""
    old: SeriesFile | None
    new: SeriesFile | None
    fresh: bool = True
    """Whether the new one belongs to the inputs of its commit."""
    address: str = ""
    """Where a forge shows it drawn; empty if nowhere."""


@record(kw_only=True)
class Picture:
    """One version of an image."""

    size: int
    """Bytes."""
    media: str = ""
    """'image/png', 'image/jpeg', 'image/svg+xml', or '' with a problem."""
    data: bytes = b""
    address: str = ""
    """Where its forge shows it; empty if that is not known."""
    problem: str = ""
    """Why it cannot be shown."""

    @property
    def is_svg(self) -> bool:
        """Whether it is a drawing rather than pixels."""
        return self.media == "image/svg+xml"


@record(kw_only=True)
class PictureChange:
    """A declared image that changed; a side is None that does not have it."""

    stage: str
    path: bytes
    old: Picture | None
    new: Picture | None
    difference: PixelDiff | None = None
    """None where not both sides can be shown."""
    difference_address: str = ""
    """Where a forge shows that drawn; empty if nowhere."""
    fresh: bool = True
    """Whether the new one belongs to the inputs of its commit."""


@record(kw_only=True)
class Cost:
    """What making an output took, as far as this clone knows."""

    seconds: float
    """Of all tasks together."""
    tasks: int
    memory: int | None
    """Bytes of the largest task."""
    cpu_seconds: float | None = None
    """Of all tasks together; None if it is not known of all."""


@record(kw_only=True)
class CostChange:
    """What a stage took before and now."""

    stage: str
    old: Cost | None
    new: Cost | None
    reused: int | None = None
    """Tasks whose results the old side has already; None if it is not known what the new side's tasks are."""
    stored: int | None = None
    """Bytes of new content in the output: see `FileChange`."""


@record(kw_only=True)
class MadeBy:
    """A run that made results of the new side, as far as its record is in this clone; '' for what is not."""

    run: str
    stages: tuple[str, ...]
    source: str
    """The commit that it was for."""
    host: str
    sandbox: str
    started: float | None
    python: str


@record(kw_only=True)
class Node:
    """A stage of the pipeline, or data that stages read."""

    name: str
    stage: bool
    state: str = ""
    """Where a stage stands on the new side; '' for data, and for a stage that is gone."""
    what: str = ""
    """What became of it: as in `StageChange`; 'changed' if a file of the data did."""
    reason: str = ""
    """Why a stage is not fresh."""
    datums: int = 0
    done: int = 0
    """Datums whose results are known."""
    touched: bool = False
    """Whether it changed or is not fresh."""


@record(kw_only=True)
class Graph:
    """What reads what; an edge is a pair of numbers of nodes, from what is read to who reads it."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()


@record(kw_only=True)
class Comparison:
    """Everything that is known of the difference between two commits."""

    old: Side
    new: Side
    stages_total: int
    metrics: tuple[MetricChange, ...] = ()
    stages: tuple[StageChange, ...] = ()
    params: tuple[ParamChange, ...] = ()
    files: tuple[FileChange, ...] = ()
    tables: tuple[TableChange, ...] = ()
    leakage: tuple[LeakageChange, ...] = ()
    predictions: tuple[PredictionChange, ...] = ()
    models: tuple[ModelChange, ...] = ()
    plots: tuple[PlotChange, ...] = ()
    pictures: tuple[PictureChange, ...] = ()
    costs: tuple[CostChange, ...] = ()
    makers: tuple[MadeBy, ...] = ()
    """Runs that made what was made anew."""
    libraries: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Library, or 'python', to its version before and now where they differ."""
    pipeline: Graph = Graph()
    """All stages of both sides."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is different."""
        changed = any(metric.verdict is not Verdict.SAME for metric in self.metrics)
        return not (changed or self.stages or self.params or self.files)

    @property
    def unsettled(self) -> tuple[StageChange, ...]:
        """The stages whose results are not those of the new side's inputs."""
        return tuple(stage for stage in self.stages if stage.state not in ("", "fresh"))

    @property
    def broken_gates(self) -> tuple[MetricChange, ...]:
        """The metrics that are outside of what is acceptable."""
        return tuple(metric for metric in self.metrics if metric.breaks_gate)
