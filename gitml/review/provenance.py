"""Which runs made the results of the new side: where, when, in what, and from which commit."""

from collections.abc import Iterable, Iterator

from gitml.pipeline.cache import RunCache
from gitml.pipeline.plan import StageStatus
from gitml.review.comparison import MadeBy


def makers(cache: RunCache, statuses: Iterable[StageStatus]) -> Iterator[MadeBy]:
    """The runs that are known here to have made the results of these stages, in the order of the stages."""
    stages: dict[str, list[str]] = {}
    for status in statuses:
        record = status.record
        noted = cache.stage_record(record.key, record.output_tree) if record is not None else None
        if noted is not None and "run" in noted:
            stages.setdefault(str(noted["run"]), []).append(status.stage.name)
    for run, names in stages.items():
        told = cache.run(run) or {}
        python = ((told.get("environment") or {}).get("python") or {}).get("python")
        yield MadeBy(
            run=run, stages=tuple(names), source=str(told.get("source") or ""), host=str(told.get("host") or ""),
            sandbox=str(told.get("sandbox") or ""), started=_moment(told.get("started")),
            python="" if python is None else str(python),
        )  # fmt: skip


def _moment(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
