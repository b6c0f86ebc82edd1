"""Whether a store holds what its refs reach, whole: every object at its place, every pack what its name says."""

from collections.abc import Iterator
from dataclasses import dataclass

from gitml.errors import CorruptError, GitmlError, MissingDataError
from gitml.git.repository import Repository
from gitml.remote.bucket import StoreError
from gitml.remote.download import PartialPack, download
from gitml.remote.landing import Landing
from gitml.remote.packs import PACKS, StoredIndex, index_key, pieces
from gitml.remote.scratch import bring_graph, scratch_repository
from gitml.remote.state import Pack, State
from gitml.remote.store import Store, require_state


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a store: what it concerns, what is wrong, and whether that is a loss or damage."""

    subject: str
    reason: str
    missing: bool


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what is wrong."""

    refs: int
    packs: int
    objects: int
    faults: tuple[Fault, ...]


def verify(store: Store, *, deep: bool, shown: bool) -> Verified:
    """Look at a store; with `deep` every byte of every pack is read and every object hashed.

    Raise `StoreError` if it cannot be asked, `UserError` if there is no repository, `CorruptError` if its refs cannot
    be read.
    """
    state = require_state(store.read(), store.address)
    faults = list(_absent(store, state))
    indexes: list[StoredIndex] = []
    for pack in state.packs:
        if any(fault.subject == f"pack {pack.id}" for fault in faults):
            continue
        try:
            indexes += store.indexes([pack], state.format)
        except CorruptError as error:
            faults.append(Fault(f"pack {pack.id}", error.message, missing=False))
    if state.refs and state.head is not None and state.head not in state.refs:
        faults.append(Fault("HEAD", f"there is no '{state.head.decode('utf-8', 'replace')}'", missing=True))
    with scratch_repository(state.format) as repo:
        if deep:
            for index in indexes:
                faults += _damage(repo, store, index, shown=shown)
        if not faults:
            faults += _holes(repo, store, state, indexes, shown=shown)
    return Verified(len(state.refs), len(state.packs), sum(len(index) for index in indexes), tuple(faults))


def _absent(store: Store, state: State) -> Iterator[Fault]:
    """Objects of packs that are not there, or of another size."""
    listed = {each.key: each.size for each in store.bucket.list(PACKS)}
    for pack in state.packs:
        for key, start, end in pieces(pack.id, pack.size):
            if key not in listed:
                yield Fault(f"pack {pack.id}", f"'{key}' is not there", missing=True)
            elif listed[key] != end - start:
                yield Fault(f"pack {pack.id}", f"'{key}' has {listed[key]} bytes of {end - start}", missing=False)
        if index_key(pack.id) not in listed:
            yield Fault(f"pack {pack.id}", "its index is not there", missing=True)


def _damage(repo: Repository, store: Store, index: StoredIndex, *, shown: bool) -> Iterator[Fault]:
    """What reading a whole pack shows."""
    pack: Pack = index.pack
    with Landing(repo.git, repo.objects_dir, repo.format, promisor=False) as landing:
        partial = PartialPack(repo.git_dir, pack)
        try:
            download(store, [(partial, [(0, pack.size)])], label=f"Reading pack {pack.id[:10]}", shown=shown)
            landing.add_pack(partial, index)
            if (landing.directory / "pack" / f"pack-{pack.id}.idx").read_bytes() != index.git_index():
                yield Fault(f"pack {pack.id}", "its index is not that of its content", missing=False)
        except (CorruptError, StoreError) as error:
            yield Fault(f"pack {pack.id}", error.message, missing=False)
        finally:
            partial.discard()


def _holes(repo: Repository, store: Store, state: State, indexes: list[StoredIndex], *, shown: bool) -> Iterator[Fault]:
    """What refs reach and no pack has."""
    for name, ref in sorted(state.refs.items()):
        if all(index.find(ref.oid) is None for index in indexes):
            yield Fault(name.decode("utf-8", "surrogateescape"), f"no pack has {ref.oid}", missing=True)
            return
    try:
        reached = bring_graph(repo, store, state, shown=shown)
    except (CorruptError, MissingDataError) as error:
        yield Fault("history", error.message, missing=isinstance(error, MissingDataError))
        return
    except GitmlError as error:
        yield Fault("history", error.message, missing=False)
        return
    for oid in sorted(reached.missing):
        if all(index.find(oid) is None for index in indexes):
            yield Fault(f"object {oid}", "no pack has it", missing=True)
