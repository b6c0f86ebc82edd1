"""From a repository into a store: packs first, then the refs in one conditional write.

If somebody else was quicker, the new state is judged again and the same packs are offered again. A push that is killed
leaves packs that nobody refers to; the next one finds them and does not send them again.
"""

import hashlib
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from gitml.errors import BusyError, CorruptError, GitmlError, MissingDataError, UserError
from gitml.git.followers import Followers
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex, PackIndex
from gitml.git.refs import RefUpdate, update_refs
from gitml.git.repository import Repository
from gitml.liveness import is_alive
from gitml.oid import Oid
from gitml.protocol.remote_helper import Update
from gitml.provenance.codec import text_of
from gitml.record import record, replace
from gitml.remote.fetch import note_seen
from gitml.remote.fold import to_fold
from gitml.remote.judge import Move, choose_head, judge
from gitml.remote.outgoing import Outgoing, as_it_is, make_packs, packs_in
from gitml.remote.packs import pieces
from gitml.remote.scaffold import is_scaffold
from gitml.remote.state import LARGEST, Kind, Pack, Ref, State
from gitml.remote.store import Store
from gitml.remote.terms import Terms
from gitml.remote.upload import upload
from gitml.remote.walk import named, parents_of, read_shallow
from gitml.store.odb import Kind as ObjectKind

_ROUNDS = 100
"""Times that others may be quicker."""

_WHOLE = 8 << 20
"""Bytes from which on a pack of the repository goes as it is, if all of it is wanted."""

_MANY, _MUCH = 200, 1 << 20
"""Objects of a push, or their bytes, from which on the packs of the store are searched for them: they may be there with
other commits."""

_BORROWED = 64 << 20
"""Bytes of packs whose objects are not here that are read from the store to be folded."""

_OURS = (b"refs/ml/", b"refs/heads/gitml/")
_RUNS = (b"refs/ml/runs", b"refs/heads/gitml/runs")
_NO_FETCH = {"GIT_NO_LAZY_FETCH": "1"}


def push(
    repo: Repository,
    store: Store,
    state: State | None,
    updates: Sequence[Update],
    terms: Terms,
    followers: Followers | None = None,
) -> list[tuple[bytes, str | None]]:
    """Move refs of a store that was last read as `state`; give for each None or why it did not move.

    Followers move with them, in the same write. Raise `StoreError`, `UnconditionalError` and others of `GitmlError`
    where nothing moved.
    """
    return _Push(repo, store, terms, followers or Followers()).run(state, updates)


class _Push:
    """One push."""

    def __init__(self, repo: Repository, store: Store, terms: Terms, followers: Followers) -> None:
        self._repo = repo
        self._store = store
        self._terms = terms
        self._followers = followers
        self._sent: _Sent | None = None
        self._kept: list[Path] = []
        """Packs that were made, for the next push of the same objects if this one does not get through."""
        self._places: list[Path] = []
        """Directories of packs that were made."""

    def run(self, state: State | None, updates: Sequence[Update]) -> list[tuple[bytes, str | None]]:
        names = [update.target for update in updates]
        moves = self._resolve(updates)
        following = self._resolve(
            Update(None if oid is None else oid.hex(), os.fsencode(name), force=False)
            for name, oid in [*self._followers.added.items(), *((name, None) for name in self._followers.deleted)]
        )
        current = State(self._repo.format) if state is None else state
        if current.format is not self._repo.format:
            raise UserError(
                f"'{self._store.address.url}' has {current.format.value} objects, "
                f"this repository {self._repo.format.value}"
            )
        for number in range(_ROUNDS):
            reasons = judge(current, moves, self._terms.leases, self._ancestry)
            if self._terms.atomic and any(reasons):
                return [(name, reason or "atomic push failed") for name, reason in zip(names, reasons, strict=True)]
            accepted = [move for move, reason in zip(moves, reasons, strict=True) if reason is None]
            if accepted:
                accepted += self._led(current, following)
            changes = {move.name: move.new for move in accepted if current.refs.get(move.name) != move.new}
            moves_head = self._terms.head not in (None, current.head)
            if self._terms.dry_run or not (changes or moves_head):
                return list(zip(names, reasons, strict=True))
            tips = frozenset(ref.oid for ref in changes.values() if ref is not None)
            if self._sent is None or self._sent.sweeps != current.sweeps or not tips <= self._sent.tips:
                # a ref that was refused before may move now that somebody else has changed the store
                self._store.require_conditions()
                self._sent = self._send(current, changes)
            here = None if current.head in current.refs else self._head  # git is asked for it only where it matters
            new = current.changed(
                # when it came out of use, the first sweep that sees it says: clocks of pushers are not asked
                refs=changes, added=self._sent.packs, removed=[pack.id for pack in self._sent.folded], now=0,
                head=choose_head(current, [n for n, ref in changes.items() if ref], here),
            )  # fmt: skip
            if self._terms.head is not None:
                if self._terms.head not in new.refs:
                    raise UserError(f"there is no '{text_of(self._terms.head)}' that HEAD could be")
                new = replace(new, head=self._terms.head)
            if self._store.write(new):
                note_seen(self._store, [pack.id for pack in self._sent.packs], new)
                self._remember()
                self._remove_places()
                return list(zip(names, reasons, strict=True))
            time.sleep(random.uniform(0, min(0.02 * 2**number, 1.0)))  # noqa: S311 - only to spread out
            current = self._store.read() or State(self._repo.format)
        raise BusyError(f"others push to '{self._store.address.url}' all the time", hint="try again")

    def _led(self, state: State, following: Sequence[Move]) -> list[Move]:
        """The followers that may move. Where others have pushed runs meanwhile, those of a later push join them.

        Raise `GitmlError` if data may not: refs that refer to it must not move without.
        """
        led = []
        for move, reason in zip(following, judge(state, following, {}, self._ancestry), strict=True):
            if reason is None:
                led.append(move)
            elif not move.name.endswith(_RUNS):
                raise UserError(
                    f"'{self._store.address.url}' does not take '{text_of(move.name)}': {reason}",
                    hint="nothing was pushed; to push without data: git push --no-verify",
                )
            else:
                sys.stderr.write("gitml: others have pushed runs meanwhile; those of this push go with the next\n")
                self._followers.tracked = {
                    n: oid for n, oid in self._followers.tracked.items() if not n.endswith("/runs")
                }
        return led

    def _remember(self) -> None:
        """Note what the remote has of ours now."""
        with suppress(GitmlError):  # only a memory: the next push or fetch brings it up to date
            update_refs(self._repo.git, [RefUpdate(name, oid) for name, oid in self._followers.tracked.items()])

    def _resolve(self, wanted: Iterable[Update]) -> list[Move]:
        """The objects that sources name."""
        updates = list(wanted)
        sources = [update.source for update in updates if update.source is not None]
        if not sources:
            return [Move(update.target, None, None, update.force) for update in updates]
        asked = b"".join(os.fsencode(f"{source}\n{source}^{{}}\n") for source in sources)
        lines = self._repo.git.output("cat-file", "--batch-check", input=asked, env=_NO_FETCH).splitlines()
        answers = iter(lines)
        moves = []
        for update in updates:
            if update.source is None:
                moves.append(Move(update.target, None, None, update.force))
                continue
            found, peeled = next(answers).split(), next(answers).split()
            kind = _KINDS.get(found[1]) if len(found) == 3 else None
            if kind is None:
                raise MissingDataError(f"'{update.source}' names no object here")
            ref = Ref(Oid.parse(found[0]), Oid.parse(peeled[0]) if kind == "tag" and len(peeled) == 3 else None)
            moves.append(Move(update.target, ref, kind, update.force))
        return moves

    @property
    def _head(self) -> bytes | None:
        done = self._repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False)
        return done.stdout.strip() or None

    @property
    def _ancestry(self) -> "_Ancestry":
        return _Ancestry(self._repo)

    @property
    def _outgoing(self) -> Path:
        return self._store.place / "outgoing"

    def _remove_places(self) -> None:
        """Remove the packs that were made, and those that killed pushes were making."""
        for kept in self._kept:
            # in one step: another push of the same objects takes all of it, or nothing
            with suppress(OSError):
                kept.rename(self._new_place() / "kept")
        for place in self._places:
            shutil.rmtree(place, ignore_errors=True)
        for other in self._outgoing.glob("*-*"):
            if not is_alive(int(other.name.partition("-")[0])):
                shutil.rmtree(other, ignore_errors=True)

    def _send(self, state: State, changes: Mapping[bytes, Ref | None]) -> "_Sent":
        """Put into the store what it lacks for `changes`; what is data lies in packs of its own."""
        tips = {name: ref.oid for name, ref in changes.items() if ref is not None}
        ancestry = self._ancestry
        there = [oid for oid in sorted(state.tips()) if ancestry.has(oid)]
        packs: list[Outgoing] = []
        folded: list[Pack] = []
        for kind in Kind:
            wanted = [oid for name, oid in tips.items() if name.startswith(_OURS) is (kind is Kind.DATA)]
            made, joined = self._make(state, wanted, there, kind) if wanted else ([], [])
            packs += made
            folded += joined
        placed = upload(self._store, state, packs, shown=self._terms.shown)
        return _Sent(state.sweeps, frozenset(tips.values()), tuple(placed), tuple(folded))

    def _make(
        self, state: State, tips: Sequence[Oid], there: Sequence[Oid], kind: Kind
    ) -> tuple[list[Outgoing], list[Pack]]:
        """Packs of what `tips` reach and the store lacks, and those of its packs that are folded into them."""
        needed, missing = named(self._repo.git, tips, without=there, environment=_NO_FETCH)
        self._check_whole(state, needed, missing)
        if len(needed) > _MANY or self._weight(needed) > _MUCH:
            # a sweep that takes away what is found makes this push begin anew
            for index in self._store.indexes(state.packs, self._repo.format):
                for oid in [oid for oid in needed if index.find(oid) is not None]:
                    del needed[oid]
        if not needed:
            return [], []
        whole = list(self._whole_packs(needed))
        packs = [as_it_is(self._repo, path, kind) for path in whole]
        for path in whole:
            for oid in PackIndex(path.with_suffix(".idx"), self._repo.format).oids():
                needed.pop(oid, None)
        if not needed:
            return packs, []
        made, folded = self._make_packs(state, needed, kind)
        return packs + made, folded

    def _weight(self, needed: Mapping[Oid, bytes]) -> int:
        """Bytes that objects take on the disk here."""
        asked = bytearray()
        for oid in needed:
            asked += oid.hex().encode() + b"\n"
        sizes = self._repo.git.output("cat-file", "--batch-check=%(objectsize:disk)", input=bytes(asked), env=_NO_FETCH)
        return sum(map(int, BytesIO(sizes)))

    def _check_whole(self, state: State, needed: Mapping[Oid, bytes], missing: Iterable[Oid]) -> None:
        """What is not here must be there: raise `MissingDataError` for a hole that a push would make."""
        shallow = read_shallow(self._repo.common_dir / "shallow") & needed.keys()
        absent = set(missing)
        for oid in shallow:
            absent |= _parents(self._repo, oid)
        absent -= needed.keys()
        if not absent:
            return
        for index in self._store.indexes(state.packs, self._repo.format):
            absent = {oid for oid in absent if index.find(oid) is None}
        if absent:
            hint = "git fetch --unshallow brings the rest of the history" if shallow else "fetch it first"
            raise MissingDataError(
                f"{len(absent)} objects that the push needs are neither here nor there, {min(absent)} for one",
                hint=hint,
            )

    def _whole_packs(self, needed: Mapping[Oid, bytes]) -> Iterable[Path]:
        """Packs of this repository with nothing in them but what is needed, and what kept that before."""
        for path in sorted((self._repo.objects_dir / "pack").glob("pack-*.pack")):
            with suppress(FileNotFoundError, CorruptError):
                if not _WHOLE <= path.stat().st_size <= LARGEST:
                    continue
                index = PackIndex(path.with_suffix(".idx"), self._repo.format)
                extra = set(index.oids()) - needed.keys()
                if len(extra) > len(index) // 2:
                    continue
                if extra:
                    with GitOdb(self._repo.git, self._repo.format) as odb:
                        if not is_scaffold(extra, needed, odb):
                            continue
                yield path

    def _make_packs(self, state: State, needed: dict[Oid, bytes], kind: Kind) -> tuple[list[Outgoing], list[Pack]]:
        """Packs of these objects, with those of packs of the store that are folded into them."""
        made = packs_in(self._repo, self._packed(needed), kind)
        folded = (
            to_fold(state.packs, kind, made[0].pack.size, self._terms.fold, self._at_hand()) if len(made) == 1 else []
        )
        joined = self._fold(needed, folded, kind) if folded else None
        return (made, []) if joined is None else (joined, folded)

    def _at_hand(self) -> Callable[[Pack], bool]:
        """Whether all of a pack of the store is here, and known to be."""
        here = ObjectIndex(self._repo.objects_dir, self._repo.format)

        def is_at_hand(pack: Pack) -> bool:
            index = self._store.kept_index(pack, self._repo.format)
            return index is not None and all(here.has(index.oid(position)) for position in range(len(index)))

        return is_at_hand

    def _fold(self, needed: Mapping[Oid, bytes], folded: Sequence[Pack], kind: Kind) -> list[Outgoing] | None:
        """One pack of what is needed and what packs of the store hold; None if that would take too much."""
        place = self._new_place()
        here = ObjectIndex(self._repo.objects_dir, self._repo.format)
        objects = dict(needed)
        absent: list[Pack] = []
        commits: set[Oid] = set()
        for index in self._store.indexes(folded, self._repo.format):
            oids = [index.oid(position) for position in range(len(index))]
            commits.update(index.of_kinds("commit"))
            objects.update((oid, b"") for oid in oids if oid not in objects)
            if not all(here.has(oid) for oid in oids):
                absent.append(index.pack)
        environment: dict[str, str] = {}
        if absent:
            if sum(pack.size for pack in absent) > _BORROWED:
                return None
            environment["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(self._borrow(absent, place))
        # names, by which git finds the relatives of an object
        walking = {**_NO_FETCH, **environment}
        with suppress(GitmlError):
            behind = parents_of(self._repo.git, commits, environment=walking) - commits
            names, _ = named(self._repo.git, commits, without=filter(here.has, behind), environment=walking)
            objects.update((oid, name) for oid, name in names.items() if objects.get(oid) == b"")
        make_packs(self._repo, objects, place, environment=environment)
        return packs_in(self._repo, place, kind, environment)

    def _packed(self, needed: Mapping[Oid, bytes]) -> Path:
        """A directory of our own with packs of these objects: of a push that did not get through, or new ones."""
        kept = self._outgoing / _name_of(needed)
        self._kept.append(kept)
        place = self._new_place()
        if not _link_all(kept, place):
            make_packs(self._repo, needed, place, shown=self._terms.shown)
            offered = self._new_place()
            if _link_all(place, offered):
                with suppress(OSError):  # another push of the same objects was quicker
                    offered.rename(kept)
        return place

    def _new_place(self) -> Path:
        """A new directory for packs, which goes when the push is through, or with the next after a kill."""
        place = self._outgoing / f"{os.getpid()}-{os.urandom(4).hex()}"
        place.mkdir(parents=True)
        self._places.append(place)
        return place

    def _borrow(self, packs: Iterable[Pack], place: Path) -> Path:
        """Packs of the store in an object directory that goes away; each is checked."""
        directory = place / "objects"
        (directory / "pack").mkdir(parents=True)
        for pack in packs:
            path = directory / "pack" / f"pack-{pack.id}.pack"
            with path.open("wb") as file:
                for key, start, end in pieces(pack):
                    file.write(self._store.bucket.read_range(key, 0, end - start))
            done = self._repo.git.run("index-pack", str(path), check=False)
            if done.returncode != 0:
                raise CorruptError(
                    f"pack {pack.id} of '{self._store.address.url}' is damaged", hint="git ml remote fsck says more"
                )
        return directory


_KINDS: dict[bytes, ObjectKind] = {b"commit": "commit", b"tree": "tree", b"blob": "blob", b"tag": "tag"}


@record
class _Sent:
    """What was put into the store, for a state after so many sweeps, so that refs may name `tips`."""

    sweeps: int
    tips: frozenset[Oid]
    packs: tuple[Pack, ...]
    folded: tuple[Pack, ...]


class _Ancestry:
    """What git says of objects here."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._index = ObjectIndex(repo.objects_dir, repo.format)

    def has(self, oid: Oid) -> bool:
        """Whether an object is here."""
        return self._index.has(oid)

    def commit_of(self, oid: Oid) -> Oid | None:
        """The commit that an object is or stands for."""
        return self._repo.try_resolve(f"{oid}^{{commit}}")

    def is_ancestor(self, old: Oid, new: Oid) -> bool:
        """Whether `new` reaches `old`; git takes tags for what they stand for, and refuses what is no commit."""
        return self._repo.git.succeeds("merge-base", "--is-ancestor", old.hex(), new.hex())


def _parents(repo: Repository, commit: Oid) -> set[Oid]:
    """The parents that a commit names, wherever history ends here."""
    head = repo.git.output("cat-file", "commit", commit.hex()).partition(b"\n\n")[0]
    return {Oid.parse(line[7:]) for line in head.splitlines() if line.startswith(b"parent ")}


def _link_all(source: Path, target: Path) -> bool:
    """Whether all files of a directory, and there are some, have got another name in one that is empty."""
    try:
        paths = list(source.iterdir())
        for path in paths:
            (target / path.name).hardlink_to(path)
    except OSError:
        for path in target.iterdir():
            path.unlink()
        return False
    return bool(paths)


def _name_of(objects: Iterable[Oid]) -> str:
    """A name for a set of objects: the same set is packed once."""
    return hashlib.sha256(b"".join(sorted(objects))).hexdigest()[:20]
