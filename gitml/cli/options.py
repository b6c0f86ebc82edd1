"""Options that several commands share."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Revision = Annotated[str, typer.Option("--rev", metavar="REV", help="Look at this commit instead of HEAD.")]
Tolerance = Annotated[
    list[str] | None,
    typer.Option(
        "--tolerance", metavar="[METRIC=]N", help="Changes up to N are none, whatever the specification says."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")]
