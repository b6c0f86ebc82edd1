"""What is wrong with pack files themselves: git passes over some of it in silence, and objects are then missing."""

import hashlib
import os
from pathlib import Path

from gitml.errors import CorruptError
from gitml.git.packindex import PackIndex
from gitml.oid import ObjectFormat, Oid
from gitml.record import record


@record
class PackFault:
    """A pack (its `.pack` path) that is not as it should be, in words; `reindex` if a new index is all it needs.

    An `incomplete` one is what a killed process leaves: git does not see it, and nothing in it is wrong.
    """

    path: Path
    what: str
    reindex: bool = False
    incomplete: bool = False


def check_packs(objects_dir: Path, object_format: ObjectFormat) -> list[PackFault]:
    """The packs of one objects directory that are incomplete. Contents of packs are not read."""
    directory = objects_dir / "pack"
    try:
        names = set(os.listdir(directory))
    except FileNotFoundError:
        return []
    stems = sorted({name.rpartition(".")[0] for name in names if name.startswith("pack-") and _is_part(name)})
    found = []
    for stem in stems:
        fault = _fault(directory / f"{stem}.pack", names, object_format)
        # a pack that comes or goes at this moment has one of its files for an instant
        if fault is not None and _fault(fault.path, set(os.listdir(directory)), object_format) is not None:
            found.append(fault)
    return found


def packs_with(objects_dir: Path, object_format: ObjectFormat, oids: set[Oid]) -> dict[Oid, Path]:
    """The pack that holds each of `oids`, as far as one does."""
    found: dict[Oid, Path] = {}
    for path in sorted((objects_dir / "pack").glob("pack-*.idx")):
        try:
            index = PackIndex(path, object_format)
        except (CorruptError, OSError):
            continue
        found.update((oid, path.with_suffix(".pack")) for oid in oids if index.find(oid) is not None)
    return found


def _is_part(name: str) -> bool:
    return name.endswith((".pack", ".idx"))


def _fault(pack: Path, names: set[str], object_format: ObjectFormat) -> PackFault | None:
    index = pack.with_suffix(".idx")
    if pack.name not in names:
        return PackFault(pack, "its index is here, the pack is not", incomplete=True)
    if index.name not in names:
        what = "its index is not here, so git does not see its objects"
        return PackFault(pack, what, reindex=True, incomplete=True)
    size = object_format.size
    try:
        data = index.read_bytes()
        with pack.open("rb") as file:
            head = file.read(4)
            file.seek(-size, os.SEEK_END)
            end = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        return PackFault(pack, f"it cannot be read: {error.strerror}")
    if len(data) < 2 * size or hashlib.new(object_format.value, data[:-size]).digest() != data[-size:]:
        return PackFault(pack, "its index is damaged", reindex=True)
    if head != b"PACK" or end != data[-2 * size : -size]:
        return PackFault(pack, "it does not end as its index says: truncated or overwritten")
    return None
