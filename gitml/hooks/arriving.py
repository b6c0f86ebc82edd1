"""The hooks after git has changed the worktree: large files are filled in, and runs of others brought along."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from gitml.errors import CorruptError
from gitml.git.checkout import fill_in
from gitml.git.odb import GitOdb
from gitml.git.remotes import FetchError, data_remote, fetch_runs
from gitml.git.repository import Repository
from gitml.git.state import rebase_is_starting
from gitml.git.worktree import Materialised, materialise
from gitml.hooks.committing import cover, look
from gitml.hooks.words import say
from gitml.meter import Meter
from gitml.pipeline.launch import runs_by_itself, start_runner
from gitml.pipeline.lease import Lease

_FILLED = "ml/filled"
"""Below a worktree's git directory: the process id of a git that wrote its index, and what was said to it then.

Our script for post-checkout reads it: the same git calls that too, when it has moved HEAD.
"""
_NAMED = 3
"""Files that could not be filled in and are named; more are counted."""


def post_merge(repo: Repository, arguments: Sequence[str]) -> None:
    """A merge, or a pull, is over."""
    _bring_runs(repo)
    _fill_in(repo, insist=True)
    if list(arguments[:1]) == ["1"]:
        return  # a squash: the user's commit is still to come
    with GitOdb(repo.git, repo.format) as odb:
        head = repo.resolve("HEAD")
        cover(repo, odb, head, own=False)
        look(repo, odb, head, own=False, may_attach=False)


def post_rewrite(repo: Repository, arguments: Sequence[str]) -> None:
    """A rebase is over; an amended commit was seen by `post-commit`."""
    if list(arguments[:1]) == ["rebase"]:
        _bring_runs(repo)
        _fill_in(repo, insist=True)
        with GitOdb(repo.git, repo.format) as odb:
            look(repo, odb, repo.resolve("HEAD"), own=False, may_attach=False)


def worktree_changed(repo: Repository, _: Sequence[str]) -> None:
    """A branch was checked out."""
    _see_to(repo)


def index_written(repo: Repository, _: Sequence[str]) -> None:
    """Git wrote its index, and changed the worktree before that."""
    mark = repo.git_dir / _FILLED
    said = _see_to(repo)
    if said is None:
        mark.unlink(missing_ok=True)
    else:
        with suppress(OSError):  # without it there is a second look
            mark.parent.mkdir(exist_ok=True)
            mark.write_text(f"{os.getppid()}\n{json.dumps(said)}\n")


def _see_to(repo: Repository) -> list[str] | None:
    """Fill in what git left as pointers; give what was said of those that stay, None if this was not the time."""
    if rebase_is_starting(repo.git_dir):
        return None  # the next time that the index is written, at the latest with the first commit
    # in a rebase too: it may stop at any step, or run a command of the user's there
    said = _fill_in(repo, insist=False)
    # an aborted merge, a finished bisect, a switch: what stood in the way of publishing may be gone
    if Lease(repo).request_parked() and runs_by_itself(repo):
        start_runner(repo)
    return said


def _said_before(repo: Repository) -> list[str]:
    """What was said to this git when it wrote its index."""
    try:
        whose, said = (repo.git_dir / _FILLED).read_text().splitlines()
        return list(json.loads(said)) if whose == str(os.getppid()) else []
    except (OSError, ValueError):
        return []


def _bring_runs(repo: Repository) -> None:
    """Bring runs from the remote for data, where there is one: the branches came from another, without them."""
    try:
        place = data_remote(repo)
        if place is not None and repo.config_bool("ml.autoFetch", True):
            fetch_runs(repo, place)
    except FetchError as error:
        say(error.message)


def _fill_in(repo: Repository, *, insist: bool) -> list[str]:
    """Put content in place of pointers; what is not here is fetched first, unless `ml.autoFetch` is off.

    With `insist` even if it was not there a short while ago. Give what is said of pointers that stay.
    """
    fetches = repo.config_bool("ml.autoFetch", True)
    with Meter("filling in") as meter:
        result = fill_in(repo, progress=meter, insist=insist) if fetches else materialise(repo, None, meter)
    words = list(_words(result, fetches=fetches))
    if words != _said_before(repo):
        for line in words:
            say(line)
    return words


def _words(result: Materialised, *, fetches: bool) -> Iterator[str]:
    for path, error in list(result.failed.items())[:_NAMED]:
        yield f"'{path.decode('utf-8', 'backslashreplace')}': {error.message}"
    if len(result.failed) > _NAMED:
        yield f"{len(result.failed) - _NAMED} more files could not be filled in"
    if any(isinstance(error, CorruptError) for error in result.failed.values()):
        yield "hint: look for good copies: git ml fsck --deep --repair"
    if result.failed:
        yield "hint: their pointers stay; once the reason is gone: git ml checkout"
    if result.missing and fetches:
        path, reason = next(iter(result.missing.items()))
        others = f" and {len(result.missing) - 1} more" if len(result.missing) > 1 else ""
        yield f"the content of '{path.decode('utf-8', 'backslashreplace')}'{others} is not here: {reason}"
        yield "see: git ml ls"
