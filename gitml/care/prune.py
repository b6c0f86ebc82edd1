"""Keeping no longer what nothing needs: data commits of our own, what was fetched, staged chains of dead sessions.

Nothing is deleted here. What goes out of use waits below `refs/ml/dropped/` until it is older than the expiry; after
that what it alone held is unreachable, and `git gc` frees it. See docs/design/0007.
"""

import re
import time

from gitml.care.dropped import Expired, expire
from gitml.care.heads import (
    Heads,
    Version,
    check_allowed,
    dropped_name,
    independent,
    move_refs,
    pauses,
    pruned_mark,
    write_versions,
)
from gitml.care.left import parts_of, single_blobs
from gitml.care.roots import UnknownNeedsError, read_needs
from gitml.errors import UserError
from gitml.git.data import FETCHED, STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, list_refs
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers
from gitml.liveness import is_alive
from gitml.oid import Oid
from gitml.record import field, record

DEFAULT_EXPIRY = "2.weeks.ago"
"""What `gc.pruneExpire` is if it is not set."""

_SESSION_PROCESS = re.compile(r"(?:[a-z]+-)?(\d+)-")


@record(frozen=False)
class Pruned(Expired):
    """What a prune dropped, or would: versions no longer kept by a head, and staged entries."""

    versions: list[Version] = field(default_factory=list)
    staged: list[Version] = field(default_factory=list)
    dropped: list[Oid] = field(default_factory=list)


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


def prune(repo: Repository, *, expiry: int, dry_run: bool = False, run_lives: bool = False) -> Pruned:
    """Drop what no root needs.

    `expiry` in seconds since 1970: dropped refs and staged entries that are older go. `run_lives` says that a runner
    is at work, whose sessions are then alive. With `dry_run` nothing is changed. Raise `UnknownNeedsError`,
    `UncoveredError` if content that stays is not whole, `BusyError` if refs move again and again.
    """
    check_allowed(repo)
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        if not dry_run:
            adopt_leftovers(repo, odb)
        for pause in pauses():
            done = Pruned()
            try:
                needs = read_needs(repo)
                if needs.absent:
                    raise UnknownNeedsError(needs.absent)
                _drop_own(repo, log, needs.manifests(), done, dry_run=dry_run)
                _drop_fetched(repo, log, needs.manifests(), done, dry_run=dry_run)
                _trim_staged(repo, log, needs.manifests(), done, expiry=expiry, dry_run=dry_run, run_lives=run_lives)
                expire(repo, log, done, expiry=expiry, dry_run=dry_run, run_lives=run_lives)
            except (RefMovedError, RefLockedError):
                if pause is None:
                    raise
                time.sleep(pause)
            else:
                return done
    raise AssertionError("unreachable")


def _drop_own(repo: Repository, log: DataLog, wanted: set[Oid], done: Pruned, *, dry_run: bool) -> None:
    """Replace local heads by such that hold, beside what remotes have, only what is needed."""
    heads = Heads.read(repo)
    base = independent(repo, heads.shared.values())
    shared = set(log.additions(base))
    own = [item for item in log.additions(heads.own.values(), beyond=base) if item not in shared]
    done.versions = [Version(path, manifest) for path, manifest in own if manifest not in wanted]
    if not done.versions:
        return
    done.dropped = independent(repo, [oid for oid in heads.own.values() if oid not in base])
    if dry_run:
        return
    head = write_versions(log, base, [item for item in own if item[1] in wanted])
    after = base if head is None else [head]
    more = [RefUpdate(dropped_name(oid), oid, None) for oid in done.dropped]
    heads.replace(repo, after, [*more, pruned_mark(repo)], forget=False)


def _drop_fetched(repo: Repository, log: DataLog, wanted: set[Oid], done: Pruned, *, dry_run: bool) -> None:
    """Keep of what came from remotes one by one only what is needed."""
    parts: set[Oid] | None = None
    for name, tip in list_refs(repo.git, FETCHED).items():
        if name.endswith("/contents"):
            held = log.additions([tip])
            kept = [item for item in held if item[1] in wanted]
            if len(kept) == len(held):
                continue
            done.versions += [Version(path, oid) for path, oid in held if oid not in wanted]
            done.dropped.append(tip)
            if not dry_run:
                head = write_versions(log, [], kept)
                move_refs(repo, [RefUpdate(name, head, tip), RefUpdate(dropped_name(tip, "contents"), tip, None)])
            continue
        parts = parts_of(repo, wanted) if parts is None else parts
        single = single_blobs(repo, tip)
        if single <= parts:
            continue
        done.dropped.append(tip)
        if not dry_run:
            head = log.write_objects([], sorted(single & parts))
            move_refs(repo, [RefUpdate(name, head, tip), RefUpdate(dropped_name(tip, "objects"), tip, None)])


def _trim_staged(
    repo: Repository, log: DataLog, wanted: set[Oid], done: Pruned, *, expiry: int, dry_run: bool, run_lives: bool
) -> None:
    for name, tip in list_refs(repo.git, STAGED).items():
        session = name.removeprefix(STAGED)
        if (run_lives if session.startswith("run-") else _session_lives(session)) or _commit_time(repo, tip) >= expiry:
            continue
        given_up = [Version(*item) for item in log.staged(tip) if item[1] not in wanted]
        done.staged += given_up
        if given_up and not dry_run:
            out = {version.manifest for version in given_up}
            log.unstage(name, tip, out, [RefUpdate(dropped_name(tip), tip, None)])


def _session_lives(session: str) -> bool:
    """Whether the process that a session is named after lives; of others their age says that they do not."""
    match = _SESSION_PROCESS.match(session)
    return match is not None and is_alive(int(match[1]))


def _commit_time(repo: Repository, oid: Oid) -> int:
    return int(repo.git.line("log", "-1", "--format=%ct", oid.hex(), "--"))
