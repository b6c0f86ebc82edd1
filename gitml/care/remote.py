"""Pruning a remote that is a plain git server: one push replaces its data heads, a later one lets go of the old.

Between the two lies a grace period, in which old heads stand below `refs/ml/dropped/` on the remote: a push that began
before still finds there what it relies on. Both are atomic and name what they expect. See docs/design/0007.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gitml.care.prune import Version, check_allowed, dropped_name, dropped_time
from gitml.care.roots import read_needs_of_refs
from gitml.errors import GitmlError, UserError
from gitml.git.data import DROPPED, HEADS, STAGED, DataLog, LogRefs
from gitml.git.odb import GitOdb
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.git.transfer import RUNS, fetch_data
from gitml.oid import Oid

SHORTEST_GRACE = 24 * 3600
"""Seconds that old heads stay at least: a push that takes longer than that may lose what it relied on."""

_INCOMING = "refs/ml/incoming/"
_ATTEMPTS = 5


@dataclass(slots=True)
class RemotePruned:
    """What was done, or would be: versions no longer kept, heads replaced, old heads let go, and still waiting."""

    versions: list[Version] = field(default_factory=list)
    replaced: list[Oid] = field(default_factory=list)
    expired: list[Oid] = field(default_factory=list)
    waiting: int = 0


def prune_remote(repo: Repository, remote: str, *, expiry: int, dry_run: bool = False) -> RemotePruned:
    """Let a remote keep only what its refs need; old heads that were dropped before `expiry` go.

    Raise `UserError` if the grace period is too short or the remote cannot do it, `MissingDataError` if content that
    stays is not here.
    """
    check_allowed(repo)
    if expiry > time.time() - SHORTEST_GRACE:
        raise UserError(
            "a push under way may rely on what is dropped from a remote, so it stays there for at least a day",
            hint="--expire=1.day.ago is the shortest",
        )
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        refusal = ""
        for _ in range(_ATTEMPTS):
            space = f"{_INCOMING}{os.urandom(8).hex()}/"
            try:
                done, push = _plan(repo, log, _fetch_all(repo, remote, space), expiry)
                if dry_run or not push:
                    return done
                refusal = _push(repo, remote, push)
            finally:
                _forget(repo, space)
            if not refusal:
                fetch_data(repo, remote)
                return done
    raise GitmlError(
        f"'{remote}' did not take the new data heads: {refusal}",
        hint="nothing was changed there; pruning needs a server that takes atomic pushes and deletions of refs/ml/*",
    )


@dataclass(frozen=True, slots=True)
class _Move:
    """One ref of the remote: from what it must be now (None: absent) to what it becomes (None: gone)."""

    name: str
    old: Oid | None
    new: Oid | None


def _fetch_all(repo: Repository, remote: str, space: str) -> dict[str, Oid]:
    """Everything that the remote shows, under `space` here; by its names there."""
    done = repo.git.run(
        "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=", "--",
        remote, f"+refs/*:{space}*", check=False,
    )  # fmt: skip
    if done.returncode:
        detail = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git fetch failed"]
        raise UserError(f"cannot fetch from '{remote}': {detail[-1].removeprefix('fatal: ')}")
    return {f"refs/{name.removeprefix(space)}": oid for name, oid in list_refs(repo.git, space).items()}


def _forget(repo: Repository, space: str) -> None:
    update_refs(repo.git, [RefUpdate(name, None, oid) for name, oid in list_refs(repo.git, space).items()])


def _plan(repo: Repository, log: DataLog, there: Mapping[str, Oid], expiry: int) -> tuple[RemotePruned, list[_Move]]:
    done = RemotePruned()
    heads = {name: oid for name, oid in there.items() if name.startswith(HEADS)}
    dropped = {name: oid for name, oid in there.items() if name.startswith(DROPPED)}
    others = [oid for name, oid in there.items() if not name.startswith((HEADS, DROPPED, STAGED)) and name != RUNS]
    if RUNS in there:
        others.append(repo.resolve(f"{there[RUNS]}^{{tree}}"))
    needs = read_needs_of_refs(repo, others)
    if needs.absent or repo.git.line("rev-parse", "--is-shallow-repository") == "true":
        raise UserError(
            "this clone does not have the whole history of the remote, so it cannot tell what is needed there",
            hint="use a clone that is neither shallow nor partial",
        )
    needed = needs.manifests()
    living = set(log.living(LogRefs(heads, {}, {})))
    spent = {name: oid for name, oid in heads.items() if oid not in living}  # others superseded them
    held = log.additions(living)
    known = {manifest for _, manifest in held}
    unneeded = [Version(path, manifest) for path, manifest in held if manifest not in needed]
    old = {name: oid for name, oid in dropped.items() if dropped_time(name) < expiry}
    done.waiting = len(dropped) - len(old)
    # what was dropped, and is needed now
    again = log.additions([*dropped.values(), *spent.values()])
    again = [item for item in again if item[1] in needed and item[1] not in known]
    moves: list[_Move] = []
    if unneeded:
        kept = [item for item in held if item[1] in needed]
        head = log.compose([], [*again, *kept], supersedes=sorted(living))
        done.versions, spent = unneeded, heads
        living = set()
    else:
        head = log.compose(sorted(living), again) if again else None
    if head is not None:
        moves.append(_Move(HEADS + head.hex(), None, head))
        moves += [_Move(name, oid, None) for name, oid in heads.items() if oid in living]
    for name, oid in spent.items():
        moves += [_Move(name, oid, None), _Move(dropped_name(oid), None, oid)]
    done.replaced = sorted(spent.values())
    moves += [_Move(name, oid, None) for name, oid in old.items()]
    done.expired = list(old.values())
    return done, moves


def _push(repo: Repository, remote: str, moves: Sequence[_Move]) -> str:
    """Push all moves or none; why it was refused, empty if it was not."""
    leases = [f"--force-with-lease={move.name}:{move.old or ''}" for move in moves]
    refspecs = [f"{move.new or ''}:{move.name}" for move in moves]
    done = repo.git.run(
        "-c", f"remote.{remote}.mirror=false", "push", "--no-verify", "--atomic", "--porcelain", "--no-follow-tags",
        "--recurse-submodules=no", *leases, "--", remote, *refspecs, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    refused = [line.decode("utf-8", "replace") for line in done.stdout.splitlines() if line.startswith(b"!")]
    detail = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git push failed"]
    return refused[0].split("\t")[-1] if refused else detail[-1].removeprefix("fatal: ")
