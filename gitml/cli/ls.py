"""`git ml ls`."""

from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.options import Json, Revision
from gitml.cli.output import count, safe, show, show_json, size, table, talk
from gitml.errors import ExitCode
from gitml.git.inventory import TrackedFile, tracked_files


def ls(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Only these files or directories.")
    ] = None,
    json: Json = False,
    rev: Revision = "HEAD",
) -> int:
    """List the files that gitml stores as chunks, with size, and whether their content is here.

    Exit code 5 if content of a listed file is missing.
    """
    with open_context() as context:
        files = tracked_files(context.repo, context.odb, context.commit(rev), tuple(paths or ()))
    if json:
        show_json({"schema": "gitml/ls/1", "files": [_as_json(file) for file in files]})
    else:
        for line in table((_row(file) for file in files), indent=""):
            show(line)
        missing = sum(not file.here for file in files)
        if missing:
            talk(f"note: the content of {count(missing, 'file')} is not in this clone; git ml install fetches it")
    return ExitCode.OK if all(file.here for file in files) else ExitCode.MISSING_DATA


def _row(file: TrackedFile) -> tuple[str, ...]:
    chunks = count(file.chunks, "chunk") if file.chunks else "-"
    return size(file.size).rjust(9), chunks, _where(file), safe(file.path)


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
        "malformed": file.malformed,
    }
