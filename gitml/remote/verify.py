"""Whether a store holds what its refs reach, whole: every object at its place, every pack what its name says."""

from collections.abc import Iterator, Mapping, Sequence

from gitml.errors import CorruptError, GitmlError, MissingDataError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.provenance.codec import text_of
from gitml.record import record, replace
from gitml.remote.bucket import StoreError
from gitml.remote.download import PartialPack, download
from gitml.remote.landing import Landing
from gitml.remote.packs import PACKS, StoredIndex, index_key, pieces
from gitml.remote.scratch import bring_graph, reached_from, scratch_repository
from gitml.remote.state import Pack, State
from gitml.remote.store import Store, require_state


@record
class Fault:
    """Something that is wrong with a store: what it concerns, what is wrong, and whether that is a loss or damage."""

    subject: str
    reason: str
    missing: bool


@record
class Verified:
    """What was looked at, and what is wrong."""

    refs: int
    packs: int
    objects: int
    faults: tuple[Fault, ...]
    unreadable: Mapping[bytes, str]
    """The refs that cannot be read whole, each with what stands in the way."""


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
            damage = [list(_damage(repo, store, index, shown=shown)) for index in indexes]
            sound = [index for index, found in zip(indexes, damage, strict=True) if not found]
            faults += [fault for found in damage for fault in found]
        else:
            sound = indexes
        holes, unreadable = _holes(repo, store, state, sound, shown=shown)
        if not faults:
            # otherwise it is what is known to be lost or damaged that refs lack
            faults += holes
    objects = sum(len(index) for index in indexes)
    return Verified(len(state.refs), len(state.packs), objects, tuple(faults), unreadable)


def _absent(store: Store, state: State) -> Iterator[Fault]:
    """Objects of packs that are not there, or of another size."""
    listed = {each.key: each.size for each in store.bucket.list(PACKS)}
    for pack in state.packs:
        for key, start, end in pieces(pack):
            if key not in listed:
                yield Fault(f"pack {pack.id}", f"'{key}' is not there", missing=True)
            elif listed[key] != end - start:
                yield Fault(f"pack {pack.id}", f"'{key}' has {listed[key]} bytes of {end - start}", missing=False)
        if index_key(pack) not in listed:
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


def _holes(
    repo: Repository, store: Store, state: State, indexes: Sequence[StoredIndex], *, shown: bool
) -> tuple[list[Fault], dict[bytes, str]]:
    """What refs reach and none of these packs has, and the refs that this concerns."""

    def is_there(oid: Oid) -> bool:
        return any(index.find(oid) is not None for index in indexes)

    faults: list[Fault] = []
    unreadable: dict[bytes, str] = {}
    usable = replace(state, packs=tuple(index.pack for index in indexes))
    for name, ref in sorted(state.refs.items()):
        if not is_there(ref.oid):
            unreadable[name] = f"no pack has {ref.oid}"
            faults.append(Fault(text_of(name), unreadable[name], missing=True))
    refs = {name: ref for name, ref in sorted(state.refs.items()) if name not in unreadable}
    try:
        reached = bring_graph(repo, store, replace(usable, refs=refs), shown=shown)
    except GitmlError:
        # one after the other: each that can be read is worth knowing
        for name, ref in refs.items():
            try:
                bring_graph(repo, store, replace(usable, refs={name: ref}), shown=shown)
            except GitmlError as error:
                unreadable[name] = error.message
                faults.append(Fault(text_of(name), error.message, missing=isinstance(error, MissingDataError)))
        whole = replace(usable, refs={name: ref for name, ref in refs.items() if name not in unreadable})
        reached = bring_graph(repo, store, whole, shown=shown)
    lost = {oid for oid in reached.missing if not is_there(oid)}
    faults += [Fault(f"object {oid}", "no pack has it", missing=True) for oid in sorted(lost)]
    for name, ref in refs.items() if lost else ():
        if name not in unreadable and (lacking := lost & reached_from(repo, [ref.oid]).missing):
            unreadable[name] = f"no pack has {min(lacking)}"
    return faults, unreadable
