"""The runner as a process of its own: takes what hooks asked for, one branch after the other, and leaves."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from types import FrameType

from gitml.errors import GitmlError, MachineError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline.cache import RunCache
from gitml.pipeline.delivery import Carrier
from gitml.pipeline.followers import readers
from gitml.pipeline.launch import publishes_beside, results_of
from gitml.pipeline.lease import Lease, RunState
from gitml.pipeline.notify import Notifier
from gitml.pipeline.run import Runner
from gitml.pipeline.runreport import RunOptions, RunReport
from gitml.pipeline.survey import Surveyor


def run_branch(
    repo: Repository,
    odb: GitOdb,
    lease: Lease,
    options: RunOptions,
    *,
    report: Callable[[RunState], None],
    stop: Event,
    branch: str | None = None,
    carrier: Carrier | None = None,
    surveyor: Surveyor | None = None,
) -> RunReport:
    """Run `branch` (a full ref name), by default the one checked out here or the detached HEAD.

    The caller holds the lease. `carrier` copies results out; without one they stay. A `surveyor` that evaluates before
    or after the run spares work; what it knows of the run cache must be as it is now.
    """
    if branch is None and options.at is None:
        branch = repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip() or None
    with Notifier(repo) as notifier:
        try:
            runner = Runner(
                repo, odb, lease, options,
                report=notifier.reporting(report), stop=stop, carrier=carrier, surveyor=surveyor,
            )  # fmt: skip
            done = runner.run(branch)
        except Exception as error:
            if (state := _note_error(lease, told(error), stop)) is not None:
                notifier.tell(state)
            raise
    if notifier.problem:
        done.notices[f"the command of ml.notify failed: {notifier.problem}"] = None
    return done


def run_in_background(where: str, carrier_of: Callable[[Repository, GitOdb], Carrier]) -> int:
    """Serve requests until there are none; `where` is a worktree or git directory of the repository."""
    repo = Repository.discover(Path(where))
    lease = Lease(repo)
    stop = Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    status = 0
    followed: set[str] = set()
    # a request that comes between the last look and letting go of the lock is seen by the next turn
    while lease.requests() and not stop.is_set():
        with lease.acquire(stops=True) as mine:
            if not mine:
                return status
            while not stop.is_set() and (branch := lease.take_request()) is not None:
                status |= _serve(repo, lease, branch, stop, followed, carrier_of)
    return status


def _serve(
    repo: Repository,
    lease: Lease,
    branch: str,
    stop: Event,
    followed: set[str],
    carrier_of: Callable[[Repository, GitOdb], Carrier],
) -> int:
    """Run one branch, then ask for those that read it; each once, or two that read each other would never end."""
    try:
        beside = repo.worktree is None and publishes_beside(repo)
        options = RunOptions(
            publish_wait=repo.config_int("ml.publishWait", 30), results=results_of(branch) if beside else None
        )
        if repo.try_resolve(branch) is None:
            return 0  # deleted meanwhile
        with GitOdb(repo.git, repo.format) as odb:
            surveyor = Surveyor(repo, odb, RunCache(repo, odb))
            report = run_branch(
                repo, odb, lease, options, report=lambda _: None, stop=stop, branch=branch,
                carrier=carrier_of(repo, odb), surveyor=surveyor,
            )  # fmt: skip
            if repo.worktree is not None and report.published is not None:
                surveyor.survey(report.published)  # so that the next commit need not
            for reader in readers(repo, odb, branch):
                if reader not in followed:
                    followed.add(reader)
                    lease.request(reader)
        return 2 if report.failed else 0
    except (GitmlError, OSError) as error:
        message = told(error)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        message = f"{told(error)} (details in {os.fspath(lease.log)})"
    print(f"gitml: {message}", file=sys.stderr, flush=True)  # noqa: T201 - into the runner's log
    _note_error(lease, message, stop)
    return 1


def told(error: Exception) -> str:
    """What went wrong and what to do about it, in one line."""
    known = MachineError(error) if isinstance(error, OSError) else error
    if not isinstance(known, GitmlError):
        return f"gitml failed: {type(error).__name__}: {error}"
    return known.message + (f" ({'; '.join(known.hint.splitlines())})" if known.hint else "")


def _note_error(lease: Lease, message: str, stop: Event) -> RunState | None:
    """Have the run under way end with this error; give its state, None if there is none.

    What ends a run that is to `stop` is no error: a closed terminal takes the `git` along that we had asked something.
    """
    state = lease.read_state()
    if state is None or state.pid != os.getpid() or state.status not in ("running", "error"):
        return None
    state.status = "stopped" if stop.is_set() else "error"
    state.message = message
    with suppress(OSError):  # the disk may be full; then it counts as lost, and is as easily resumed
        lease.write_state(state)
    return state
