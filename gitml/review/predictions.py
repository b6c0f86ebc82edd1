"""Which predictions changed and how those of both sides compare. A child aligns and judges them, within limits."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.spec.model import Predictions, Stage
from gitml.provenance.codec import text_of
from gitml.reading.source import Source
from gitml.reading.view import View
from gitml.record import record, replace
from gitml.review.comparison import PredictionChange
from gitml.review.models import write_content
from gitml.store.tree import Entry, Snapshot
from gitml.tables.child import predictions_in_child
from gitml.tables.outcome import Version

_MOST = 10
"""Files of predictions that are compared."""
_LARGEST = 2 << 30
"""Bytes of a file that is compared."""


def prediction_changes(
    repo: Repository,
    old: tuple[Oid, Snapshot],
    new: tuple[Oid, Snapshot],
    stages: Iterable[tuple[Stage | None, Stage, bool]],
    *,
    masked: Sequence[str] = (),
) -> list[PredictionChange]:
    """The declared predictions that changed, or whose labels did, each with what differs.

    `old` and `new` are commit and tree; `stages` are those of the new side, each with what it was on the old side, and
    whether its results are fresh. A file is as its own side declares it, and as the new one does if the old does not.
    Columns that `masked` names are not shown. What is not here is fetched. Whatever goes wrong is said of the file.
    """
    found = [*_declared(old[1], new[1], stages)]
    if not found:
        return []
    source = Source(repo)
    try:
        views = [View(source, commit.hex()[:10], commit, tree.root, b"") for commit, tree in (old, new)]
        return [_change(views[0], views[1], each, masked) for each in found[:_MOST]]
    finally:
        source.close()


@record
class _Declared:
    """A file of predictions on both sides."""

    stage: Stage
    fresh: bool
    paths: tuple[bytes, bytes]
    said: tuple[Predictions, Predictions]
    is_there: tuple[bool, bool]
    has_old_labels: bool
    """Whether the old side has the table of labels; they may have come later than the predictions."""


def _declared(old: Snapshot, new: Snapshot, stages: Iterable[tuple[Stage | None, Stage, bool]]) -> Iterator[_Declared]:
    for earlier, stage, fresh in stages:
        for said in stage.predictions:
            before = said
            if earlier is not None:
                before = next((each for each in earlier.predictions if each.path == said.path), said)
            paths = (_path(earlier or stage, before), _path(stage, said))
            files = [(tree.get(path), _labels(tree, each)) for tree, path, each in zip(
                (old, new), paths, (before, said), strict=True
            )]  # fmt: skip
            has_labels = before.labels is None or files[0][1] is not None
            is_there = [found is not None for found, _ in files]
            # of a stage that was not computed yet the report says so itself
            if files[0] != files[1] and (any(is_there) or fresh):
                yield _Declared(stage, fresh, paths, (before, said), (is_there[0], is_there[1]), has_labels)


def _path(stage: Stage, said: Predictions) -> bytes:
    return stage.output + b"/" + said.path.encode()


def _labels(tree: Snapshot, said: Predictions) -> Entry | None:
    return tree.get(said.labels) if said.labels is not None else None


def _change(before: View, now: View, declared: _Declared, masked: Sequence[str]) -> PredictionChange:
    path = declared.paths[1]

    def made(problem: str) -> PredictionChange:
        return PredictionChange(stage=declared.stage.name, path=path, fresh=declared.fresh, diff=None, problem=problem)

    if not declared.is_there[0]:
        return made("nothing to compare with: the old side does not have it")
    if not declared.is_there[1]:
        return made("it is not among the results")
    with tempfile.TemporaryDirectory(prefix="gitml-review-") as temporary:
        versions: list[Version] = []
        for which, view, each, said in zip(("old", "new"), (before, now), declared.paths, declared.said, strict=True):
            try:
                if which == "old" and not declared.has_old_labels:
                    said = replace(said, label=None, labels=None)  # noqa: PLW2901 - the new ones judge both
                versions.append(_version(view, each, said, Path(temporary) / which))
            except (GitmlError, OSError) as error:
                problem = error.message if isinstance(error, GitmlError) else str(error.strerror)
                return made(f"{'before' if which == 'old' else 'now'}: {problem}")
        diff = predictions_in_child(versions[0], versions[1], masked=masked)
        return PredictionChange(stage=declared.stage.name, path=path, fresh=declared.fresh, diff=diff)


def _version(view: View, path: bytes, said: Predictions, place: Path) -> Version:
    """Write what one side has to `place`."""
    place.mkdir()
    write_content(view, path, place / "predictions", most=_LARGEST)
    if said.labels is not None:
        write_content(view, said.labels, place / "labels", most=_LARGEST)
    return Version(
        path=place / "predictions",
        name=text_of(path),
        id=said.id,
        prediction=said.prediction,
        label=said.label,
        labels=None if said.labels is None else place / "labels",
        labels_name="" if said.labels is None else text_of(said.labels),
        labels_id=said.labels_id,
        score=said.score,
        slices=said.slices,
    )
