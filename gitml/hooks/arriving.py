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
from gitml.git.state import rebase_is_starting, starting_git
from gitml.git.worktree import Materialised, materialise
from gitml.hooks.committing import cover, look
from gitml.hooks.words import say
from gitml.meter import Meter
from gitml.pipeline.launch import runs_by_itself, start_runner
from gitml.pipeline.lease import Lease

_FILLED = "ml/filled"
"""Below a worktree's git directory: which git wrote its index, and which files stayed pointers, as it was told.

Our script for post-checkout reads it: the same git calls that too, when it has moved HEAD.
"""
_NAMED = 3
"""Files that could not be filled in and are named; more are counted."""


def post_merge(repo: Repository, arguments: Sequence[str]) -> None:
    """A merge, or a pull, is over."""
    _bring_runs(repo)
    _fill_in(repo, _told_before(repo), insist=True)
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
        _fill_in(repo, _told_before(repo), insist=True)
        with GitOdb(repo.git, repo.format) as odb:
            look(repo, odb, repo.resolve("HEAD"), own=False, may_attach=False)


def worktree_changed(repo: Repository, _: Sequence[str]) -> None:
    """A branch was checked out."""
    _see_to(repo, _told_before(repo))


def index_written(repo: Repository, _: Sequence[str]) -> None:
    """Git wrote its index, and changed the worktree before that."""
    mark = repo.git_dir / _FILLED
    told = _told_before(repo)
    mark.unlink(missing_ok=True)
    stay = _see_to(repo, told)
    if stay is not None:
        with suppress(OSError):  # without it there is a second look
            mark.parent.mkdir(exist_ok=True)
            mark.write_text(f"{starting_git()}\n{json.dumps([*map(os.fsdecode, stay)])}\n")


def _see_to(repo: Repository, told: Sequence[bytes]) -> list[bytes] | None:
    """Fill in what git left as pointers; give those that stay, None if this was not the time."""
    if rebase_is_starting(repo.git_dir):
        return None  # the next time that the index is written, at the latest with the first commit
    # in a rebase too: it may stop at any step, or run a command of the user's there
    stay = _fill_in(repo, told, insist=False)
    # an aborted merge, a finished bisect, a switch: what stood in the way of publishing may be gone
    if Lease(repo).request_parked() and runs_by_itself(repo):
        start_runner(repo)
    return stay


def _told_before(repo: Repository) -> list[bytes]:
    """The files that stayed pointers when this git wrote its index, which was told to its user."""
    try:
        whose, told = (repo.git_dir / _FILLED).read_text().splitlines()
        return [*map(os.fsencode, json.loads(told))] if whose == starting_git() else []
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


def _fill_in(repo: Repository, told: Sequence[bytes], *, insist: bool) -> list[bytes]:
    """Put content in place of pointers; what is not here is fetched first, unless `ml.autoFetch` is off.

    With `insist` even if it was not there a short while ago. Give the files that stay pointers; who knows of all of
    them, as `told` has them, is not told again.
    """
    fetches = repo.config_bool("ml.autoFetch", True)
    with Meter("filling in") as meter:
        result = fill_in(repo, progress=meter, insist=insist) if fetches else materialise(repo, None, meter)
    stay = sorted([*result.failed, *(result.missing if fetches else ())])
    if stay != list(told):
        for line in _words(result, fetches=fetches):
            say(line)
    return stay


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
