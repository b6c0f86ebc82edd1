"""Making a migration real, all at once, and taking it back.

Before refs move it is noted what index and worktrees have to do afterwards. Refs move in one transaction with the refs
that keep the old history. A kill before it leaves everything as it was; after one, `finish_interrupted`
does what is left.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gitml.errors import UserError
from gitml.git.commits import parse_commit
from gitml.git.odb import GitOdb
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.migrate.follow import check_worktrees, follow, followers
from gitml.oid import Oid

BACKUPS = "refs/ml/migrate-backup/"

_INTENT = "migrating.json"
_DONE = "migrations"


@dataclass(frozen=True, slots=True)
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
    backup = [RefUpdate(f"{BACKUPS}{stamp}/{move.name.removeprefix('refs/')}", move.old, None) for move in moves]
    directory = repo.state_dir / _DONE
    directory.mkdir(exist_ok=True)
    _write(repo, f"{_DONE}/{stamp}.json", {move.name: [move.old.hex(), move.new.hex()] for move in moves})
    updates = [RefUpdate(move.name, move.new, move.old) for move in moves]
    try:
        _switch(repo, odb, moves, [*updates, *backup, *more], "gitml: migrate")
    except BaseException:
        if not list_refs(repo.git, f"{BACKUPS}{stamp}"):
            (directory / f"{stamp}.json").unlink(missing_ok=True)
        raise
    return stamp


def undo(repo: Repository, odb: GitOdb, stamp: str | None, *, lose_later: bool) -> list[Move]:
    """Move refs back to what they were before a migration (None: the latest); give the moves.

    Raise `UserError` if a ref has got commits since, unless `lose_later`.
    """
    stamp = stamp or next(reversed(stamps(repo)), None)
    kept = list_refs(repo.git, f"{BACKUPS}{stamp}") if stamp else {}
    if stamp is None or not kept:
        raise UserError("there is no migration to undo" if stamp is None else f"there is no migration '{stamp}'")
    known = _read(repo, f"{_DONE}/{stamp}.json") or {}
    moves: list[Move] = []
    for name, old in kept.items():
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
    updates = [RefUpdate(move.name, move.new, move.old) for move in moves]
    updates += [RefUpdate(name, None, oid) for name, oid in kept.items()]
    _switch(repo, odb, moves, updates, "gitml: migrate undo")
    (repo.state_dir / _DONE / f"{stamp}.json").unlink(missing_ok=True)
    return moves


def check(repo: Repository, stamp: str | None, *, dirty_is_fine: bool) -> None:
    """Raise `UserError` if worktrees that would follow an undo have changes or are in the middle of something."""
    stamp = stamp or next(reversed(stamps(repo)), None)
    shorts = (name.split("/", 4)[4] for name in list_refs(repo.git, f"{BACKUPS}{stamp}"))
    names = [short if short == "HEAD" else f"refs/{short}" for short in shorts]
    check_worktrees(repo, names, dirty_is_fine=dirty_is_fine)


def stamps(repo: Repository) -> list[str]:
    """The names of the migrations that can be undone, oldest first."""
    return sorted({name.removeprefix(BACKUPS).split("/")[0] for name in list_refs(repo.git, BACKUPS.rstrip("/"))})


def finish_interrupted(repo: Repository, odb: GitOdb) -> None:
    """Do what a migration that was killed after its refs moved left undone in index and worktrees."""
    intent = _read(repo, _INTENT)
    moves = [Move(name, Oid.parse(old), Oid.parse(new)) for name, (old, new) in (intent or {}).items()]
    if any(repo.try_resolve(move.name) == move.new for move in moves):
        _follow(repo, odb, moves)
    (repo.state_dir / _INTENT).unlink(missing_ok=True)


def _switch(repo: Repository, odb: GitOdb, moves: list[Move], updates: list[RefUpdate], message: str) -> None:
    _write(repo, _INTENT, {move.name: [move.old.hex(), move.new.hex()] for move in moves})
    try:
        update_refs(repo.git, updates, message=message)
    except BaseException:
        if all(repo.try_resolve(move.name) != move.new for move in moves):
            (repo.state_dir / _INTENT).unlink(missing_ok=True)
        raise
    _follow(repo, odb, moves)
    (repo.state_dir / _INTENT).unlink(missing_ok=True)


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


def _write(repo: Repository, name: str, value: Mapping[str, list[str]]) -> None:
    place = repo.state_dir / name
    temporary = place.with_name(f"{place.name}.tmp")
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place)


def _read(repo: Repository, name: str) -> dict[str, list[str]] | None:
    try:
        value = json.loads((repo.state_dir / name).read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
