"""Data heads and where they go: whose they are, how they are replaced in one step, and where the old ones wait.

What goes out of use stands below `refs/ml/dropped/`, as `<seconds since 1970>-<oid>` with how it comes back: nothing
for a data head or a staged chain, `-contents` or `-objects` for what was fetched, `-left/<remote>` for what is needed
and was left to a remote.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence

from gitml.care.roots import remote_heads
from gitml.errors import UserError
from gitml.git.data import DROPPED, HEADS, DataLog, UncoveredError
from gitml.git.promisor import Item
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.remotes import PRUNED
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import record

_ATTEMPTS = 8
_DROPPED_NAME = re.compile(r"refs/ml/dropped/(\d+)-[0-9a-f]+(?:-(contents|objects|left)(?:/(.+))?)?")


@record
class Version:
    """One content at one path of the data commits, by its manifest."""

    path: bytes
    manifest: Oid


@record
class Heads:
    """Data heads at one moment, by ref: `own` are those that no remote is known to have, `shared` the others."""

    own: dict[str, Oid]
    shared: dict[str, Oid]

    @classmethod
    def read(cls, repo: Repository) -> "Heads":
        """The heads at this moment."""
        remotes = set(repo.git.lines("remote"))
        own: dict[str, Oid] = list_refs(repo.git, HEADS)
        shared: dict[str, Oid] = {}
        for remote, heads in remote_heads(repo).items():
            # what a remote had that is no remote any more is for nobody but us to keep
            (shared if remote in remotes else own).update(heads)
        return cls(own, shared)

    def replace(self, repo: Repository, after: Iterable[Oid], more: Iterable[RefUpdate], *, forget: bool) -> None:
        """Make `after` the local heads, with `more` in the same transaction; `forget` the heads of remotes too.

        Raise `RefMovedError` or `RefLockedError`, with nothing changed, if another process was faster.
        """
        names = {HEADS + oid.hex(): oid for oid in after}
        updates = [RefUpdate(name, oid, None) for name, oid in names.items() if name not in self.own]
        updates += [RefUpdate(name, None, oid) for name, oid in self.own.items() if name not in names]
        # a head that stays is verified too: another prune may be at it
        updates += [RefUpdate(name, oid, oid) for name, oid in self.own.items() if name in names]
        updates += [RefUpdate(name, None if forget else oid, oid) for name, oid in self.shared.items()]
        move_refs(repo, [*updates, *more])


def move_refs(repo: Repository, updates: Iterable[RefUpdate]) -> None:
    """Move refs together. Git that is killed at the wrong moment leaves some: what keeps comes before what goes."""
    ordered = sorted(updates, key=lambda update: 2 if update.new is None else update.old is not None)
    update_refs(repo.git, ordered)


def check_allowed(repo: Repository) -> None:
    """Raise `UserError` where the repository says that nothing may go (`extensions.preciousObjects`)."""
    if repo.config_bool("extensions.preciousObjects", False):
        raise UserError(
            "objects of this repository are precious (extensions.preciousObjects): others may borrow them",
            hint="if no other repository lists this one in objects/info/alternates: "
            "git config --unset extensions.preciousObjects",
        )


def independent(repo: Repository, oids: Iterable[Oid]) -> list[Oid]:
    """Those of some commits that are no ancestors of others."""
    distinct = sorted(set(oids))
    if len(distinct) < 2:
        return distinct
    return sorted(map(Oid.parse, repo.git.lines("merge-base", "--independent", *(oid.hex() for oid in distinct))))


def dropped_name(oid: Oid, kind: str = "") -> str:
    """The ref under which something waits for its end, from now on."""
    return f"{DROPPED}{int(time.time())}-{oid}{'-' if kind else ''}{kind}"


def dropped_time(name: str) -> int:
    """When what this ref names was dropped, in seconds since 1970."""
    match = _DROPPED_NAME.fullmatch(name)
    return int(match[1]) if match else 0


def dropped_kind(name: str) -> tuple[str, str]:
    """How what this ref names comes back, and the remote that it was left to."""
    match = _DROPPED_NAME.fullmatch(name)
    return (match[2] or "", match[3] or "") if match else ("", "")


def write_versions(log: DataLog, parents: Sequence[Oid], items: Sequence[Item]) -> Oid | None:
    """Write data commits that hold `items`, oldest first; give the last, None for no items; raise `UncoveredError`."""
    head, missing = log.write(parents, items)
    if missing:
        raise UncoveredError(missing)
    return head


def pauses() -> Iterator[float | None]:
    """Seconds to wait after each failed attempt; None after the last."""
    yield from (0.01 * 2**attempt for attempt in range(_ATTEMPTS))
    yield None


def pruned_mark(repo: Repository) -> RefUpdate:
    """Tell whoever pushes here that data went: what they saw here before may be gone."""
    return RefUpdate(PRUNED, Oid.parse(repo.git.output("mktree", input=b"").strip()))
