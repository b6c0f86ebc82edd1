"""Packs as a store wants them, made from objects of a repository or taken as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitml.errors import MissingDataError
from gitml.git.command import SMALL_WINDOWS
from gitml.git.packindex import PackIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.remote.packs import format_index
from gitml.remote.state import Kind, Pack
from gitml.store.odb import Kind as ObjectKind

_PACK_LIMIT = 1 << 30
"""Bytes of a pack that is made; what is more goes into further ones."""

_NO_FETCH = {"GIT_NO_LAZY_FETCH": "1"}
_KINDS: dict[bytes, ObjectKind] = {b"commit": "commit", b"tree": "tree", b"blob": "blob", b"tag": "tag"}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A pack here that goes into a store: the file, and its index in the form of stores."""

    pack: Pack
    path: Path
    index: bytes


def make_packs(
    repo: Repository,
    objects: Mapping[Oid, bytes],
    place: Path,
    *,
    shown: bool = False,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Put objects, given with the names by which git finds their relatives, into packs in the directory `place`.

    Each pack is complete in itself. Raise `GitError` if an object is not here.
    """
    listed = b"".join(oid.hex().encode() + b" " + name + b"\n" for oid, name in objects.items())
    repo.git.run(
        "-c", "pack.indexVersion=2", "-c", "pack.writeReverseIndex=false", "-c", f"pack.packSizeLimit={_PACK_LIMIT}",
        *SMALL_WINDOWS, "pack-objects", "--progress" if shown else "-q", "--delta-base-offset", str(place / "pack"),
        input=listed, env={**_NO_FETCH, **(environment or {})}, show=shown,
    )  # fmt: skip


def packs_in(repo: Repository, place: Path, kind: Kind, environment: Mapping[str, str] | None = None) -> list[Outgoing]:
    """The packs in a directory, whose objects are in the repository or where `environment` says."""
    return [as_it_is(repo, path, kind, environment) for path in sorted(place.glob("*.pack"))]


def as_it_is(repo: Repository, path: Path, kind: Kind, environment: Mapping[str, str] | None = None) -> Outgoing:
    """A pack file beside its index."""
    index_path = path.with_suffix(".idx")
    index = index_path.read_bytes()
    oids = PackIndex(index_path, repo.format).oids()
    pack_id = index[-2 * repo.format.size : -repo.format.size].hex()
    objects = _describe(repo, oids, {**_NO_FETCH, **(environment or {})})
    return Outgoing(
        Pack(pack_id, path.stat().st_size, len(oids), kind), path, format_index(index, objects, repo.format)
    )


def _describe(
    repo: Repository, oids: Sequence[Oid], environment: Mapping[str, str]
) -> dict[Oid, tuple[ObjectKind, int]]:
    """Kind and size of objects; raise `MissingDataError`."""
    asked = b"".join(oid.hex().encode() + b"\n" for oid in oids)
    lines = repo.git.output("cat-file", "--batch-check", input=asked, env=environment).splitlines()
    found = {}
    for oid, line in zip(oids, lines, strict=True):
        parts = line.split()
        if len(parts) != 3:
            raise MissingDataError(f"object {oid} went while it was pushed", hint="push again")
        found[oid] = (_KINDS[parts[1]], int(parts[2]))
    return found
