"""The worktree as a tree that nobody has stored.

It has what `git add -A` would put into a commit. Files are read on demand.
"""

import os
import stat
from collections.abc import Mapping

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.odb import Kind, MemoryOdb
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_GITLINK, MODE_LINK, Entry, Snapshot, edit_tree, empty_tree


class _WorktreeOdb(MemoryOdb):
    """Trees in memory; blobs by a made-up name, read from where they stand."""

    def __init__(self, repo: Repository, top: bytes) -> None:
        super().__init__(repo.format)
        self._top = top
        self._paths: dict[Oid, bytes] = {}

    def name(self, path: bytes) -> Oid:
        """The name of the file at `path`, which is not read for it."""
        oid = self.format.oid_of("blob", b"worktree " + path)
        self._paths[oid] = path
        return oid

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        path = self._paths.get(oid)
        if path is None:
            return super().read(oid)
        with open(os.path.join(self._top, path), "rb") as file:  # noqa: PTH118, PTH123 - a path of git is bytes
            return "blob", file.read()

    def has(self, oid: Oid) -> bool:
        return oid in self._paths or super().has(oid)


def worktree_snapshot(repo: Repository, extra: Mapping[bytes, bytes]) -> Snapshot:
    """The tracked files of the worktree and those that git would add, with the contents `extra` at some paths.

    Ids of files are made up: equal contents at two paths have two. Raise `UserError` in a bare repository.
    """
    if repo.worktree is None:
        raise UserError("there are no files here: the repository is bare", hint="run this in a clone with a worktree")
    top = os.fsencode(repo.worktree)
    odb = _WorktreeOdb(repo, top)
    listed = repo.git.output(
        "-C", os.fspath(repo.worktree), "ls-files", "-z", "--full-name", "-c", "-o", "--exclude-standard"
    )
    entries: dict[bytes, Entry | None] = {}
    for path in listed.split(b"\0"):
        mode = _mode(os.path.join(top, path)) if path and not path.endswith(b"/") else None  # noqa: PTH118 - bytes
        if mode is not None:
            entries[path] = Entry(mode, odb.name(path))
    entries |= {path: Entry(MODE_FILE, odb.write("blob", data)) for path, data in extra.items()}
    return Snapshot(odb, edit_tree(odb, odb, empty_tree(odb.format), entries))


def _mode(path: bytes) -> int | None:
    """What git would call the file at `path`, None if there is none."""
    try:
        found = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(found):
        return MODE_LINK
    if stat.S_ISDIR(found):
        return MODE_GITLINK
    return MODE_EXECUTABLE if found & stat.S_IXUSR else MODE_FILE
