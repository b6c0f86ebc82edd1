"""Packs as a store wants them, made from objects of a repository or taken as they are."""

from array import array
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

from gitml.errors import MissingDataError
from gitml.git.command import SMALL_WINDOWS
from gitml.git.packindex import PackIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import record
from gitml.remote.packs import format_index
from gitml.remote.state import Kind, Pack
from gitml.store.odb import Kind as ObjectKind

_PACK_LIMIT = 1 << 30
"""Bytes of a pack that is made; what is more goes into further ones."""

_NO_FETCH = {"GIT_NO_LAZY_FETCH": "1"}
_ORDER = (b"commit", b"tree", b"blob", b"tag")
_KINDS: dict[bytes, ObjectKind] = {b"commit": "commit", b"tree": "tree", b"blob": "blob", b"tag": "tag"}


@record
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
    listed = bytearray()  # joining would hold every line by itself
    for oid, name in objects.items():
        listed += b"%b %b\n" % (oid.hex().encode(), name)
    repo.git.run(
        "-c", "pack.indexVersion=2", "-c", "pack.writeReverseIndex=false", "-c", f"pack.packSizeLimit={_PACK_LIMIT}",
        *SMALL_WINDOWS, "pack-objects", "--progress" if shown else "-q", "--delta-base-offset", str(place / "pack"),
        input=bytes(listed), env={**_NO_FETCH, **(environment or {})}, show=shown,
    )  # fmt: skip


def packs_in(repo: Repository, place: Path, kind: Kind, environment: Mapping[str, str] | None = None) -> list[Outgoing]:
    """The packs in a directory, whose objects are in the repository or where `environment` says."""
    return [as_it_is(repo, path, kind, environment) for path in sorted(place.glob("*.pack"))]


def as_it_is(repo: Repository, path: Path, kind: Kind, environment: Mapping[str, str] | None = None) -> Outgoing:
    """A pack file beside its index."""
    index_path = path.with_suffix(".idx")
    index = index_path.read_bytes()
    pack_id = index[-2 * repo.format.size : -repo.format.size].hex()
    names = PackIndex(index_path, repo.format)
    stored = format_index(index, *_describe(repo, names, {**_NO_FETCH, **(environment or {})}))
    return Outgoing(Pack(pack_id, path.stat().st_size, len(names), kind), path, stored)


def _describe(
    repo: Repository, names: PackIndex, environment: Mapping[str, str]
) -> tuple[Iterator[ObjectKind], Iterator[int]]:
    """Kinds and sizes of the objects of a pack, in the order of its index; raise `MissingDataError`."""
    kinds, sizes = bytearray(), array("Q")
    # a pack may have millions of objects: what is held of each is counted in bytes
    asked = bytearray()
    for position in range(len(names)):
        asked += names.oid(position).hex().encode() + b"\n"
    answers = repo.git.output(
        "cat-file", "--batch-check=%(objecttype) %(objectsize)", input=bytes(asked), env=environment
    )
    for line in BytesIO(answers):
        name, _, size = line.partition(b" ")
        if name not in _KINDS:
            raise MissingDataError(f"object {name.decode()} went while it was pushed", hint="push again")
        kinds.append(_ORDER.index(name))
        sizes.append(int(size))
    return (_KINDS[_ORDER[number]] for number in kinds), iter(sizes)
