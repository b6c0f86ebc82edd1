"""What was changed in the worktree and is in no commit, so that it counts for no result."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from gitml.cli.output import safe
from gitml.git.repository import Repository
from gitml.pipeline import FILE
from gitml.pipeline.survey import Survey

_MOST_PATHS = 500
"""Paths that git is asked about by name; where there are more it looks at everything."""
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Pending:
    """A file of a stage, read or written, that is not as it was committed."""

    path: bytes
    untracked: bool


def pending(repo: Repository, survey: Survey) -> list[Pending]:
    """The files of the stages that are not as they were committed, and those of inputs that git does not track."""
    if repo.worktree is None or survey.pipeline is None:
        return []
    places = {FILE.encode()}
    for status in survey.statuses:
        stage = status.stage
        places |= {os.fsencode(stage.where.partition(": ")[0]), stage.output}
        places |= {file.source for file in status.code} | set(status.params.files)
        places |= {mount.source for mount in stage.code or ()}
        places |= {leaf.path for leaf in stage.inputs if leaf.upstream is None and not leaf.is_elsewhere}
    places -= {b""}
    named = [b":(top,literal)" + path for path in sorted(places)] if len(places) <= _MOST_PATHS else []
    listed = repo.git.output(
        "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *map(os.fsdecode, named)
    )
    found = [Pending(line[3:], line.startswith(b"??")) for line in listed.split(b"\0") if line]
    return [each for each in found if _is_below(each.path, places)]


def _is_below(path: bytes, places: set[bytes]) -> bool:
    return path in places or any(path[:at] in places for at, char in enumerate(path) if char == ord("/"))


def what_waits(found: Sequence[Pending]) -> str:
    """One line that names some of them."""
    names = [
        f"'{safe(os.fsdecode(each.path))}'{' (untracked)' if each.untracked else ''}" for each in found[:_MOST_NAMED]
    ]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"not committed, so it does not count yet: {', '.join(names)}{more}"
