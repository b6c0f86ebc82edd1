"""How many rows to test on were trained on, before and now. A child compares the tables, within limits."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.spec.model import Leakage, Stage
from gitml.provenance.codec import text_of
from gitml.reading.source import Source
from gitml.reading.view import View
from gitml.review.comparison import LeakageChange
from gitml.review.models import write_content
from gitml.review.tables import SUFFIXES
from gitml.store.tree import Snapshot
from gitml.tables.child import overlap_in_child
from gitml.tables.diff import Overlap

_MOST = 10
"""Pairs of tables that are compared."""
_LARGEST = 4 << 30
"""Bytes of a table that is compared."""


def leakage_changes(
    repo: Repository,
    old: tuple[Oid, Snapshot],
    new: tuple[Oid, Snapshot],
    stages: Iterable[tuple[Stage | None, Stage]],
    *,
    masked: Sequence[str] = (),
) -> list[LeakageChange]:
    """What the pairs of tables share that the new side declares, where a table or what is declared changed.

    `old` and `new` are commit and tree; `stages` are those of the new side, each with what it was on the old side.
    Cells of columns that `masked` names are not shown. What is not here is fetched. Whatever goes wrong is said of it.
    """
    pairs: dict[Leakage, bool] = {}
    for earlier, stage in stages:
        for pair in stage.leakage:
            pairs[pair] = pairs.get(pair, False) or (earlier is not None and pair in earlier.leakage)
    trees = old[1], new[1]
    changed = [
        pair
        for pair, is_known in pairs.items()
        if not is_known or any(trees[0].get(path) != trees[1].get(path) for path in (pair.train, pair.test))
    ]
    if not changed:
        return []
    source = Source(repo)
    try:
        views = [View(source, commit.hex()[:10], commit, tree.root, b"") for commit, tree in (old, new)]
        return [
            LeakageChange(
                train=pair.train,
                test=pair.test,
                old=_overlap(views[0], trees[0], pair, masked),
                new=_overlap(views[1], trees[1], pair, masked),
            )
            for pair in changed[:_MOST]
        ]
    finally:
        source.close()


def _overlap(view: View, tree: Snapshot, pair: Leakage, masked: Sequence[str]) -> Overlap | None:
    """What the tables of one side share; None if it does not have both."""
    if tree.get(pair.train) is None or tree.get(pair.test) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="gitml-review-") as temporary:
        places = []
        try:
            for role, path in (("train", pair.train), ("test", pair.test)):
                suffix = next((each for each in SUFFIXES if text_of(path).lower().endswith(each)), "")
                places.append(Path(temporary) / f"{role}{suffix}")
                write_content(view, path, places[-1], most=_LARGEST)
        except (GitmlError, OSError) as error:
            return Overlap(opaque=error.message if isinstance(error, GitmlError) else str(error.strerror))
        return overlap_in_child(places[0], places[1], columns=pair.columns or None, masked=masked)
