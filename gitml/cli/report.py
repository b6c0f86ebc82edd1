"""`git ml report`."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.options import Tolerance
from gitml.cli.output import safe, show, talk
from gitml.cli.pages import STANDARD_OUTPUT, page_of, write_file
from gitml.cli.tolerances import parse_tolerances
from gitml.errors import UserError
from gitml.review.compare import compare
from gitml.review.report import report as in_words
from gitml.review.revisions import sides, sides_of


def report(
    revisions: Annotated[
        str,
        typer.Argument(
            metavar="[REV | A..B | A...B]",
            help="REV: what its last change did, and where all stages stand. A..B, A...B: as git ml diff has them.",
        ),
    ] = "HEAD",
    *,
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="Where to; - is standard output.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    tolerance: Tolerance = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="COLUMN", help="Tables: rows are told apart by this column.")
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option("--mask", metavar="PATTERN", help="Tables: do not show cells of these columns.")
    ] = None,
) -> None:
    """Write a page that shows what changed, how metrics went and where every stage stands. It needs no network."""
    allowed = parse_tolerances(tolerance or [])
    if open_it and html == STANDARD_OUTPUT:
        raise UserError("standard output cannot be opened in a browser", hint="name a file: --html report.html --open")
    if html != STANDARD_OUTPUT and not html.parent.is_dir():
        # a comparison may take a minute
        raise UserError(f"there is no directory '{html.parent}'", hint=f"mkdir -p '{html.parent}'")
    with open_context() as context:
        old, new = (sides if ".." in revisions else sides_of)(context.repo, context.odb, revisions)
        found = compare(
            context.repo, context.odb, context.surveyor, old, new, tolerances=allowed, key=key or (), masked=mask or ()
        )
        command = f"git ml diff {old.commit.hex()[:10]}..{new.commit.hex()[:10]}"
        write_file(html, page_of(context, found, in_words(found, command), command, whole=True, history=True))
    if html != STANDARD_OUTPUT:
        show(safe(f"wrote {html}"))
    if open_it and not webbrowser.open(html.resolve().as_uri()):
        talk("no browser was found; open the file in one")
