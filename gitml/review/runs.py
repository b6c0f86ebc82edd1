"""A run, and the commits that it has to do with: what it was made from, and the results that it made."""

from collections.abc import Mapping
from typing import Any

from gitml.errors import UserError
from gitml.git.commits import parse_commit, parse_trailers, reverted_by
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.record import record

_MOST_COMMITS = 1000
"""Commits that are looked at for the last result."""


@record(kw_only=True)
class Run:
    """A run as far as it is known here."""

    id: str
    record: Mapping[str, Any] | None
    """Times, host, environment, status; None if this clone does not have it."""
    tasks: tuple[Mapping[str, Any], ...]
    """What became of each task that it executed."""
    source: Oid | None
    """The commit that it was for; None if nobody knows."""
    results: tuple[Oid, ...]
    """The commits of HEAD's history that it made."""


@record(kw_only=True)
class Made:
    """A commit and the runs that it has to do with."""

    commit: Oid
    made_by: str | None
    """The run, if it is a result."""
    runs: tuple[Run, ...]
    """That run, or those that were for this commit."""


def run_of(repo: Repository, odb: GitOdb, cache: RunCache, run: str) -> Run | None:
    """A run by its id; None if there is none that is known here."""
    record = cache.run(run) if run.isalnum() else None
    results = results_of_run(repo, run)
    if record is None and not results:
        return None
    source = str(record.get("source", "")) if record is not None else ""
    if not source:
        source = (
            parse_trailers(parse_commit(odb.read(results[-1])[1]).message).get("Gitml-Source", "") if results else ""
        )
    named = odb.lookup(f"{source}^{{commit}}") if source and set(source) <= set("0123456789abcdef") else None
    return Run(
        id=run,
        record=record,
        tasks=tuple(cache.tasks_of(run)),
        source=None if named is None else named[0],
        results=tuple(results),
    )


def made_by(repo: Repository, odb: GitOdb, cache: RunCache, commit: Oid) -> Made:
    """The run that made a result, or the runs whose results were made from a commit. Raise `UserError` for neither."""
    own = parse_trailers(parse_commit(odb.read(commit)[1]).message).get("Gitml-Run")
    found = run_of(repo, odb, cache, own) if own is not None else None
    if found is not None:
        return Made(commit=commit, made_by=own, runs=(found,))
    lines = repo.git.lines(
        "log", "--format=%(trailers:key=Gitml-Run,valueonly,separator=%x20)", "--fixed-strings",
        f"--grep=Gitml-Source: {commit.hex()}", "HEAD",
    )  # fmt: skip
    runs = [run_of(repo, odb, cache, name) for name in dict.fromkeys(line.split()[0] for line in lines if line.split())]
    if not any(runs):
        raise UserError(
            f"no result in the history of HEAD was made from {commit.hex()[:10]}",
            hint="git ml status; what its data went into: git ml why --reaches REV",
        )
    return Made(commit=commit, made_by=None, runs=tuple(run for run in runs if run is not None))


def results_of_run(repo: Repository, run: str) -> list[Oid]:
    """The commits of HEAD's history that a run made."""
    if not run or not run.isalnum():
        return []
    lines = repo.git.lines(
        "log", "--format=%H %(trailers:key=Gitml-Run,valueonly,separator=%x20)", "--fixed-strings",
        f"--grep=Gitml-Run: {run}", "HEAD",
    )  # fmt: skip
    return [Oid.parse(line.split()[0]) for line in lines if run in line.split()[1:]]


def last_result(repo: Repository, odb: GitOdb) -> Oid | None:
    """The newest result of HEAD's own line of history that was not reverted, None if there is none."""
    reverted: set[Oid] = set()
    lines = repo.git.lines("rev-list", "--first-parent", f"--max-count={_MOST_COMMITS}", "HEAD")
    for commit in map(Oid.parse, lines):
        message = parse_commit(odb.read(commit)[1]).message
        if "Gitml-Run" in parse_trailers(message) and commit not in reverted:
            return commit
        if commit not in reverted:  # a revert that was itself reverted counts for nothing
            reverted.update(reverted_by(message))
    return None
