"""What a server does with a push: queue its branches, start the runner, tell the pusher where to look.

Post-receive comes after the objects have left quarantine, and keeps the push waiting. So it evaluates nothing; the
runner looks at what is queued, one branch after the other, and at several pushes of one branch once.
"""

import getpass
import os
import shlex
import sys
from collections.abc import Sequence

from gitml.git.refs import RefUpdate, update_refs
from gitml.git.repository import Repository
from gitml.hooks.words import say
from gitml.pipeline.launch import publishes_beside, results_of, runs_by_itself, start_runner
from gitml.pipeline.lease import Lease

_BRANCHES = "refs/heads/"
_OURS = "refs/heads/gitml/"
"""Where data are kept on hosts that take no other refs."""


def post_receive(repo: Repository, _: Sequence[str]) -> None:
    """Queue the branches that were pushed, as git lists them on standard input; one line for each to the pusher.

    Raise `UserError` if `ml.serverPublish` is none of its values.
    """
    beside, queued = publishes_beside(repo), []
    for line in os.fsdecode(sys.stdin.buffer.read()).splitlines():
        _, new, name = line.split(" ", 2)
        if not name.startswith(_BRANCHES) or name.startswith(_OURS):
            continue
        if not new.strip("0"):
            update_refs(repo.git, [RefUpdate(results_of(name), None)])
        elif repo.try_resolve(f"{new}:pipeline.json") is not None:
            queued.append(name)
    if not queued or not runs_by_itself(repo):
        return
    lease = Lease(repo)
    for name in queued:
        lease.request(name)
    behind = lease.is_held()
    if not behind:
        start_runner(repo)
    after = " behind the current run" if behind else ""
    for name in queued:
        short = name.removeprefix(_BRANCHES)
        say(f"{short} is queued{after}; results go to {results_of(name) if beside else f'{short}, on top: git pull'}")
    say(f"log: {_command(repo)}")


def _command(repo: Repository) -> str:
    """What shows the log, as the pusher can type it."""
    command = f"git -C {shlex.quote(os.fspath(repo.git_dir))} ml logs --follow"
    connection = os.environ.get("SSH_CONNECTION", "").split()
    if len(connection) != 4:
        return command
    return f"ssh {getpass.getuser()}@{connection[2]} {shlex.quote(command)}"
