"""What was changed in the worktree and is in no commit, so that it counts for no result."""

import os
from collections.abc import Collection, Sequence

from gitml.cli.output import safe
from gitml.git.repository import Repository
from gitml.record import record

_MOST_PATHS = 500
"""Paths that git is asked about by name; where there are more it looks at everything."""
_MOST_NAMED = 3


@record
class Pending:
    """A file of a stage, read or written, that is not as it was committed."""

    path: bytes
    untracked: bool


def pending(repo: Repository, places: Collection[bytes]) -> list[Pending]:
    """What is below `places` and not as it was committed, files included that git does not track."""
    if repo.worktree is None or not places:
        return []
    return pending_among(repo.git.output(*listing(places)), places)


def listing(places: Collection[bytes]) -> tuple[str, ...]:
    """The command of git that lists it, and perhaps more."""
    named = [b":(top,literal)" + path for path in sorted(places)] if len(places) <= _MOST_PATHS else []
    command = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--")
    return (*command, *map(os.fsdecode, named))


def pending_among(listed: bytes, places: Collection[bytes]) -> list[Pending]:
    """What counts in the output of `listing`."""
    found = [Pending(line[3:], line.startswith(b"??")) for line in listed.split(b"\0") if line]
    return [each for each in found if _is_below(each.path, places)]


def _is_below(path: bytes, places: Collection[bytes]) -> bool:
    return path in places or any(path[:at] in places for at, char in enumerate(path) if char == ord("/"))


def what_waits(found: Sequence[Pending]) -> str:
    """One line that names some of them."""
    names = [
        f"'{safe(os.fsdecode(each.path))}'{' (untracked)' if each.untracked else ''}" for each in found[:_MOST_NAMED]
    ]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"not committed, so it does not count yet: {', '.join(names)}{more}"
