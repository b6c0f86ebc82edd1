"""What git's hooks do: keep data reachable, fill in large files, start the runner. Never in the way of git.

A hook is a hint: everything it starts would come out the same from `git ml run`. Its own failures are one line on
standard error and never fail the user's command, except pre-push, which must not let a push leave data behind, and
pre-commit, which must not let a commit take back results that it has not seen.
"""

import os
from collections.abc import Callable, Sequence
from importlib import import_module

from gitml.errors import BusyError, GitmlError, MachineError
from gitml.git.repository import Repository
from gitml.git.state import was_told_to_be_quiet
from gitml.hooks.words import say
from gitml.meter import is_shown, silence

_HOOKS = {
    "pre-commit": "committing.pre_commit",
    "prepare-commit-msg": "committing.before_commit",
    "post-commit": "committing.post_commit",
    "post-merge": "arriving.post_merge",
    "post-rewrite": "arriving.post_rewrite",
    "post-checkout": "arriving.worktree_changed",
    "post-index-change": "arriving.index_written",
    "pre-push": "pushing.pre_push",
    "post-receive": "server.post_receive",
}
"""Module and function of each; only what is needed is imported."""
_ON_SERVERS = ("post-receive",)


def run_hook(name: str, arguments: Sequence[str]) -> int:
    """Do what git's hook `name` asks for; give the exit status for git."""
    if name not in _HOOKS:
        say(f"unknown hook '{name}'")
        return 0
    may_fail = name == "pre-push"
    try:
        repo = Repository.discover()
        if name not in _ON_SERVERS and repo.config("filter.ml.process") is None:
            return 0  # a line that the repository brought into a hook manager; nothing acts before 'git ml install'
        if is_shown() and was_told_to_be_quiet():
            silence()
        _hook(name)(repo, arguments or _from_pre_commit(name))
    except GitmlError as error:
        say(error.message)
        for line in (error.hint or "").splitlines():
            say(f"hint: {line}")
        refused = name == "pre-commit" and isinstance(error, BusyError)
        return int(error.exit_code) if refused else int(may_fail)
    except OSError as error:
        machine = MachineError(error)
        say(f"the {name} hook did not finish: {machine.message}")
        say(f"hint: {machine.hint or 'git ml status'}")
        return int(may_fail)
    except KeyboardInterrupt:
        return int(may_fail)
    return 0


def _hook(name: str) -> Callable[[Repository, Sequence[str]], None]:
    module, _, function = _HOOKS[name].partition(".")
    found: Callable[[Repository, Sequence[str]], None] = getattr(import_module(f"gitml.hooks.{module}"), function)
    return found


def _from_pre_commit(name: str) -> list[str]:
    """The arguments of a hook that pre-commit has from its own list: it puts them into the environment."""
    if name == "post-rewrite":
        return [os.environ.get("PRE_COMMIT_REWRITE_COMMAND", "")]
    return ["1"] if name == "post-merge" and os.environ.get("PRE_COMMIT_IS_SQUASH_MERGE") == "1" else []
