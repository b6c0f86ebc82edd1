"""The hook before a push: data goes ahead of the branches."""

import os
import sys
from collections.abc import Sequence

from gitml.git.odb import GitOdb
from gitml.git.pushed import parse_pushed
from gitml.git.remotes import configure_remote
from gitml.git.repository import Repository
from gitml.git.transfer import push_data
from gitml.pipeline.cache import RunCache


def pre_push(repo: Repository, arguments: Sequence[str]) -> None:
    """Raise `GitmlError` where the push would leave data behind."""
    remote, url = (*arguments, "", "")[:2]
    pushed = parse_pushed(os.fsdecode(sys.stdin.buffer.read()))
    if all(each.local is None for each in pushed):
        return  # only deletions
    with GitOdb(repo.git, repo.format) as odb:
        push_data(repo, remote, url, pushed, RunCache(repo, odb).merge, leads=True)
    if remote in repo.git.lines("remote"):
        # a remote that was added after `git ml install`: what others run comes with `git fetch` from now on
        configure_remote(repo, remote)
