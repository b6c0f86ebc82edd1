"""How much of changed files is new content, and how much of it the old side has already."""

from collections.abc import Iterable, Mapping

from gitml.care.local import LocalReader
from gitml.errors import CorruptError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.manifest import read_manifest
from gitml.store.odb import MissingObjectError
from gitml.store.pointer import Pointer

_MOST = 64 << 30
"""Bytes of contents whose manifests are read; these are a thousandth of it, and Python reads every entry."""


def stored_bytes(
    repo: Repository, old: Iterable[Oid], new: Iterable[Oid], pointers: Mapping[Oid, Pointer], sizes: Mapping[Oid, int]
) -> dict[Oid, int]:
    """For each new blob how many bytes of what it stands for are in no old one, each counted once.

    What cannot be told from what is in this clone is left out.
    """
    # by content: the same content may be under several names
    before, now = set(old), list(dict.fromkeys(new))
    found = {oid: 0 if oid in before else sizes[oid] for oid in now if oid not in pointers and oid in sizes}
    large = [pointers[oid] for oid in {*before, *now} if oid in pointers]
    if not large or sum(each.size for each in large) > _MOST:
        return found
    reader = LocalReader(repo)
    try:
        known = {chunk for oid in before if oid in pointers for chunk in _chunks(reader, pointers[oid]) or ()}
        for oid in now:
            if oid not in pointers:
                continue
            chunks = _chunks(reader, pointers[oid])
            if chunks is not None:
                fresh = chunks.keys() - known
                found[oid] = sum(chunks[chunk] for chunk in fresh)
                known |= fresh
    finally:
        reader.close()
    return found


def _chunks(reader: LocalReader, pointer: Pointer) -> dict[Oid, int] | None:
    """The chunks of a content and their sizes; None if they are not known here."""
    try:
        return {chunk.oid: chunk.size for chunk in read_manifest(pointer.manifest, reader).chunks}
    except (MissingObjectError, CorruptError):
        return None
