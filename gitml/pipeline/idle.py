"""Runs that find nothing to do, without an evaluation and without reading what runs stages.

Such a run leaves what the runner leaves (gitml.pipeline.run): its state. Where something waits that the runner would
see to first, be it left by a kill, the run is the runner's.
"""

import os
import time

from gitml.git.repository import Repository
from gitml.git.state import PUBLISHING
from gitml.liveness import this_host
from gitml.oid import Oid
from gitml.pipeline.lease import Lease, RunState, StageProgress, boot_id, run_of
from gitml.pipeline.settled import Settled

SESSIONS = "refs/ml/staged/run-*"
"""The refs of what runs have stored and no data commit covers yet (gitml.pipeline.keeping)."""


def run_idle(
    repo: Repository, lease: Lease, answer: Settled, *, tip: Oid, branch: str | None, stored: bool
) -> RunState | None:
    """Do what a run at `tip` does where everything is fresh; None, and nothing done, if that is more than to say so.

    The caller holds the lease. `stored` says whether there is a ref among `SESSIONS`.
    """
    last = lease.read_state()
    if (
        not answer.stages
        or stored
        or lease.requests()
        or lease.parked()
        or lease.leftover_workspaces()
        or (last is not None and last.status == "running")
        or (repo.state_dir / PUBLISHING).exists()
        or repo.config("ml.notify") is not None
    ):
        return None
    state = RunState(
        run=run_of(tip), branch=branch, tip=tip.hex(), pid=os.getpid(), host=this_host(), boot=boot_id(),
        started=time.time(), status="nothing",
        stages={stage.name: StageProgress("fresh", stage.total, cached=stage.total) for stage in answer.stages},
    )  # fmt: skip
    lease.write_state(state)
    old = lease.forget_old_runs()
    if old:
        from gitml.pipeline.removal import remove_tree  # noqa: PLC0415 - hardly ever

        for directory in old:
            remove_tree(directory)
    return state
