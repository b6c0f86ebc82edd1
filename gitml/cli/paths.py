"""Paths and revisions as they are typed: from where the user stands to paths from the top of the repository."""

import os
import sys
from collections.abc import Sequence

from gitml.errors import UserError
from gitml.git.repository import Repository


def from_top(repo: Repository, paths: Sequence[str]) -> list[bytes]:
    """`paths`, relative to the current directory, as git writes them; in a bare repository they are so already."""
    if repo.worktree is None:
        return [os.fsencode(os.path.normpath(path)) for path in paths]
    top = os.path.realpath(repo.worktree)
    found = []
    for path in paths:
        absolute = os.path.normpath(os.path.join(os.path.realpath(os.getcwd()), path))  # noqa: PTH118, PTH109
        relative = os.path.relpath(absolute, top)
        if f"{relative}/".startswith("../"):
            raise UserError(f"'{path}' is outside the repository")
        found.append(os.fsencode(relative))
    return found


def split_revisions(repo: Repository, names: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """Revisions and paths of `[REV...] [-- PATH...]`; what stands before no `--` must be a revision or a path."""
    typed = sys.argv
    after = len(typed) - typed.index("--") - 1 if "--" in typed else 0
    if "--" in typed:
        at = len(names) - after
        return list(names[:at]), from_top(repo, names[at:])
    revisions: list[str] = []
    paths: list[str] = []
    for name in names:
        known = ".." in name or name.startswith("^") or repo.try_resolve(f"{name}^{{commit}}") is not None
        if known and not paths:
            revisions.append(name)
        else:
            paths.append(name)
    return revisions, from_top(repo, paths)
