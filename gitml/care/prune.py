"""Keeping no longer what nothing needs: data commits that no remote has, and staged chains of dead sessions.

Nothing is deleted here. Heads that go out of use stand below `refs/ml/dropped/` until they are older than the expiry;
after that what they alone held is unreachable, and `git gc` frees it. See docs/design/0007.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gitml.care.promised import has_promisor
from gitml.care.roots import FETCHED, Needs, git_directories, read_needs
from gitml.errors import UserError
from gitml.git.data import DROPPED, STAGED, DataLog, LogRefs
from gitml.git.odb import GitOdb
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.oid import Oid

DEFAULT_EXPIRY = "2.weeks.ago"
"""What `gc.pruneExpire` is if it is not set."""

_ATTEMPTS = 8
_IN_FLIGHT = 24 * 3600
"""Seconds for which an add or a run that began before a head was dropped may go on and rely on it."""
_SESSION_PROCESS = re.compile(r"refs/ml/staged/(?:[a-z]+-)?(\d+)-")


@dataclass(frozen=True, slots=True)
class Version:
    """One content at one path of the data commits, by its manifest."""

    path: bytes
    manifest: Oid


@dataclass(slots=True)
class Pruned:
    """What a prune dropped, or would: versions no longer kept by a head, staged entries, and dropped heads let go."""

    versions: list[Version] = field(default_factory=list)
    staged: list[Version] = field(default_factory=list)
    dropped: list[Oid] = field(default_factory=list)
    expired: list[Oid] = field(default_factory=list)
    waiting: int = 0
    """Dropped heads that are kept for a while yet."""
    recovered: int = 0
    """Versions of dropped heads that have come to be needed again."""
    busy: bool = False
    """An index is locked: what would go at once stays for the next time."""


@dataclass(frozen=True, slots=True)
class _Plan:
    refs: LogRefs
    base: list[Oid]
    kept: list[tuple[bytes, Oid]]
    versions: list[Version]


def expiry_of(repo: Repository, text: str | None) -> int:
    """Seconds since 1970 before which things count as expired; `text` as git reads dates, None for `gc.pruneExpire`."""
    given = text or repo.config("gc.pruneExpire") or DEFAULT_EXPIRY
    # this is stricter than what `--since` takes, to which any nonsense means now
    done = repo.git.run(
        "-c", f"gc.pruneExpire={given}", "config", "--type=expiry-date", "--get", "gc.pruneExpire", check=False
    )
    value = done.stdout.decode().strip()
    if done.returncode or not value.isdigit():
        raise UserError(f"'{given}' is no date that git understands", hint="such as: --expire=2.weeks.ago")
    return int(value)


def check_allowed(repo: Repository) -> None:
    """Raise `UserError` where the repository says that nothing may go (`extensions.preciousObjects`)."""
    if repo.config_bool("extensions.preciousObjects", False):
        raise UserError(
            "objects of this repository are precious (extensions.preciousObjects): others may borrow them",
            hint="if no other repository lists this one in objects/info/alternates: "
            "git config --unset extensions.preciousObjects",
        )


def prune(repo: Repository, *, expiry: int, dry_run: bool = False, run_lives: bool = False) -> Pruned:
    """Drop what no root needs.

    `expiry` in seconds since 1970: dropped heads and staged entries that are older go. `run_lives` says that a runner
    is at work, whose sessions are then alive. With `dry_run` nothing is changed. Raise `BusyError` if refs move again
    and again.
    """
    check_allowed(repo)
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        for pause in _pauses():
            done = Pruned()
            try:
                needs = read_needs(repo)
                if needs.absent and not has_promisor(repo):
                    raise UserError(
                        f"files of the history are not here ({needs.absent}), so nobody knows what they need",
                        hint="look at: git fsck",
                    )
                _drop_private(repo, log, needs, done, dry_run=dry_run)
                _drop_fetched(repo, log, needs, done, dry_run=dry_run)
                _trim_staged(repo, log, needs, done, expiry=expiry, dry_run=dry_run, run_lives=run_lives)
                _expire(repo, log, done, expiry=expiry, dry_run=dry_run, run_lives=run_lives)
            except (RefMovedError, RefLockedError):
                if pause is None:
                    raise
                time.sleep(pause)
            else:
                return done
    raise AssertionError("unreachable")


def undo(repo: Repository) -> list[Oid]:
    """Take everything that was dropped back into use; give it. Raise `UserError` if there is nothing."""
    dropped = list_refs(repo.git, DROPPED)
    if not dropped:
        raise UserError("nothing was dropped that could be brought back", hint="git ml fsck --repair asks the remotes")
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        chains = {name: oid for name, oid in dropped.items() if _is_staged(repo, oid)}
        data = {name: oid for name, oid in dropped.items() if name not in chains}
        for pause in _pauses():
            refs = log.refs()
            after = log.living(LogRefs({**refs.heads, **data}, refs.remote, {}))
            if not all(_leads_to(repo, oid, after) for oid in data.values()):
                # a superseded head would not count: what it held comes back as new versions
                present = set(log.additions(after))
                items = [item for item in log.additions(data.values()) if item not in present]
                head = log.compose(after, items)
                after = after if head is None else [head]
            more = [RefUpdate(name, None, oid) for name, oid in dropped.items()]
            more += [RefUpdate(f"{STAGED}restored-{oid}", oid) for oid in chains.values()]
            try:
                log.swap(refs, after, more)
                break
            except (RefMovedError, RefLockedError):
                if pause is None:
                    raise
                time.sleep(pause)
    return list(dropped.values())


def dropped_name(oid: Oid, when: int | None = None) -> str:
    """The ref under which a head waits for its end."""
    return f"{DROPPED}{int(time.time()) if when is None else when}-{oid}"


def dropped_time(name: str) -> int:
    """When the head under this ref was dropped, in seconds since 1970."""
    text = name.removeprefix(DROPPED).partition("-")[0]
    return int(text) if text.isdigit() else 0


def _pauses() -> Iterator[float | None]:
    """Seconds to wait after each failed attempt; None after the last."""
    yield from (0.01 * 2**attempt for attempt in range(_ATTEMPTS))
    yield None


def _independent(repo: Repository, oids: Sequence[Oid]) -> list[Oid]:
    distinct = sorted(set(oids))
    if len(distinct) < 2:
        return distinct
    return sorted(map(Oid.parse, repo.git.lines("merge-base", "--independent", *(oid.hex() for oid in distinct))))


def _drop_private(repo: Repository, log: DataLog, needs: Needs, done: Pruned, *, dry_run: bool) -> None:
    """Replace local heads by such that hold, beside what remotes have, only what is needed."""
    plan = _plan(log, needs)
    done.versions = plan.versions
    heads = [oid for oid in plan.refs.heads.values() if oid not in plan.base]
    living = log.living(plan.refs)
    superseded = [oid for oid in heads if not _leads_to(repo, oid, living)]
    if not plan.versions and not superseded:
        return
    done.dropped = heads
    if dry_run:
        return
    head = log.compose(plan.base, plan.kept) if plan.kept else None
    after = plan.base if head is None else [head]
    gone = [oid for oid in plan.refs.heads.values() if oid not in after]
    log.swap(plan.refs, after, [RefUpdate(dropped_name(oid), oid, None) for oid in _independent(repo, gone)])


def _drop_fetched(repo: Repository, log: DataLog, needs: Needs, done: Pruned, *, dry_run: bool) -> None:
    """Keep of what came from remotes one by one only what is needed."""
    wanted = needs.manifests()
    for name, tip in list_refs(repo.git, FETCHED).items():
        held = log.additions([tip])
        kept = [item for item in held if item[1] in wanted]
        if len(kept) == len(held):
            continue
        done.versions += [Version(path, oid) for path, oid in held if oid not in wanted]
        done.dropped.append(tip)
        if not dry_run:
            head = log.compose([], kept) if kept else None
            update_refs(repo.git, [RefUpdate(name, head, tip), RefUpdate(dropped_name(tip), tip)])


def _plan(log: DataLog, needs: Needs) -> _Plan:
    refs = log.refs()
    wanted = needs.manifests()
    base = log.living(LogRefs({}, refs.remote, {}))
    shared = set(log.additions(base))
    private = [item for item in log.additions(refs.heads.values(), beyond=base) if item not in shared]
    kept = [item for item in private if item[1] in wanted]
    # a superseded head may hold the only copy of what this clone still needs
    versions = [Version(path, manifest) for path, manifest in private if manifest not in wanted]
    return _Plan(refs, base, kept, versions)


def _leads_to(repo: Repository, oid: Oid, heads: Iterable[Oid]) -> bool:
    return any(oid == head or repo.git.succeeds("merge-base", "--is-ancestor", oid.hex(), head.hex()) for head in heads)


def _trim_staged(
    repo: Repository, log: DataLog, needs: Needs, done: Pruned, *, expiry: int, dry_run: bool, run_lives: bool
) -> None:
    wanted = needs.manifests()
    for name, tip in log.refs().staged.items():
        if _is_alive(name, run_lives=run_lives):
            continue
        young = _commit_time(repo, tip) >= expiry
        chain = log.staged(tip)
        keep = [item for item in chain if young or item.manifest in wanted]
        if len(keep) == len(chain):
            continue
        done.staged += [Version(item.path, item.manifest) for item in chain if item not in keep]
        if not dry_run:
            log.unstage(name, tip, keep, [RefUpdate(dropped_name(tip), tip, None)])


def _is_alive(name: str, *, run_lives: bool) -> bool:
    if name.startswith("refs/ml/staged/run-"):
        return run_lives
    match = _SESSION_PROCESS.match(name)
    if match is None:
        return False  # its age decides
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _commit_time(repo: Repository, oid: Oid) -> int:
    return int(repo.git.line("log", "-1", "--format=%ct", oid.hex(), "--"))


def _expire(repo: Repository, log: DataLog, done: Pruned, *, expiry: int, dry_run: bool, run_lives: bool) -> None:
    """Let go of dropped heads that are older than `expiry`, after covering what is needed of them by now."""
    dropped = list_refs(repo.git, DROPPED)
    old = {name: oid for name, oid in dropped.items() if dropped_time(name) < expiry}
    done.waiting = len(dropped) - len(old)
    if not old:
        return
    if dry_run:
        done.expired = list(old.values())
        return
    fresh = any(dropped_time(name) > time.time() - _IN_FLIGHT for name in old)
    if fresh and (run_lives or _is_index_locked(repo)):
        done.busy, done.waiting = True, len(dropped)
        return
    needed = read_needs(repo).manifests()
    heads = log.heads()
    kept = {manifest for _, manifest in log.additions(heads)}
    kept |= {item.manifest for tip in log.refs().staged.values() for item in log.staged(tip)}
    chains = [oid for oid in old.values() if _is_staged(repo, oid)]
    held = log.additions(oid for oid in old.values() if oid not in chains)
    held += [(item.path or b"content", item.manifest) for tip in chains for item in log.staged(tip)]
    items = [(path, oid) for path, oid in held if oid in needed and oid not in kept]
    if items:
        log.cover_versions(items)
        done.recovered = len(items)
    update_refs(repo.git, [RefUpdate(name, None, oid) for name, oid in old.items()])
    done.expired = list(old.values())


def _is_staged(repo: Repository, oid: Oid) -> bool:
    return repo.git.line("log", "-1", "--format=%s", oid.hex(), "--").startswith("staged ")


def _is_index_locked(repo: Repository) -> bool:
    return any((directory / "index.lock").exists() for directory in git_directories(repo))
