"""`[REV:]PATH` as it is typed, read as git reads it."""

import os
from pathlib import Path

from gitml.errors import UserError
from gitml.git.repository import Repository


def place(repo: Repository, text: str) -> tuple[str, bytes]:
    """Revision and path from the top: `REV:PATH` as git reads it, else a path from the current directory at HEAD.

    Raise `UserError`.
    """
    revision, colon, rest = text.partition(":")
    if colon and revision and repo.try_resolve(f"{revision}^{{commit}}") is not None:
        if rest.startswith(("./", "../")) or rest in (".", ".."):
            return revision, from_here(repo, rest)
        return revision, os.fsencode(os.path.normpath(rest))
    if colon and not revision:
        raise UserError(f"'{text}' names a file of the index", hint="name a commit: HEAD:PATH")
    path = from_here(repo, text)
    if colon and repo.try_resolve(f"HEAD:{os.fsdecode(path)}") is None:
        raise UserError(f"unknown revision '{revision}'", hint="see what there is: git branch -a; git tag")
    return "HEAD", path


def from_here(repo: Repository, text: str) -> bytes:
    """A path from the current directory as one from the top; a link at its end stays one. Raise `UserError`."""
    if repo.worktree is None:
        return os.fsencode(os.path.normpath(text))
    top = repo.worktree.resolve()
    parent = (Path.cwd() / text).parent.resolve()
    absolute = parent / Path(text).name if Path(text).name not in ("", "..") else (Path.cwd() / text).resolve()
    relative = os.path.relpath(absolute, top)
    if relative == ".." or relative.startswith("../"):
        raise UserError(f"'{text}' is outside the repository")
    return os.fsencode(relative)
