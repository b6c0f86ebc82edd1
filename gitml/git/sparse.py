"""Which new paths have no place in a sparse worktree.

Git says so of paths that it puts into an index itself; of others only `git sparse-checkout check-rules` does, since
git 2.41. So git is shown an index of its own, above an empty directory, and applies its patterns to that: cone or not.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gitml.git.command import Git
from gitml.git.repository import Repository
from gitml.oid import Oid


def outside_sparse_checkout(repo: Repository, entries: Mapping[bytes, tuple[int, Oid]]) -> set[bytes]:
    """Those of `entries` (path to mode and oid) that the sparse checkout, if there is one, leaves out."""
    if not entries or not repo.config_bool("core.sparseCheckout", False):
        return set()
    with tempfile.TemporaryDirectory(prefix="sparse-", dir=_place(repo)) as place:
        worktree = Path(place, "worktree")
        worktree.mkdir()
        git = Git(repo.git_dir, worktree)
        env = {"GIT_INDEX_FILE": os.fspath(Path(place, "index"))}
        listed = b"".join(b"%o %s\t%s\0" % (mode, oid.hex().encode(), path) for path, (mode, oid) in entries.items())
        git.run("update-index", "-z", "--index-info", input=listed, env=env)
        git.run("sparse-checkout", "reapply", env=env)
        lines = git.run("ls-files", "-t", "-z", env=env).stdout.split(b"\0")
        return {line[2:] for line in lines if line.startswith(b"S ")}


def _place(repo: Repository) -> Path:
    """Where files may be that go at once: beside those that are being filled in."""
    place = repo.git_dir / "ml" / "tmp"
    place.mkdir(parents=True, exist_ok=True)
    return place
