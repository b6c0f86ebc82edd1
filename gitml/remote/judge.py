"""Whether refs may move: git's rules for a push, as functions of what is there and what is asked.

The words of a refusal are those that git knows (transport-helper.c), so that it gives its advice with them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gitml.oid import Oid
from gitml.record import record
from gitml.remote.state import Ref, State, is_ref_name
from gitml.store.odb import Kind

STALE = "stale info"
FETCH_FIRST = "fetch first"
NON_FAST_FORWARD = "non-fast forward"
EXISTS = "already exists"
NEEDS_FORCE = "needs force"


@record
class Move:
    """A ref that is to get the value `new` (None: to be deleted), an object of `kind`."""

    name: bytes
    new: Ref | None
    kind: Kind | None
    force: bool


class Ancestry(Protocol):
    """What the pushing repository knows of objects."""

    def has(self, oid: Oid) -> bool:
        """Whether an object is here."""
        ...

    def commit_of(self, oid: Oid) -> Oid | None:
        """The commit that an object is or that a tag stands for; None for others."""
        ...

    def is_ancestor(self, old: Oid, new: Oid) -> bool:
        """Whether a commit is among those that another reaches; tags stand for theirs, and others are no ancestors."""
        ...


def judge(
    state: State, moves: Sequence[Move], leases: Mapping[bytes, Oid | None], ancestry: Ancestry
) -> list[str | None]:
    """For each move None, or why it must not be. `leases` are the values that refs must have (None: no such ref)."""
    reasons = [_judge(state, move, leases, ancestry) for move in moves]
    after = set(state.refs)
    for move, reason in zip(moves, reasons, strict=True):
        if reason is None and move.new is None:
            after.discard(move.name)
    directories = {each for name in after for each in _above(name)}
    for number, move in enumerate(moves):
        if reasons[number] is None and move.new is not None and move.name not in after:
            above = _above(move.name)
            if move.name in directories or any(each in after for each in above):
                reasons[number] = "another ref is named like its directory"
                continue
            after.add(move.name)
            directories.update(above)
    return reasons


def _judge(state: State, move: Move, leases: Mapping[bytes, Oid | None], ancestry: Ancestry) -> str | None:
    old = state.refs.get(move.name)
    leased = move.name in leases
    if leased and leases[move.name] != (None if old is None else old.oid):
        return STALE
    if move.new is None:
        if move.name == state.head and old is not None:
            return "it is the branch that clones check out (HEAD)"
        return None
    if not is_ref_name(move.name):
        return "no name for a ref"
    if move.name.startswith(b"refs/heads/") and move.kind != "commit":
        return "a branch is a commit"
    if old is None or old.oid == move.new.oid or move.force or leased:
        return None
    if move.name.startswith(b"refs/tags/"):
        return EXISTS
    if not ancestry.has(old.oid):
        return FETCH_FIRST
    if ancestry.is_ancestor(old.oid, move.new.oid):
        return None
    are_commits = all(ancestry.commit_of(oid) is not None for oid in (old.oid, move.new.oid))
    return NON_FAST_FORWARD if are_commits else NEEDS_FORCE


def _above(name: bytes) -> list[bytes]:
    parts = name.split(b"/")
    return [b"/".join(parts[:length]) for length in range(1, len(parts))]


def choose_head(state: State, created: Iterable[bytes], here: bytes | None) -> bytes | None:
    """The branch that HEAD becomes where a store has none: that of the pushing repository, main, master, any."""
    branches = sorted(name for name in created if name.startswith(b"refs/heads/"))
    if state.head in state.refs or not branches:
        return state.head
    for wanted in (here, b"refs/heads/main", b"refs/heads/master"):
        if wanted in branches:
            return wanted
    ours = [name for name in branches if not name.startswith(b"refs/heads/gitml/")]
    return ours[0] if ours else state.head
