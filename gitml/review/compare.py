"""Comparing two commits: reads both, runs nothing."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from gitml.errors import GitmlError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline.cache import RunCache
from gitml.pipeline.journal import read_metrics, read_noise
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.reason import param_differences, why_stale
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.survey import Survey, Surveyor
from gitml.provenance.codec import Json
from gitml.record import record, replace
from gitml.review.comparison import (
    Comparison,
    Cost,
    CostChange,
    FileChange,
    LeakageChange,
    MetricChange,
    ParamChange,
    PictureChange,
    PlotChange,
    PredictionChange,
    Side,
    StageChange,
)
from gitml.review.failures import failures
from gitml.review.files import file_changes
from gitml.review.leakage import leakage_changes
from gitml.review.lineage import pipeline_graph
from gitml.review.metrics import metric_changes
from gitml.review.models import model_changes
from gitml.review.pictures import picture_changes
from gitml.review.plots import plot_changes
from gitml.review.predictions import prediction_changes
from gitml.review.provenance import makers
from gitml.review.tables import table_changes
from gitml.store.tree import Snapshot

LOOKS_INTO = ("tables", "predictions", "model", "plots")
"""What is compared by what is in the files; as `--only` calls it."""
_MOST_TASKS = 5000
"""Tasks of a stage whose records are read to say what it cost."""


@record
class _Seen:
    """A side, and where its stages stand."""

    side: Side
    snapshot: Snapshot
    statuses: Mapping[str, StageStatus]


def compare(
    repo: Repository,
    odb: GitOdb,
    surveyor: Surveyor,
    old: Side,
    new: Side,
    *,
    tolerances: Mapping[str, float] | None = None,
    pathspecs: Sequence[str] = (),
    look_into: Collection[str] = LOOKS_INTO,
    key: Sequence[str] = (),
    masked: Sequence[str] = (),
    forge: str | None = None,
) -> Comparison:
    """Everything that is known of the difference between two commits.

    `tolerances` as for `metric_changes`; `pathspecs` limit the files. A pipeline that cannot be read is a problem of
    its side, not an error. `look_into` says whether tables, predictions, models and plots are
    compared by what is in them, which may take seconds; `key` and `masked` are for `table_changes`, `forge` for
    `picture_changes`.
    """
    before, now = _look(odb, surveyor, old), _look(odb, surveyor, new)
    both = [now.statuses[name].stage for name in now.statuses]
    both += [status.stage for name, status in before.statuses.items() if name not in now.statuses]
    code = {file.source for seen in (before, now) for status in seen.statuses.values() for file in status.code}
    files = file_changes(repo, before.snapshot.root, now.snapshot.root, both, code, pathspecs)
    trees = (old.commit, before.snapshot.root), (new.commit, now.snapshot.root)
    leakage = _leakage(repo, before, now, masked) if "tables" in look_into else []
    predictions = _predictions(repo, before, now, masked) if "predictions" in look_into else []
    models = model_changes(repo, *trees, files) if "model" in look_into else []
    plots = _plots(repo, before, now) if "plots" in look_into else []
    # what is shown example by example, or drawn, is not shown row by row as well
    shown = _shown(predictions, plots)
    others = [file for file in files if file.path not in shown]
    tables = table_changes(repo, *trees, others, key=key, masked=masked) if "tables" in look_into else []
    pictures = _pictures(repo, before, now, forge) if "plots" in look_into else []
    stages = tuple(_stages(surveyor.cache, before, now))
    return Comparison(
        old=before.side,
        new=now.side,
        stages_total=len(now.statuses),
        metrics=tuple(_metrics(before, now, tolerances)),
        stages=stages,
        params=tuple(_params(before, now)),
        files=tuple(files),
        tables=tuple(tables),
        leakage=tuple(leakage),
        predictions=tuple(predictions),
        models=tuple(models),
        plots=tuple(plots),
        pictures=tuple(pictures),
        costs=tuple(_costs(surveyor.cache, before, now, files)),
        makers=tuple(makers(surveyor.cache, _anew(before, now))),
        libraries=_libraries(surveyor.cache, before, now),
        pipeline=pipeline_graph(before.statuses, now.statuses, stages, files),
    )


def _look(odb: GitOdb, surveyor: Surveyor, side: Side) -> _Seen:
    try:
        survey = surveyor.survey(side.commit)
    except GitmlError as error:
        snapshot = Snapshot(odb, surveyor.tree_of(side.commit))
        return _Seen(replace(side, problem=error.message), snapshot, {})
    return _Seen(side, survey.snapshot, _by_name(survey))


def _by_name(survey: Survey) -> dict[str, StageStatus]:
    return {status.stage.name: status for status in survey.statuses}


def _metrics(before: _Seen, now: _Seen, tolerances: Mapping[str, float] | None) -> Iterator[MetricChange]:
    for name in dict.fromkeys([*now.statuses, *before.statuses]):
        status = now.statuses.get(name)
        known = status or before.statuses[name]
        yield from metric_changes(
            known.stage,
            _numbers(before, name),
            _numbers(now, name),
            fresh=status is not None and status.state is State.FRESH,
            tolerances=tolerances,
            noise=(_noise(before, name), _noise(now, name)),
        )


def _numbers(seen: _Seen, name: str) -> Mapping[str, float]:
    status = seen.statuses.get(name)
    return {} if status is None else read_metrics(seen.snapshot, status.stage.output, status.stage.metrics)


def _noise(seen: _Seen, name: str) -> Mapping[str, float]:
    status = seen.statuses.get(name)
    return {} if status is None else read_noise(seen.snapshot, status.stage.output, status.stage.metrics)


def _stages(cache: RunCache, before: _Seen, now: _Seen) -> Iterator[StageChange]:
    for name, status in now.statuses.items():
        earlier = before.statuses.get(name)
        made_anew = earlier is not None and _made_anew(earlier, status)
        what = "added" if earlier is None else "made anew" if made_anew else ""
        if earlier is not None and earlier.record is None and status.record is not None:
            what = "first result"
        if not what and status.state is State.FRESH:
            continue
        yield StageChange(
            stage=name, what=what, causes=_causes(earlier, status, now.snapshot) if earlier is not None else "",
            state=str(status.state), reason=status.reason, failures=failures(cache, status),
            failed=status.failure.failed if status.failure is not None else 0,
            output_changed=earlier is None or earlier.output != status.output,
        )  # fmt: skip
    for name in before.statuses:
        if name not in now.statuses:
            yield StageChange(stage=name, what="removed", output_changed=True)


def _made_anew(earlier: StageStatus, status: StageStatus) -> bool:
    """Whether the records of both sides are those of different inputs, or of different results for the same."""
    if earlier.record is None or status.record is None:
        return earlier.record is not status.record
    old, new = earlier.record, status.record
    return (old.key, old.output_tree) != (new.key, new.output_tree)


def _causes(earlier: StageStatus, status: StageStatus, snapshot: Snapshot) -> str:
    """Why the results of the new side are not those of the old."""
    record = earlier.record
    if record is None or (status.record is not None and status.record.key == record.key):
        return ""
    return why_stale(status.stage, snapshot, status.reading.entries, record, status.code, status.params)


def _params(before: _Seen, now: _Seen) -> Iterator[ParamChange]:
    found: dict[tuple[str, str], tuple[tuple[Json] | None, tuple[Json] | None, list[str]]] = {}
    for name in dict.fromkeys([*now.statuses, *before.statuses]):
        old, new = (_values(seen, name) for seen in (before, now))
        for path, key, value, value_now in param_differences(old, new):
            found.setdefault((path, key), (value, value_now, []))[2].append(name)
    for (path, key), (value, value_now, stages) in sorted(found.items()):
        yield ParamChange(path=path, key=key, old=value, new=value_now, stages=tuple(stages))


def _values(seen: _Seen, name: str) -> Mapping[str, Mapping[str, Json]]:
    status = seen.statuses.get(name)
    return {} if status is None else status.params.value


def _leakage(repo: Repository, before: _Seen, now: _Seen, masked: Sequence[str]) -> list[LeakageChange]:
    stages = [(earlier, stage) for earlier, stage, _ in _paired(before, now)]
    old, new = (before.side.commit, before.snapshot), (now.side.commit, now.snapshot)
    return leakage_changes(repo, old, new, stages, masked=masked)


def _predictions(repo: Repository, before: _Seen, now: _Seen, masked: Sequence[str]) -> list[PredictionChange]:
    old, new = (before.side.commit, before.snapshot), (now.side.commit, now.snapshot)
    return prediction_changes(repo, old, new, _paired(before, now), masked=masked)


def _shown(predictions: Iterable[PredictionChange], plots: Iterable[PlotChange]) -> set[bytes]:
    """The tables of which both versions were read as predictions or as lines."""
    compared = {each.path for each in predictions if each.diff is not None and not each.diff.opaque}
    drawn = {each.path for each in plots if all(side is not None and not side.opaque for side in (each.old, each.new))}
    return compared | drawn


def _plots(repo: Repository, before: _Seen, now: _Seen) -> list[PlotChange]:
    old, new = (before.side.commit, before.snapshot), (now.side.commit, now.snapshot)
    return plot_changes(repo, old, new, _paired(before, now))


def _pictures(repo: Repository, before: _Seen, now: _Seen, forge: str | None) -> list[PictureChange]:
    old, new = (before.side, before.snapshot), (now.side, now.snapshot)
    return picture_changes(repo, old, new, _paired(before, now), forge=forge)


def _paired(before: _Seen, now: _Seen) -> Iterator[tuple[Stage | None, Stage, bool]]:
    """The stages of the new side, each with what it was on the old side, and whether its results are fresh."""
    for name, status in now.statuses.items():
        earlier = before.statuses[name].stage if name in before.statuses else None
        yield earlier, status.stage, status.state is State.FRESH


def _costs(cache: RunCache, before: _Seen, now: _Seen, files: Sequence[FileChange]) -> Iterator[CostChange]:
    stored: dict[str | None, int | None] = {}
    for file in files:
        if not file.gone:
            before_it = stored.get(file.stage, 0)
            stored[file.stage] = None if file.stored is None or before_it is None else before_it + file.stored
    for name, status in now.statuses.items():
        earlier = before.statuses.get(name)
        if earlier is not None and not _made_anew(earlier, status):
            continue
        old, new = None if earlier is None else _cost(cache, earlier), _cost(cache, status)
        if old is not None or new is not None:
            keys = set(status.task_keys)
            yield CostChange(
                stage=name, old=old, new=new, stored=stored.get(name, 0),
                reused=None if not keys else len(keys & set(earlier.task_keys if earlier is not None else ())),
            )  # fmt: skip


def _anew(before: _Seen, now: _Seen) -> Iterator[StageStatus]:
    """The stages of the new side whose results the old side has not got."""
    for name, status in now.statuses.items():
        earlier = before.statuses.get(name)
        if status.record is not None and (earlier is None or _made_anew(earlier, status)):
            yield status


def _cost(cache: RunCache, status: StageStatus) -> Cost | None:
    """What the tasks of a fresh stage took, whichever run did them; None if that is not known of all."""
    if status.state is not State.FRESH or not status.task_keys or len(status.task_keys) > _MOST_TASKS:
        return None
    seconds, memory = 0.0, 0
    processor: float | None = 0.0
    for key in status.task_keys:
        task = cache.task(key)
        if task is None or not isinstance(task.record.get("seconds"), int | float):
            return None
        seconds += task.record["seconds"]
        memory = max(memory, task.record.get("max_rss") or 0)
        known = task.record.get("cpu_seconds")
        processor = processor + known if processor is not None and isinstance(known, int | float) else None
    return Cost(seconds=seconds, tasks=len(status.task_keys), memory=memory or None, cpu_seconds=processor)


def _libraries(cache: RunCache, before: _Seen, now: _Seen) -> dict[str, tuple[str | None, str | None]]:
    """Versions that differ between the runs that made the results."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for name, status in now.statuses.items():
        earlier = before.statuses.get(name)
        if earlier is None or not _made_anew(earlier, status):
            continue
        old, new = _versions(cache, earlier), _versions(cache, status)
        if old and new:
            pairs = {each: (old.get(each), new.get(each)) for each in sorted({*old, *new})}
            found.update({each: pair for each, pair in pairs.items() if pair[0] != pair[1]})
    return found


def _versions(cache: RunCache, status: StageStatus) -> dict[str, str]:
    record = status.record
    noted = cache.stage_record(record.key, record.output_tree) if record is not None else None
    run = cache.run(str(noted["run"])) if noted is not None and "run" in noted else None
    python = ((run or {}).get("environment") or {}).get("python") or {}
    versions = {str(name): str(version) for name, version in (python.get("libraries") or {}).items()}
    if "python" in python:
        versions["python"] = str(python["python"])
    return versions
