"""Where the workspaces of a run lie: below the directory of the run, or in memory (`transform.memory_volume`).

In memory means a directory of our own on the file system that Linux has there, and a link to it where workspaces
would lie otherwise. So whoever cleans up after a killed runner finds it.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gitml.pipeline.contents import content_of
from gitml.pipeline.datum import DatumInput
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.workspace import Workspaces
from gitml.store.odb import ObjectReader
from gitml.store.tree import Entry, Snapshot

MEMORY = Path("/dev/shm")  # noqa: S108 - directories there are made with names that nobody can foresee
_PREFIX = "gitml-"
_SPARE = 256 << 20
"""Bytes that are left for others, and for what is not counted."""
_CACHE = 4 << 30


@contextmanager
def workspaces_at(
    root: Path, odb: ObjectReader, *, memory: int | None = None, volume: Path = MEMORY
) -> Iterator[Workspaces]:
    """Workspaces at `root`; in memory if `memory` bytes are asked for and fit, which `root` is a link to then."""
    remove_root(root, volume)
    place = _place(memory, volume) if memory is not None else None
    if place is None:
        with Workspaces(root, odb) as workspaces:
            yield workspaces
        return
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        inner = place / "work"  # what is made anew there is still below a directory that is closed to others
        root.symlink_to(inner)
        with Workspaces(inner, odb) as workspaces:
            yield workspaces
    finally:
        remove_tree(place)
        root.unlink(missing_ok=True)


def remove_root(root: Path, volume: Path = MEMORY) -> None:
    """Remove the workspaces at `root`, wherever they lie. Nothing there is fine."""
    if not root.is_symlink():
        remove_tree(root)
        return
    place = root.readlink().parent
    root.unlink()
    if place.parent == volume and place.name.startswith(_PREFIX):
        remove_tree(place)


def memory_needed(datums: Iterable[Sequence[DatumInput]], odb: ObjectReader, width: int, room: int) -> int:
    """Bytes that the workspaces of these datums take at most, `width` at once; `room` is for results of each.

    Contents that tasks share stay for later ones, and each task may have copies of its own.
    """
    sizes: dict[Entry, int] = {}
    largest = 0
    for inputs in datums:
        entries = [item.entry for item in inputs if not item.empty_files]
        largest = max(largest, sum(_size(entry, odb, sizes) for entry in entries))
    total = sum(size for entry, size in sizes.items() if not entry.is_tree)
    return min(total, _CACHE) + width * (2 * largest + room)


def _size(entry: Entry, odb: ObjectReader, sizes: dict[Entry, int]) -> int:
    """Bytes of all files of an entry; `sizes` has those that are known."""
    known = sizes.get(entry)
    if known is None:
        if entry.is_tree:
            known = sum(_size(inner, odb, sizes) for inner in Snapshot(odb, entry.oid).entries(entry.oid).values())
        elif entry.is_file:
            with content_of(entry.oid, odb) as content:
                known = content.size
        else:
            known = 0
        sizes[entry] = known
    return known


def _place(needed: int, volume: Path) -> Path | None:
    """A new directory in memory, None if there is none or not so much of it."""
    try:
        if not volume.is_dir() or shutil.disk_usage(volume).free < needed + _SPARE:
            return None
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=volume))
    except OSError:
        return None
