"""`git ml status` and `git ml run` where nothing was touched since everything was fresh: answered from a note.

An evaluation asks each stage again, and reading what evaluates takes longer than many answers. So this is looked at
first, as `__main__` does with what git starts. Whatever is not as simple as that is left to the commands, errors too.
"""

import os
import sys
from collections.abc import Callable, Sequence

from gitml.cli.output import machine_failed, reader_left, safe, show, show_json, talk
from gitml.cli.pending import listing, pending_among, what_waits
from gitml.cli.states import report_line, standing_document, standing_lines
from gitml.errors import ExitCode, GitmlError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.idle import SESSIONS, run_idle
from gitml.pipeline.lease import Lease
from gitml.pipeline.settled import noted, settled
from gitml.pipeline.shown import StageReport, Standing

_HEAD = ("log", "-1", "--format=%T%n%H%n%h %s", "HEAD")
_BRANCH = ("symbolic-ref", "--quiet", "HEAD")
_SHORT = ("symbolic-ref", "--quiet", "--short", "HEAD")
_CONFIGURATION = ("config", "-z", "--list")
_STORED = ("for-each-ref", "--count=1", SESSIONS)

Say = Callable[[], None]


def glance(arguments: Sequence[str]) -> int | None:
    """Answer one command; give its exit code, or None, with nothing said or done, if it has to see to it itself."""
    options = list(arguments[1:])
    try:
        if arguments[0] == "status" and set(options) <= {"--json", "--exit-code"}:
            say = _status(json="--json" in options)
        elif arguments[0] == "run" and not options:
            say = _run()
        else:
            return None
    except (GitmlError, OSError, ValueError):
        return None  # the command says what is wrong
    if say is None:
        return None
    try:
        say()
        sys.stdout.flush()
    except BrokenPipeError:
        return reader_left()
    except OSError as error:
        return machine_failed(error)
    return ExitCode.OK


def _status(*, json: bool) -> Say | None:
    repo = Repository.discover()
    before = noted(repo)
    if repo.worktree is None or before is None:
        return None
    # places stay the same as long as nothing is touched that was read
    head, short, configuration, changes = repo.git.together(_HEAD, _SHORT, _CONFIGURATION, listing(before.places))
    if head.returncode or configuration.returncode or changes.returncode:
        return None
    tree, commit, subject = _commit(head.stdout)
    answer = settled(repo, tree)
    if answer is None or not answer.stages:
        return None
    rows = [Standing(each.name, "fresh", "", each.output, each.total, each.total, 0) for each in answer.stages]
    changed = pending_among(changes.stdout, set(answer.places))
    if json:
        return lambda: show_json(standing_document(commit.hex(), rows, changed=changed))
    repo.know_configuration(configuration.stdout)
    branch = short.stdout.decode().strip()
    lines = standing_lines(
        f"branch {branch}" if branch else "a detached HEAD",
        subject,
        rows,
        changed=changed,
        installed=repo.has_filter,
    )

    def say() -> None:
        show("\n".join(lines))
        for notice in answer.notices:
            talk(f"note: {safe(notice)}")

    return say


def _run() -> Say | None:
    repo = Repository.discover()
    before = noted(repo)
    if repo.worktree is None or before is None:
        return None
    lease = Lease(repo)
    with lease.acquire() as mine:
        if not mine:
            return None
        head, branch, configuration, stored, changes = repo.git.together(
            _HEAD, _BRANCH, _CONFIGURATION, _STORED, listing(before.places)
        )
        if any(done.returncode for done in (head, configuration, stored, changes)):
            return None
        repo.know_configuration(configuration.stdout)
        tree, commit, _ = _commit(head.stdout)
        answer = settled(repo, tree)
        if answer is None:
            return None
        name = branch.stdout.decode().strip() or None
        if run_idle(repo, lease, answer, tip=commit, branch=name, stored=bool(stored.stdout)) is None:
            return None
    if lease.requests():
        from gitml.pipeline.launch import start_runner  # noqa: PLC0415 - hardly ever

        start_runner(repo)  # a commit was made meanwhile, and its hook relied on us
    found = answer
    waiting = pending_among(changes.stdout, set(answer.places))

    def say() -> None:
        if waiting:
            talk(f"note: {what_waits(waiting)}")
        for notice in found.notices:
            talk(f"note: {safe(notice)}")
        reports = (StageReport(each.name, "fresh", total=each.total, cached=each.total) for each in found.stages)
        show("\n".join([*map(report_line, reports), "nothing to commit"]))

    return say


def _commit(shown: bytes) -> tuple[Oid, Oid, str]:
    """Tree, commit, and the line that stands for it; raise `ValueError` if that is not what is there."""
    tree, commit, subject = os.fsdecode(shown).rstrip("\n").split("\n")
    return Oid.parse(tree), Oid.parse(commit), subject
