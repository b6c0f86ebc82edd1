"""Which commit broke a metric, from results that are known; nothing is run unless somebody is given that does.

Committed results say between which two of them the metric broke. The commits between those are suspects; whichever has
a result of its own, committed or only in the run cache, is judged too. A commit is to blame if it is bad and all of its
parents are good, as in `git bisect`, so merges are no special case.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

from gitml.errors import GitmlError, UserError
from gitml.git.commits import parse_commit, parse_trailers
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.journal import JournalEntry, journal, read_metrics
from gitml.pipeline.plan import State
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.survey import Surveyor
from gitml.record import record
from gitml.store.tree import Snapshot

__all__ = ["Bounds", "Breakage", "Suspect", "find_breakage"]


@record
class Bounds:
    """What is good: from `low` to `high`, either of which may be None."""

    low: float | None
    high: float | None

    def holds(self, value: float) -> bool:
        """Whether a value is good; one that is no number is not."""
        return (
            not math.isnan(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
        )


@record
class Suspect:
    """A commit that may have broken the metric. `value` is None if there is no result of it."""

    commit: Oid
    value: float | None
    tried: bool = False
    """Whether a run of it gave no value."""


@record
class Breakage:
    """Between which results a metric broke, and who may have done it."""

    good: JournalEntry
    bad: JournalEntry
    suspects: tuple[Suspect, ...]
    """Oldest first; one of these is to blame."""


def find_breakage(
    repo: Repository,
    odb: GitOdb,
    surveyor: Surveyor,
    stage: Stage,
    metric: str,
    bounds: Bounds,
    *,
    good: Oid | None,
    bad: Oid,
    attempt: Callable[[Oid], None] | None = None,
) -> Breakage | None:
    """Who broke a metric of a stage between `good` (None: ever) and `bad`; None if the newest result is good.

    `attempt` has the stage run at a commit and leaves the result in the run cache; whatever comes of it, it is not
    called for that commit again. Raise `UserError` if no result has the metric, or none before the first bad one is
    good.
    """
    results = [entry for entry in journal(repo, odb, bad, stage, follow=True) if metric in entry.metrics]
    if good is not None:
        newer = set(repo.git.lines("rev-list", bad.hex(), f"^{good.hex()}"))
        until = next((at for at, entry in enumerate(results) if entry.commit.hex() not in newer), len(results))
        results = results[: until + 1]
    if not results:
        raise UserError(f"no result of '{stage.name}' has a metric '{metric}'", hint=f"git ml log {stage.name}")
    if bounds.holds(results[0].metrics[metric]):
        return None
    for newer_one, older in pairwise(results):
        if bounds.holds(older.metrics[metric]):
            # a stage may have had another name
            names = {entry.record.stage for entry in results if entry.record is not None}
            search = _Search(repo, odb, surveyor, {stage.name, *names}, stage, metric, bounds)
            return Breakage(older, newer_one, search.suspects(older.commit, newer_one.commit, attempt))
    raise UserError(
        f"no earlier result of '{stage.name}' is good: the oldest has {metric} {results[-1].metrics[metric]:.6g}",
        hint="other bounds, or a range that begins earlier",
    )


class _Search:
    """Judging commits."""

    def __init__(
        self, repo: Repository, odb: GitOdb, surveyor: Surveyor, names: Collection[str], stage: Stage, metric: str,
        bounds: Bounds,
    ) -> None:  # fmt: skip
        self._repo = repo
        self._odb = odb
        self._surveyor = surveyor
        self._names = names
        self._stage = stage
        self._metric = metric
        self._bounds = bounds

    def suspects(self, good: Oid, bad: Oid, attempt: Callable[[Oid], None] | None) -> tuple[Suspect, ...]:
        """What may have broken the metric between a good and a bad commit."""
        parents = self._between(good, bad)
        values = {commit: self.value(commit) for commit in parents}
        values[bad] = self.value(bad) if values.get(bad) is None else values[bad]
        tried: set[Oid] = set()
        while True:
            left = self._to_blame(parents, values)
            open_ones = [commit for commit in left if values[commit] is None and commit not in tried]
            if attempt is None or len(left) < 2 or not open_ones:
                return tuple(Suspect(commit, values[commit], commit in tried) for commit in left)
            commit = open_ones[len(open_ones) // 2]
            tried.add(commit)
            attempt(commit)
            self._surveyor.cache.refresh()
            values[commit] = self.value(commit)

    def _between(self, good: Oid, bad: Oid) -> dict[Oid, tuple[Oid, ...]]:
        """The commits that `bad` reaches and `good` does not, oldest first, with their parents among them."""
        lines = self._repo.git.lines("rev-list", "--topo-order", "--reverse", "--parents", bad.hex(), f"^{good.hex()}")
        listed = [tuple(Oid.parse(each) for each in line.split()) for line in lines]
        inside = {commit for commit, *_ in listed}
        return {commit: tuple(parent for parent in above if parent in inside) for commit, *above in listed}

    def _to_blame(self, parents: Mapping[Oid, Sequence[Oid]], values: Mapping[Oid, float | None]) -> list[Oid]:
        """The commits that are not cleared: behind no good one, before every bad one. Results blame their source."""
        cleared: set[Oid] = set()
        guilty: list[set[Oid]] = []
        above: dict[Oid, set[Oid]] = {}
        for commit, direct in parents.items():
            above[commit] = {commit}.union(*(above[parent] for parent in direct))
            value = values[commit]
            if value is None:
                continue
            if self._bounds.holds(value):
                cleared |= above[commit]
            else:
                guilty.append(above[commit])
        # whatever is bad is at or after the one to blame: the smallest history of a bad commit holds it
        smallest = min(guilty, key=lambda each: len(each - cleared), default=set(parents))
        left = [commit for commit in parents if commit in smallest - cleared]
        return [commit for commit in left if not self._is_result(commit)] or left

    def _is_result(self, commit: Oid) -> bool:
        return "Gitml-Run" in parse_trailers(parse_commit(self._odb.read(commit)[1]).message)

    def value(self, commit: Oid) -> float | None:
        """The metric of what a commit's own inputs give, as far as that is known."""
        try:
            survey = self._surveyor.survey(commit)
        except GitmlError:
            return None  # a pipeline that cannot be read has no results
        status = next((each for each in survey.statuses if each.stage.name in self._names), None)
        if status is None:
            return None
        # fresh and missing: the result is known; all else has none, or one that somebody changed
        output = {State.FRESH: status.output, State.MISSING: status.result}.get(status.state)
        if output is None:
            return None
        snapshot = Snapshot(self._odb, output)
        for metrics in (self._stage.metrics, status.stage.metrics):
            value = read_metrics(snapshot, b"", metrics).get(self._metric)
            if value is not None:
                return value
        return None
