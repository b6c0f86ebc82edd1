"""The refs of ours on one remote: seen, pushed, and remembered as a fetch would.

A server may forbid deletions, atomic pushes or refs with names of their own, and may drop what it took without a word:
then old heads stay, refs move one by one, or data is kept on branches.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum

from gitml.errors import GitmlError
from gitml.git.data import REMOTES
from gitml.git.followers import Followers, Leader
from gitml.git.promisor import Borrowed
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, list_refs, update_refs
from gitml.git.remotes import (
    BRANCHES,
    CUSTOM,
    PRUNED,
    FetchError,
    last_line,
    list_remote,
    namespace_at,
    remember_namespace,
)
from gitml.git.repository import Repository
from gitml.meter import is_shown
from gitml.oid import Oid
from gitml.record import record

ATTEMPTS = 8
"""Times that something is tried while others move the same refs."""
RACES = re.compile(
    "stale info|fetch first|non-fast-forward|cannot lock ref|failed to lock|failed to update ref|already exists"
    "|incorrect old value|reference already exists|remote ref updated"
)
"""How servers say that somebody else was moving the same ref."""
_LOSES_CUSTOM_REFS = re.compile(r"[/@.]bitbucket\.org[:/]", re.IGNORECASE)
"""Hosts that take refs of any name and then lose what only those reach."""


class TransferError(GitmlError):
    """A remote did not take or give data."""


@record
class Target:
    """Where to push: `address` is what git is given, `name` the remote's name, None for a bare URL."""

    address: str
    name: str | None


class _Outcome(Enum):
    DONE = "done"
    RACE = "race"
    REFUSED = "refused"


class RemoteRefs:
    """What one remote has of ours, and the pushes that change it.

    With `own_refs` the user's push carries our refs itself, and nothing of theirs is touched. With a `leader` nothing
    is pushed: it all follows the push that git is doing.
    """

    def __init__(self, repo: Repository, target: Target, *, own_refs: bool, leader: Leader | None) -> None:
        self.target = target
        self.namespace = CUSTOM
        self.there: dict[str, Oid] = {}
        """The refs of ours that the remote has, as far as we know."""
        self.is_pruned = False
        self._repo = repo
        self._own_refs = own_refs
        self._seen = None if leader is None else dict(leader.refs)
        """What the remote has, as the push that git is doing has just seen it."""
        self._leader = None if own_refs else leader
        self._followers = Followers()
        self._careful = False
        self._borrowed: Borrowed | None = None

    @property
    def leads(self) -> bool:
        """Whether all follows the push that git is doing."""
        return self._leader is not None

    @property
    def runs(self) -> Oid | None:
        """The run cache there."""
        return self.there.get(self.namespace.runs)

    @property
    def heads(self) -> list[Oid]:
        """The heads of its data log."""
        return [oid for name, oid in self.there.items() if name != self.namespace.runs]

    @property
    def bases(self) -> list[Oid]:
        """The data commits of the remote that are here too, or borrowed."""
        return here(self._source, self.heads)

    def push_from(self, borrowed: Borrowed | None) -> None:
        """Have what is pushed come from this repository from now on; None: from the user's."""
        self._borrowed = borrowed

    def look(self) -> None:
        """Ask the remote for its refs."""
        refs, self._seen = self._seen, None
        if refs is None:
            try:
                refs = list_remote(self._repo, self.target.address)
            except FetchError as error:
                raise TransferError(f"cannot reach '{self.target.address}': {error.detail}") from None
        self.namespace = namespace_at(self._repo, self.target.name, refs)
        addresses = self._repo.git.run("remote", "get-url", "--push", self.target.address, check=False).stdout
        if not CUSTOM.refs(refs) and _LOSES_CUSTOM_REFS.search(os.fsdecode(addresses) or self.target.address):
            self.namespace = BRANCHES
        self.there = self.namespace.refs(refs)
        self.is_pruned = PRUNED in refs

    def push(self, added: Mapping[str, Oid], *, races: bool = True) -> bool:
        """Push refs, and drop the heads that they supersede; False if others were quicker and `races` is not set.

        A server may forbid deletions and atomic pushes: old heads do no harm, so they stay then. One that refuses
        or drops refs with names of their own gets branches. Raise `TransferError`.
        """
        if self._leader is not None:
            superseded = self._superseded(added.values())
            self._followers.added.update(added)
            self._followers.deleted.update(superseded)
            self._move(added, superseded)
            return True
        for attempt in range(ATTEMPTS):
            self._careful |= attempt >= ATTEMPTS // 2
            superseded = () if self._careful or self._own_refs else self._superseded(added.values())
            outcome, reason = self._run_push(added, superseded)
            if outcome is _Outcome.DONE and (self.there or self._is_there(added)):
                self._note(added, superseded)
                return True
            if outcome is _Outcome.RACE:
                if not races:
                    return False
                self.look()
            elif outcome is _Outcome.REFUSED and not self._careful:
                self._careful = True
            elif self.namespace == CUSTOM and not CUSTOM.refs(self.there):
                added = {BRANCHES.root + name.removeprefix(CUSTOM.root): oid for name, oid in added.items()}
                self.namespace, self._careful = BRANCHES, False
            else:
                raise self.refused(reason)
        raise self.refused(reason)

    def follow(self) -> None:
        """Have what was to be pushed follow the push that git is doing."""
        if self._leader is not None and self._followers.added:
            self._followers.tracked = {update.name: update.new for update in self._memory()}
            self._leader.follow(self._followers)

    def refused(self, reason: str) -> TransferError:
        """What is raised when the remote did not take something, with its reason."""
        return TransferError(
            f"'{self.target.name or self.target.address}' did not take the data: {reason}",
            hint="nothing was pushed; to push without data: git push --no-verify",
        )

    def _run_push(self, added: Mapping[str, Oid], deleted: Iterable[str]) -> tuple[_Outcome, str]:
        """One `git push`; its progress goes to our standard error."""
        refspecs = [f"{oid}:{name}" for name, oid in added.items()] + [f":{name}" for name in deleted]
        name = self.target.name
        done = self._repo.git.run(
            *(self._borrowed.options if self._borrowed is not None else ()),
            # refspecs of our own are not allowed where a remote is a mirror
            *(["-c", f"remote.{name}.mirror=false"] if name is not None else []),
            "push", "--no-verify", "--thin", "--porcelain", "--no-follow-tags", "--recurse-submodules=no",
            "--progress" if is_shown() else "--no-progress",
            *([] if self._careful else ["--atomic"]), "--", self.target.address, *refspecs,
            check=False, show=is_shown(), env={"LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode == 0:
            return _Outcome.DONE, "it took them and has not got them"
        refused = [line.decode("utf-8", "replace") for line in done.stdout.splitlines() if line.startswith(b"!")]
        if refused:
            reasons = [line.split("\t")[-1] for line in refused]
            raced = any(map(RACES.search, reasons))
            own = next((reason for reason in reasons if "atomic" not in reason), reasons[0])
            return (_Outcome.RACE if raced else _Outcome.REFUSED), own
        if b"atomic" in done.stderr:
            return _Outcome.REFUSED, last_line(done.stderr)
        raise TransferError(
            f"cannot push data to '{name or self.target.address}': {last_line(done.stderr)}",
            hint="what arrived is not sent again: git push",
        )

    def _is_there(self, added: Mapping[str, Oid]) -> bool:
        """Whether a remote that had nothing of ours has what it took: some drop refs without a word."""
        refs = list_remote(self._repo, self.target.address)
        return all(refs.get(name) == oid for name, oid in added.items())

    def _superseded(self, new: Iterable[Oid]) -> tuple[str, ...]:
        """The heads on the remote that are ancestors of what is pushed."""
        present = set(self.bases)
        known = {name: oid for name, oid in self.there.items() if oid in present}
        commits = {*new, *known.values()}
        if not known or len(commits) < 2:
            return ()
        listed = self._source.git.lines("merge-base", "--independent", *sorted(oid.hex() for oid in commits))
        independent = set(map(Oid.parse, listed))
        return tuple(name for name, oid in known.items() if oid not in independent)

    def _move(self, added: Mapping[str, Oid], deleted: Iterable[str]) -> None:
        gone = set(deleted)
        self.there = {name: oid for name, oid in {**self.there, **added}.items() if name not in gone}

    def _note(self, added: Mapping[str, Oid], deleted: Iterable[str]) -> None:
        """Remember what the remote has now, as a fetch would."""
        self._move(added, deleted)
        if self.target.name is not None and self.namespace != CUSTOM:
            remember_namespace(self._repo, self.target.name, self.namespace)
        with suppress(RefMovedError, RefLockedError):  # only a memory: the next push or fetch brings it up to date
            update_refs(self._repo.git, self._memory())

    def _memory(self) -> list[RefUpdate]:
        """What is to change in what is remembered of the remote."""
        name = self.target.name
        if name is None:
            return []
        tracked = {
            (f"{REMOTES}{name}/runs" if ref == self.namespace.runs else f"{REMOTES}{name}/data/{oid}"): oid
            for ref, oid in self.there.items()
        }
        known = list_refs(self._repo.git, f"{REMOTES}{name}")
        present = set(here(self._repo, tracked.values()))
        updates = [RefUpdate(ref, oid) for ref, oid in tracked.items() if oid in present and known.get(ref) != oid]
        return updates + [RefUpdate(ref, None, oid) for ref, oid in known.items() if ref not in tracked]

    @property
    def _source(self) -> Repository:
        """Where the commits lie that are pushed."""
        return self._repo if self._borrowed is None else self._borrowed.repo


def here(repo: Repository, oids: Iterable[Oid]) -> list[Oid]:
    """Those of `oids` that the repository has."""
    listed = b"".join(oid.hex().encode() + b"\n" for oid in oids)
    if not listed:
        return []
    answer = repo.git.output("cat-file", "--batch-check=%(objectname)", input=listed).splitlines()
    return [Oid.parse(line) for line in answer if not line.endswith(b" missing")]
