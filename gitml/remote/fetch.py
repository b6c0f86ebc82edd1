"""From a store into a repository: what is wanted and not here, with all that it reaches, and little else.

First the commits and trees of packs that were not seen before, because walking needs them; then whatever git's walk
finds missing, until nothing is. What came along and is not reached stays out of the repository.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gitml.errors import CorruptError, MissingDataError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.remote.download import SMALL, PartialPack, Range, download
from gitml.remote.landing import Entry, Landing, StoredIndexes, base_of
from gitml.remote.packs import LARGE, StoredIndex
from gitml.remote.state import Kind, State
from gitml.remote.store import Store
from gitml.remote.walk import BrokenWalkError, Reached, reach, read_shallow, shallow_after, write_shallow
from gitml.store.odb import Kind as ObjectKind

_MOSTLY = 0.75
"""Share of a pack from which on it comes whole: then it need not be written again."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How git wants it: what it sets by options."""

    depth: int | None = None
    """Commits from the wanted ones on; None for all."""
    relative: bool = False
    """The depth counts from where history ends here."""
    filters: str | None = None
    """What to leave out, as `git rev-list --filter` reads it."""
    from_promisor: bool = False
    """Objects that git left out before; just these."""
    follow_tags: bool = False
    shown: bool = False
    """Show progress."""


def fetch(repo: Repository, store: Store, state: State, wants: Sequence[Oid], wishes: Wishes) -> Landing | None:
    """Bring what is wanted; give what holds it until refs reach it (`Landing.release`), None if all was here.

    Raise `StoreError`, `CorruptError`, and `MissingDataError` for what the store has not got. Then nothing changed.
    """
    objects = Path(os.environ.get("GIT_OBJECT_DIRECTORY") or repo.objects_dir)
    promisor = wishes.filters is not None or wishes.from_promisor
    with Landing(repo.git, objects, repo.format, promisor=promisor) as landing:
        fetching = _Fetch(repo, store, state, landing, wishes)
        try:
            fetching.run(wants)
        finally:
            fetching.close()
        store.forget(state.packs)
        return landing


class _Fetch:
    """One fetch: what of which pack is here."""

    def __init__(self, repo: Repository, store: Store, state: State, landing: Landing, wishes: Wishes) -> None:
        self._repo = repo
        self._store = store
        self._state = state
        self._landing = landing
        self._wishes = wishes
        self._indexes: list[StoredIndex] = []
        self._loaded: set[Kind] = set()
        self._partials: dict[str, PartialPack] = {}
        self._entries: dict[Oid, Entry] = {}
        """What came in ranges."""
        self._whole: list[StoredIndex] = []
        """Packs that came whole."""
        self._shallow = read_shallow(repo.common_dir / "shallow")
        self._new_shallow = self._shallow

    def run(self, wants: Sequence[Oid]) -> None:
        self._load(Kind.CODE)
        self._bring(self._scouted(wants) | {oid for oid in wants if not self._landing.index.has(oid)})
        if self._wishes.depth is not None:
            self._cut(wants, self._wishes.depth)
        reached = self._complete(wants)
        if self._wishes.follow_tags:
            self._follow_tags(reached)
        self._publish(reached, wants)

    def close(self) -> None:
        for partial in self._partials.values():
            partial.close()

    def _load(self, kind: Kind) -> None:
        if kind not in self._loaded:
            self._loaded.add(kind)
            packs = [pack for pack in self._state.packs if pack.kind is kind]
            # the largest first: that is where most objects are found
            packs.sort(key=lambda pack: pack.objects, reverse=True)
            self._indexes += self._store.indexes(packs, self._repo.format)

    def _find(self, oid: Oid) -> tuple[StoredIndex, int] | None:
        """A pack that holds an object, and where; data is looked through only for what is nowhere else."""
        for number in range(len(self._indexes)):
            position = self._indexes[number].find(oid)
            if position is not None:
                return self._indexes[number], position
        if Kind.DATA in self._loaded:
            return None
        before = len(self._indexes)
        self._load(Kind.DATA)
        return self._find(oid) if len(self._indexes) > before else None

    def _scouted(self, wants: Iterable[Oid]) -> set[Oid]:
        """Commits, and trees where they are wanted, of packs that were not seen before: the walk will need them."""
        found = [each for oid in wants if (each := self._find(oid)) is not None]
        if self._wishes.from_promisor or not any(index.kind(at) in ("commit", "tag") for index, at in found):
            return set()
        wanted: set[Oid] = set()
        known = self._seen()
        shallow = self._wishes.depth is not None or (self._wishes.filters or "").startswith("tree:")
        for index in self._indexes:
            if index.pack.id in known and not shallow:
                continue
            # trees of data are many, and rarely wanted all at once
            kinds: tuple[ObjectKind, ...] = (
                ("commit", "tag") if shallow or index.pack.kind is Kind.DATA else ("commit", "tag", "tree")
            )
            wanted.update(oid for oid in index.of_kinds(*kinds) if not self._landing.index.has(oid))
        return wanted

    def _complete(self, wants: Sequence[Oid]) -> Reached:
        """Bring what the wanted objects reach, until nothing is missing."""
        asked: set[Oid] = set()
        while True:
            try:
                reached = self._reach(wants)
            except BrokenWalkError as error:
                # a commit behind one of ours is not here: look at all of them
                self._load(Kind.DATA)
                lacking = {
                    oid
                    for index in self._indexes
                    for oid in index.of_kinds("commit", "tag")
                    if not self._landing.index.has(oid)
                }
                if not lacking:
                    raise CorruptError(
                        f"'{self._store.address.url}' or this repository lacks commits: {error.message}",
                        hint="git fsck looks at this repository, git ml remote fsck at the store",
                    ) from None
                self._bring(lacking)
                continue
            missing = {oid for oid in reached.missing if not self._is_left_out(oid)}
            if not missing:
                return reached
            if missing <= asked:
                raise CorruptError(f"object {min(missing)} came and cannot be read", hint="git fsck says why")
            asked |= missing
            self._bring(missing)

    def _reach(self, wants: Sequence[Oid]) -> Reached:
        environment = self._environment()
        # a deepened history begins at what refs reach already
        whole = self._wishes.depth is not None
        return reach(
            self._repo.git, wants, environment=environment, without_refs=not whole, filters=self._wishes.filters
        )

    def _is_left_out(self, oid: Oid) -> bool:
        """Whether a missing blob is larger than a filter allows: git cannot know, the index of its pack can."""
        limit = _blob_limit(self._wishes.filters)
        if limit is None:
            return False
        found = self._find(oid)
        return found is not None and found[0].size(found[1]) >= min(limit, LARGE)

    def _environment(self) -> dict[str, str]:
        environment = dict(self._landing.environment)
        if self._new_shallow != self._shallow:
            path = self._landing.directory / "shallow"
            path.write_bytes(b"".join(oid.hex().encode() + b"\n" for oid in sorted(self._new_shallow)))
            environment["GIT_SHALLOW_FILE"] = str(path) if self._new_shallow else ""
        return environment

    def _cut(self, wants: Sequence[Oid], depth: int) -> None:
        self._new_shallow = shallow_after(
            self._repo.git, wants, depth, relative=self._wishes.relative, old=self._shallow,
            environment=self._landing.environment,
        )  # fmt: skip

    def _follow_tags(self, reached: Reached) -> None:
        """Annotated tags of what came; git would ask for them next."""
        tags = {
            ref.oid
            for ref in self._state.refs.values()
            if ref.peeled is not None and ref.peeled in reached.objects and not self._landing.index.has(ref.oid)
        }
        self._bring({oid for oid in tags if self._find(oid) is not None})

    def _bring(self, oids: Iterable[Oid]) -> None:
        """Take objects from packs; of deltas their bases too, unless those are here."""
        wanted: dict[str, dict[Oid, Range]] = {}
        by_id: dict[str, StoredIndex] = {}
        for oid in oids:
            found = self._find(oid)
            if found is None:
                raise MissingDataError(
                    f"'{self._store.address.url}' does not have an object that is wanted: not our ref {oid}"
                )
            index, position = found
            by_id[index.pack.id] = index
            wanted.setdefault(index.pack.id, {})[oid] = index.extent(position)
        whole = [by_id[id] for id, ranges in wanted.items() if _is_most(by_id[id], ranges.values())]
        for index in whole:
            del wanted[index.pack.id]
        self._download([(index, [(0, index.pack.size)]) for index in whole])
        for index in whole:
            self._landing.add_pack(self._partials.pop(index.pack.id), index)
        self._whole += whole
        self._download([(by_id[id], ranges.values()) for id, ranges in wanted.items()])
        entries: dict[Oid, Entry] = {}
        for id, ranges in wanted.items():
            entries |= self._with_bases(by_id[id], ranges)
        if entries:
            try:
                self._landing.add_entries(list(entries.values()), StoredIndexes(by_id.values()))
            except CorruptError:
                for id in wanted:
                    self._partials.pop(id).discard()
                raise
            self._entries |= entries

    def _with_bases(self, index: StoredIndex, ranges: dict[Oid, Range]) -> dict[Oid, Entry]:
        partial = self._partials[index.pack.id]
        found: dict[Oid, Entry] = {}
        waiting = {oid: Entry(partial, oid, *extent) for oid, extent in ranges.items()}
        while waiting:
            found |= waiting
            bases = {base_of(entry, index) for entry in waiting.values()} - found.keys() - {None}
            needed = [base for base in bases if base is not None and not self._landing.index.has(base)]
            waiting = {}
            for base in needed:
                position = index.find(base)
                if position is None:
                    raise CorruptError(f"pack {index.pack.id} is not complete: it lacks {base}")
                waiting[base] = Entry(partial, base, *index.extent(position))
            self._download([(index, [(entry.start, entry.end) for entry in waiting.values()])])
        return found

    def _download(self, wanted: Iterable[tuple[StoredIndex, Iterable[Range]]]) -> None:
        listed = [(self._partial(index), ranges) for index, ranges in wanted]
        download(self._store, listed, label="Receiving packs", shown=self._wishes.shown)

    def _partial(self, index: StoredIndex) -> PartialPack:
        partial = self._partials.get(index.pack.id)
        if partial is None:
            partial = self._partials[index.pack.id] = PartialPack(self._store.place, index.pack)
        return partial

    def _publish(self, reached: Reached, wants: Sequence[Oid]) -> None:
        tags = {ref.oid for ref in self._state.refs.values()} if self._wishes.follow_tags else set()
        needed = reached.objects | tags | set(wants)
        whole = {oid for oid in self._entries if any(index.find(oid) is not None for index in self._whole)}
        if self._entries.keys() - needed or whole:
            self._land_again(needed - whole)
        else:
            self._landing.publish()
        if self._new_shallow != self._shallow:
            write_shallow(self._repo.common_dir / "shallow", self._new_shallow)
        elif not self._shallow and self._wishes.filters is None and not self._wishes.from_promisor:
            self._note_seen()
        for partial in self._partials.values():
            partial.discard()

    def _land_again(self, needed: set[Oid] | frozenset[Oid]) -> None:
        """Take only what is needed: commits of other branches would look to git as if they were here for good."""
        entries = {oid: entry for oid, entry in self._entries.items() if oid in needed}
        with Landing(
            self._repo.git, self._landing.objects_dir, self._repo.format, promisor=self._landing.promisor
        ) as clean:
            self._landing.move_packs(clean, [index.pack.id for index in self._whole])
            waiting = dict(entries)
            while waiting:
                found = {base_of(entry, self._index_of(entry)) for entry in waiting.values()}
                waiting = {
                    base: self._entries[base]
                    for base in found
                    if base is not None and base in self._entries and base not in entries
                    if not clean.index.has(base)
                }
                entries |= waiting
            if entries:
                clean.add_entries(list(entries.values()), self._by_id)
            clean.publish()
            self._landing.hand_over(clean)

    def _index_of(self, entry: Entry) -> StoredIndex:
        return self._by_id[entry.partial.pack.id]

    @cached_property
    def _by_id(self) -> StoredIndexes:
        return StoredIndexes(self._indexes)

    def _seen(self) -> set[str]:
        with suppress(FileNotFoundError):
            return set((self._store.place / "seen").read_text("ascii").split())
        return set()

    def _note_seen(self) -> None:
        note_seen(self._store, {pack.id for pack in self._state.packs if pack.kind in self._loaded}, self._state)


def note_seen(store: Store, packs: Iterable[str], state: State) -> None:
    """Remember packs whose commits and trees need not be looked for; a hint, not a promise."""
    path = store.place / "seen"
    before: set[str] = set()
    with suppress(FileNotFoundError):
        before = set(path.read_text("ascii").split())
    now = (before | set(packs)) & {pack.id for pack in state.packs}
    if now != before:
        store.place.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".seen.{os.getpid()}")
        new.write_text("".join(f"{each}\n" for each in sorted(now)), encoding="ascii")
        new.rename(path)


def _is_most(index: StoredIndex, ranges: Iterable[Range]) -> bool:
    """Whether ranges are most of a pack that is not small."""
    size = index.pack.size
    return size > SMALL and sum(end - start for start, end in ranges) >= _MOSTLY * size


def _blob_limit(filters: str | None) -> int | None:
    """Bytes from which on `blob:limit=<n>[kmg]` leaves a blob out; None for other filters."""
    if filters is None or not filters.startswith("blob:limit="):
        return None
    number = filters.removeprefix("blob:limit=").lower()
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(number[-1:], 1)
    digits = number[:-1] if factor > 1 else number
    return int(digits) * factor if digits.isdigit() else None
