"""The hooks around a commit: its data stays reachable, and what it affects is run."""

import os
import time
from collections.abc import Sequence

from gitml.errors import BusyError
from gitml.git.commits import parse_commit
from gitml.git.data import DataLog, UncoveredError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers, wait_for_sessions
from gitml.git.state import PUBLISHING, forget_commit, note_commit, rebase_under_way, sequence_under_way
from gitml.hooks.following import follow
from gitml.hooks.words import say
from gitml.oid import Oid
from gitml.pipeline.settled import is_settled

_PATIENCE = 5.0
"""Seconds for results to be in index and worktree once their commit is on the branch."""


def before_commit(repo: Repository, _: Sequence[str]) -> None:
    """A commit is about to be written, and its message asked for."""
    note_commit(repo.git_dir)  # our shims do it themselves; this is for hook managers


def pre_commit(repo: Repository, _: Sequence[str]) -> None:
    """A commit is about to be written, of an index that git reads once more when this has ended.

    If results come onto the branch at this moment, the index must have them first, or the commit takes them back. With
    `git commit -a` or paths git has made the index of the commit already; then it has to be called again.
    """
    note_commit(repo.git_dir)
    if not (repo.state_dir / PUBLISHING).exists():
        return
    # hardly any commit comes at such a moment
    from gitml.git.publish import finish_interrupted, publication_under_way, publisher_lives  # noqa: PLC0415 - rare

    if os.environ.get("GIT_INDEX_FILE", "").endswith(".lock"):
        if publisher_lives(repo):
            raise BusyError("results are being committed at this moment", hint="commit once more")
        raise BusyError("the run that committed results was killed half way", hint="git ml publish, then commit again")
    end = time.monotonic() + _PATIENCE
    while publication_under_way(repo) and publisher_lives(repo) and time.monotonic() < end:
        time.sleep(0.01)
    if publication_under_way(repo):
        with GitOdb(repo.git, repo.format) as odb:
            finish_interrupted(repo, odb)


def post_commit(repo: Repository, _: Sequence[str]) -> None:
    """A commit was made."""
    forget_commit(repo.git_dir)
    with GitOdb(repo.git, repo.format) as odb:
        found = odb.lookup("HEAD")
        if found is None:
            return  # made and taken back by whoever started before us
        head, _, text = found
        cover(repo, odb, head, own=len(parse_commit(text).parents) < 2)
        if rebase_under_way(repo.git_dir):
            return  # once per replayed commit; post-rewrite sees the end
        look(repo, odb, head, own=True, may_attach=sequence_under_way(repo.git_dir) is None)


def cover(repo: Repository, odb: GitOdb, commit: Oid, *, own: bool) -> None:
    """Keep the data that a commit refers to; what cannot be kept stops nothing.

    It is said of a commit of the user's `own`; what a merge brings from elsewhere and is not here is there.
    """
    try:
        adopt_leftovers(repo, odb)
        try:
            DataLog(repo, odb).cover_commit(commit)
        except UncoveredError:
            wait_for_sessions(repo, odb)
            DataLog(repo, odb).cover_commit(commit)
    except UncoveredError as error:
        if own:
            say(error.message)


def look(repo: Repository, odb: GitOdb, head: Oid, *, own: bool, may_attach: bool) -> None:
    """Have the runner do what a commit calls for; `own` says whether it was made here."""
    found = odb.lookup(f"{head}^{{tree}}")
    if found is not None and is_settled(repo, found[0]):
        follow(repo, odb)
        return
    # a checkout, a push or a commit of something else need not read what evaluates pipelines
    from gitml.hooks.results import evaluate  # noqa: PLC0415 - as said above

    evaluate(repo, odb, head, own=own, may_attach=may_attach)
