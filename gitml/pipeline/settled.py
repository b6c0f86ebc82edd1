"""Commits that need not be evaluated: they touch nothing that was read when all was found to be fresh.

Where every stage is fresh and its record in the tree says so, an evaluation has read that tree by path and nothing
else. So its answer holds for every tree that has the same at those paths, the absent ones included. They are kept
beside the worktree's index, and a commit costs one `git diff-tree` as long as it leaves them alone. (The traces of
Mokhov et al., "Build systems à la carte", ICFP 2018.)
"""

import os
from collections.abc import Set
from contextlib import suppress

from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.odb import ObjectReader
from gitml.store.tree import Entry, Snapshot

_FILE = "ml/settled"
_HEAD = b"gitml settled 2 "
"""With the version of the rules: another one when stages are evaluated or keys made in another way."""


class TracedSnapshot(Snapshot):
    """A snapshot that notes every path it is asked for."""

    def __init__(self, odb: ObjectReader, root: Oid) -> None:
        super().__init__(odb, root)
        self.asked: set[bytes] = set()
        self._asked_among: dict[bytes, set[bytes]] = {}

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`, as of any snapshot."""
        self.asked.add(path)
        return super().get(path)

    def among(self, path: bytes, names: Set[bytes]) -> dict[bytes, Entry]:
        """Some entries of a directory, as of any snapshot; also what is absent has been asked for."""
        self._asked_among.setdefault(path, set()).update(names)
        return super().among(path, names)

    def all_asked(self) -> set[bytes]:
        """Every path that was asked for."""
        return self.asked | {
            folder + b"/" + name if folder else name for folder, names in self._asked_among.items() for name in names
        }


def note_settled(repo: Repository, snapshot: TracedSnapshot) -> None:
    """Everything is fresh at this snapshot, as an evaluation found that asked it alone."""
    if b"" not in snapshot.asked:
        _write(repo, snapshot.root, b"\0".join(sorted(snapshot.all_asked())))


def is_settled(repo: Repository, tree: Oid) -> bool:
    """Whether an evaluation of this tree would find everything fresh, as it did the last time. Never wrongly true."""
    try:
        head, _, rest = (repo.git_dir / _FILE).read_bytes().partition(b"\n")
    except OSError:
        return False
    before = head.removeprefix(_HEAD).decode("ascii", "replace")
    if not head.startswith(_HEAD):
        return False
    if before == tree.hex():
        return True
    # -t: also the directories on the way, which may be among what was asked for
    done = repo.git.run("diff-tree", "-r", "-t", "-z", "--name-only", "--no-renames", before, tree.hex(), check=False)
    if done.returncode != 0:
        return False  # that tree has been pruned
    if not set(rest.split(b"\0")).isdisjoint(done.stdout.split(b"\0")[:-1]):
        return False
    _write(repo, tree, rest)
    return True


def _write(repo: Repository, tree: Oid, paths: bytes) -> None:
    place = repo.git_dir / _FILE
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    with suppress(OSError):  # a note that is not there costs time only
        place.parent.mkdir(exist_ok=True)
        temporary.write_bytes(_HEAD + tree.hex().encode() + b"\n" + paths)
        temporary.replace(place)
