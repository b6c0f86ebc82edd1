"""`git ml cat`."""

import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from gitml.cli.place import place
from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.reading.view import View

_PIECE = 1 << 20


def cat(
    paths: Annotated[list[str], typer.Argument(metavar="[REV:]PATH...", help="Files; at HEAD without a revision.")],
    offset: Annotated[int, typer.Option(metavar="N", min=0, help="Leave out the first N bytes.")] = 0,
    length: Annotated[int | None, typer.Option(metavar="N", min=0, help="Print at most N bytes.")] = None,
) -> None:
    """Print the content of files of any commit, without a checkout. What is not here is fetched as it is printed.

    With --offset or --length, only the chunks of that range are read. Nothing is printed unless all paths are files.
    """
    if len(paths) > 1 and (offset or length is not None):
        raise UserError("--offset and --length are for one file", hint="git ml cat --offset N --length N [REV:]PATH")
    repo = Repository.discover()
    with ExitStack() as stack:
        views: dict[str, View] = {}
        files: list[tuple[View, bytes]] = []
        for text in paths:
            revision, path = place(repo, text)
            if revision not in views:
                views[revision] = stack.enter_context(View.open(rev=revision))
            files.append((views[revision], path))
        for view, path in files:
            view.check_file(path)
        for view, path in files:
            _print(view, path, offset, length)


def _print(view: View, path: bytes, offset: int, length: int | None) -> None:
    out = sys.stdout.buffer
    with view.open_file(path) as file:
        end = file.size if length is None else min(offset + length, file.size)
        if offset or length is not None:
            file.bring([(offset, end)])
        file.seek(offset)
        at = offset
        while at < end and (piece := file.read(min(_PIECE, end - at))):
            out.write(piece)
            at += len(piece)
    out.flush()
