"""Data and runs to plain git remotes: what is sent before branches move there.

Heads of the data log are named by their oid, so pushes of several clones never meet in one ref; a head that is an
ancestor of another is dropped in the same transaction. The run cache is one ref: what the remote has is merged
first. The remote sees nothing but ordinary commits.

What is sent is what the pushed commits refer to and the remote lacks, and nothing of other branches. It goes in
several pushes where it is more than `ml.pushLimit`: each is a data commit on top of the one before, so an interrupted
push goes on with the next. Where the remote is a store of ours, all of it follows the push of the branches instead
(`followers`): one write of the store moves everything.
"""

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress

from gitml.git.data import HEADS, REMOTES, DataLog, UncoveredError
from gitml.git.followers import Leader, find_leader
from gitml.git.odb import GitOdb
from gitml.git.promisor import Item, absent_at, borrow_trees, fetch_versions, not_here
from gitml.git.pushed import PushedRef, new_commits
from gitml.git.refs import RefUpdate, update_refs
from gitml.git.remoterefs import ATTEMPTS, RemoteRefs, Target, TransferError, here
from gitml.git.remotes import (
    BRANCHES,
    CUSTOM,
    FetchError,
    data_remote,
    last_line,
)
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.manifest import read_manifest

RUNS = "refs/ml/runs"

PUSH_LIMIT = 1_900_000_000
"""Bytes of one push, for hosts that take at most 2 GB; `ml.pushLimit` says otherwise."""

_WORTH_BORROWING = 1 << 20
"""Bytes to send from which on the trees of the remote's data commits are fetched to find what it has of them."""


@record(frozen=False)
class Sent:
    """What a push of data did, or would do."""

    contents: list[Item] = field(default_factory=list)
    """Path and manifest of what the remote lacked."""
    pushes: int = 0
    objects: int = 0
    size: int = 0
    """Bytes as they are stored here, before git finds deltas."""
    runs: bool = False
    missing: dict[bytes, str] = field(default_factory=dict)
    """Paths whose content is neither here nor there, with the reason."""
    namespace: str = CUSTOM.root


def push_data(
    repo: Repository,
    remote: str,
    url: str,
    pushed: Sequence[PushedRef],
    merge_runs: Callable[[Oid], Oid],
    *,
    everything: bool = False,
    dry_run: bool = False,
    leads: bool = False,
) -> Sent:
    """Send what the pushed refs need to a remote, before they move.

    `remote` and `url` are as git gives them to pre-push; without a name both are the URL. Data and runs go to the
    remote `ml.dataRemote` instead, where that is set. `merge_runs` makes the local run cache the union with the one at
    a commit and gives the result. With `everything` no commit counts as being on the remote: what others pushed
    without data is sent too. With `leads` git is pushing these refs just now, and what is sent may follow them.
    Content that is neither here nor there is reported with `everything`; otherwise `UncoveredError` is raised before
    anything was sent. Raise `TransferError` if the remote refuses.
    """
    target = _target(repo, remote, url)
    # `git push --mirror` carries our refs itself: then data goes ahead, and nothing of theirs is touched
    own_refs = any(each.remote_name.startswith(("refs/ml/", BRANCHES.root + "/")) for each in pushed)
    place = target
    elsewhere = data_remote(repo)
    if elsewhere is not None and elsewhere != target.name:
        place, own_refs = _target(repo, elsewhere, ""), False
    leader = find_leader(repo.state_dir, url) if leads and pushed and place is target else None
    with GitOdb(repo.git, repo.format) as odb:
        adopt_leftovers(repo, odb)
        push = _Push(repo, DataLog(repo, odb), odb, place, dry_run=dry_run, own_refs=own_refs, leader=leader)
        reaching = [] if place is not target else [each.local for each in pushed if each.remote_name.startswith(HEADS)]
        carried = [oid for oid in reaching if oid is not None]
        items = push.log.pointers(_new_commits(repo, target, pushed, everything))
        if not items and not push.runs_differ():
            return push.sent
        push.remote.look()
        push.choose(items, everything, carried)
        push.send_data()
        push.send_runs(merge_runs)
        push.remote.follow()
        return push.sent


def push_contents(repo: Repository, remote: str, items: Sequence[Item]) -> None:
    """Send those of the contents, given as (path, manifest), that the remote of this name lacks; no branch moves.

    Raise `TransferError`, and `UncoveredError` before anything was sent if one is neither here nor there.
    """
    with GitOdb(repo.git, repo.format) as odb:
        adopt_leftovers(repo, odb)
        push = _Push(repo, DataLog(repo, odb), odb, Target(remote, remote), dry_run=False, own_refs=False)
        push.remote.look()
        push.choose(list(items), everything=False, carried=())
        push.send_data()


def join_heads(repo: Repository, remote: str, heads: Sequence[Oid], item: Item) -> None:
    """Put one head on a remote in the place of `heads`, data commits that are here too; `item` is in one of them.

    Raise `TransferError`; then the heads stay.
    """
    with GitOdb(repo.git, repo.format) as odb:
        push = _Push(repo, DataLog(repo, odb), odb, Target(remote, remote), dry_run=False, own_refs=False)
        push.remote.look()
        push.join(heads, item)


class _Push:
    """One push of data: what the remote lacks, and the sending of it."""

    def __init__(
        self,
        repo: Repository,
        log: DataLog,
        odb: GitOdb,
        target: Target,
        *,
        dry_run: bool,
        own_refs: bool,
        leader: Leader | None = None,
    ) -> None:
        self.log = log
        self.sent = Sent()
        self._repo = repo
        self._odb = odb
        self._dry_run = dry_run
        self._own_refs = own_refs
        self.remote = RemoteRefs(repo, target, own_refs=own_refs, leader=leader)
        self._items: list[Item] = []
        self._source = (repo, log, odb)

    def runs_differ(self) -> bool:
        """Whether the local run cache is not what the remote was last seen to have."""
        ours = self._repo.try_resolve(RUNS)
        seen = self._repo.try_resolve(f"{REMOTES}{self.remote.target.name}/runs") if self.remote.target.name else None
        return ours is not None and ours != seen and not self._own_refs

    def choose(self, items: list[Item], everything: bool, carried: Sequence[Oid]) -> None:
        """Decide what to send beside the data commits `carried` by the user's own push; raise `UncoveredError`."""
        there = self.log.versions([*self.remote.bases, *carried])
        if self.remote.is_pruned:
            there |= self._versions_not_here()
        elif self.remote.target.name is not None and not everything:
            there |= self.log.fetched(items, self.remote.target.name)
        lacking = [item for item in items if item not in there]
        unsure = {oid for _, oid in lacking} if everything else not_here(self._repo, {oid for _, oid in lacking})
        if unsure:
            # after a prune a remote may still give what it is about to forget
            absent = unsure if self.remote.is_pruned else absent_at(self._repo, self.remote.target.address, unsure)
            lacking = [item for item in lacking if item[1] not in unsure or item[1] in absent]
            elsewhere = fetch_versions(self._repo, [item for item in lacking if item[1] in absent])
            self.sent.missing = {path: reason for (path, _), reason in elsewhere.items()}
            lacking = [item for item in lacking if item not in elsewhere]
        if self.sent.missing and not everything:
            raise UncoveredError(self.sent.missing)
        self._items = lacking
        self.sent.contents = list(lacking)

    def _versions_not_here(self) -> set[Item]:
        """What those data commits of the remote hold that are not here; nothing where it cannot be known."""
        unknown = set(self.remote.heads).difference(self.remote.bases)
        if not unknown:
            return set()
        with (
            suppress(FetchError),
            borrow_trees(self._repo, self.remote.target.address, unknown, whole=True) as borrowed,
            GitOdb(borrowed.repo.git, self._repo.format) as odb,
        ):
            return DataLog(borrowed.repo, odb).versions(unknown)
        return set()

    def _send(self, added: Mapping[str, Oid], *, races: bool = True) -> bool:
        done = self.remote.push(added, races=races)
        self.sent.namespace = self.remote.namespace.root
        return done

    def join(self, heads: Sequence[Oid], item: Item) -> None:
        """Send a data commit on top of `heads`."""
        joined, missing = self.log.write(heads, [item])
        if missing or joined is None:
            raise UncoveredError(missing)
        self._send({self.remote.namespace.data + joined.hex(): joined})

    def send_data(self) -> None:
        """Send the data commits, in as few pushes as the limit allows."""
        if not self._items:
            return
        with ExitStack() as lent:
            self._borrow(lent)
            for commit in self._stages():
                if not self._dry_run:
                    self._send({self.remote.namespace.data + commit.hex(): commit})
                self.sent.pushes += 1
        self.remote.push_from(None)
        self._source = (self._repo, self.log, self._odb)

    def _borrow(self, lent: ExitStack) -> None:
        """Build on the data commits of the remote that are not here, without their content.

        A clone that fetched single objects has no commit in common with the remote's data, so git would send every
        chunk of a file of which one changed. What is built on commits that are not here stays out of the repository.
        """
        unknown = set(self.remote.heads).difference(self.remote.bases)
        # a store is searched for single objects by whoever pushes to it
        if not unknown or self.remote.leads or sum(self._sizes(self._head()).values()) < _WORTH_BORROWING:
            return
        with suppress(FetchError):
            borrowed = lent.enter_context(borrow_trees(self._repo, self.remote.target.address, unknown))
            odb = lent.enter_context(GitOdb(borrowed.repo.git, self._repo.format))
            self.remote.push_from(borrowed)
            self._source = (borrowed.repo, DataLog(borrowed.repo, odb), odb)

    def _stages(self) -> Iterator[Oid]:
        """Data commits to push one after the other."""
        limit = self._repo.config_int("ml.pushLimit", PUSH_LIMIT)
        head = self._head()
        sizes = self._sizes(head)
        self.sent.objects, self.sent.size = len(sizes), sum(sizes.values())
        if self.sent.size <= limit or self.remote.leads:
            yield head
            return
        parents = self.remote.bases
        whole: list[Item] = []
        used = 0
        for path, manifest in self._items:
            listed = read_manifest(manifest, self._odb).chunks
            chunks = list(dict.fromkeys(chunk.oid for chunk in listed if chunk.oid in sizes))
            size = sum(sizes[oid] for oid in chunks)
            if used + size > limit and whole:
                yield (commit := self._write(parents, whole))
                parents, whole, used = [commit], [], 0
            part: list[Oid] = []
            for oid in chunks if size > limit else ():
                if used + sizes[oid] > limit and part:
                    yield (commit := self._write(parents, [(path, manifest)], only=set(part)))
                    # what a part carried stays reachable through its successors
                    parents, part, used = [commit], [], 0
                part.append(oid)
                used += sizes[oid]
            if size <= limit:
                used += size
            whole.append((path, manifest))
            for oid in chunks:
                sizes.pop(oid, None)
        yield self._write(parents, whole)

    def _head(self) -> Oid:
        """A data commit with what is to be sent: the head here if it holds no more than that, else one of its own."""
        bases = self.remote.bases
        _, log, _ = self._source
        heads = log.heads()
        if len(heads) == 1 and log.versions(heads, beyond=bases) == set(self._items):
            return heads[0]
        return self._write(bases, self._items)

    def _write(self, parents: Sequence[Oid], items: Sequence[Item], only: Container[Oid] | None = None) -> Oid:
        commit, missing = self._source[1].write(parents, items, only)
        if missing or commit is None:
            raise UncoveredError(missing)
        return commit

    def _sizes(self, head: Oid) -> dict[Oid, int]:
        """The objects that the remote lacks of a data commit, with their size on disk."""
        git = self._source[0].git
        excluded = ["--not", *(oid.hex() for oid in self.remote.bases)]
        listed = git.output("rev-list", "--objects", "--no-object-names", head.hex(), *excluded, "--")
        answer = git.output("cat-file", "--batch-check=%(objectname) %(objectsize:disk)", input=listed)
        pairs = (line.split() for line in answer.splitlines())
        return {Oid.parse(pair[0]): int(pair[1]) for pair in pairs}

    def send_runs(self, merge_runs: Callable[[Oid], Oid]) -> None:
        """Make the run cache of the remote the union of both."""
        if self._own_refs:
            return
        for _ in range(ATTEMPTS):
            theirs = self.remote.runs
            if not self._dry_run:
                self._merge_runs(theirs, merge_runs)
            ours = self._repo.try_resolve(RUNS)
            if ours is None or ours == theirs:
                return
            self.sent.runs = True
            if self._dry_run or self._send({self.remote.namespace.runs: ours}, races=False):
                return
            self.remote.look()
        raise self.remote.refused("others push runs all the time")

    def _merge_runs(self, theirs: Oid | None, merge_runs: Callable[[Oid], Oid]) -> None:
        """Take over the remote's runs, if it has others than when last seen."""
        if theirs is None or theirs == self._repo.try_resolve(RUNS):
            return
        if here(self._repo, [theirs]):
            merge_runs(theirs)
            return
        name = (
            f"{REMOTES}{self.remote.target.name}/runs"
            if self.remote.target.name is not None
            else f"refs/ml/incoming/{os.getpid()}-{os.urandom(8).hex()}"
        )
        done = self._repo.git.run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=", "--", self.remote.target.address,
            f"+{self.remote.namespace.runs}:{name}", check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise TransferError(f"cannot fetch runs from '{self.remote.target.address}': {last_line(done.stderr)}")
        fetched = self._repo.try_resolve(name)
        if fetched is not None:
            merge_runs(fetched)
        if self.remote.target.name is None:
            update_refs(self._repo.git, [RefUpdate(name, None)])


def _target(repo: Repository, remote: str, url: str) -> Target:
    if remote not in repo.git.lines("remote"):
        return Target(url or remote, None)
    addresses = repo.git.run("remote", "get-url", "--push", "--all", remote, check=False).stdout.splitlines()
    if len(addresses) > 1 and url:
        # git calls the hook once for each: what is known of the name says nothing of one of them
        return Target(url, None)
    return Target(remote, remote)


def _new_commits(repo: Repository, target: Target, pushed: Iterable[PushedRef], everything: bool) -> list[Oid]:
    try:
        return new_commits(repo, target.address, target.name, pushed, everything)
    except FetchError as error:
        raise TransferError(f"cannot reach '{target.address}': {error.detail}") from None
