"""When results leave the repository: what a run asks of whoever copies them out, and for which branches.

Egress comes after publishing, so a result is safe whatever happens to its copy. It plays no part in keys and states.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Protocol

from gitml.errors import GitmlError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.plan import StageStatus
from gitml.pipeline.process import Stop
from gitml.pipeline.survey import command_of
from gitml.pipeline.trust import Trust
from gitml.store.tree import Snapshot

_USUAL = ("main", "master")


class Carrier(Protocol):
    """Copies outputs to where `egress` says, and remembers what it copied."""

    def claim(self, stage: str, url: str) -> None:
        """From now on it is for this clone to keep the copy up to date."""
        ...

    def is_claimed(self, stage: str, url: str) -> bool:
        """Whether it is."""
        ...

    def is_due(self, stage: str, url: str, tree: Oid) -> bool:
        """Whether it is for this clone to copy the output `tree`."""
        ...

    def send(
        self,
        stage: str,
        url: str,
        tree: Oid,
        *,
        commit: Oid,
        progress: Callable[[int, int], None],
        stop: Stop | None,
    ) -> int:
        """Copy what differs, give the number of files; raise `GitmlError`."""
        ...


def due(
    repo: Repository,
    carrier: Carrier,
    branch: str,
    leaving: Iterable[StageStatus],
    *,
    brought: Callable[[], Collection[str]],
    trust: Trust,
) -> list[StageStatus]:
    """Of stages with egress whose output is a result: those whose copies a run would bring up to date."""
    if not branch or not leaves_from(repo, branch):
        return []
    return [
        each
        for each in leaving
        if trust.has(command_of(each))
        and (
            carrier.is_due(each.stage.name, each.stage.egress, each.output)
            or (not carrier.is_claimed(each.stage.name, each.stage.egress) and command_of(each) in brought())
        )
    ]


class Delivery:
    """The copies that one run has made. `explicit`: a person asked for the run, so addresses count as reviewed."""

    def __init__(self, repo: Repository, carrier: Carrier, trust: Trust, *, explicit: bool, stop: Stop) -> None:
        self._repo = repo
        self._carrier = carrier
        self._trust = trust
        self._explicit = explicit
        self._stop = stop

    def claim(self, branch: str, leaving: Mapping[str, StageStatus], changed: Collection[str]) -> None:
        """Note which results are to be copied, before they are published: a kill in between then loses no copy.

        `leaving` are the stages with egress whose output is a result, `changed` those whose result is new.
        """
        names = leaving.keys() & changed
        if names and leaves_from(self._repo, branch):
            for name in names:
                self._carrier.claim(name, leaving[name].stage.egress)

    def deliver(
        self,
        branch: str,
        leaving: Mapping[str, StageStatus],
        changed: Collection[str],
        published: Snapshot,
        *,
        commit: Oid,
        brought: Callable[[], Collection[str]],
        progress: Callable[[str, int, int], None],
    ) -> tuple[dict[str, str], list[str]]:
        """Copy what `published` has at the outputs of `leaving`; give the stages that failed and why, and notices.

        Whoever publishes a result copies it, and whoever commits an address: `brought` gives the digests of commands
        that the commit brought in. Other clones leave it to them. `progress` is told stage, files copied, files in all.
        """
        failed: dict[str, str] = {}
        if not leaving:
            return failed, []
        if not leaves_from(self._repo, branch):
            names = ", ".join(name for name in leaving if name in changed)
            short = branch.removeprefix("refs/heads/")
            notice = f"{names}: branch '{short}' is not in ml.egressBranches, so no egress: git ml egress does it"
            return failed, [notice] if names else []
        for name, status in leaving.items():
            url, tree = status.stage.egress, published.oid_at(status.stage.output)
            if not self._carrier.is_claimed(name, url) and command_of(status) in brought():
                self._carrier.claim(name, url)
            if not self._carrier.is_due(name, url, tree):
                continue
            if self._explicit:
                self._trust.add([command_of(status)])
            elif not self._trust.has(command_of(status)):
                failed[name] = "where it goes came from elsewhere; see git ml trust --show, then: git ml trust"
                continue

            def show(done: int, total: int, name: str = name) -> None:
                progress(name, done, total)

            try:
                self._carrier.send(name, url, tree, commit=commit, progress=show, stop=self._stop)
            except (GitmlError, OSError) as error:
                failed[name] = str(error)
        return failed, [
            f"{name}: committed, but not copied by egress: {why}; 'git ml egress' tries again"
            for name, why in failed.items()
        ]


def leaves_from(repo: Repository, branch: str) -> bool:
    """Whether runs copy the results of `branch` (a full ref name) out by themselves.

    The patterns in `ml.egressBranches` say which do; without them the branch that `origin` has as its main one, in a
    bare repository that of HEAD, else `main` and `master`. A branch to try things on must not replace what others use.
    """
    name = branch.removeprefix("refs/heads/")
    setting = repo.config("ml.egressBranches")
    patterns = tuple(setting.split()) if setting is not None else _main_branches(repo)
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _main_branches(repo: Repository) -> tuple[str, ...]:
    head = "HEAD" if repo.worktree is None else "refs/remotes/origin/HEAD"
    target = repo.git.run("symbolic-ref", "--quiet", head, check=False).stdout.decode("utf-8", "replace").strip()
    for prefix in ("refs/heads/", "refs/remotes/origin/"):
        if target.startswith(prefix):
            return (target.removeprefix(prefix),)
    return _USUAL
