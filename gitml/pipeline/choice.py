"""Which stages and which datums a run is asked for."""

from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase

from gitml.errors import UserError
from gitml.pipeline.datum import Datum
from gitml.pipeline.spec.model import Pipeline
from gitml.provenance.codec import text_of
from gitml.record import record


@record(kw_only=True)
class Choice:
    """Stages named on a command line, and how far to go from them."""

    stages: frozenset[str] | None = None
    """None: all."""
    single: bool = False
    """Without what they read: their inputs count as they stand."""
    downstream: bool = False
    """Also everything that reads them, directly or through others."""
    until: frozenset[str] | None = None
    """Nothing beyond these: only they and what they need."""

    def check(self, pipeline: Pipeline) -> None:
        """Raise `UserError` for a stage that the pipeline does not have."""
        known = {stage.name for stage in pipeline.stages}
        for name in sorted({*(self.stages or ()), *(self.until or ())}):
            if name not in known:
                raise no_such_stage(pipeline, name)

    def of(self, pipeline: Pipeline) -> frozenset[str]:
        """The stages that may be brought up to date."""
        chosen = set(self.stages) if self.stages is not None else {stage.name for stage in pipeline.stages}
        if self.downstream:
            for stage in pipeline.stages:
                if any(leaf.upstream in chosen for leaf in stage.inputs):
                    chosen.add(stage.name)
        if self.until is not None:
            chosen &= needed(pipeline, self.until)
        return frozenset(chosen if self.single else needed(pipeline, chosen))

    def names(self, stage: str) -> bool:
        """Whether the stage was named, not only reached from one that was."""
        return self.stages is not None and stage in self.stages


def no_such_stage(pipeline: Pipeline, name: str) -> UserError:
    """What to say about a name that none of the stages has that run here."""
    left_out = next((stage for stage in pipeline.left_out if stage.name == name), None)
    if left_out is not None:
        return UserError(f"stage '{name}' is left out: {left_out.why}", hint=left_out.hint)
    return UserError(
        f"there is no stage '{name}'", hint=f"stages: {', '.join(stage.name for stage in pipeline.stages)}"
    )


def needed(pipeline: Pipeline, stages: Iterable[str]) -> set[str]:
    """These stages and all that they read, directly or through others."""
    wanted = set(stages)
    for stage in reversed(pipeline.stages):
        if stage.name in wanted:
            wanted |= {leaf.upstream for leaf in stage.inputs if leaf.upstream is not None}
    return wanted


def datum_filter(patterns: Collection[str]) -> Callable[[Datum], bool]:
    """Whether a datum is meant by one of the patterns.

    A pattern is the beginning of an id (8 hex digits or more), or is matched against the repository path of each
    input, its path below the input, and the label; `*` also matches `/`.
    """

    def chosen(datum: Datum) -> bool:
        if any(_is_id(pattern) and datum.id.startswith(pattern) for pattern in patterns):
            return True
        names = {datum.label}
        for part in datum.inputs:
            names |= {text_of(part.full_path), text_of(part.path)}
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return chosen


def _is_id(pattern: str) -> bool:
    return len(pattern) >= 8 and set(pattern) <= set("0123456789abcdef")
