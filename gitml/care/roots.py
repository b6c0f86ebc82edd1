"""What a repository needs: every pointer that a user can still reach, with the places it is reached from.

The roots, all in one place: every ref but those that only keep content (`KEEPERS`); HEAD, index, and the files like
`ORIG_HEAD` and `MERGE_HEAD` of every worktree; what a rebase comes back to; all reflog entries, so the stash
too; the trees of run caches, ours and of remotes. Reflog entries count as long as git has them: `git reflog expire`,
which `git gc` runs, knows about ages.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gitml.errors import UserError
from gitml.git.command import Git
from gitml.git.data import FETCHED, HEADS, REMOTES
from gitml.git.packindex import ObjectIndex
from gitml.git.pointers import scan_pointers
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.pointer import Pointer

KEEPERS = (
    "refs/ml/data/*",
    "refs/ml/remotes/*/data/*",
    "refs/ml/staged/*",
    "refs/ml/dropped/*",
    "refs/ml/incoming/*",
    "refs/ml/fetched/*",
    "refs/heads/gitml/data/*",
    "refs/remotes/*/gitml/data/*",
)
"""Refs that keep content and need none of their own; the last two where a host takes branches only."""

_AS_STORED = ("--no-replace-objects",)
"""As for git gc: what `git replace` hides is needed, and what it shows is on a ref of its own."""

_OID = re.compile(rb"([0-9a-f]{40}(?:[0-9a-f]{24})?)(?:\s|$)")
_PSEUDO_REF = re.compile(r"[A-Z_]*HEAD|AUTO_MERGE|MERGE_AUTOSTASH|BISECT_EXPECTED_REV")
_OF_ONE_WORKTREE = ("bisect", "rewritten", "worktree")
"""Below `refs/`: what git shows only from within the worktree that it belongs to."""
_OPERATIONS = (
    "rebase-merge/orig-head", "rebase-merge/onto", "rebase-merge/autostash", "rebase-merge/stopped-sha",
    "rebase-apply/orig-head", "rebase-apply/onto", "rebase-apply/autostash", "sequencer/head", "sequencer/abort-safety",
)  # fmt: skip
_RUNS = re.compile(r"refs/ml/runs|refs/ml/remotes/.+/runs")
_REMOTE_HEAD = re.compile(r"refs/ml/remotes/(.+)/data/[0-9a-f]+")


class UnknownNeedsError(UserError):
    """Files of the history are not here, so nobody knows what they need. Carries their number as `absent`."""

    def __init__(self, absent: int) -> None:
        super().__init__(
            f"files of the history are not here ({absent}), so nobody knows what they need",
            hint="in a partial clone: git fetch --refetch --no-filter; else see: git fsck",
        )
        self.absent = absent


RUN_CACHE = "the run cache"
"""Where a `Use` stands whose path is none of the user's."""


@record
class Use:
    """One place where a pointer stands: its path, its blob, and a commit in hex or words (`the index`)."""

    path: bytes
    blob: Oid
    where: str


@record(frozen=False)
class Needs:
    """The pointers that roots lead to, by blob; what only claims to be one; and where they stand, oldest first."""

    pointers: dict[Oid, Pointer] = field(default_factory=dict)
    malformed: dict[Oid, str] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    absent: int = 0
    """Files whose blob is not here (a partial clone, or damage), so that nobody knows whether they are pointers."""

    def manifests(self) -> set[Oid]:
        """Every manifest that is needed."""
        return {pointer.manifest for pointer in self.pointers.values()}

    def versions(self) -> Iterator[tuple[Use, Pointer]]:
        """Every use of a well-formed pointer, oldest first."""
        return ((use, self.pointers[use.blob]) for use in self.uses if use.blob in self.pointers)


def read_needs(repo: Repository) -> Needs:
    """What all roots of the repository need."""
    uses = [*_in_history(repo, _commits(repo)), *_in_trees(repo), *_in_indexes(repo)]
    return _resolve(repo, uses)


def read_shared_needs(repo: Repository) -> Needs:
    """What remotes need as they were last seen: their branches and runs, and all tags if there is a remote."""
    spaces = ("refs/remotes/", REMOTES, "refs/tags/") if repo.git.lines("remote") else ("refs/remotes/", REMOTES)
    refs = {name: oid for name, oid in _objects_of_refs(repo) if name.startswith(spaces)}
    tips = [oid for name, oid in refs.items() if not _RUNS.fullmatch(name)]
    trees = [repo.resolve(f"{oid.hex()}^{{tree}}") for name, oid in refs.items() if _RUNS.fullmatch(name)]
    return read_needs_of_refs(repo, [*tips, *trees])


def remote_heads(repo: Repository) -> dict[str, dict[str, Oid]]:
    """The data heads of remotes as they were last seen: remote to ref to oid."""
    found: dict[str, dict[str, Oid]] = {}
    for name, oid in list_refs(repo.git, REMOTES).items():
        match = _REMOTE_HEAD.fullmatch(name)
        if match is not None:
            found.setdefault(match[1], {})[name] = oid
    return found


def keeping_refs(repo: Repository) -> list[Oid]:
    """The tips that hold content here for good: data heads, those of remotes, and what was fetched."""
    tracked = [oid for heads in remote_heads(repo).values() for oid in heads.values()]
    branches = list_refs(repo.git, "refs/heads/gitml/data/*", "refs/remotes/*/gitml/data/*").values()
    return list(dict.fromkeys([*list_refs(repo.git, HEADS, FETCHED).values(), *tracked, *branches]))


def read_needs_of(repo: Repository, revisions: Sequence[str]) -> Needs:
    """What some revisions need: the tree of a commit, or what the commits of a range (`A..B`) brought in."""
    uses: list[Use] = []
    for revision in revisions:
        if ".." in revision or revision.startswith("^"):
            done = repo.git.run(*_AS_STORED, "rev-list", "--reverse", "--topo-order", revision, "--", check=False)
            if done.returncode:
                raise UserError(f"unknown range '{revision}'")
            uses += _in_history(repo, done.stdout.split())
        else:
            tree = repo.resolve(f"{revision}^{{tree}}")
            uses += _in_tree(repo, tree, revision)
    return _resolve(repo, uses)


def read_tip_needs(repo: Repository, *, since: int) -> Needs:
    """What the tips of roots need, and what commits not older than `since` (seconds since 1970) brought in."""
    uses: list[Use] = []
    tips = [oid for name, oid in _objects_of_refs(repo) if not _RUNS.fullmatch(name)]
    listing = b"".join(f"{oid}^{{tree}}\n".encode() for oid in dict.fromkeys([*tips, *_of_worktrees(repo)]))
    answer = repo.git.output("cat-file", "--batch-check", input=listing).splitlines() if listing else []
    for tree in dict.fromkeys(line.split()[0] for line in answer if line.split()[1:2] == [b"tree"]):
        uses += _in_tree(repo, Oid.parse(tree), tree.decode())
    for stash in repo.git.run(*_AS_STORED, "rev-list", "-g", "refs/stash", "--", check=False).stdout.split():
        uses += _in_history(
            repo, repo.git.output(*_AS_STORED, "rev-list", "--no-walk", f"{stash.decode()}^@", "--").split()
        )
        uses += _in_tree(repo, repo.resolve(f"{stash.decode()}^{{tree}}"), "the stash")
    recent = repo.git.output(
        *_AS_STORED, "rev-list", "--reverse", "--topo-order", f"--since=@{since} +0000", *_everything(repo), "--"
    ).split()
    heads = [oid.hex() for oid in commits_among(repo, _of_worktrees(repo))]
    unpushed = repo.git.output(
        *_AS_STORED, "rev-list", "--reverse", "--topo-order", "--branches", "--tags", *heads, "--not", "--remotes"
    )
    uses += _in_history(repo, dict.fromkeys([*recent, *unpushed.split()]))
    return _resolve(repo, [*uses, *_in_trees(repo), *_in_indexes(repo)])


def read_needs_of_refs(repo: Repository, tips: Iterable[Oid]) -> Needs:
    """What the history of some commits needs, and the trees among `tips`."""
    commits, trees = [], []
    listing = b"".join(tip.hex().encode() + b"^{}\n" for tip in tips)
    for line in repo.git.output("cat-file", "--batch-check", input=listing).splitlines() if listing else ():
        fields = line.split()
        if fields[1:2] == [b"commit"]:
            commits.append(fields[0])
        elif fields[1:2] == [b"tree"]:
            trees.append(Oid.parse(fields[0]))
    walked: list[bytes] = []
    if commits:
        walked = repo.git.output(
            *_AS_STORED, "rev-list", "--reverse", "--topo-order", "--stdin", input=b"\n".join(commits) + b"\n"
        ).split()
    uses = list(_in_history(repo, walked))
    for tree in trees:
        uses += _in_tree(repo, tree, tree.hex())
    return _resolve(repo, uses)


def git_directories(repo: Repository) -> list[Path]:
    """The git directory of the repository and those of its linked worktrees."""
    linked = repo.common_dir / "worktrees"
    try:
        names = sorted(os.listdir(linked))
    except FileNotFoundError:
        names = []
    return [repo.common_dir, *(linked / name for name in names if (linked / name / "HEAD").exists())]


def only_below(needs: Needs, paths: Iterable[bytes]) -> Needs:
    """The part of `needs` at or below `paths`."""
    wanted = tuple(paths)
    uses = [
        use
        for use in needs.uses
        if any(use.path == path or path in (b"", b".") or use.path.startswith(path + b"/") for path in wanted)
    ]
    blobs = {use.blob for use in uses}
    return Needs(
        {oid: pointer for oid, pointer in needs.pointers.items() if oid in blobs},
        {oid: why for oid, why in needs.malformed.items() if oid in blobs},
        uses,
        needs.absent,
    )


def _everything(repo: Repository) -> list[str]:
    excluded = [f"--exclude={pattern}" for pattern in (*KEEPERS, "refs/ml/runs", "refs/ml/remotes/*")]
    present = commits_among(repo, _of_worktrees(repo))
    return [*excluded, "--all", "--reflog", *(oid.hex() for oid in present)]


def _commits(repo: Repository) -> list[bytes]:
    return repo.git.output(*_AS_STORED, "rev-list", "--reverse", "--topo-order", *_everything(repo), "--").split()


def commits_among(repo: Repository, oids: Iterable[Oid]) -> list[Oid]:
    """Those of some objects that are here and are commits."""
    listing = b"".join(oid.hex().encode() + b"\n" for oid in oids)
    answer = repo.git.output("cat-file", "--batch-check", input=listing).splitlines() if listing else []
    return [Oid.parse(line.split()[0]) for line in answer if line.split()[1:2] == [b"commit"]]


def _of_worktrees(repo: Repository) -> list[Oid]:
    """What all worktrees name beside shared refs."""
    return [oid for directory in git_directories(repo) for oid in _pseudo_refs(directory)]


def _pseudo_refs(directory: Path) -> list[Oid]:
    """What the files of one git directory that are no refs, and the refs of its worktree alone, name."""
    files = [directory / name for name in os.listdir(directory) if _PSEUDO_REF.fullmatch(name)]
    files += [directory / name for name in _OPERATIONS]
    for name in _OF_ONE_WORKTREE:
        files += [path for path in (directory / "refs" / name).rglob("*") if path.is_file()]
    found: list[Oid] = []
    for path in files:
        try:
            data = path.read_bytes()
        except OSError:
            continue
        found += [Oid.parse(match[1]) for line in data.splitlines() if (match := _OID.match(line))]
    return list(dict.fromkeys(found))


def _objects_of_refs(repo: Repository) -> list[tuple[str, Oid]]:
    keeping = re.compile("|".join(re.escape(pattern).replace(r"\*", ".*") for pattern in KEEPERS))
    return [(name, oid) for name, oid in list_refs(repo.git).items() if not keeping.fullmatch(name)]


def _in_history(repo: Repository, commits: Iterable[bytes]) -> Iterator[Use]:
    """Every regular file that commits added or changed, against each parent."""
    listed = b"".join(commit + b"\n" for commit in commits)
    if not listed:
        return
    tokens = iter(
        repo.git.output(
            *_AS_STORED, "diff-tree", "--stdin", "-r", "-m", "-z", "--root", "--raw", "--no-abbrev", "--no-renames",
            "--diff-filter=AMT", input=listed,
        ).split(b"\0")
    )  # fmt: skip
    where = ""
    for token in tokens:
        if not token.startswith(b":"):
            where = token.split(b" ")[0].decode()
            continue
        _, mode, _, oid, _ = token.split(b" ")
        path = next(tokens)
        if mode.startswith(b"100"):
            yield Use(path, Oid.parse(oid), where)


def _in_trees(repo: Repository) -> Iterator[Use]:
    """The tips of run caches, refs that name trees, and the tree of a merge under way."""
    for name, oid in _objects_of_refs(repo):
        if _RUNS.fullmatch(name):
            yield from _in_tree(repo, oid, RUN_CACHE)
    # what refs and files name that is no commit: a tag of a tree, AUTO_MERGE
    names = [f"{oid.hex()}^{{}}" for _, oid in _objects_of_refs(repo)]
    names += [oid.hex() for oid in _of_worktrees(repo)]
    listing = "".join(f"{name}\n" for name in dict.fromkeys(names)).encode()
    if listing:
        for line in repo.git.output("cat-file", "--batch-check", input=listing).splitlines():
            fields = line.split()
            if fields[1:2] == [b"tree"]:
                yield from _in_tree(repo, Oid.parse(fields[0]), fields[0].decode())
            elif fields[1:2] == [b"blob"]:
                yield Use(b"", Oid.parse(fields[0]), "a ref")


def _in_tree(repo: Repository, tree: Oid, where: str) -> Iterator[Use]:
    for line in repo.git.output("ls-tree", "-r", "-z", "--full-tree", tree.hex()).split(b"\0")[:-1]:
        meta, _, path = line.partition(b"\t")
        mode, _, oid = meta.split()
        if mode.startswith(b"100"):
            yield Use(path, Oid.parse(oid), where)


def _in_indexes(repo: Repository) -> Iterator[Use]:
    for directory in git_directories(repo):
        where = "the index" if directory == repo.git_dir else f"the index of {directory.name}"
        git = Git(directory, None)
        for options in (("--stage",), ("--resolve-undo",)):
            for line in git.output("ls-files", *options, "-z").split(b"\0")[:-1]:
                meta, _, path = line.partition(b"\t")
                mode, oid, _ = meta.split()
                if mode.startswith(b"100"):
                    yield Use(path, Oid.parse(oid), where)


def _resolve(repo: Repository, uses: Iterable[Use]) -> Needs:
    """Keep the uses of pointers. What is not here is not asked of git, which would fetch it in a partial clone."""
    listed = list(uses)
    index = ObjectIndex(repo.objects_dir, repo.format)
    blobs = dict.fromkeys(use.blob for use in listed)
    here = [blob for blob in blobs if index.has(blob)]
    pointers, malformed = scan_pointers(repo.git, here)
    kept = [use for use in dict.fromkeys(listed) if use.blob in pointers or use.blob in malformed]
    return Needs(pointers, malformed, kept, len(blobs) - len(here))
