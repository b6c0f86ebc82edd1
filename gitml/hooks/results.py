"""What hooks do about results: evaluate the commit, and have the runner bring it up to date."""

import os
import sys
from collections.abc import Sequence

from gitml.git.localattributes import write_attributes
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.hooks.following import follow
from gitml.hooks.words import say
from gitml.oid import Oid
from gitml.pipeline.audit import is_vouched_for
from gitml.pipeline.cache import RunCache
from gitml.pipeline.delivery import due
from gitml.pipeline.launch import missing_environment, runs_by_itself, start_runner
from gitml.pipeline.lease import Lease
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.survey import Surveyor, command_of
from gitml.pipeline.trust import Level, Trust


def evaluate(repo: Repository, odb: GitOdb, head: Oid, *, own: bool, may_attach: bool) -> None:
    """Evaluate the commit; if something is to be done, have the runner do it and say so in one line."""
    surveyor = Surveyor(repo, odb, RunCache(repo, odb))
    survey = surveyor.survey(head)
    write_attributes(repo, [] if survey.pipeline is None else [stage.output for stage in survey.pipeline.stages])
    if survey.pipeline is None:
        follow(repo, odb)
        return
    trust = Trust(repo)
    _adopt_commands(repo, surveyor, head, survey.statuses, trust, own=own)
    trust.bind()
    if trust.level is Level.NEVER:
        return
    todo: list[StageStatus] = []
    untrusted: list[StageStatus] = []
    failed: list[StageStatus] = []
    for status in survey.statuses:
        unrecorded = status.state is State.FRESH and not status.recorded
        if unrecorded or status.state is State.MISSING or (status.state is State.STALE and status.waits_for):
            todo.append(status)
        elif status.state is State.STALE:
            (todo if trust.has(command_of(status)) else untrusted).append(status)
        elif status.state is State.FAILED:
            failed.append(status)
    if untrusted:
        names = ", ".join(status.stage.name for status in untrusted)
        if trust.doubt is not None:
            say(trust.doubt.words)
            say(f"{names}: not reviewed, nothing ran")
        else:
            say(f"{names}: the command, its code or its environment came from elsewhere, nothing ran")
        say("review it: git ml trust --show; allow it: git ml trust")
    if failed:
        names = ", ".join(status.stage.name for status in failed)
        say(f"{names} failed for these inputs and is not tried again by itself; see: git ml logs")
    todo += _to_be_copied(repo, surveyor, head, survey.statuses, trust)
    waiting_only = all(status.state is State.STALE and status.waits_for for status in todo)
    if not todo or waiting_only:
        follow(repo, odb)
        return
    if not runs_by_itself(repo):
        return
    branch = repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip()
    if not branch:
        say("HEAD is detached, nothing ran; 'git ml run' computes into the cache, a branch receives results")
        return
    missing = missing_environment(repo)
    if missing is not None:
        say(missing)
    lease = Lease(repo)
    lease.request(branch)
    behind = lease.is_held()
    names = ", ".join(status.stage.name for status in todo)
    if not behind:
        start_runner(repo)
    if may_attach and _has_terminal():
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-P", "-m", "gitml", "wait", "--attached"])  # noqa: S606 - ourselves
    count = f"{len(todo)} stage{'s' if len(todo) != 1 else ''}"
    say(f"{count} queued ({names}){' behind the current run' if behind else ''} · git ml status")


def _to_be_copied(
    repo: Repository, surveyor: Surveyor, head: Oid, statuses: Sequence[StageStatus], trust: Trust
) -> list[StageStatus]:
    """The stages whose result is there, and is not yet where their egress goes."""
    leaving = [each for each in statuses if each.stage.egress and each.state in (State.FRESH, State.HELD)]
    if not leaving:
        return []
    from gitml.remote.egress import Egress  # noqa: PLC0415 - 10 ms, and few have egress

    branch = repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip()
    carrier = Egress(repo, surveyor.odb)
    return due(repo, carrier, branch, leaving, brought=lambda: surveyor.own_digests(head, trust), trust=trust)


def _adopt_commands(
    repo: Repository, surveyor: Surveyor, head: Oid, statuses: Sequence[StageStatus], trust: Trust, *, own: bool
) -> None:
    """Trust the commands that the level lets in by themselves."""
    # fresh ones too: a changed lock file makes nothing stale, and is whose commit it is in
    wanted = {command_of(each) for each in statuses}
    if own and trust.adopts_own and not all(map(trust.has, wanted)):
        trust.add(surveyor.own_digests(head, trust))
    if trust.level is Level.SIGNED and not all(map(trust.has, wanted)) and is_vouched_for(repo, head, statuses):
        trust.add(wanted)


def _has_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and "GITML_DETACH" not in os.environ
