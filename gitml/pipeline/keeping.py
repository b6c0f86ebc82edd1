"""What the run cache keeps of runs and stages, and under which name a run stores its data."""

import time
from collections.abc import Mapping
from typing import Any

from gitml.liveness import this_host
from gitml.oid import Oid
from gitml.pipeline.cache import Batch, output_path, run_path, stage_path
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.plan import StageStatus
from gitml.pipeline.runrecord import describe_environment


def session_of(run: str) -> str:
    """The name of the storing session of a run (gitml.git.staging): the same when it is continued after a kill."""
    return f"run-{run}"


def keep_result(batch: Batch, status: StageStatus, run: str, out: Oid, recovered: int) -> None:
    """Put down that a run gave `out` for the key of a stage; `recovered` counts datums."""
    assert status.key is not None
    base = stage_path(status.key) + f"/{out}".encode()
    document = {
        "schema": "gitml/stage-run/1",
        "stage": status.stage.name,
        "run": run,
        "datums": len(status.datums),
        "recovered": recovered,
        "finished": int(time.time()),
    }
    batch.put_json(base + b"/record.json", document)
    batch.put_tree(base + b"/out", out)
    batch.put_blob(output_path(out, status.stage.name), status.key.encode() + b"\n")


def keep_run(
    batch: Batch,
    run: str,
    status: str,
    *,
    source: Oid,
    branch: str | None,
    started: float,
    sandboxes: Sandboxes | None,
    limits: Mapping[str, Mapping[str, str]],
    elsewhere: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Put down what is known of a run: when, where, of which commit, and by what means limits were held.

    `started` in seconds since the epoch, `limits` by stage and resource; `elsewhere` says by stage where tasks ran that
    did not run here.
    """
    document: dict[str, Any] = {
        "schema": "gitml/run-record/1",
        "run": run,
        "status": status,
        "source": source.hex(),
        "branch": branch,
        "host": this_host(),
        "started": int(started),
        "updated": int(time.time()),
        "sandbox": sandboxes.name if sandboxes is not None else None,
        **({"images": sandboxes.images} if sandboxes is not None and sandboxes.images else {}),
        "limits": {stage: dict(means) for stage, means in limits.items()},
        "environment": describe_environment(),
    }
    if elsewhere:
        document["elsewhere"] = {stage: dict(facts) for stage, facts in elsewhere.items()}
    batch.put_json(run_path(run) + b"/run.json", document)
