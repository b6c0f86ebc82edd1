"""`git ml add`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, size
from gitml.errors import UserError
from gitml.git.add import Added, add_files
from gitml.git.repository import Repository
from gitml.meter import Meter


def add(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Files or directories (pathspecs), as for git add.")
    ] = None,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be added.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name every file that is added.")] = False,
    update: Annotated[
        bool, typer.Option("--update", "-u", help="Only files that are tracked; without PATH all of them.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", "-A", help="New, changed and deleted files; without PATH all of them.")
    ] = False,
) -> None:
    """Add files, as `git add` does, but faster: large files under gitml are read in parallel.

    Use it for many or very large files. The result is the same, and `git status` has nothing to read afterwards.
    """
    if update and everything:
        raise typer.BadParameter("--all and --update exclude each other")
    if not paths and not update and not everything:
        raise UserError("nothing specified, nothing added", hint="git ml add . adds everything here")
    repo = Repository.discover()
    if not repo.has_filter:
        raise UserError("this clone is not set up, so git would store large files whole", hint="git ml install")
    with Meter("adding") as meter:
        added = add_files(
            repo, paths or (), Path.cwd(), update=update, dry_run=dry_run, verbose=verbose, progress=meter
        )
    if json:
        show_json({"schema": "gitml/add/1", "dry_run": dry_run, "files": _as_json(added)})
        return
    if dry_run or verbose:
        sys.stdout.write(added.said.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode())
        for path in sorted(added.stored):
            show(f"add '{safe(os.fsdecode(path))}' ({size(added.stored[path])})")
    elif added.stored:
        show(f"{count(len(added.stored), 'large file')} stored ({size(sum(added.stored.values()))})")


def _as_json(added: Added) -> list[dict[str, object]]:
    states = dict.fromkeys(added.others, ("git", None)) | dict.fromkeys(added.unchanged, ("unchanged", None))
    sizes: dict[bytes, tuple[str, int | None]] = {**states, **{p: ("stored", n) for p, n in added.stored.items()}}
    return [{"path": os.fsdecode(path), "state": state, "size": n} for path, (state, n) in sorted(sizes.items())]
