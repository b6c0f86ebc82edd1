"""`git ml track` and `git ml untrack`."""

from typing import Annotated

import typer

from gitml.cli.output import safe, show, talk
from gitml.errors import ExitCode
from gitml.git import tracking
from gitml.git.repository import Repository

Patterns = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATTERN...", help="As in .gitattributes, from the top: 'data/**', '*.parquet'."),
]


def track(patterns: Patterns = None) -> None:
    """Put files under gitml: from 64 KiB on they are stored as chunks. Without a pattern: list what is."""
    repo = Repository.discover()
    if not patterns:
        for pattern in tracking.tracked_patterns(repo):
            show(safe(pattern))
        return
    wanted = [each for given in patterns for each in tracking.patterns_for(repo, given)]
    added = tracking.track(repo, wanted)
    for pattern in wanted:
        show(f"{'tracking' if pattern in added else 'already tracked:'} {safe(pattern)}")
    if not repo.has_filter:
        talk("note: this clone is not set up, so git would store these files whole: git ml install")
    if added and repo.git.output("ls-files", "-z", "--", *[f":(top,glob){pattern}" for pattern in added]):
        talk("note: files that are committed already change with: git add --renormalize . && git commit")


def untrack(patterns: Patterns = None) -> int:
    """Take patterns from under gitml: new versions are stored whole by git. Old versions stay as they are."""
    repo = Repository.discover()
    if not patterns:
        talk("error: name the patterns to untrack (git ml track lists them)")
        return ExitCode.USAGE
    failed = False
    gone: list[str] = []
    for given in patterns:
        found = tracking.untrack(repo, [given, *tracking.patterns_for(repo, given)])
        for pattern in found:
            show(f"no longer tracking {safe(pattern)}")
        if not found:
            failed = True
            talk(f"error: '{safe(given)}' is not tracked (git ml track lists the patterns)")
        gone += found
    if gone:
        talk("note: files that are committed already change with: git add --renormalize . && git commit")
    return ExitCode.DIFFERENT if failed else ExitCode.OK
