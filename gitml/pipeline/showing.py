"""What a run shows to the world while it goes on, and leaves when it ends."""

import os
import time
from collections.abc import Callable, Collection, Iterable

from gitml.liveness import this_host
from gitml.oid import Oid
from gitml.pipeline.lease import Lease, RunState, StageProgress, boot_id
from gitml.pipeline.plan import State
from gitml.pipeline.runreport import RunReport
from gitml.pipeline.shown import StageReport
from gitml.pipeline.stagerun import Tally

_SOON = 0.2
"""Seconds after which stages that nothing happened to are shown."""


class Showing:
    """Keeps the state of one run where others read it, and tells `report` of it. Not begun, it shows nothing."""

    def __init__(self, lease: Lease, report: Callable[[RunState], None]) -> None:
        self.state: RunState | None = None
        self._lease = lease
        self._report = report

    def begin(self, run: str, branch: str | None, tip: Oid, asked: Collection[str] | None) -> None:
        """The run has begun; `asked` are the stages that were named, None if all are meant."""
        if self.state is None:
            self.state = RunState(
                run=run, branch=branch, tip=tip.hex(), pid=os.getpid(), host=this_host(), boot=boot_id(),
                started=time.time(), asked=sorted(asked) if asked is not None else None,
            )  # fmt: skip

    def restart(self, tip: Oid, stages: Iterable[str]) -> None:
        """It looks at `tip` now, where nothing is known yet of these stages."""
        if self.state is not None:
            self.state.tip = tip.hex()
            self.state.stages = {name: StageProgress("waiting") for name in stages}
            self._update()

    def warn(self, warnings: Iterable[str]) -> None:
        """Add sentences about results that may not be wanted, each once."""
        if self.state is not None:
            self.state.warnings += [each for each in dict.fromkeys(warnings) if each not in self.state.warnings]

    def stage(self, line: StageReport, *, soon: bool = False, quiet: bool = False) -> None:
        """What became of a stage.

        `soon`: nothing happened to it, so it may wait for others to be shown with it. `quiet`: it is none of those
        asked for, so how it came to its state is of no interest.
        """
        if self.state is None:
            return
        self.state.stages[line.name] = StageProgress(
            state=line.state, total=line.total, done=line.ran, cached=line.cached, failed=line.failed,
            recovered=line.recovered, reason="" if quiet or line.state == State.FRESH else line.reason,
        )  # fmt: skip
        if not soon or time.time() - self.state.updated >= _SOON:
            self._update()

    def datums(self, name: str, tally: Tally) -> None:
        """How far a stage is."""
        if self.state is None:
            return
        before = self.state.stages.get(name)
        since = before.since if before is not None and before.since else time.time()
        self.state.stages[name] = StageProgress(
            state="running", total=tally.total, done=tally.succeeded + tally.recovered, cached=tally.cached,
            failed=tally.failed, recovered=tally.recovered, since=since,
        )  # fmt: skip
        self._update()

    def copying(self, line: StageReport, done: int, total: int) -> None:
        """How many files of a stage's result have been copied out."""
        if self.state is None:
            return
        self.state.stages[line.name] = StageProgress(
            state="running", total=line.total, done=line.ran, cached=line.cached, recovered=line.recovered,
            reason=f"egress: {done} of {total} files",
        )  # fmt: skip
        self._update()

    def conclude(self, report: RunReport) -> None:
        """How the run has ended; `end` shows it."""
        state = self.state
        if state is None:
            return
        if report.stopped:
            state.status, state.message = "stopped", "stopped; finished datums are kept, git ml resume goes on"
        elif report.failed:
            failed = [stage for stage in report.stages.values() if stage.state == State.FAILED]
            hints = dict.fromkeys(stage.hint for stage in failed)
            # of several only the logs tell all
            hint = next(iter(hints)) if len(hints) == 1 else ""
            names = ", ".join(stage.name for stage in failed)
            state.status, state.message = "failed", f"{names} failed; {hint or 'git ml logs --failed'}"
        elif report.parked:
            state.status, state.message = "parked", f"results are ready, not committed yet: {report.parked}"
        else:
            state.status = "published" if report.published is not None else "nothing"
            state.message = report.gone
        state.published = report.published.hex() if report.published is not None else None

    def end(self) -> None:
        """Show what `conclude` said."""
        self._update()

    def _update(self) -> None:
        if self.state is not None:
            self._lease.write_state(self.state)
            self._report(self.state)
