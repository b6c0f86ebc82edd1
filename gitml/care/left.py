"""Older versions that only a remote keeps: the clone becomes one that fetched what it needed, object by object.

What a remote has is what stands in data commits that it names at this moment. See docs/design/0007.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gitml.care.heads import (
    Heads,
    Version,
    check_allowed,
    dropped_name,
    independent,
    pauses,
    pruned_mark,
    write_versions,
)
from gitml.care.local import LocalReader
from gitml.care.roots import UnknownNeedsError, commits_among, read_tip_needs
from gitml.errors import CorruptError, UserError
from gitml.git.command import Git
from gitml.git.data import FETCHED, STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.promisor import Item, borrow_trees
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, list_refs
from gitml.git.remotes import FetchError, list_remote, namespace_at
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.manifest import missing_parts, read_manifest
from gitml.store.odb import MissingObjectError

_HOW_TO_ASK = "if it is reached but gives no commits without their content: git ml fetch --all"
_LEFT = "left"
"""Below `.git/ml`: the manifests of what was left to remotes for good, one a line."""


@record(frozen=False)
class Left:
    """What is left to a remote: versions, and the chunks that only they need, with their bytes."""

    remote: str
    versions: list[Version] = field(default_factory=list)
    chunks: int = 0
    bytes: int = 0


def leave_to_remote(repo: Repository, remote: str, *, since: int, dry_run: bool = False) -> Left:
    """Keep here what tips, indexes, the stash, the run cache and commits since `since` need; the rest only at `remote`.

    Only what data commits hold that the remote names at this moment is left to it. From then on this clone is as one
    that fetched what it needed, object by object. What was left is dropped as by `prune`, and can be taken back until
    it expires; then the remote is asked again. `since` in seconds since 1970. Raise `UserError` if it cannot be asked.
    """
    check_allowed(repo)
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        try:
            there = set(versions_at(repo, log, remote))
        except FetchError as error:
            raise UserError(f"cannot ask '{remote}' what it has: {error.detail}", hint=_HOW_TO_ASK) from None
        for pause in pauses():
            try:
                return _leave(repo, log, remote, there, since, dry_run=dry_run)
            except (RefMovedError, RefLockedError):
                if pause is None:
                    raise
                time.sleep(pause)
    raise AssertionError("unreachable")


def versions_at(repo: Repository, log: DataLog, remote: str) -> list[Item]:
    """Every (path, manifest) that data commits hold which a remote names at this moment; raise `FetchError`."""
    if _borrows(repo, remote):
        raise FetchError(remote, "it borrows objects of this repository (objects/info/alternates)")
    refs = list_remote(repo, remote)
    space = namespace_at(repo, remote, refs)
    heads = [oid for name, oid in space.refs(refs).items() if name != space.runs]
    here = commits_among(repo, heads)
    found = log.additions(here)
    unknown = [oid for oid in heads if oid not in here]
    if unknown:
        with (
            borrow_trees(repo, remote, unknown, whole=True) as borrowed,
            GitOdb(borrowed.repo.git, repo.format) as odb,
        ):
            found += DataLog(borrowed.repo, odb).additions(unknown)
    return found


def _borrows(repo: Repository, remote: str) -> bool:
    """Whether a remote on this machine reads objects from here, so that what goes here goes there."""
    address = repo.config(f"remote.{remote}.url") or remote
    place = (repo.worktree or repo.git_dir) / address.removeprefix("file://")
    for directory in (place, place / ".git"):
        if (directory / "objects").is_dir():
            listed = Git(directory, None).run("count-objects", "-v", check=False).stdout.splitlines()
            lenders = [line.removeprefix(b"alternate: ") for line in listed if line.startswith(b"alternate: ")]
            return any(Path(os.fsdecode(each)).resolve() == repo.objects_dir.resolve() for each in lenders)
    return False


def _leave(repo: Repository, log: DataLog, remote: str, there: set[Item], since: int, *, dry_run: bool) -> Left:
    heads = Heads.read(repo)
    contents = f"{FETCHED}{remote}/contents"
    lines = {contents: None, **list_refs(repo.git, FETCHED)}
    fetched = {
        name: log.additions([tip] if tip is not None else [])
        for name, tip in lines.items()
        if name.endswith("/contents")
    }
    held = log.additions([*heads.own.values(), *heads.shared.values()])
    everything = list(dict.fromkeys([*held, *(item for line in fetched.values() for item in line)]))
    tips = read_tip_needs(repo, since=since)
    if tips.absent:
        raise UnknownNeedsError(tips.absent)
    keep = tips.manifests() | {manifest for path, manifest in everything if (path, manifest) not in there}
    keep |= {manifest for tip in list_refs(repo.git, STAGED).values() for _, manifest in log.staged(tip)}
    going = [item for item in everything if item[1] not in keep]
    staying = _chunks(repo, keep)
    sizes = _chunks(repo, {manifest for _, manifest in going})
    sizes = {oid: size for oid, size in sizes.items() if oid not in staying}
    left = Left(remote, [Version(*item) for item in sorted(going)], len(sizes), sum(sizes.values()))
    if dry_run or not going:
        return left
    own = write_versions(log, [], [item for item in held if item not in there])
    fetched[contents] = list(dict.fromkeys([*(item for item in held if item in there), *fetched[contents]]))
    gone = independent(repo, [*heads.own.values(), *heads.shared.values()])
    more: list[RefUpdate] = []
    for name, items in fetched.items():
        tip = lines[name]
        more.append(RefUpdate(name, write_versions(log, [], [item for item in items if item[1] in keep]), tip))
        gone += [tip] if tip is not None else []
    parts = parts_of(repo, keep)
    for name, tip in lines.items():
        if name not in fetched and tip is not None and not (single := single_blobs(repo, tip)) <= parts:
            more += [
                RefUpdate(name, log.write_objects([], sorted(single & parts)), tip),
                RefUpdate(dropped_name(tip, "objects"), tip, None),
            ]
    more += [RefUpdate(dropped_name(oid, f"left/{remote}"), oid, None) for oid in dict.fromkeys(gone)]
    for other in repo.git.lines("remote"):
        # or the next checkout would bring all of it again
        repo.configure("--unset-all", f"remote.{other}.mlFetch", check=False)
    heads.replace(repo, [] if own is None else [own], [*more, pruned_mark(repo)], forget=True)
    return left


def _chunks(repo: Repository, manifests: Iterable[Oid]) -> dict[Oid, int]:
    """Every chunk of the manifests that is here, with its size."""
    found: dict[Oid, int] = {}
    with _reading(repo) as reader:
        for oid in manifests:
            try:
                listed = read_manifest(oid, reader).chunks
            except (MissingObjectError, CorruptError):
                continue
            found.update((chunk.oid, chunk.size) for chunk in listed if reader.has(chunk.oid))
    return found


def parts_of(repo: Repository, manifests: Iterable[Oid]) -> set[Oid]:
    """Manifests with their pieces and chunks, as far as they are known here."""
    found: set[Oid] = set()
    with _reading(repo) as reader:

        def has(oid: Oid) -> bool:
            found.add(oid)
            return reader.has(oid)

        for oid in manifests:
            with suppress(MissingObjectError, CorruptError):
                missing_parts(oid, reader, has)
    return found


@contextmanager
def _reading(repo: Repository) -> Iterator[LocalReader]:
    reader = LocalReader(repo)
    try:
        yield reader
    finally:
        reader.close()


def single_blobs(repo: Repository, tip: Oid) -> set[Oid]:
    """The blobs that a line of single objects holds."""
    listed = (line.partition(b" ") for line in repo.git.output("rev-list", "--objects", tip.hex(), "--").splitlines())
    return {Oid.parse(oid) for oid, _, path in listed if b"/" in path}


def left_manifests(repo: Repository) -> set[Oid]:
    """The contents that were left to remotes for good, by manifest. Some may have come back."""
    try:
        return set(map(Oid.parse, (repo.state_dir / _LEFT).read_bytes().split()))
    except FileNotFoundError:
        return set()


def note_left(repo: Repository, manifests: set[Oid]) -> None:
    """Note contents that went from here for good because a remote has them."""
    known = left_manifests(repo)
    if manifests <= known:
        return
    repo.state_dir.mkdir(exist_ok=True)
    path = repo.state_dir / f"{_LEFT}-{os.getpid()}.tmp"
    path.write_text("".join(f"{oid}\n" for oid in sorted(known | manifests)))
    path.replace(repo.state_dir / _LEFT)
