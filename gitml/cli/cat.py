"""`git ml cat`."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from gitml.errors import ExitCode, UserError
from gitml.git.repository import Repository
from gitml.reading.revision import Revision, Source

_PIECE = 1 << 20


def cat(
    files: Annotated[
        list[str],
        typer.Argument(metavar="[REV:]PATH...", help="As git names files: PATH from the top, ./PATH from here."),
    ],
) -> int:
    """Print the content of files of any commit, wherever the worktree stands.

    Without REV, files of HEAD are printed and PATH starts in the current directory. Content that is not here is fetched
    as it is read.
    """
    repo = Repository.discover()
    source = Source(repo)
    try:
        for name in files:
            rev, path = _split(repo, name)
            with Revision(source, rev).open(path) as file:
                shutil.copyfileobj(file, sys.stdout.buffer, _PIECE)
    finally:
        source.close()
    sys.stdout.buffer.flush()
    return ExitCode.OK


def _split(repo: Repository, name: str) -> tuple[str, bytes]:
    """Revision and path from the top."""
    rev, colon, path = name.partition(":")
    if not colon:
        rev, path = "HEAD", f"./{name}"
    if not rev:
        raise UserError(f"'{name}' names a file of the index", hint="name a commit: git ml cat HEAD:PATH")
    if path.startswith(("./", "../")) and repo.worktree is not None:
        top = os.path.realpath(repo.worktree)
        path = os.path.relpath(Path(os.path.realpath(".")) / path, top)
        if Path(path).parts[:1] == (os.pardir,):
            raise UserError(f"'{name}' is outside the repository")
    return rev, os.fsencode(path)
