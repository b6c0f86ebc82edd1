"""What a store need not keep: packs that are no longer in use, and in packs objects that no ref reaches any more.

A pack leaves in steps. It is dropped, after the grace period doomed, its files are deleted, then it is forgotten; each
step but the deletion is a conditional write of the state. A pusher that meets its own pack among the dropped takes it
back. One that is doomed does not come back: dooming begins an epoch, and what is pushed from then on has other names.
So a deletion, however late, finds nothing that a ref reaches, whatever the clocks say and however many sweeps there
are. The grace period is for readers that have read an older state.
"""

import random
import time
from collections.abc import Sequence

from gitml.errors import BusyError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import record, replace
from gitml.remote.fetch import fetch
from gitml.remote.outgoing import Outgoing, make_packs, packs_in
from gitml.remote.packs import PACKS, directory_of, index_key, pack_of, pieces
from gitml.remote.scratch import bring_graph, scratch_repository
from gitml.remote.state import Dropped, Kind, Pack, State
from gitml.remote.store import Store, require_state
from gitml.remote.terms import Wishes
from gitml.remote.upload import upload
from gitml.remote.walk import named

_ROUNDS = 20
_WORTHWHILE = 0.2
"""Share of a pack that no ref reaches, from which on it is written anew without."""
_BATCH = 4096
_AT_A_TIME = 500
"""Packs that are doomed in one state; pushes read and write it."""
_NOTED = 1000
"""Packs that are noted as waiting; the next sweep notes the others."""


@record
class Swept:
    """What a sweep did, or would do."""

    deleted: tuple[Dropped, ...]
    """Packs that are gone."""
    waiting: tuple[Dropped, ...]
    """Packs whose grace period is not over."""
    rewritten: tuple[Pack, ...]
    """Packs that were written anew without what no ref reaches; they wait now."""
    unreached: int
    """Bytes in packs that no ref reaches, as they were found."""


def sweep(store: Store, *, grace: float, dry_run: bool, shown: bool) -> Swept:
    """Let go of what was dropped more than `grace` seconds ago, drop what no ref reaches.

    Raise `BusyError` if others are always quicker, `StoreError`, `CorruptError`.
    """
    if not dry_run:
        store.require_conditions()
        store.bucket.tidy(grace)
    rewritten, unreached = _drop_unreached(store, dry_run=dry_run, shown=shown)
    deleted: list[Dropped] = []
    while True:
        doomed, waiting = _doom(store, grace, dry_run=dry_run)
        deleted += doomed
        if dry_run or not doomed:
            return Swept(tuple(deleted), tuple(waiting), tuple(rewritten), unreached)
        _delete(store, doomed)


def _drop_unreached(store: Store, *, dry_run: bool, shown: bool) -> tuple[list[Pack], int]:
    """Put packs without what no ref reaches in the place of others; give those, and how much that is in bytes."""
    for number in range(_ROUNDS):
        state = require_state(store.read(), store.address)
        rewritten, made, unreached = _without_unreached(store, state, dry_run=dry_run, shown=shown)
        if dry_run or not rewritten:
            return rewritten, unreached
        new = state.rewritten(added=made, removed=[pack.id for pack in rewritten], now=int(time.time()))
        if store.write(new):
            return rewritten, unreached
        _pause(number)
    raise _busy(store)


def _doom(store: Store, grace: float, *, dry_run: bool) -> tuple[list[Dropped], list[Dropped]]:
    """Doom packs whose grace period is over, and note those that nobody had noted; give both, some at a time."""
    for number in range(_ROUNDS):
        state = require_state(store.read(), store.address)
        now = int(time.time())
        known = {(each.id, each.epoch) for each in state.dropped} | {(pack.id, pack.epoch) for pack in state.packs}
        strays = [
            Dropped(name, size, now, epoch=epoch) for (name, epoch), size in sorted(_strays(store, known).items())
        ]
        # what a push dropped has no time yet: the grace period begins when a sweep first sees it
        seen = [replace(each, since=each.since or now) for each in (*state.dropped, *strays)]
        every = [replace(each, doomed=each.doomed or now - each.since >= grace) for each in seen]
        doomed = [each for each in every if each.doomed]
        waiting = [each for each in every if not each.doomed]
        if dry_run:
            return doomed, waiting
        doomed, waiting = doomed[:_AT_A_TIME], waiting[:_NOTED]
        listed = [*doomed, *waiting]
        if listed == list(state.dropped) or store.write(state.swept(listed)):
            return doomed, waiting
        _pause(number)
    raise _busy(store)


def _delete(store: Store, doomed: Sequence[Dropped]) -> None:
    """Delete the files of packs that are doomed, then forget them. Nobody uses their names again."""
    for each in doomed:
        # by listing, not by size: of a pack that was never whole some pieces may be there
        found = {listed.key for listed in store.bucket.list(directory_of(each))}
        (single,) = pieces(replace(each, size=0))
        store.bucket.delete(sorted(found | {index_key(each), single[0]}))
    gone = {(each.id, each.epoch) for each in doomed}
    for number in range(_ROUNDS):
        state = require_state(store.read(), store.address)
        if store.write(state.swept([each for each in state.dropped if (each.id, each.epoch) not in gone])):
            return
        _pause(number)
    raise _busy(store)


def _pause(number: int) -> None:
    time.sleep(random.uniform(0, min(0.02 * 2**number, 1.0)))  # noqa: S311 - only to spread out


def _busy(store: Store) -> BusyError:
    return BusyError(f"others push to '{store.address.url}' all the time", hint="try again")


def _strays(store: Store, known: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Packs that are there and not in the state, with their sizes: of pushes under way, killed, or refused."""
    found: dict[tuple[str, int], int] = {}
    for listed in store.bucket.list(PACKS):
        name = pack_of(listed.key)
        if name is not None and name not in known:
            found[name] = found.get(name, 0) + (0 if listed.key.endswith(".index") else listed.size)
    return found


def _without_unreached(store: Store, state: State, *, dry_run: bool, shown: bool) -> tuple[list[Pack], list[Pack], int]:
    """Packs that hold much that no ref reaches, those that take their place (in the store already), and how much."""
    with scratch_repository(state.format) as repo:
        reached = bring_graph(repo, store, state, shown=shown)
        live = reached.objects | reached.missing
        rewritten: list[Pack] = []
        kept: dict[Kind, set[Oid]] = {}
        unreached = 0
        for index in store.indexes(state.packs, state.format):
            dead, alive = 0, set()
            for position in range(len(index)):
                oid = index.oid(position)
                if oid in live:
                    alive.add(oid)
                else:
                    start, end = index.extent(position)
                    dead += end - start
            unreached += dead
            if dead and dead >= _WORTHWHILE * index.pack.size:
                rewritten.append(index.pack)
                kept.setdefault(index.pack.kind, set()).update(alive)
        if dry_run or not rewritten:
            return rewritten, [], unreached
        made = [each for kind, oids in kept.items() for each in _pack(repo, store, state, kind, oids, shown=shown)]
        return rewritten, upload(store, state, made, shown=shown), unreached


def _pack(repo: Repository, store: Store, state: State, kind: Kind, oids: set[Oid], *, shown: bool) -> list[Outgoing]:
    """Packs of objects of a store."""
    if not oids:
        return []
    wanted = sorted(oids)
    for start in range(0, len(wanted), _BATCH):
        fetch(repo, store, state, wanted[start : start + _BATCH], Wishes(from_promisor=True, shown=shown)).release()
    names, _ = named(repo.git, sorted(state.tips()), environment={"GIT_NO_LAZY_FETCH": "1"})
    place = repo.git_dir / f"outgoing-{kind.value}"
    place.mkdir()
    make_packs(repo, {oid: names.get(oid, b"") for oid in wanted}, place)
    return packs_in(repo, place, kind)
