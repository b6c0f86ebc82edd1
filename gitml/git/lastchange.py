"""Which commit last changed each of many paths, from one walk of git over history.

The answer for a path is that of `git log -1 -- PATH`: where a merge took a side whole, that side is followed. git walks
and leaves out commits that change none of the paths; what is in the trees of the others is compared here.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from gitml.git.commits import parse_commit
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.odb import MissingObjectError
from gitml.store.tree import Entry, Snapshot


def last_changes(repo: Repository, odb: GitOdb, start: Oid, paths: Iterable[bytes]) -> dict[bytes, Oid | None]:
    """The commit that last changed each path, as seen from `start`; an empty path is the whole tree.

    None where history here does not reach it, and where there never was such a path.
    """
    walk = _Walk(odb, start, paths)
    if not walk.found:
        return {}
    ended = _shallow(repo)
    # --parents: those that the paths were followed to; --full-history: each path may follow another side
    process = repo.git.popen("rev-list", "--full-history", "--parents", "--stdin")
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        names = b"".join(b":(top,literal)%b\n" % path for path in walk.found if b"\n" not in path)
        # a path that stdin cannot carry: then nothing is left out
        given = b"" if any(b"\n" in path for path in walk.found) else b"--\n" + names
        with suppress(BrokenPipeError), process.stdin as pipe:  # git says itself what is wrong
            pipe.write(start.hex().encode() + b"\n" + given)
        for line in process.stdout:
            commit, *parents = map(Oid.parse, line.split())
            walk.see(commit, parents)
            if walk.is_done:
                process.kill()
                break
    return {path: None if commit is None or commit in ended else commit for path, commit in walk.found.items()}


class _Walk:
    """For each path the commit that it has been followed to, among those that git has listed so far."""

    def __init__(self, odb: GitOdb, start: Oid, paths: Iterable[bytes]) -> None:
        self.found: dict[bytes, Oid | None] = dict.fromkeys(paths)
        self._odb = odb
        self._listed: dict[Oid, Sequence[Oid]] = {}
        self._at: dict[Oid, list[bytes]] = {}
        self._waiting = set(self.found)
        self._snapshots: dict[Oid, Snapshot | None] = {}
        self._start = start

    @property
    def is_done(self) -> bool:
        return not self._waiting

    def see(self, commit: Oid, parents: Sequence[Oid]) -> None:
        """Take the next commit that git lists."""
        if not self._listed:
            # the first one is where all paths are as they are at the start
            self._at[commit] = list(self.found)
        self._listed[commit] = parents
        ready = [commit]
        while ready:
            each = ready.pop()
            for path in self._at.pop(each, ()):
                following = self._follow(each, path)
                if following is None:
                    self._waiting.discard(path)
                    continue
                self._at.setdefault(following, []).append(path)
                # with clocks that are wrong, a parent may be listed before its child
                if following in self._listed:
                    ready.append(following)

    def _follow(self, commit: Oid, path: bytes) -> Oid | None:
        """The parent where the path is the same; None, with the commit noted, if it is the same in none."""
        entry = self._entry(commit, path)
        parents = self._listed[commit]
        for parent in parents:
            if self._entry(parent, path) == entry:
                return parent
        if parents or entry is not None:
            self.found[path] = commit
        return None

    def _entry(self, commit: Oid, path: bytes) -> Entry | None:
        if commit not in self._snapshots:
            try:
                self._snapshots[commit] = Snapshot(self._odb, parse_commit(self._odb.read(commit)[1]).tree)
            except MissingObjectError:
                self._snapshots[commit] = None
        snapshot = self._snapshots[commit]
        return None if snapshot is None else snapshot.get(path)


def _shallow(repo: Repository) -> frozenset[Oid]:
    """Where history ends in a shallow clone: git counts everything as changed there."""
    try:
        return frozenset(map(Oid.parse, (repo.common_dir / "shallow").read_bytes().split()))
    except FileNotFoundError:
        return frozenset()
