"""Pruning a remote that is a plain git server: one push replaces its data heads, a later one lets go of the old.

Between the two lies a grace period, in which old heads stand below `refs/ml/dropped/` on the remote: a push that began
before still finds there what it relies on. Both are atomic and name what they expect. See docs/design/0007.
"""

import os
import time
from collections.abc import Mapping, Sequence

from gitml.care.heads import Version, check_allowed, dropped_name, dropped_time, independent, write_versions
from gitml.care.roots import UnknownNeedsError, read_needs_of_refs, remote_heads
from gitml.errors import GitmlError, UserError
from gitml.git.data import DROPPED, HEADS, REMOTES, STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.remotes import BRANCHES, PRUNED, fetch_data, last_line
from gitml.git.repository import Repository
from gitml.git.transfer import RUNS
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.tree import empty_tree

SHORTEST_GRACE = 24 * 3600
"""Seconds that old heads stay at least: a push that takes longer than that may lose what it relied on."""

_INCOMING = "refs/ml/incoming/"
_ATTEMPTS = 5


@record(frozen=False)
class RemotePruned:
    """What was done, or would be: versions no longer kept, heads replaced, old heads let go, and still waiting."""

    versions: list[Version] = field(default_factory=list)
    replaced: list[Oid] = field(default_factory=list)
    expired: list[Oid] = field(default_factory=list)
    waiting: int = 0
    recovered: int = 0
    """Versions of dropped heads that have come to be needed again."""


@record
class _Move:
    """One ref of the remote: from what it must be now (None: absent) to what it becomes (None: gone)."""

    name: str
    old: Oid | None
    new: Oid | None


def prune_remote(repo: Repository, remote: str, *, expiry: int, dry_run: bool = False) -> RemotePruned:
    """Let a remote keep only what its refs need; old heads that were dropped before `expiry` go.

    Raise `UserError` if the grace period is too short or the remote cannot do it, `UncoveredError` if content that
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
            space = f"{_INCOMING}{os.getpid()}-{os.urandom(8).hex()}/"
            try:
                there = _fetch_all(repo, remote, space)
                done, moves = _plan(repo, log, remote, there, expiry)
                if dry_run or not moves:
                    return done
                refusal = _push(repo, remote, moves)
                if not refusal:
                    _note(repo, log, remote, moves)
                    return done
            finally:
                _forget(repo, space)
    raise GitmlError(
        f"'{remote}' did not take the new data heads: {refusal}",
        hint="nothing was changed there; pruning needs a server that takes atomic pushes and deletions of refs/ml/*",
    )


def _fetch_all(repo: Repository, remote: str, space: str) -> dict[str, Oid]:
    """Everything that the remote shows, under `space` here; by its names there."""
    done = repo.git.run(
        "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=", "--",
        remote, f"+refs/*:{space}*", check=False,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"cannot fetch from '{remote}': {last_line(done.stderr)}", hint="check it: git remote -v")
    return {f"refs/{name.removeprefix(space)}": oid for name, oid in list_refs(repo.git, space).items()}


def _forget(repo: Repository, space: str) -> None:
    update_refs(repo.git, [RefUpdate(name, None, oid) for name, oid in list_refs(repo.git, space).items()])


def _plan(
    repo: Repository, log: DataLog, remote: str, there: Mapping[str, Oid], expiry: int
) -> tuple[RemotePruned, list[_Move]]:
    if BRANCHES.refs(dict(there)):
        raise UserError(
            f"'{remote}' keeps data in branches (it takes no refs of other names), and such a remote cannot be pruned",
            hint="delete the repository there and push it anew",
        )
    done = RemotePruned()
    heads = {name: oid for name, oid in there.items() if name.startswith(HEADS)}
    dropped = {name: oid for name, oid in there.items() if name.startswith(DROPPED)}
    others = [
        oid
        for name, oid in there.items()
        if not name.startswith((HEADS, DROPPED, STAGED)) and name not in (RUNS, PRUNED)
    ]
    if RUNS in there:
        others.append(repo.resolve(f"{there[RUNS]}^{{tree}}"))
    needs = read_needs_of_refs(repo, others)
    if needs.absent:
        raise UnknownNeedsError(needs.absent)
    if repo.git.line("rev-parse", "--is-shallow-repository") == "true":
        raise UserError(
            "this clone is shallow, so it cannot tell what is needed on the remote", hint="git fetch --unshallow"
        )
    needed = needs.manifests()
    held = log.additions(heads.values())
    known = {manifest for _, manifest in held}
    unneeded = [Version(path, manifest) for path, manifest in held if manifest not in needed]
    old = {name: oid for name, oid in dropped.items() if dropped_time(name) < expiry}
    done.waiting, done.expired = len(dropped) - len(old), list(old.values())
    # what was dropped, and is needed now
    again = [item for item in log.additions(dropped.values()) if item[1] in needed and item[1] not in known]
    done.recovered = len(again)
    moves: list[_Move] = []
    if unneeded:
        head = write_versions(log, [], [*again, *(item for item in held if item[1] in needed)])
        done.versions, done.replaced = unneeded, independent(repo, heads.values())
        moves += [_Move(name, oid, None) for name, oid in heads.items()]
        moves += [_Move(dropped_name(oid), None, oid) for oid in done.replaced]
        if PRUNED not in there:
            moves.append(_Move(PRUNED, None, empty_tree(repo.format)))
    else:
        head = write_versions(log, independent(repo, heads.values()), again)
        moves += [_Move(name, oid, None) for name, oid in heads.items() if head is not None]
    if head is not None:
        moves.append(_Move(HEADS + head.hex(), None, head))
    return done, [*moves, *(_Move(name, oid, None) for name, oid in old.items())]


def _push(repo: Repository, remote: str, moves: Sequence[_Move]) -> str:
    """Push all moves or none; why it was refused, empty if it was not."""
    # the mark is a ref to the empty tree, which a repository need not have
    repo.git.output("mktree", input=b"")
    leases = [f"--force-with-lease={move.name}:{move.old or ''}" for move in moves]
    refspecs = [f"{move.new or ''}:{move.name}" for move in moves]
    done = repo.git.run(
        "-c", f"remote.{remote}.mirror=false", "push", "--no-verify", "--atomic", "--porcelain", "--no-follow-tags",
        "--recurse-submodules=no", *leases, "--", remote, *refspecs, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    refused = [line.decode("utf-8", "replace") for line in done.stdout.splitlines() if line.startswith(b"!")]
    return refused[0].split("\t")[-1] if refused else last_line(done.stderr)


def _note(repo: Repository, log: DataLog, remote: str, moves: Sequence[_Move]) -> None:
    """Remember what the remote has now, and keep here what it had: branches of this clone may need it."""
    log.adopt()
    if repo.config(f"remote.{remote}.mlFetch") == "all":
        fetch_data(repo, remote)
        return
    known = remote_heads(repo).get(remote, {})
    new = {f"{REMOTES}{remote}/data/{move.new}": move.new for move in moves if move.name.startswith(HEADS) and move.new}
    gone = {move.old for move in moves if move.name.startswith(HEADS)} - set(new.values())
    updates = [RefUpdate(name, None, oid) for name, oid in known.items() if oid in gone]
    updates += [RefUpdate(name, oid) for name, oid in new.items() if known]
    update_refs(repo.git, updates)
