"""Which commits are rewritten, and which refs move with them: the rules of `git lfs migrate`.

Without names it is the current branch; commits that a remote has are left alone, unless everything or other limits were
asked for. Branches and tags move if their commit is rewritten, named or not. Remote-tracking refs never move.
"""

from collections.abc import Iterable, Iterator, Sequence

from gitml.errors import UserError
from gitml.git.commits import Commit, parse_commit
from gitml.git.odb import GitOdb, read_many
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import record
from gitml.store.tree import Snapshot

LOCAL = ("refs/heads", "refs/tags")
HOSTED = ("refs/merge-requests", "refs/pull", "refs/pull-requests")
"""Namespaces of hosts for what was asked to be merged."""


@record
class Choice:
    """What the user asked to be rewritten; `is_history` unless it is the newest commit only."""

    refs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    everything: bool = False

    @property
    def is_history(self) -> bool:
        """Whether commits that exist are rewritten."""
        return bool(self.refs or self.include or self.exclude or self.everything)


@record
class Selection:
    """Commits to look at, oldest first, and the local refs of the repository that stand on any of them."""

    commits: dict[Oid, Commit]
    refs: dict[str, Oid]


def select(repo: Repository, odb: GitOdb, choice: Choice) -> Selection:
    """The commits that `choice` names; raise `UserError` for what is no ref."""
    include, exclude = _bounds(repo, choice)
    asked = "".join(f"{name}\n" for name in include) + "".join(f"^{name}\n" for name in exclude)
    listed = repo.git.output(
        "rev-list", "--topo-order", "--reverse", "--stdin", input=asked.encode("utf-8", "surrogateescape"),
        env={"GIT_NO_REPLACE_OBJECTS": "1"},
    ).split()  # fmt: skip
    commits = {oid: parse_commit(data) for oid, _, data in read_many(repo.git, map(Oid.parse, listed))}
    movable = movable_refs(repo, everything=choice.everything)
    refs = {name: oid for name, oid in movable.items() if _peeled(odb, oid) in commits}
    return Selection(commits, refs)


def movable_refs(repo: Repository, *, everything: bool) -> dict[str, Oid]:
    """Branches and tags, with `everything` also what hosts name; without symbolic ones."""
    places = (*LOCAL, *HOSTED) if everything else LOCAL
    symbolic = {
        line.split(" ")[0]
        for line in repo.git.lines("for-each-ref", "--format=%(refname) %(symref)", *places)
        if line.rstrip().count(" ")
    }
    return {name: oid for name, oid in list_refs(repo.git, *places).items() if name not in symbolic}


def _bounds(repo: Repository, choice: Choice) -> tuple[list[str], list[str]]:
    limited = bool(choice.include or choice.exclude)
    if choice.everything:
        names = list(movable_refs(repo, everything=True))
        if repo.try_resolve("HEAD") is not None:
            names.append("HEAD")
        return names, []
    include = [_full_name(repo, name) for name in (*choice.refs, *choice.include)]
    if not include:
        include = [current_branch(repo)]
    exclude = [_full_name(repo, name) for name in choice.exclude]
    if not limited:
        exclude += list_refs(repo.git, "refs/remotes")
    return include, exclude


def current_branch(repo: Repository) -> str:
    """The full name of the branch that is checked out, `HEAD` if none is; raise `UserError` if it has no commit."""
    if repo.try_resolve("HEAD") is None:
        raise UserError("there is no commit yet", hint="git add . && git commit")
    return repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip() or "HEAD"


def _full_name(repo: Repository, name: str) -> str:
    found = repo.git.run(
        "rev-parse", "--symbolic-full-name", "--verify", "--quiet", "--end-of-options", name, check=False
    )
    lines = [line for line in found.stdout.decode("utf-8", "surrogateescape").splitlines() if line.startswith("refs/")]
    if found.returncode != 0 or not lines:
        raise UserError(f"'{name}' is not a branch, tag or other ref", hint="list them: git for-each-ref")
    return lines[-1]


def _peeled(odb: GitOdb, oid: Oid) -> Oid:
    kind, data = odb.read(oid)
    while kind == "tag":
        oid = Oid.parse(data.split(b"\n", 1)[0].removeprefix(b"object "))
        kind, data = odb.read(oid)
    return oid


def fetch_remotes(repo: Repository, remotes: Iterable[str]) -> None:
    """Learn what remotes have now; raise `UserError` if one cannot be reached."""
    for remote in remotes:
        done = repo.git.run("fetch", "--quiet", "--no-write-fetch-head", "--", remote, check=False)
        if done.returncode != 0:
            said: Sequence[str] = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git failed"]
            raise UserError(
                f"cannot learn what '{remote}' has: {said[-1].removeprefix('fatal: ')}",
                hint="to go by what it had when last fetched from: --skip-fetch",
            )


def distinct_files(odb: GitOdb, roots: Iterable[Oid]) -> Iterator[tuple[bytes, Oid]]:
    """Path and blob of every file of these trees; a directory that many of them have at one place is read once."""
    waiting = [(root, b"") for root in dict.fromkeys(roots)]
    if not waiting:
        return
    snapshot = Snapshot(odb, waiting[0][0])
    seen: set[tuple[Oid, bytes]] = set()
    while waiting:
        tree, directory = waiting.pop()
        if (tree, directory) in seen:
            continue
        seen.add((tree, directory))
        for name, entry in snapshot.entries(tree).items():
            if entry.is_tree:
                waiting.append((entry.oid, directory + name + b"/"))
            elif entry.is_file:
                yield directory + name, entry.oid
