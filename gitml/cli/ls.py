"""`git ml ls`."""

import sys
from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.listing import KINDS, list_kind
from gitml.cli.options import Json, Revision
from gitml.cli.output import count, safe, show, show_json, size, table, talk
from gitml.errors import ExitCode, UserError
from gitml.git.inventory import TrackedFile, not_at, tracked_files


def ls(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]... | runs | stages | datums STAGE | outputs", help="Files or directories, or what to list."
        ),
    ] = None,
    json: Json = False,
    rev: Revision = "HEAD",
    remote: Annotated[
        str | None, typer.Option("--remote", "-r", metavar="REMOTE", help="Also ask this remote whether it has them.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="Of runs and the like: only the first N.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Of runs and the like: only those in this state.")
    ] = None,
) -> int:
    """List the files that gitml stores as chunks, with size, and whether their content is here.

    Or list runs, newest first; stages; what a stage would do with each datum, without running it; outputs with their
    size. A path of such a name is './runs', or stands after '--'.

    Exit code 5 if content of a listed file is missing, here or, with --remote, there; 6 if something is malformed.
    """
    kind = paths[0] if paths and paths[0] in KINDS and "--" not in sys.argv else None
    if kind is not None and paths is not None:
        if remote is not None:
            raise UserError("--remote is about files", hint=f"leave it out, or name the path: ./{kind}")
        return list_kind(kind, paths[1:], rev=rev, json=json, limit=limit, state=state)
    if limit is not None or state is not None:
        raise UserError("--limit and --state are about runs, stages, datums and outputs", hint="git ml ls runs -n 5")
    with open_context() as context:
        files = tracked_files(context.repo, context.odb, context.commit(rev), tuple(paths or ()))
        lacking = not_at(context.repo, remote, files) if remote is not None else set()
    if json:
        asked = remote is not None
        shown = [{**_as_json(file), **({"at_remote": file.path not in lacking} if asked else {})} for file in files]
        show_json({"schema": "gitml/ls/1", "files": shown})
    else:
        for line in table((_row(file, remote, file.path in lacking) for file in files), indent=""):
            show(line)
        missing = sum(not file.here and not file.malformed for file in files)
        if missing:
            talk(f"note: the content of {count(missing, 'file')} is not in this clone; git ml pull fetches it")
        for file in files:
            if file.malformed:
                talk(f"error: '{safe(file.path)}': {safe(file.malformed)}")
        if lacking:
            talk(f"note: {safe(str(remote))} lacks the content of {count(len(lacking), 'file')}; git ml push sends it")
    if any(file.malformed for file in files):
        return ExitCode.VERIFICATION_FAILED
    return ExitCode.OK if all(file.here for file in files) and not lacking else ExitCode.MISSING_DATA


def _row(file: TrackedFile, remote: str | None, lacking: bool) -> tuple[str, ...]:
    chunks = count(file.chunks, "chunk") if file.chunks else "-"
    there = () if remote is None else (f"not at {safe(remote)}" if lacking else f"at {safe(remote)}",)
    return size(file.size).rjust(9), chunks, _where(file), *there, safe(file.path)


def _where(file: TrackedFile) -> str:
    if file.malformed:
        return "malformed"
    return "here" if file.here else "missing"


def _as_json(file: TrackedFile) -> dict[str, object]:
    return {
        "path": file.path,
        "size": file.size,
        "sha256": file.sha256,
        "chunks": file.chunks,
        "here": file.here,
        "malformed": file.malformed or None,
    }
