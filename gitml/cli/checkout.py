"""`git ml checkout`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.fetch import advice
from gitml.cli.options import Json
from gitml.cli.output import count, paint, safe, show, show_json, size, talk
from gitml.errors import CorruptError, ExitCode, UserError
from gitml.git.checkout import CheckedOut, check_out
from gitml.git.repository import Repository
from gitml.meter import Meter


def checkout(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Only these files or directories (pathspecs).")
    ] = None,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say which files would be filled in.")] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace also those named here that you changed.")
    ] = False,
) -> int:
    """Put the content of large files in the place of their pointers; fetch what is not here.

    Git commands do this by themselves through hooks. Use it after `git sparse-checkout`, for files that `ml.skip`
    keeps as pointers (name them), and for content that could not be had before. Files named here that were deleted
    come back. A file that you changed stays as it is without --force.

    Exit code 1 if changed files were kept, 5 if content is missing, 6 if stored content is damaged.
    """
    repo = Repository.discover()
    if not repo.has_filter:
        raise UserError("this clone is not set up", hint="git ml install")
    with Meter("filling in") as meter:
        done = check_out(repo, paths or (), Path.cwd(), force=force, dry_run=dry_run, progress=meter)
    if json:
        show_json({"schema": "gitml/checkout/1", "dry_run": dry_run, "files": _as_json(done, dry_run=dry_run)})
    elif dry_run:
        for path in _todo(done):
            show(f"would fill in {safe(os.fsdecode(path))} ({size(done.sizes.get(path, 0))})")
    if not json:
        _print(done, dry_run=dry_run, named=bool(paths))
    return _exit_code(done, named=bool(paths))


def _todo(done: CheckedOut) -> list[bytes]:
    return sorted({*done.sizes, *done.restored})


def _print(done: CheckedOut, *, dry_run: bool, named: bool) -> None:
    result = done.materialised
    if not dry_run:
        show(f"{count(len(result.done), 'file')} filled in ({size(result.size)})")
    for path, error in result.failed.items():
        talk(f"{paint('error:', '31', sys.stderr)} '{safe(os.fsdecode(path))}' stays a pointer: {safe(error.message)}")
    if any(isinstance(error, CorruptError) for error in result.failed.values()):
        talk("hint: look for good copies: git ml fsck --deep --repair")
    for path, reason in result.missing.items():
        talk(f"{paint('error:', '31', sys.stderr)} '{safe(os.fsdecode(path))}' stays a pointer: {safe(reason)}")
    if result.missing:
        talk(f"hint: {advice(result.missing.values())}")
    for path in result.kept:
        talk(f"note: '{safe(os.fsdecode(path))}' changed meanwhile and was left alone")
    for path in done.edited if named else ():
        talk(f"note: '{safe(os.fsdecode(path))}' was changed by you and is kept; --force replaces it")


def _as_json(done: CheckedOut, *, dry_run: bool) -> list[dict[str, object]]:
    result = done.materialised
    states: dict[bytes, tuple[str, str]] = {}
    if dry_run:
        states = dict.fromkeys(_todo(done), ("pointer", ""))
    states |= dict.fromkeys(done.edited, ("edited", ""))
    states |= dict.fromkeys(done.restored, ("absent" if dry_run else "restored", ""))
    states |= dict.fromkeys(result.done, ("filled", ""))
    states |= dict.fromkeys(result.kept, ("kept", ""))
    states |= {path: ("missing", reason) for path, reason in result.missing.items()}
    states |= {path: ("failed", error.message) for path, error in result.failed.items()}
    return [
        {"path": os.fsdecode(path), "size": done.sizes.get(path), "state": state, "reason": reason}
        for path, (state, reason) in sorted(states.items())
    ]


def _exit_code(done: CheckedOut, *, named: bool) -> int:
    result = done.materialised
    if result.failed:
        return max(error.exit_code for error in result.failed.values())
    if result.missing:
        return ExitCode.MISSING_DATA
    return ExitCode.DIFFERENT if result.kept or (named and done.edited) else ExitCode.OK
