"""What an input is read from: the tree being evaluated, the tip of a branch, a pinned commit, or what the record has.

All questions of where and when end here: whoever makes datums, keys and records gets one entry for each input.
"""

from collections.abc import Callable, Mapping

from gitml.oid import Oid
from gitml.pipeline.spec.model import PfsInput, Stage
from gitml.provenance.codec import printable
from gitml.provenance.record import Record
from gitml.record import record
from gitml.store.tree import MODE_GITLINK, MODE_TREE, Entry, Snapshot, empty_tree

Entries = Mapping[PfsInput, Entry]
"""What stands at the path of each input; one that is not there is left out."""


@record
class Source:
    """A commit that an input is read from."""

    commit: Oid
    tree: Oid


FindSource = Callable[[PfsInput], Source | None]
"""The commit that an input with `branch` or `commit` is read from, None if it is not in this repository."""


@record
class Reading:
    """What each input of a stage is read from."""

    entries: Entries
    commits: Mapping[PfsInput, Oid]
    """The commits of inputs that are read from another than the one being evaluated."""
    missing: Mapping[PfsInput, str]
    """Why an input that is not there is missing, for people."""


def read_sources(stage: Stage, snapshot: Snapshot, find: FindSource) -> Reading:
    """The current entries of all inputs.

    The output of an upstream stage may be missing, and so may ticks: these are empty directories.
    """
    entries: dict[PfsInput, Entry] = {}
    commits: dict[PfsInput, Oid] = {}
    missing: dict[PfsInput, str] = {}
    for leaf in dict.fromkeys(stage.inputs):
        tree = snapshot
        if leaf.is_elsewhere:
            source = find(leaf)
            if source is None:
                missing[leaf] = _no_source(leaf)
                continue
            commits[leaf] = source.commit
            tree = Snapshot(snapshot.odb, source.tree)
        entry = tree.get(leaf.path)
        if leaf.upstream is None and leaf.cron is None and (entry is None or entry.mode == MODE_GITLINK):
            missing[leaf] = _no_entry(leaf, entry)
        if entry is not None:
            entries[leaf] = entry
    return Reading(entries, commits, missing)


def recorded(reading: Reading, record: Record, *, which: Callable[[PfsInput], bool]) -> Reading:
    """`reading`, but the inputs that `which` picks as the record has them, where it has them."""
    known = {(part.name, part.path): part for part in record.inputs}
    entries, commits, missing = dict(reading.entries), dict(reading.commits), dict(reading.missing)
    for leaf in {*entries, *missing}:
        part = known.get((leaf.name, leaf.path))
        if part is None or not which(leaf):
            continue
        entries[leaf] = Entry(*part.entry)
        missing.pop(leaf, None)
        commits.pop(leaf, None)
        if part.commit is not None:
            commits[leaf] = part.commit
    return Reading(entries, commits, missing)


def entry_of(entries: Entries, leaf: PfsInput, snapshot: Snapshot) -> Entry:
    """The entry of an input; the empty directory if it is not there."""
    return entries.get(leaf) or Entry(MODE_TREE, empty_tree(snapshot.odb.format))


def _no_source(leaf: PfsInput) -> str:
    title = f"input '{printable(leaf.name)}' is missing"
    if leaf.commit:
        return f"{title}: there is no commit '{printable(leaf.commit)}' here; git fetch --tags may bring it"
    return f"{title}: there is no branch '{printable(leaf.branch)}' here; git fetch may bring it"


def _no_entry(leaf: PfsInput, entry: Entry | None) -> str:
    title, path = f"input '{printable(leaf.name)}' is missing", f"'{printable(leaf.path)}'"
    where = leaf.commit or leaf.branch
    at = f" in '{printable(where)}'" if where else ""
    return f"{title}: there is no {path}{at}" if entry is None else f"{title}: {path}{at} is a submodule"
