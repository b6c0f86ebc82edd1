"""Making a migration real, all at once, and taking it back.

Before refs move it is noted which, and so what index and worktrees have to do afterwards. Refs move in one transaction
with the refs that keep the old history. A kill before it leaves everything as it was; after it, or if the machine stops
while git moves refs, `finish_interrupted` does what is left.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from gitml.errors import GitmlError, UserError
from gitml.git.commits import parse_commit
from gitml.git.odb import GitOdb
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.migrate.follow import check_worktrees, follow, followers
from gitml.oid import Oid
from gitml.record import record

BACKUPS = "refs/ml/migrate-backup/"

_INTENT = "migrating.json"
_DONE = "migrations"
_PATIENCE = 3.0
"""Seconds for which the lock of a ref may be that of a living git."""


@record
class Move:
    """One ref that a migration moves, from the value it had to the new one."""

    name: str
    old: Oid
    new: Oid


def apply(repo: Repository, odb: GitOdb, moves: list[Move], more: list[RefUpdate]) -> str:
    """Move all refs, keep the old values, bring worktrees up to date; give the name to undo it by.

    Raise `RefMovedError` with nothing changed if one of the refs is not what it was at the start.
    """
    stamp = _new_stamp(repo)
    # those first, in case the machine stops while git moves refs: what is old is kept before anything is new
    backup = [RefUpdate(f"{BACKUPS}{stamp}/{move.name.removeprefix('refs/')}", move.old, None) for move in moves]
    (repo.state_dir / _DONE).mkdir(exist_ok=True)
    done = f"{_DONE}/{stamp}.json"
    _write(repo, done, {move.name: [move.old.hex(), move.new.hex()] for move in moves})
    try:
        _switch(repo, odb, moves, [*backup, *more], "gitml: migrate")
    except BaseException:
        if not list_refs(repo.git, f"{BACKUPS}{stamp}"):
            (repo.state_dir / done).unlink(missing_ok=True)
        raise
    return stamp


def undo(repo: Repository, odb: GitOdb, stamp: str | None, *, lose_later: bool) -> list[Move]:
    """Move refs back to what they were before a migration (None: the latest); give the moves.

    Raise `UserError` if a ref has got commits since, unless `lose_later`.
    """
    stamp = stamp or next(reversed(stamps(repo)), None)
    backups = kept(repo, stamp)
    if stamp is None or not backups:
        raise UserError("there is no migration to undo" if stamp is None else f"there is no migration '{stamp}'")
    known = _read(repo, f"{_DONE}/{stamp}.json") or {}
    moves: list[Move] = []
    for name, old in backups.items():
        short = name.removeprefix(f"{BACKUPS}{stamp}/")
        ref = short if short == "HEAD" else f"refs/{short}"
        now = repo.try_resolve(ref)
        if now is None or (known.get(ref, ["", ""])[1] != now.hex() and not lose_later):
            raise UserError(
                f"'{ref}' has moved since the migration, and undoing it would lose that",
                hint="keep it with: git branch NAME; then: git ml migrate undo --yes",
            )
        if now != old:
            moves.append(Move(ref, now, old))
    _switch(repo, odb, moves, [RefUpdate(name, None, oid) for name, oid in backups.items()], "gitml: migrate undo")
    (repo.state_dir / _DONE / f"{stamp}.json").unlink(missing_ok=True)
    return moves


def check(repo: Repository, stamp: str | None, *, dirty_is_fine: bool) -> None:
    """Raise `UserError` if worktrees that would follow an undo have changes or are in the middle of something."""
    shorts = (name.split("/", 4)[4] for name in kept(repo, stamp))
    names = [short if short == "HEAD" else f"refs/{short}" for short in shorts]
    check_worktrees(repo, names, dirty_is_fine=dirty_is_fine)


def kept(repo: Repository, stamp: str | None) -> dict[str, Oid]:
    """The refs that keep what was before a migration (None: the latest)."""
    stamp = stamp or next(reversed(stamps(repo)), None)
    return list_refs(repo.git, f"{BACKUPS}{stamp}") if stamp else {}


def stamps(repo: Repository) -> list[str]:
    """The names of the migrations that can be undone, oldest first."""
    return sorted({name.removeprefix(BACKUPS).split("/")[0] for name in list_refs(repo.git, BACKUPS.rstrip("/"))})


def finish_interrupted(repo: Repository, odb: GitOdb) -> None:
    """Do what a migration left undone that was killed while its refs moved or after: other refs, index, worktrees.

    If none of its refs has moved, there is nothing to do.
    """
    intent = _read(repo, _INTENT)
    if intent is None:
        return
    moves = [Move(name, Oid.parse(old), Oid.parse(new)) for name, old, new in intent["moves"]]
    more = [RefUpdate(name, _oid(new), _oid(old)) for name, new, old in intent["more"]]
    updates = [*more, *(RefUpdate(move.name, move.new, move.old) for move in moves)]
    left = [update for update in updates if repo.try_resolve(update.name) != update.new]
    if len(left) < len(updates):
        _remove_locks(repo, updates)
        rest = [update for update in left if repo.try_resolve(update.name) == update.old]
        update_refs(repo.git, rest, message="gitml: migrate, after an interruption")
        _follow(repo, odb, moves)
    (repo.state_dir / _INTENT).unlink(missing_ok=True)


def _switch(repo: Repository, odb: GitOdb, moves: list[Move], more: list[RefUpdate], message: str) -> None:
    intent = {
        "moves": [[move.name, move.old.hex(), move.new.hex()] for move in moves],
        "more": [[update.name, _hex(update.new), _hex(update.old)] for update in more],
    }
    _write(repo, _INTENT, intent)
    try:
        updates = [*more, *(RefUpdate(move.name, move.new, move.old) for move in moves)]
        update_refs(repo.git, updates, message=message)
    except (GitmlError, OSError):
        (repo.state_dir / _INTENT).unlink(missing_ok=True)
        raise
    _follow(repo, odb, moves)
    (repo.state_dir / _INTENT).unlink(missing_ok=True)


def _remove_locks(repo: Repository, updates: list[RefUpdate]) -> None:
    """Remove the lock files that a git which was killed left at its refs; a living one is given time."""
    names = [*(update.name for update in updates), "packed-refs"]
    locks = [repo.common_dir / f"{name}.lock" for name in names]
    end = time.monotonic() + _PATIENCE
    while any(lock.exists() for lock in locks) and time.monotonic() < end:
        time.sleep(0.05)
    for lock in locks:
        lock.unlink(missing_ok=True)


def _hex(oid: object) -> str:
    return oid.hex() if isinstance(oid, Oid) else ""


def _oid(text: str) -> Oid | None:
    return Oid.parse(text) if text else None


def _follow(repo: Repository, odb: GitOdb, moves: list[Move]) -> None:
    by_branch = {move.name: move for move in moves}
    for place, here in followers(repo, by_branch):
        move = by_branch[place.branch or "HEAD"]
        old, new = (parse_commit(odb.read(oid)[1]).tree for oid in (move.old, move.new))
        if repo.try_resolve(move.name) == move.new:
            follow(here, old, new)


def _new_stamp(repo: Repository) -> str:
    taken = set(stamps(repo))
    moment = int(time.time())
    while (stamp := time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))) in taken:
        moment += 1
    return stamp


def _write(repo: Repository, name: str, value: Mapping[str, Any]) -> None:
    place = repo.state_dir / name
    temporary = place.with_name(f"{place.name}.tmp")
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place)


def _read(repo: Repository, name: str) -> dict[str, Any] | None:
    try:
        value = json.loads((repo.state_dir / name).read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
