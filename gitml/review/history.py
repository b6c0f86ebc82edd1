"""The history of metrics: the values that results had, commit by commit, in one walk for all stages."""

from collections.abc import Collection, Iterator, Sequence

from gitml.errors import CorruptError
from gitml.git.commits import parse_commit, parse_trailers
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.journal import cause_of, former_name, measured
from gitml.pipeline.spec.model import Metric, Stage
from gitml.provenance.codec import bytes_of, text_of
from gitml.provenance.record import RECORDS, parse_record, record_path
from gitml.record import record
from gitml.store.tree import Snapshot


@record
class Point:
    """The value of a metric in one result."""

    commit: Oid
    when: int
    """Committer date, seconds since the epoch."""
    cause: str
    """What the result came from, as `cause_of` has it; the subject of `commit` itself if nobody knows it."""
    value: float


@record(kw_only=True)
class MetricHistory:
    """One metric of one stage over its results."""

    stage: str
    name: str
    points: tuple[Point, ...]
    """Oldest first; at least one. Some may be NaN or infinite."""
    goal: str | None = None
    """'max', 'min' or None."""
    gate: tuple[float | None, float | None] = (None, None)


def metric_history(
    repo: Repository, odb: GitOdb, stages: Sequence[Stage], revision: Oid, limit: int | None = None
) -> list[MetricHistory]:
    """The values of every metric of `stages` in the last `limit` results that `revision` reaches, by stage and name.

    A result is a commit that changed a record; a stage has a point where its own did, also under a name that it had
    before. Goals and gates are those that `stages` declare.
    """
    known = {text_of(record_path(stage.name)): stage for stage in stages if stage.metrics}
    found: dict[tuple[str, str], list[Point]] = {}
    for result in _results(repo, odb, revision, limit) if known else ():
        for path in [path for path in result.changed if path in known]:
            try:
                record = parse_record(result.snapshot.read(bytes_of(path)))
            except (KeyError, CorruptError):
                continue
            stage = known[path]
            cause = cause_of(odb, result.source, record) or result.subject
            for name, value in measured(result.snapshot, stage, record)[0].items():
                found.setdefault((stage.name, name), []).insert(0, Point(result.commit, result.when, cause, value))
            if path in result.added:
                former = former_name(odb, result.commit, record)
                if former is not None:
                    known.setdefault(text_of(record_path(former[1])), stage)
    order = {stage.name: number for number, stage in enumerate(stages)}
    rules = {(stage.name, metric.name): metric for stage in stages for metric in stage.metrics}
    return [
        _history(stage, name, points, rules.get((stage, name)))
        for (stage, name), points in sorted(found.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    ]


def _history(stage: str, name: str, points: Sequence[Point], rule: Metric | None) -> MetricHistory:
    if rule is None:
        return MetricHistory(stage=stage, name=name, points=tuple(points))
    return MetricHistory(stage=stage, name=name, points=tuple(points), goal=rule.goal, gate=rule.gate)


@record
class _Result:
    commit: Oid
    when: int
    subject: str
    source: str
    """The commit that it was made from, as its trailer says."""
    snapshot: Snapshot
    changed: Sequence[str]
    """Paths of records."""
    added: Collection[str]
    """Those that no parent has."""


def _results(repo: Repository, odb: GitOdb, revision: Oid, limit: int | None) -> Iterator[_Result]:
    """The commits that changed any record, newest first."""
    # of a merge git names, with -c, only what differs from all of its parents
    arguments = ["log", "--topo-order", "--no-show-signature", "-c", "--name-status", "--no-renames", "--no-relative"]
    if limit is not None:
        arguments.append(f"--max-count={limit}")
    listed: list[tuple[Oid, dict[str, str]]] = []
    for line in repo.git.lines(
        *arguments, "--format=commit %H", revision.hex(), "--", f":(top,literal){text_of(RECORDS)}"
    ):
        if line.startswith("commit "):
            listed.append((Oid.parse(line.removeprefix("commit ")), {}))
        elif line:
            # of a merge there is a letter for each parent
            how, _, path = line.partition("\t")
            listed[-1][1][path] = how
    for oid, changed in listed:
        commit = parse_commit(odb.read(oid)[1])
        subject, source = _subject(commit.message), parse_trailers(commit.message).get("Gitml-Source", "")
        added = [path for path, how in changed.items() if set(how) == {"A"}]
        yield _Result(
            oid, commit.committer.time, subject, source, Snapshot(odb, commit.tree), list(changed), added
        )  # fmt: skip


def _subject(message: bytes) -> str:
    return message.decode("utf-8", "replace").strip().partition("\n")[0]
