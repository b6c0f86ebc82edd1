"""From a store into a repository: what is wanted and not here, with all that it reaches, and little else.

First the commits and trees of packs that were not seen before, because walking needs them; then whatever git's walk
finds missing, until nothing is. What came along and is not reached stays out of the repository.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from gitml.errors import CorruptError, MissingDataError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.remote.download import SMALL, PartialPack, Range, download
from gitml.remote.landing import Entry, Landing, StoredIndexes, base_of
from gitml.remote.packs import LARGE, PIECE, StoredIndex
from gitml.remote.state import Kind, State
from gitml.remote.store import Store
from gitml.remote.terms import Wishes
from gitml.remote.walk import BrokenWalkError, Reached, is_complete, reach, read_shallow, shallow_after, write_shallow
from gitml.store.odb import Kind as ObjectKind

_MOSTLY = 0.75
"""Share of a pack from which on it comes whole: then it need not be written again."""


def fetch(repo: Repository, store: Store, state: State, wants: Sequence[Oid], wishes: Wishes) -> Landing:
    """Bring what is wanted; give what holds it until refs reach it (`Landing.release`).

    Raise `StoreError`, `CorruptError`, and `MissingDataError` for what the store has not got. Then nothing changed.
    """
    objects = Path(os.environ.get("GIT_OBJECT_DIRECTORY") or repo.objects_dir)
    promisor = wishes.filters is not None or wishes.from_promisor

    strict = _checks_objects(repo)

    def landing() -> Landing:
        return Landing(repo.git, objects, repo.format, promisor=promisor, strict=strict)

    with landing() as scout, landing() as final:
        fetching = _Fetch(repo, store, state, wishes, scout, final)
        try:
            fetching.run(wants)
        except (CorruptError, MissingDataError):
            fetching.distrust()
            raise
        finally:
            fetching.close()
        store.forget(state.packs)
        return final


class _Fetch:
    """One fetch: what of which pack is here.

    Commits and trees land in `scout`, for git to walk. When it is known what is needed, just that lands in `final`.
    """

    def __init__(
        self, repo: Repository, store: Store, state: State, wishes: Wishes, scout: Landing, final: Landing
    ) -> None:
        self._repo = repo
        self._store = store
        self._state = state
        self._wishes = wishes
        self._scout = scout
        self._final = final
        self._indexes: list[StoredIndex] = []
        self._loaded: set[Kind] = set()
        self._partials: dict[str, PartialPack] = {}
        self._entries: dict[Oid, Entry] = {}
        """What came in ranges."""
        self._whole: list[StoredIndex] = []
        """Packs that came whole, and landed in `scout`."""
        self._shallow = read_shallow(repo.common_dir / "shallow")
        self._new_shallow = self._shallow

    def run(self, wants: Sequence[Oid]) -> None:
        self._load(Kind.CODE)
        if self._bring_whole(wants):
            self._finish(frozenset(wants), set())
            return
        lacking = {oid for oid in wants if not self._scout.index.has(oid)}
        self._bring(self._scouted(wants) | {oid for oid in lacking if self._kind(oid) != "blob"})
        if self._wishes.depth is not None:
            self._cut(wants, self._wishes.depth)
        blobs = {oid for oid in lacking if self._kind(oid) == "blob"}
        reached = frozenset(wants)
        if lacking != blobs or not lacking or self._wishes.depth is not None:
            found, missing = self._complete([oid for oid in wants if oid not in blobs])
            reached |= found
            blobs |= missing
        self._finish(reached, blobs)

    def _finish(self, reached: frozenset[Oid], blobs: set[Oid]) -> None:
        """Land what the walk reached."""
        if self._wishes.follow_tags:
            reached |= self._follow_tags(reached)
        self._land(reached | blobs, blobs)
        if self._new_shallow != self._shallow:
            write_shallow(self._repo.common_dir / "shallow", self._new_shallow)
        elif not self._shallow and self._wishes.filters is None and not self._wishes.from_promisor:
            self._note_seen()
        for partial in self._partials.values():
            # a promisor is asked for one object after the other: a small pack stays for the next
            if not (self._wishes.from_promisor and partial.pack.size <= SMALL):
                partial.discard()

    def close(self) -> None:
        for partial in self._partials.values():
            partial.close()

    def distrust(self) -> None:
        """Forget what is kept of the packs: what is wrong with them may be mended when somebody asks again."""
        for partial in self._partials.values():
            partial.discard()
        self._store.forget_indexes(index.pack for index in self._indexes)

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

    def _bring_whole(self, wants: Sequence[Oid]) -> bool:
        """Take packs of code whole that a clone of all branches will want whole, and not their commits and trees first.

        Large ones are left: data may be in them, if branches and data were pushed as one. Say whether that was all.
        """
        wishes = self._wishes
        if wishes.from_promisor or wishes.filters is not None or wishes.depth is not None:
            return False
        tips = {ref.oid for name, ref in self._state.refs.items() if name.startswith(b"refs/heads/")}
        here = any(self._scout.objects_dir.glob("pack/pack-*.idx")) or any(map(self._scout.index.has, tips))
        if here or not tips <= set(wants):
            return False
        whole = [index for index in self._indexes if SMALL < index.pack.size <= PIECE]
        self._download([(index, [(0, index.pack.size)]) for index in whole])
        alone = len(self._indexes) == 1
        connected = [self._add_whole(index, self._scout, alone=alone) for index in whole] == [True]
        return all(map(self._scout.index.has, wants)) and (
            connected or is_complete(self._repo.git, wants, environment=self._environment())
        )

    def _add_whole(self, index: StoredIndex, landing: Landing, *, alone: bool = False) -> bool:
        connected = landing.add_pack(self._partials.pop(index.pack.id), index, alone=alone)
        if landing is self._scout:
            self._whole.append(index)
        return connected

    def _scouted(self, wants: Iterable[Oid]) -> set[Oid]:
        """Commits, and trees where they are wanted, of packs that were not seen before: the walk will need them."""
        found = [each for oid in wants if (each := self._find(oid)) is not None]
        # git says `from_promisor` of every fetch with a filter; one of single objects asks for no commits
        if not any(index.kind(at) in ("commit", "tag") for index, at in found):
            return set()
        wanted: set[Oid] = set()
        known = self._seen()
        shallow = self._wishes.depth is not None or (self._wishes.filters or "").startswith("tree:")
        for index in self._indexes:
            if (index.pack.id in known and not shallow) or index in self._whole:
                continue
            # trees of data are many, and rarely wanted all at once
            kinds: tuple[ObjectKind, ...] = (
                ("commit", "tag") if shallow or index.pack.kind is Kind.DATA else ("commit", "tag", "tree")
            )
            wanted.update(oid for oid in index.of_kinds(*kinds) if not self._scout.index.has(oid))
        return wanted

    def _complete(self, wants: Sequence[Oid]) -> tuple[frozenset[Oid], set[Oid]]:
        """Bring commits and trees until none is missing; give what the walk reached, and the blobs it did not find."""
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
                    if not self._scout.index.has(oid)
                }
                if not lacking:
                    raise CorruptError(
                        f"'{self._store.address.url}' or this repository lacks commits: {error.message}",
                        hint="git fsck looks at this repository, git ml remote fsck at the store",
                    ) from None
                self._bring(lacking)
                continue
            missing = {oid for oid in reached.missing if not self._is_left_out(oid)}
            graph = {oid for oid in missing if self._kind(oid) != "blob"}
            if not graph:
                return reached.objects, missing
            if graph <= asked:
                raise CorruptError(f"object {min(graph)} came and cannot be read", hint="git fsck says why")
            asked |= graph
            self._bring(graph)

    def _reach(self, wants: Sequence[Oid]) -> Reached:
        environment = self._environment()
        # a deepened history begins at what refs reach already
        whole = self._wishes.depth is not None or self._wishes.anew
        return reach(
            self._repo.git, wants, environment=environment, without_refs=not whole, filters=self._wishes.filters
        )

    def _kind(self, oid: Oid) -> ObjectKind:
        """What an object of the store is; raise `MissingDataError`."""
        index, position = self._require(oid)
        return index.kind(position)

    def _require(self, oid: Oid) -> tuple[StoredIndex, int]:
        found = self._find(oid)
        if found is None:
            raise MissingDataError(
                f"'{self._store.address.url}' does not have an object that is wanted: not our ref {oid}"
            )
        return found

    def _is_left_out(self, oid: Oid) -> bool:
        """Whether a missing blob is larger than a filter allows: git cannot know, the index of its pack can."""
        limit = _blob_limit(self._wishes.filters)
        if limit is None:
            return False
        found = self._find(oid)
        return found is not None and found[0].size(found[1]) >= min(limit, LARGE)

    def _environment(self) -> dict[str, str]:
        environment = dict(self._scout.environment)
        if self._new_shallow != self._shallow:
            path = self._scout.directory / "shallow"
            path.write_bytes(b"".join(oid.hex().encode() + b"\n" for oid in sorted(self._new_shallow)))
            environment["GIT_SHALLOW_FILE"] = str(path) if self._new_shallow else ""
        return environment

    def _cut(self, wants: Sequence[Oid], depth: int) -> None:
        self._new_shallow = shallow_after(
            self._repo.git, wants, depth, relative=self._wishes.relative, old=self._shallow,
            environment=self._scout.environment,
        )  # fmt: skip

    def _follow_tags(self, reached: frozenset[Oid]) -> frozenset[Oid]:
        """Bring annotated tags of what came, and give them; git would ask for them next."""

        def came(oid: Oid) -> bool:
            return oid in reached or any(index.find(oid) is not None for index in self._whole)

        tags = {
            ref.oid
            for ref in self._state.refs.values()
            if ref.peeled is not None and came(ref.peeled) and self._find(ref.oid) is not None
        }
        self._bring({oid for oid in tags if not self._scout.index.has(oid)})
        return frozenset(tags)

    def _land(self, needed: frozenset[Oid], blobs: set[Oid]) -> None:
        """Take what is needed, and that only: what merely came along would look to git as if it were here for good."""
        self._scout.move_packs(self._final, [index.pack.id for index in self._whole])
        wanted = {oid for oid in self._entries if oid in needed and not self._final.index.has(oid)} | blobs
        self._take(wanted, self._final)
        if blobs:
            self._final.require_blobs(blobs)
        self._final.publish()

    def _bring(self, oids: Iterable[Oid]) -> None:
        """Take commits, trees and tags, to be looked at."""
        self._entries |= self._take(oids, self._scout)

    def _take(self, oids: Iterable[Oid], landing: Landing) -> dict[Oid, Entry]:
        """Take objects from packs, of deltas their bases too unless those are here; give what came in ranges."""
        wanted: dict[str, dict[Oid, Range]] = {}
        by_id: dict[str, StoredIndex] = {}
        for oid in oids:
            index, position = self._require(oid)
            by_id[index.pack.id] = index
            wanted.setdefault(index.pack.id, {})[oid] = index.extent(position)
        whole = [by_id[name] for name, ranges in wanted.items() if _is_most(by_id[name], ranges.values())]
        self._download(
            [
                (by_id[name], [(0, by_id[name].pack.size)] if by_id[name] in whole else ranges.values())
                for name, ranges in wanted.items()
            ]
        )
        for index in whole:
            del wanted[index.pack.id]
            self._add_whole(index, landing)
        entries: dict[Oid, Entry] = {}
        for name, ranges in wanted.items():
            entries |= self._with_bases(by_id[name], ranges, landing)
        if entries:
            try:
                landing.add_entries(list(entries.values()), StoredIndexes(by_id.values()))
            except CorruptError:
                for name in wanted:
                    self._partials.pop(name).discard()
                raise
        return entries

    def _with_bases(self, index: StoredIndex, ranges: dict[Oid, Range], landing: Landing) -> dict[Oid, Entry]:
        partial = self._partials[index.pack.id]
        found: dict[Oid, Entry] = {}
        waiting = {oid: Entry(partial, oid, *extent) for oid, extent in ranges.items()}
        while waiting:
            found |= waiting
            bases = {base_of(entry, index) for entry in waiting.values()} - found.keys() - {None}
            needed = [base for base in bases if base is not None and not landing.index.has(base)]
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


def _checks_objects(repo: Repository) -> bool:
    """Whether the user wants objects looked at that come (git-config: `fetch.fsckObjects`, `transfer.fsckObjects`)."""
    return repo.config_bool("fetch.fsckObjects", repo.config_bool("transfer.fsckObjects", False))


def _blob_limit(filters: str | None) -> int | None:
    """Bytes from which on `blob:limit=<n>[kmg]` leaves a blob out; None for other filters."""
    if filters is not None and filters.startswith("combine:"):
        limits = [_blob_limit(unquote(each)) for each in filters.removeprefix("combine:").split("+")]
        return min((limit for limit in limits if limit is not None), default=None)
    if filters is None or not filters.startswith("blob:limit="):
        return None
    number = filters.removeprefix("blob:limit=").lower()
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(number[-1:], 1)
    digits = number[:-1] if factor > 1 else number
    return int(digits) * factor if digits.isdigit() else None
