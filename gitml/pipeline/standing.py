"""Where every stage stands: what content says, together with what a runner is doing about it."""

from collections.abc import Callable

from gitml.pipeline.lease import Lease, RunState
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.shown import Standing
from gitml.pipeline.survey import Survey, command_of
from gitml.pipeline.trust import Level, Trust

RUNNING = "running"
LOST = "lost"

NEEDS_REVIEW = "its command or code is not reviewed here"

_TO_BE_RUN = (State.STALE, State.MISSING)


def standings(
    survey: Survey, lease: Lease, trust: Trust | None = None, *, branch: Callable[[], str] = lambda: ""
) -> list[Standing]:
    """Every stage of the survey in order; states as in `State`, or 'running' or 'lost'.

    With `trust`, a stale stage whose command hooks would not run says so. `branch` gives the full name of the branch
    that is looked at, empty if there is none: what runs on another one does not bring this one up to date.
    """
    run = lease.read_state()
    alive = lease.is_held()
    if run is not None and run.status == "running" and not alive and not lease.is_lost(run):
        run = lease.read_state()  # it ended meanwhile
    is_of_it = run is not None and survey.commit.hex() in (run.tip, run.published)
    if run is not None and run.status == "running" and not is_of_it and run.branch not in (None, branch()):
        run = None
    return [_standing(status, run, alive, trust, is_of_it=is_of_it) for status in survey.statuses]


def _standing(
    status: StageStatus, run: RunState | None, alive: bool, trust: Trust | None, *, is_of_it: bool
) -> Standing:
    """One stage; `is_of_it` says that the latest `run` was about this commit."""
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
        elif alive and is_of_it and status.state is State.MISSING and progress.state == State.FRESH:
            reason = f"run {run.run} has it, and commits it as soon as nothing is in the way"
    elif run is not None and is_of_it and status.state in _TO_BE_RUN:
        # what the machine failed at says nothing about the inputs, so the content alone does not tell it
        tried = run.stages.get(name)
        if run.status == "error":
            reason += f"; the last run ended with an error: {run.message}"
        elif tried is not None and tried.state == State.FAILED:
            reason += f"; the last try failed: {tried.reason}"
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
