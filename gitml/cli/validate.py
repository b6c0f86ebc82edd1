"""`git ml validate`."""

import sys
from typing import Annotated, Any

import typer

from gitml.cli.context import open_context
from gitml.cli.options import Json
from gitml.cli.output import count, paint, safe, show_json, talk
from gitml.cli.output import show as line
from gitml.cli.place import from_here
from gitml.errors import ExitCode
from gitml.pipeline.spec.error import SpecError
from gitml.pipeline.validation import STDIN, Validation
from gitml.pipeline.validation import validate as check
from gitml.provenance.codec import text_of


def validate(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILES", help="Files with specifications; '-' is standard input.")
    ] = None,
    json: Json = False,
) -> None:
    """Check pipeline.json as it stands in the worktree, or files as if it listed them: everything wrong at once."""
    named = list(dict.fromkeys(files or ()))
    with open_context() as context:
        paths = [from_here(context.repo, text) for text in named if text != "-"]
        given = sys.stdin.buffer.read() if "-" in named else None
        found = check(context.repo, paths, given)
    if json:
        show_json(_as_json(found))
    else:
        _print(found)
    if found.problems:
        raise typer.Exit(ExitCode.FATAL)


def _as_json(found: Validation) -> dict[str, Any]:
    return {
        "schema": "gitml/validate/1",
        "valid": not found.problems,
        "files": [text_of(path) for path in found.files],
        "stages": list(found.stages),
        "problems": [_problem(error) for error in found.problems],
        "warnings": list(found.warnings),
    }


def _problem(error: SpecError) -> dict[str, Any]:
    line_number, column = error.position or (None, None)
    return {
        "file": error.place.file,
        "line": line_number,
        "column": column,
        "path": error.place.path,
        "problem": error.problem,
        "hint": error.hint,
    }


def _print(found: Validation) -> None:
    for error in found.problems:
        line(safe(error.message))
        if error.hint:
            line(f"    {safe(error.hint)}")
    for text in found.warnings:
        talk(f"{paint('warning:', '33', sys.stderr)} {safe(text)}")
    what = ", ".join(safe(text_of(path)) if path != STDIN else "standard input" for path in found.files)
    told = (
        count(len(found.problems), "problem") if found.problems else count(len(found.stages), "stage") + ", no problem"
    )
    talk(f"{what}: {told}")
