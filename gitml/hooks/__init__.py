"""What git's hooks do: keep data reachable, fill in large files, start the runner. Never in the way of git.

A hook is a hint: everything it starts would come out the same from `git ml run`. Its own failures are one line on
standard error and never fail the user's command, except pre-push, which must not let a push leave data behind.
"""

import os
import sys
from collections.abc import Sequence

from gitml.errors import GitmlError, MachineError
from gitml.git.checkout import fill_in
from gitml.git.data import DataLog, UncoveredError
from gitml.git.odb import GitOdb
from gitml.git.pushed import parse_pushed
from gitml.git.remotes import FetchError, data_remote, fetch_runs
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers, wait_for_sessions
from gitml.git.state import forget_commit, note_commit, rebase_is_starting, rebase_under_way, sequence_under_way
from gitml.git.transfer import push_data
from gitml.git.worktree import materialise
from gitml.hooks.following import follow
from gitml.hooks.words import say
from gitml.meter import Meter
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.launch import runs_by_itself, start_runner
from gitml.pipeline.lease import Lease
from gitml.pipeline.settled import is_settled

_NAMED = 3
"""Files that could not be filled in and are named; more are counted."""


def run_hook(name: str, arguments: Sequence[str]) -> int:
    """Do what git's hook `name` asks for; give the exit status for git."""
    try:
        repo = Repository.discover()
        if name not in _ON_SERVERS and repo.config("filter.ml.process") is None:
            return 0  # a line that the repository brought into a hook manager; nothing acts before 'git ml install'
        if name == "pre-push":
            return _pre_push(repo, arguments)
        _HOOKS[name](repo, arguments or _from_pre_commit(name))
    except KeyError:
        say(f"unknown hook '{name}'")
    except GitmlError as error:
        say(error.message)
        if error.hint:
            say(f"hint: {error.hint}")
        return 1 if name == "pre-push" else 0
    except OSError as error:
        machine = MachineError(error)
        say(f"the {name} hook did not finish: {machine.message}")
        say(f"hint: {machine.hint or 'git ml status'}")
        return 1 if name == "pre-push" else 0
    except KeyboardInterrupt:
        return 1 if name == "pre-push" else 0
    return 0


def _before_commit(repo: Repository, _: Sequence[str]) -> None:
    note_commit(repo.git_dir)  # our shims do it themselves; this is for hook managers


def _post_commit(repo: Repository, _: Sequence[str]) -> None:
    forget_commit(repo.git_dir)
    with GitOdb(repo.git, repo.format) as odb:
        head = repo.resolve("HEAD")
        _cover(repo, odb, head)
        if rebase_under_way(repo.git_dir):
            return  # once per replayed commit; post-rewrite sees the end
        _look(repo, odb, head, own=True, may_attach=sequence_under_way(repo.git_dir) is None)


def _cover(repo: Repository, odb: GitOdb, commit: Oid) -> None:
    """Keep the data that a commit refers to; what cannot be kept is said and stops nothing."""
    try:
        adopt_leftovers(repo, odb)
        try:
            DataLog(repo, odb).cover_commit(commit)
        except UncoveredError:
            wait_for_sessions(repo, odb)
            DataLog(repo, odb).cover_commit(commit)
    except UncoveredError as error:
        say(error.message)


def _fill_in(repo: Repository, *, insist: bool) -> None:
    """Put content in place of pointers; what is not here is fetched first, unless `ml.autoFetch` is off.

    With `insist` even if it was not there a short while ago.
    """
    fetches = repo.config_bool("ml.autoFetch", True)
    with Meter("filling in") as meter:
        result = fill_in(repo, progress=meter, insist=insist) if fetches else materialise(repo, None, meter)
    for path, error in list(result.failed.items())[:_NAMED]:
        say(f"'{path.decode('utf-8', 'backslashreplace')}': {error.message}")
    if len(result.failed) > _NAMED:
        say(f"{len(result.failed) - _NAMED} more files could not be filled in")
    if result.failed:
        say("hint: their pointers stay; once the reason is gone: git ml checkout")
    if result.missing and fetches:
        path, reason = next(iter(result.missing.items()))
        others = f" and {len(result.missing) - 1} more" if len(result.missing) > 1 else ""
        say(f"the content of '{path.decode('utf-8', 'backslashreplace')}'{others} is not here: {reason}")
        say("see: git ml ls")


def _post_merge(repo: Repository, arguments: Sequence[str]) -> None:
    _bring_runs(repo)
    _fill_in(repo, insist=True)
    if list(arguments[:1]) == ["1"]:
        return  # a squash: the user's commit is still to come
    with GitOdb(repo.git, repo.format) as odb:
        head = repo.resolve("HEAD")
        _cover(repo, odb, head)
        _look(repo, odb, head, own=False, may_attach=False)


def _post_rewrite(repo: Repository, arguments: Sequence[str]) -> None:
    if list(arguments[:1]) == ["rebase"]:
        _bring_runs(repo)
        _fill_in(repo, insist=True)
        with GitOdb(repo.git, repo.format) as odb:
            _look(repo, odb, repo.resolve("HEAD"), own=False, may_attach=False)


def _bring_runs(repo: Repository) -> None:
    """Bring runs from the remote for data, where there is one: the branches came from another, without them."""
    try:
        place = data_remote(repo)
        if place is not None and repo.config_bool("ml.autoFetch", True):
            fetch_runs(repo, place)
    except FetchError as error:
        say(error.message)


def _worktree_changed(repo: Repository, _: Sequence[str]) -> None:
    if rebase_is_starting(repo.git_dir):
        return  # the next time that the index is written, at the latest with the first commit
    if rebase_under_way(repo.git_dir):
        materialise(repo, None)  # what the steps lack is not worth a fetch each; post-rewrite sees the end
    else:
        _fill_in(repo, insist=False)
    # an aborted merge, a finished bisect, a switch: what stood in the way of publishing may be gone
    if Lease(repo).request_parked() and runs_by_itself(repo):
        start_runner(repo)


def _post_receive(repo: Repository, _: Sequence[str]) -> None:
    from gitml.hooks.server import post_receive  # noqa: PLC0415 - only on servers

    post_receive(repo)


def _from_pre_commit(name: str) -> list[str]:
    """The arguments of a hook that pre-commit has from its own list: it puts them into the environment."""
    if name == "post-rewrite":
        return [os.environ.get("PRE_COMMIT_REWRITE_COMMAND", "")]
    return ["1"] if name == "post-merge" and os.environ.get("PRE_COMMIT_IS_SQUASH_MERGE") == "1" else []


_ON_SERVERS = ("post-receive",)
_HOOKS = {
    "pre-commit": _before_commit,
    "prepare-commit-msg": _before_commit,
    "post-receive": _post_receive,
    "post-commit": _post_commit,
    "post-merge": _post_merge,
    "post-rewrite": _post_rewrite,
    "post-checkout": _worktree_changed,
    "post-index-change": _worktree_changed,
}


def _pre_push(repo: Repository, arguments: Sequence[str]) -> int:
    remote, url = (*arguments, "", "")[:2]
    pushed = parse_pushed(os.fsdecode(sys.stdin.buffer.read()))
    if all(each.local is None for each in pushed):
        return 0  # only deletions
    with GitOdb(repo.git, repo.format) as odb:
        push_data(repo, remote, url, pushed, RunCache(repo, odb).merge, leads=True)
    return 0


def _look(repo: Repository, odb: GitOdb, head: Oid, *, own: bool, may_attach: bool) -> None:
    found = odb.lookup(f"{head}^{{tree}}")
    if found is not None and is_settled(repo, found[0]):
        follow(repo, odb)
        return
    # a checkout, a push or a commit of something else need not read what evaluates pipelines
    from gitml.hooks.results import look  # noqa: PLC0415 - as said above

    look(repo, odb, head, own=own, may_attach=may_attach)
