"""Loading the pipeline of a tree, templates evaluated: for everything outside `pipeline.spec`, which does no I/O."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from gitml.pipeline import FILE
from gitml.pipeline.spec import load
from gitml.pipeline.spec.error import SpecError
from gitml.pipeline.spec.load import Checked
from gitml.pipeline.spec.model import Pipeline
from gitml.pipeline.spec.template import Evaluate, Refusal, Request
from gitml.store.tree import Snapshot


def load_pipeline(snapshot: Snapshot) -> Pipeline | None:
    """The pipeline of a tree, None if it has no `pipeline.json`. Raises as `spec.load_pipeline` does."""
    return load.load_pipeline(snapshot, evaluate)


def load_asked(snapshot: Snapshot) -> Pipeline | None:
    """As `load_pipeline`, for whoever asked for it: if there is more wrong than the first problem, the hint says so."""
    try:
        return load_pipeline(snapshot)
    except SpecError as error:
        others = len(check_pipeline(snapshot, FILE.encode()).problems) - 1
        what = f"{others} more problem{'s' if others != 1 else ''}; all of them" if others > 0 else "check a change"
        hint = f"{what}: git ml validate"
        raise SpecError(
            error.place, error.problem, hint=f"{error.hint}\n{hint}" if error.hint else hint, position=error.position
        ) from None


def effective_specification(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """The specification that holds for a stage, as `spec.load.effective_specification` gives it."""
    return load.effective_specification(snapshot, name, evaluate)


def check_pipeline(snapshot: Snapshot, document: bytes | None, files: Sequence[bytes] = ()) -> Checked:
    """Everything that is wrong with a pipeline, as `spec.load.check_pipeline` finds it."""
    return load.check_pipeline(snapshot, document, files, evaluate)


def evaluate(requests: Sequence[Request]) -> Sequence[str | Refusal]:
    """The values of templates; each is evaluated once in this process, as history asks for the same ones again."""
    return _evaluator()(requests)


@lru_cache(maxsize=1)
def _evaluator() -> Evaluate:
    from gitml.pipeline.jsonnet import Evaluator  # few pipelines have templates  # noqa: PLC0415

    return Evaluator()
