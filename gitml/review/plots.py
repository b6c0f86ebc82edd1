"""Which declared plots changed, and the numbers that they draw. A child reads them, within limits."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.spec.model import Plot, Stage
from gitml.provenance.codec import text_of
from gitml.reading.source import Source
from gitml.reading.view import View
from gitml.review.comparison import PlotChange
from gitml.review.models import write_content
from gitml.store.tree import Snapshot
from gitml.tables.child import series_in_child
from gitml.tables.series import SeriesFile

_MOST = 20
"""Plots that are drawn."""
_LARGEST = 1 << 30
"""Bytes of a table that is drawn."""


def plot_changes(
    repo: Repository,
    old: tuple[Oid, Snapshot],
    new: tuple[Oid, Snapshot],
    stages: Iterable[tuple[Stage | None, Stage, bool]],
) -> list[PlotChange]:
    """The plots of the new side whose tables changed, as lines of both sides.

    `old` and `new` are commit and tree; `stages` are those of the new side, each with what it was on the old side, and
    whether its results are fresh. What is not here is fetched. Whatever goes wrong is said of the side.
    """
    found = [
        (plot, stage, fresh, paths)
        for earlier, stage, fresh in stages
        for plot in stage.plots
        if not plot.is_image
        for paths in [(_path(earlier or stage, plot), _path(stage, plot))]
        if old[1].get(paths[0]) != new[1].get(paths[1])
    ]
    if not found:
        return []
    source = Source(repo)
    try:
        views = [View(source, commit.hex()[:10], commit, tree.root, b"") for commit, tree in (old, new)]
        return [
            PlotChange(
                stage=stage.name,
                path=paths[1],
                title=plot.title or text_of(paths[1]),
                x=plot.x,
                old=_series(views[0], old[1], paths[0], plot.x, plot.y),
                new=_series(views[1], new[1], paths[1], plot.x, plot.y),
                fresh=fresh,
            )
            for plot, stage, fresh, paths in found[:_MOST]
        ]
    finally:
        source.close()


def _path(stage: Stage, plot: Plot) -> bytes:
    return stage.output + b"/" + plot.path.encode()


def _series(view: View, tree: Snapshot, path: bytes, x: str | None, y: Sequence[str]) -> SeriesFile | None:
    if tree.get(path) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="gitml-review-") as temporary:
        place = Path(temporary) / "table"
        try:
            write_content(view, path, place, most=_LARGEST)
        except (GitmlError, OSError) as error:
            return SeriesFile(opaque=error.message if isinstance(error, GitmlError) else str(error.strerror))
        return series_in_child(place, text_of(path), x, y)
