"""How a stage's results went over the commits: its records in history, with metrics and what changed each time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gitml.errors import CorruptError, UserError
from gitml.git.commits import parse_commit, parse_trailers, reverted_by
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.loading import load_pipeline
from gitml.pipeline.spec.model import Metric, Stage
from gitml.provenance.codec import bytes_of
from gitml.provenance.record import RECORDS, Record, parse_record, record_path
from gitml.record import field, record, replace
from gitml.store.odb import MissingObjectError
from gitml.store.tree import Snapshot, empty_tree


@record
class JournalEntry:
    """One commit that changed a stage's record."""

    commit: Oid
    short: str
    """The commit as git abbreviates it here."""
    when: int
    """Committer date, seconds since the epoch."""
    before: Oid | None
    """The commit of the result that this one followed; of a merge that of the first side."""
    subject: str
    source: str
    """Subject of the commit whose data or code made the result; that of `commit` itself if it is not a result. Where a
    run was for several commits, the subjects of those that changed what differs from the result before."""
    record: Record | None
    reverts: tuple[tuple[str, str], ...] = ()
    """The commits that `commit` says it reverts, if it is no result: abbreviated, and the subject of what each was
    made from."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    """Standard errors of metrics, by their names, where known."""


_NAMED = 8
"""Metrics that are named where one is missing."""
_MOST_BETWEEN = 100
"""Commits that are looked at for what a result came from."""
_MOST_CAUSES = 3
"""Commits that are named as the causes of one result."""
_FORMAT = "%H%x00%h%x00%T%x00%P%x00%ct%x00%s%x00%(trailers:key=Gitml-Source,valueonly,separator=%x20)"


def journal(
    repo: Repository, odb: GitOdb, start: Oid, stage: Stage, limit: int | None = None, *, sides: bool = False,
    follow: bool = False,
) -> list[JournalEntry]:  # fmt: skip
    """What history says of a stage, newest first; with `sides` also of branches whose results a merge did not take.

    With `follow` it goes on with the name that the stage had before, as the results tell: see `former_name`.
    """
    path = record_path(stage.name).decode()
    # --parents: those that the path was followed to, not those of the commit
    arguments = ["log", "--parents", "--no-show-signature", f"--format={_FORMAT}"]
    if sides:
        arguments += ["--simplify-merges"]
    if limit is not None:
        arguments.append(f"--max-count={limit}")
    entries = []
    for line in repo.git.lines(*arguments, start.hex(), "--", f":(top,literal){path}"):
        commit, short, tree, parents, when, subject, source = line.split("\0")
        snapshot = Snapshot(odb, Oid.parse(tree))
        record = _record(snapshot, stage.name)
        metrics, noise = measured(snapshot, stage, record) if record is not None else ({}, {})
        entries.append(
            JournalEntry(
                commit=Oid.parse(commit),
                short=short,
                before=Oid.parse(parents.split()[0]) if parents else None,
                when=int(when),
                subject=subject,
                source=(cause_of(odb, source.strip(), record) if record else _subject(odb, source.strip())) or subject,
                record=record,
                reverts=() if source.strip() else tuple(_reverted(odb, Oid.parse(commit), stage.name)),
                metrics=metrics,
                noise=noise,
            )
        )
    if follow and entries and (limit is None or len(entries) < limit):
        first = entries[-1]
        is_first = first.record is not None and first.before is None
        former = former_name(odb, first.commit, first.record) if is_first and first.record is not None else None
        if former is not None:
            parent, name = former
            left = None if limit is None else limit - len(entries)
            older = journal(repo, odb, parent, replace(stage, name=name), left, sides=sides, follow=True)
            if older:
                entries[-1] = replace(entries[-1], before=older[0].commit)
            entries += older
    return entries


def cause_of(odb: GitOdb, source: str, record: Record) -> str:
    """Subject of the commit that a `Gitml-Source` trailer names, empty if there is none.

    Where several commits of people lie between the result before and that commit, the subjects of those of them that
    changed what differs in `record`, the latest first.
    """
    found = odb.lookup(f"{source}^{{commit}}") if _is_name(source) else None
    if found is None:
        return ""
    before, between = _commits_between(odb, record_path(record.stage), found[0])
    if before is None or len(between) < 2:
        return _first_line(parse_commit(found[2]).message)
    changed, everywhere = _changed(before, record)
    told = []
    for path in changed:
        by = [commit for commit in between if commit.changes(path)]
        everywhere = everywhere or not by  # what a stage made, of which no commit of a person tells
        told += by
    subjects = [commit.subject for commit in between if everywhere or commit in told]
    more = f" and {len(subjects) - _MOST_CAUSES} more" if len(subjects) > _MOST_CAUSES else ""
    return ", ".join(subjects[:_MOST_CAUSES]) + more


@record
class _Step:
    """One commit of a person, and the tree of the commit before it."""

    subject: str
    tree: Snapshot
    before: Snapshot

    def changes(self, path: bytes) -> bool:
        """Whether something else stands at `path` since this commit."""
        return self.tree.get(path) != self.before.get(path)


def _commits_between(odb: GitOdb, place: bytes, source: Oid) -> tuple[Record | None, list[_Step]]:
    """The record that stood at `place` when `source` was made, and the commits since then that are no results.

    Newest first; None and nothing if there was no record, or merges or many commits lie between.
    """
    steps: list[_Step] = []
    at = source
    try:
        for _ in range(_MOST_BETWEEN):
            commit = parse_commit(odb.read(at)[1])
            here = Snapshot(odb, commit.tree)
            if len(commit.parents) != 1 or here.get(place) is None:
                break
            before = Snapshot(odb, parse_commit(odb.read(commit.parents[0])[1]).tree)
            if here.get(place) != before.get(place):
                return parse_record(here.read(place)), steps
            if "Gitml-Source" not in parse_trailers(commit.message):
                steps.append(_Step(_first_line(commit.message), here, before))
            at = commit.parents[0]
    except (CorruptError, MissingObjectError):  # a shallow clone, or what is no record
        pass
    return None, []


def _changed(before: Record, after: Record) -> tuple[list[bytes], bool]:
    """The inputs, code and files of parameters that differ between two results, and whether the specification does."""
    old = {part.path: part.entry for part in before.inputs} | {file.source: file.entry for file in before.code}
    new = {part.path: part.entry for part in after.inputs} | {file.source: file.entry for file in after.code}
    paths = [path for path in dict.fromkeys([*new, *old]) if old.get(path) != new.get(path)]
    files = sorted({*before.params, *after.params})
    paths += [bytes_of(file) for file in files if before.params.get(file) != after.params.get(file)]
    return paths, before.spec != after.spec


def former_name(odb: GitOdb, first: Oid, own: Record) -> tuple[Oid, str] | None:
    """A commit and what the stage was called there, if `first`, the first result of its name, is that of another name.

    That is one whose record was there before, which the pipeline has no more, and which has the same key or the same
    output. An empty output tells nothing.
    """
    commit = parse_commit(odb.read(first)[1])
    found = odb.lookup(f"{commit.parents[0]}^{{tree}}") if commit.parents else None
    if found is None:
        return None
    here, before = Snapshot(odb, commit.tree), Snapshot(odb, found[0])
    try:
        pipeline = load_pipeline(here)
    except UserError:
        return None
    names = {stage.name for stage in pipeline.stages} if pipeline is not None else set()
    likely: list[tuple[bool, bool, int, str]] = []
    for path, _ in before.walk(RECORDS):
        try:
            record = parse_record(before.read(path))
        except CorruptError:
            continue
        same_key = record.key == own.key
        same_output = record.output_tree == own.output_tree != empty_tree(odb.format)
        if record.stage not in names and (same_key or same_output):
            shared = len({*record.inputs} & {*own.inputs})
            likely.append((same_key, record.spec == own.spec, shared, record.stage))
    return (commit.parents[0], max(likely)[3]) if likely else None


def _reverted(odb: GitOdb, commit: Oid, stage_name: str) -> Iterator[tuple[str, str]]:
    for each in reverted_by(parse_commit(odb.read(commit)[1]).message):
        found = odb.lookup(f"{each}^{{commit}}")
        if found is not None:
            reverted = parse_commit(found[2])
            source = parse_trailers(reverted.message).get("Gitml-Source", "")
            record = _record(Snapshot(odb, reverted.tree), stage_name)
            made_from = cause_of(odb, source, record) if record is not None else _subject(odb, source)
            yield each.hex()[:7], made_from or _first_line(reverted.message)


def _first_line(message: bytes) -> str:
    return message.decode("utf-8", "surrogateescape").strip().partition("\n")[0]


def _subject(odb: GitOdb, source: str) -> str:
    """Of the commit that a trailer names; what is no name of an object is not given to git."""
    if not _is_name(source):
        return ""
    found = odb.lookup(f"{source}^{{commit}}")
    if found is None:
        return ""
    return _first_line(parse_commit(found[2]).message)


def _is_name(source: str) -> bool:
    return bool(source) and set(source) <= set("0123456789abcdef")


def _record(snapshot: Snapshot, stage_name: str) -> Record | None:
    try:
        return parse_record(snapshot.read(record_path(stage_name)))
    except (KeyError, CorruptError):
        return None


def measured(snapshot: Snapshot, stage: Stage, record: Record) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics of the result with this record, and their standard errors, as far as they are known.

    They stand where `stage` says; if those files are not all there, also where the pipeline of that time said.
    """
    found = read_metrics(snapshot, record.output_path, stage.metrics)
    errors = read_noise(snapshot, record.output_path, stage.metrics)
    base = record.output_path + b"/" if record.output_path else b""
    if all(snapshot.get(base + metric.path.encode()) is not None for metric in stage.metrics):
        return found, errors
    try:
        pipeline = load_pipeline(snapshot)
    except UserError:
        return found, errors
    for then in pipeline.stages if pipeline is not None else ():
        if then.name == record.stage:
            found = read_metrics(snapshot, record.output_path, then.metrics) | found
            errors = read_noise(snapshot, record.output_path, then.metrics) | errors
    return found, errors


def read_metrics(snapshot: Snapshot, output: bytes, metrics: Sequence[Metric]) -> dict[str, float]:
    """The numbers that the stage's metrics files hold in this tree; names are dotted keys.

    `output` is empty if the tree is that of the output itself.
    """
    found: dict[str, float] = {}
    for path, numbers in _files(snapshot, output, metrics):
        named = {metric.name for metric in metrics if metric.path == path and metric.name is not None}
        everything = any(metric.path == path and metric.name is None for metric in metrics)
        found.update({name: value for name, value in numbers.items() if everything or name in named})
    return found


def read_noise(snapshot: Snapshot, output: bytes, metrics: Sequence[Metric]) -> dict[str, float]:
    """The standard errors of the stage's metrics in this tree, by the names of these, where they are known."""
    errors = {(metric.path, metric.name): metric.noise for metric in metrics if metric.name and metric.noise}
    return {
        name: numbers[noise]
        for path, numbers in _files(snapshot, output, [metric for metric in metrics if metric.noise])
        for (file, name), noise in errors.items()
        if file == path and noise in numbers
    }


def _files(snapshot: Snapshot, output: bytes, metrics: Sequence[Metric]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Each file that metrics name, with all numbers in it."""
    base = output + b"/" if output else b""
    for path in dict.fromkeys(metric.path for metric in metrics):
        try:
            yield path, dict(_numbers(_load(path, snapshot.read(base + path.encode()))))
        except (KeyError, ValueError):
            continue  # not there, or not what its name says: no numbers


def absent_metrics(snapshot: Snapshot, stage: Stage) -> list[str]:
    """A sentence for each metric that a stage declares and its results in this tree do not have."""
    files = dict(_files(snapshot, stage.output, stage.metrics))
    absent: dict[str, None] = {}
    for metric in stage.metrics:
        numbers = files.get(metric.path)
        if numbers is None:
            absent[f"there is no file of metrics '{metric.path}' that can be read"] = None
        elif metric.name is not None and metric.name not in numbers:
            known = f"; there are: {', '.join(list(numbers)[:_NAMED])}" if numbers else ""
            absent[f"there is no '{metric.name}' in '{metric.path}'{known}"] = None
    return list(absent)


def gate_breaches(snapshot: Snapshot, stage: Stage) -> list[str]:
    """A sentence for each metric of a stage that is outside its gate in this tree."""
    found = read_metrics(snapshot, stage.output, stage.metrics)
    breaches = []
    for metric in stage.metrics:
        value = found.get(metric.name) if metric.name is not None else None
        low, high = metric.gate
        if value is not None and low is not None and value < low:
            breaches.append(f"{metric.name} {value:.5g} is below its gate, {low:g}")
        elif value is not None and high is not None and value > high:
            breaches.append(f"{metric.name} {value:.5g} is above its gate, {high:g}")
    return breaches


def _load(path: str, data: bytes) -> Any:
    if path.endswith((".yaml", ".yml")):
        import yaml  # noqa: PLC0415 - 20 ms that only YAML metrics need

        try:
            return yaml.safe_load(data)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None
    if path.endswith(".toml"):
        import tomllib  # noqa: PLC0415 - as for YAML

        return tomllib.loads(data.decode())
    return json.loads(data)


def _numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        yield prefix, float(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, f"{prefix}.{name}" if prefix else str(name))
