"""Where every stage stands: what content says, together with what a runner is doing about it."""

from gitml.pipeline.lease import Lease, RunState
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.shown import Standing
from gitml.pipeline.survey import Survey, command_of
from gitml.pipeline.trust import Level, Trust

RUNNING = "running"
LOST = "lost"

NEEDS_REVIEW = "its command or code is not reviewed here"

_TO_BE_RUN = (State.STALE, State.MISSING)


def standings(survey: Survey, lease: Lease, trust: Trust | None = None) -> list[Standing]:
    """Every stage of the survey in order; states as in `State`, or 'running' or 'lost'.

    With `trust`, a stale stage whose command hooks would not run says so.
    """
    run = lease.read_state()
    alive = lease.is_held()
    if run is not None and run.status == "running" and not alive and not lease.is_lost(run):
        run = lease.read_state()  # it ended meanwhile
    return [_standing(status, run, alive, trust) for status in survey.statuses]


def _standing(status: StageStatus, run: RunState | None, alive: bool, trust: Trust | None) -> Standing:
    name = status.stage.name
    state, reason = str(status.state), status.reason
    unreviewed = trust is not None and needs_review(status, trust)
    if unreviewed:
        reason += f"; {NEEDS_REVIEW}"
    total, done, failed = len(status.datums), status.done, status.failure.failed if status.failure is not None else 0
    progress = run.stages.get(name) if run is not None and run.status == "running" else None
    if run is not None and progress is not None and status.state in _TO_BE_RUN:
        if alive and progress.state == RUNNING:
            state, reason = RUNNING, f"run {run.run}"
            total, done, failed = progress.total, progress.done + progress.cached, progress.failed
        elif not alive and progress.state in (RUNNING, "waiting"):
            state = LOST
            reason = f"run {run.run} ended without a word; 'git ml resume' goes on where it stopped"
            total = total or progress.total
    return Standing(
        name=name,
        state=state,
        reason=reason,
        output=status.stage.output.decode("utf-8", "replace"),
        total=total,
        done=done,
        failed=failed,
        unreviewed=unreviewed and state == State.STALE,
        hint=status.failure.hint if status.failure is not None and state == State.FAILED else "",
        waits=bool(status.waits_for) and state == State.STALE,
    )


def needs_review(status: StageStatus, trust: Trust) -> bool:
    """Whether only the missing review of its command keeps hooks from running a stage."""
    waits = status.state is State.STALE and status.key is not None and trust.level is not Level.NEVER
    return waits and not trust.has(command_of(status))
