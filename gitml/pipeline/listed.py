"""The datums of stages with their keys, kept for those who evaluate the same again.

A command looks at a commit, then its run does, once more in each round. Where a stage has many datums this listing is
most of the work, and it follows from what the stage reads alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gitml.pipeline.code import CodeFile
from gitml.pipeline.datum import Datum, datums
from gitml.pipeline.key import stage_key, task_keys
from gitml.pipeline.params import Params
from gitml.pipeline.sources import Entries
from gitml.pipeline.spec.model import Stage
from gitml.store.tree import Snapshot

_MOST = 200_000
"""Datums that are kept, some 600 bytes each."""


class Listed(NamedTuple):
    """All datums of a stage, the key of each one's task, and the stage key."""

    datums: tuple[Datum, ...]
    task_keys: tuple[str, ...]
    key: str


class Listings:
    """What was listed last for each stage of one repository."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[object, Listed]] = {}

    def of(
        self, stage: Stage, snapshot: Snapshot, entries: Entries, code: Sequence[CodeFile], params: Params
    ) -> Listed:
        """The datums of `stage` where its inputs are `entries`, with these files of code and parameters."""
        asked = (stage, entries, code, params)
        known = self._kept.get(stage.name)
        if known is not None and known[0] == asked:
            return known[1]
        found = datums(stage, snapshot, entries)
        keys = task_keys(stage, code, params, found)
        listed = Listed(tuple(found), tuple(keys), stage_key(stage, keys))
        self._keep(stage.name, asked, listed)
        return listed

    def _keep(self, name: str, asked: object, listed: Listed) -> None:
        self._kept.pop(name, None)
        room = _MOST - len(listed.datums)
        if room < 0:
            return
        while sum(len(each.datums) for _, each in self._kept.values()) > room:
            self._kept.pop(next(iter(self._kept)))  # the one that was listed longest ago
        self._kept[name] = asked, listed
