"""What a stage would do with each datum at a commit, without running anything."""

from collections.abc import Iterator
from enum import StrEnum

from gitml.errors import UserError
from gitml.pipeline.cache import RunCache
from gitml.pipeline.choice import no_such_stage
from gitml.pipeline.datum import Datum
from gitml.pipeline.plan import StageStatus, evaluate_stage
from gitml.pipeline.survey import Survey, Surveyor
from gitml.record import record


class DatumState(StrEnum):
    """What is known of a datum."""

    KNOWN = "known"
    """Its result is in the run cache."""
    FAILED = "failed"
    """It failed for these inputs; hooks do not try it again."""
    TO_RUN = "to-run"


@record
class DatumLine:
    """One datum, the key of its task, and what is known of it."""

    datum: Datum
    key: str
    state: DatumState


def as_it_stands(surveyor: Surveyor, survey: Survey, name: str) -> StageStatus:
    """The status of a stage with its inputs as they stand in the tree, settled or not.

    Raise `UserError` for a stage that is not there, or one of whose inputs is not.
    """
    assert survey.pipeline is not None
    try:
        stage = survey.pipeline.stage(name)
    except KeyError:
        raise no_such_stage(survey.pipeline, name) from None
    settled = next(each for each in survey.statuses if each.stage.name == name)
    if settled.key is not None:
        return settled
    status = evaluate_stage(survey.pipeline, stage, survey.snapshot, surveyor.knowledge(survey.commit), ())
    if status.key is None:
        raise UserError(f"'{name}': {status.reason}", hint="git ml status")
    return status


def preview(cache: RunCache, status: StageStatus) -> Iterator[DatumLine]:
    """The datums of a stage in order; reads only what it must, one datum after the other."""
    assert status.key is not None
    failure = cache.failure_record(status.key)
    run = str(failure["run"]) if failure is not None and "run" in failure else None
    for datum, key in zip(status.datums, status.task_keys, strict=True):
        if cache.knows(key):
            state = DatumState.KNOWN
        elif run is not None and cache.has_failed(run, key):
            state = DatumState.FAILED
        else:
            state = DatumState.TO_RUN
        yield DatumLine(datum, key, state)
