"""`git ml diff`."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json, Tolerance
from gitml.cli.output import paint, safe, show, show_json, table, talk
from gitml.cli.pages import STANDARD_OUTPUT, page_of, write_file
from gitml.cli.place import from_here
from gitml.cli.tolerances import parse_tolerances
from gitml.errors import ExitCode, UserError
from gitml.git.repository import Repository
from gitml.review.blocks import Block, Cell, Report, Tone
from gitml.review.compare import LOOKS_INTO, compare
from gitml.review.comparison import Comparison
from gitml.review.documents import as_json, junit, openmetrics
from gitml.review.forge import kind_of
from gitml.review.gallery import address_in_forge, push_pictures
from gitml.review.markdown import markdown
from gitml.review.overlay import drawn_files, plot_files, with_addresses
from gitml.review.report import KEYS, limited, report
from gitml.review.revisions import sides

_COLOURS = {Tone.GOOD: "32", Tone.BAD: "31", Tone.QUIET: "2", Tone.PLAIN: ""}
_LONGEST = 60
"""Characters of a cell in a terminal."""


def diff(
    revisions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[A[..[.]B]] [-- PATH...]",
            help="A..B: two commits. A...B: from where they parted, as a pull request. A: with the files here. "
            "Without any: what the last change did. Paths limit the files that are listed.",
        ),
    ] = None,
    md: Annotated[bool, typer.Option("--md", help="Print Markdown for a pull request.")] = False,
    json: Json = False,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page; only that, if FILE is -.")
    ] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write gates and stages as JUnit XML.")
    ] = None,
    openmetrics_file: Annotated[
        Path | None, typer.Option("--openmetrics", metavar="FILE", help="Also write metrics as OpenMetrics text.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="BLOCK", help=f"Only these blocks: {', '.join(KEYS)}.")
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only the verdict, in one line.")] = False,
    tolerance: Tolerance = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="COLUMN", help="Tables: rows are told apart by this column.")
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="PATTERN", help="Tables and predictions: do not show cells of these columns."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIRECTORY", help="Also write plots there, as SVG, and images.")
    ] = None,
    push_plots: Annotated[
        str | None,
        typer.Option(
            "--push-plots",
            metavar="NAME",
            help="Also push plots to refs/gitml/pictures/NAME of origin, for Markdown to show them.",
        ),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit with 1 if a gate is broken or results are not of these inputs.")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if there are differences.")] = False,
    most: Annotated[
        int, typer.Option("--max-chars", metavar="N", min=200, help="Characters of Markdown; details go first.")
    ] = 60_000,
) -> None:
    """Show what changed between two commits: metrics, why stages ran again, parameters, files, cost."""
    allowed = parse_tolerances(tolerance or [])
    blocks = _keys(only or [])
    if html_file == STANDARD_OUTPUT and (md or json or stat):
        raise UserError("two things cannot both go to standard output", hint="name a file: --html report.html")
    if push_plots is not None and not (md or json):
        raise UserError("--push-plots gives pictures an address, and only --md and --json tell it")
    with open_context() as context:
        forge = kind_of(os.environ)
        address_of = None if push_plots is None else address_in_forge(context.repo, push_plots, forge)
        text, paths = _split(context.repo, revisions or [])
        old, new = sides(context.repo, context.odb, text)
        if not text and old.commit == new.commit:
            talk("note: HEAD has no results yet, so there is nothing to compare; two commits: git ml diff A..B")
        found = compare(
            context.repo, context.odb, context.surveyor, old, new, tolerances=allowed, pathspecs=paths,
            look_into=[each for each in LOOKS_INTO if _is_wanted(each, blocks, stat=stat, plots=plots)],
            key=key or (), masked=mask or (), forge=forge,
        )  # fmt: skip
        if push_plots is not None and address_of is not None:
            found = _pushed(context, found, push_plots, address_of)
        command = f"git ml diff {old.commit.hex()[:10]}" + ("" if new.worktree else f"..{new.commit.hex()[:10]}")
        words = report(found, command)
        words = Report(verdict=words.verdict, blocks=()) if stat else limited(words, blocks)
        if html_file is not None:
            write_file(html_file, page_of(context, found, words, command, whole=False, history=not (stat or blocks)))
    if plots is not None:
        _write_plots(plots, found)
    if junit_file is not None:
        write_file(junit_file, junit(found))
    if openmetrics_file is not None:
        write_file(openmetrics_file, openmetrics(found).encode())
    if json:
        show_json(as_json(found))
    elif md:
        identity = f"{old.commit.hex()}..{new.commit.hex()}"
        show(markdown(words, f"{_name(found, old=True)} → {_name(found, old=False)}", identity, most).rstrip("\n"))
    elif html_file != STANDARD_OUTPUT:
        _print(found, words)
    if gate and (found.broken_gates or found.unsettled or found.new.problem):
        raise typer.Exit(ExitCode.DIFFERENT)
    if exit_code and not found.is_empty:
        raise typer.Exit(ExitCode.DIFFERENT)


def _pushed(context: Context, found: Comparison, name: str, address_of: Callable[[str, bytes], str]) -> Comparison:
    drawn = list(drawn_files(found.plots, found.pictures))
    if not drawn:
        return found
    return with_addresses(
        found, partial(address_of, push_pictures(context.repo, context.odb, drawn, name, found.new.when))
    )


def _is_wanted(block: str, blocks: Sequence[str], *, stat: bool, plots: Path | None) -> bool:
    if block == "plots" and plots is not None:
        return True
    return not stat and (not blocks or block in blocks)


def _write_plots(directory: Path, found: Comparison) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the directory '{directory}': {error.strerror}") from None
    for name, data in plot_files(found.plots, found.pictures):
        write_file(directory / name, data)
        talk(safe(f"wrote {directory / name}"))


def _split(repo: Repository, given: Sequence[str]) -> tuple[str, list[str]]:
    """The revisions and the paths, told apart as git does; raise `UserError`."""
    if not given:
        return "", []
    first, *rest = given
    is_file = os.path.lexists(first)
    is_revision = ".." in first or repo.try_resolve(f"{first}^{{commit}}") is not None
    if is_file and is_revision:
        raise UserError(f"'{first}' is a revision and a file", hint=f"git ml diff {first}.. or git ml diff ./{first}")
    if not is_revision and not is_file:
        raise UserError(
            f"'{first}' is neither a revision nor a file", hint="see what there is: git branch -a; git tag; git log"
        )
    paths = rest if is_revision else [first, *rest]
    if is_revision and ".." not in first and paths and not os.path.lexists(paths[0]):
        raise UserError("two revisions are written with two dots", hint=f"git ml diff {first}..{paths[0]}")
    return first if is_revision else "", [f":(top){os.fsdecode(from_here(repo, path))}" for path in paths]


def _keys(given: Sequence[str]) -> list[str]:
    keys = [key for each in given for key in each.split(",")]
    for key in keys:
        if key not in KEYS:
            raise UserError(f"there is no block '{key}'", hint=f"blocks: {', '.join(KEYS)}")
    return keys


def _name(found: Comparison, *, old: bool) -> str:
    side = found.old if old else found.new
    return side.name if side.worktree else f"{side.commit.hex()[:10]} {side.title[:60]}"


def _print(found: Comparison, words: Report) -> None:
    show(f"{safe(_name(found, old=True))}  →  {safe(_name(found, old=False))}")
    if found.old.problem:
        show(paint(f"  before: {safe(found.old.problem)}", _COLOURS[Tone.BAD]))
    show(" · ".join(paint(safe(cell.text), _COLOURS[cell.tone]) for cell in words.verdict))
    for block in words.blocks:
        show()
        show(paint(safe(block.title), "1"))
        _print_block(block)


def _print_block(block: Block) -> None:
    for note in block.notes:
        show(paint(f"  {safe(note.text)}", _COLOURS[note.tone]))
    if block.rows:
        # the last column may be as long as it likes
        rows = [
            list(block.columns),
            *([*(_shortened(cell) for cell in row[:-1]), safe(row[-1].text)] for row in block.rows),
        ]
        lines = table(rows, fit=True)
        show(paint(lines[0], _COLOURS[Tone.QUIET]))
        for line, row in zip(lines[1:], block.rows, strict=True):
            tones = [cell.tone for cell in row if cell.tone is not Tone.PLAIN]
            show(paint(line, _COLOURS[tones[0]] if tones else ""))
    for line in block.text:
        show(f"  {safe(line)}")


def _shortened(cell: Cell) -> str:
    text = safe(cell.text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
