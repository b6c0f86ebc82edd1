"""`git ml help`."""

from typing import Annotated

import typer

from gitml.cli.main import main


def help(  # noqa: A001 - the name of the command
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="The command to explain; none: list them all.")
    ] = None,
) -> int:
    """List the commands, or explain one: what 'git ml -h' and 'git ml COMMAND -h' print."""
    return main([*(command or ()), "-h"])
