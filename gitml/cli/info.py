"""`git ml info`."""

import os
from typing import Annotated

import typer

from gitml.care.roots import only_below, read_needs
from gitml.care.usage import Sizes, Usage, largest, measure
from gitml.cli.options import Json
from gitml.cli.output import safe, show, show_json, size, table
from gitml.cli.place import from_here
from gitml.errors import ExitCode
from gitml.git.repository import Repository


def info(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Only these files or directories.")
    ] = None,
    directories: Annotated[bool, typer.Option("--directories", "-d", help="Show directories, not files.")] = False,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Show at most so many.")] = 20,
    json: Json = False,
) -> int:
    """Show what takes the space: all versions that this clone can reach, what they share, what they take on disk."""
    repo = Repository.discover()
    everything = read_needs(repo)
    needs = only_below(everything, [from_here(repo, path) for path in paths]) if paths else everything
    usage = measure(repo, needs, everything)
    if json:
        show_json(_document(usage, number))
        return ExitCode.OK
    chosen = usage.directories if directories else usage.paths
    ordered = sorted(chosen.items(), key=lambda item: (-item[1].disk, item[0]))
    rows: list[tuple[str, ...]] = [("versions", "logical", "distinct", "on disk", "shared × deltas", "path")]
    rows += [_row(safe(os.fsdecode(path)), sizes) for path, sizes in ordered[:number]]
    rows.append(_row("in all", usage.total))
    for line in table([[cell.rjust(9) for cell in row[:4]] + [row[4].ljust(16), row[5]] for row in rows], indent=""):
        show(line)
    if len(ordered) > number:
        show(f"and {len(ordered) - number} more; -n shows more")
    show()
    for path, length in largest(usage, 3):
        show(f"large now: {size(length)} {safe(os.fsdecode(path))}")
    if usage.total.absent:
        show(f"not here: {size(usage.total.absent)} of chunks")
    show(f"at no remote, as far as was seen: {size(usage.only_local)} on disk")
    show(f"kept and not needed: {size(usage.reclaimable)} on disk" + ("; git ml prune" if usage.reclaimable else ""))
    return ExitCode.OK


def _row(name: str, sizes: Sizes) -> tuple[str, ...]:
    ratios = f"{sizes.deduplication:.1f} × {sizes.compression:.1f}"
    return str(sizes.versions), size(sizes.logical), size(sizes.distinct), size(sizes.disk), ratios, name


def _document(usage: Usage, number: int) -> dict[str, object]:
    return {
        "schema": "gitml/info/1",
        "total": _sizes(usage.total),
        "only_local": usage.only_local,
        "reclaimable": usage.reclaimable,
        "largest": [{"path": os.fsdecode(path), "size": length} for path, length in largest(usage, number)],
        "paths": [{"path": os.fsdecode(path), **_sizes(sizes)} for path, sizes in sorted(usage.paths.items())],
        "directories": [
            {"path": os.fsdecode(path), **_sizes(sizes)} for path, sizes in sorted(usage.directories.items())
        ],
    }


def _sizes(sizes: Sizes) -> dict[str, object]:
    return {
        "versions": sizes.versions,
        "logical": sizes.logical,
        "distinct": sizes.distinct,
        "disk": sizes.disk,
        "absent": sizes.absent,
        "deduplication": round(sizes.deduplication, 3),
        "compression": round(sizes.compression, 3),
    }
