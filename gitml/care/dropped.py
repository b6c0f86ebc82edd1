"""The end of what was dropped: it is taken back, or goes for good after a last look at what is needed by now."""

import time

from gitml.care.heads import Heads, dropped_kind, dropped_time, independent, pauses
from gitml.care.left import note_left, versions_at
from gitml.care.roots import UnknownNeedsError, git_directories, keeping_refs, read_needs, read_tip_needs
from gitml.errors import UserError
from gitml.git.data import DROPPED, FETCHED, STAGED, DataLog
from gitml.git.promisor import Item
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, list_refs, update_refs
from gitml.git.remotes import FetchError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import field, record

_IN_FLIGHT = 24 * 3600
"""Seconds for which an add or a run that began before a head was dropped may go on and rely on it."""


@record(frozen=False)
class Expired:
    """What of the dropped was let go, or would be, and what was not."""

    expired: list[Oid] = field(default_factory=list)
    waiting: int = 0
    """Dropped refs that are kept for a while yet."""
    recovered: int = 0
    """Versions of dropped refs that have come to be needed again."""
    busy: bool = False
    """Something is being added or computed: what would go at once stays for the next time."""
    unasked: dict[str, str] = field(default_factory=dict)
    """Remotes that could not be asked whether they still have what was left to them, with the reason."""


def undo(repo: Repository) -> list[Oid]:
    """Take everything that was dropped back into use; give it. Raise `UserError` if there is nothing."""
    dropped = list_refs(repo.git, DROPPED)
    if not dropped:
        raise UserError("nothing was dropped that could be brought back", hint="git ml fetch --all asks the remotes")
    for pause in pauses():
        heads = Heads.read(repo)
        data: list[Oid] = []
        more = [RefUpdate(name, None, oid) for name, oid in dropped.items()]
        for name, oid in dropped.items():
            kind, _ = dropped_kind(name)
            if kind in ("contents", "objects"):
                more.append(RefUpdate(f"{FETCHED}restored-{oid}/{kind}", oid, None))
            elif _is_staged(repo, oid):
                more.append(RefUpdate(f"{STAGED}restored-{oid}", oid, None))
            else:
                data.append(oid)
        try:
            after = independent(repo, [*heads.own.values(), *data])
            heads.replace(repo, after, more, forget=False)
            break
        except (RefMovedError, RefLockedError):
            if pause is None:
                raise
            time.sleep(pause)
    return list(dropped.values())


def expire(repo: Repository, log: DataLog, done: Expired, *, expiry: int, dry_run: bool, run_lives: bool) -> None:
    """Let go of what was dropped before `expiry`, after covering what is needed of it by now.

    Of what was left to a remote only that is covered which became current again, or which the remote has no more.
    """
    dropped = list_refs(repo.git, DROPPED)
    old = {name: oid for name, oid in dropped.items() if dropped_time(name) < expiry}
    done.waiting = len(dropped) - len(old)
    if dry_run or not old:
        done.expired = list(old.values())
        return
    fresh = any(dropped_time(name) > time.time() - _IN_FLIGHT for name in old)
    if fresh and (run_lives or _is_index_locked(repo) or _is_storing(repo)):
        done.busy, done.waiting = True, len(dropped)
        return
    needed = read_needs(repo)
    if needed.absent:
        raise UnknownNeedsError(needed.absent)
    wanted = needed.manifests()
    kept = {manifest for _, manifest in log.additions(keeping_refs(repo))}
    kept |= {manifest for tip in list_refs(repo.git, STAGED).values() for _, manifest in log.staged(tip)}
    gone: dict[str, Oid] = {}
    again: list[Item] = []
    left: set[Oid] = set()
    there: dict[str, set[Item]] = {}
    for name, oid in old.items():
        held = log.staged(oid) if _is_staged(repo, oid) else log.additions([oid])
        lost = [item for item in held if item[1] in wanted and item[1] not in kept]
        kind, remote = dropped_kind(name)
        if kind == "left" and lost:
            if remote in done.unasked:
                continue
            try:
                there[remote] = there[remote] if remote in there else set(versions_at(repo, log, remote))
            except FetchError as error:
                done.unasked[remote] = error.detail
                continue
            current = read_tip_needs(repo, since=dropped_time(name) + 1).manifests()
            left.update(item[1] for item in lost)
            lost = [item for item in lost if item[1] in current or item not in there[remote]]
        again += lost
        gone[name] = oid
    if again:
        log.cover_versions([(path or b"content", manifest) for path, manifest in dict.fromkeys(again)])
        done.recovered = len(set(again))
    note_left(repo, left.difference(manifest for _, manifest in again))
    update_refs(repo.git, [RefUpdate(name, None, oid) for name, oid in gone.items()])
    done.expired = list(gone.values())
    done.waiting = len(dropped) - len(gone)


def _is_staged(repo: Repository, oid: Oid) -> bool:
    return repo.git.line("log", "-1", "--format=%s", oid.hex(), "--").startswith("staged ")


def _is_index_locked(repo: Repository) -> bool:
    return any((directory / "index.lock").exists() for directory in git_directories(repo))


def _is_storing(repo: Repository) -> bool:
    """Whether a session has a pack that is not finished: it may rely on anything that is here."""
    # those of dead sessions were adopted just now
    return any((repo.objects_dir / "pack").glob("staged-*"))
