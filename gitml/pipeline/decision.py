"""What people decide about results: an output is accepted as it stands, or stays as it is for a while.

A decision is a member of the stage's record, so it is in the tree, in the diff that a reviewer sees, and in every
clone. It comes as a commit of the person who decided.
"""

from collections.abc import Callable, Mapping, Sequence

from gitml.errors import BusyError, UserError
from gitml.git.commits import Signature, parse_signature
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.publish import Published, finish_interrupted, publish
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.plan import StageStatus, State, build_record
from gitml.pipeline.survey import Survey, Surveyor
from gitml.provenance.record import Record, RecordHold, format_record, record_path
from gitml.record import record, replace
from gitml.store.tree import MODE_FILE, Entry, edit_tree, empty_tree


@record
class Decided:
    """The commit of a decision, and the stages it is about."""

    commit: Oid
    stages: tuple[str, ...]


def accept(
    repo: Repository, odb: GitOdb, surveyor: Surveyor, names: Sequence[str], reason: str, *, wait: float
) -> Decided | None:
    """Make what stands at the outputs of stages the result for their inputs; without names of all edited ones.

    None if there is nothing to accept. Raise `UserError` for a named stage of which nothing can be accepted,
    `BusyError` if the commit cannot be made within `wait` seconds.
    """

    def records(survey: Survey) -> Mapping[str, Record]:
        found: dict[str, Record] = {}
        for status in survey.statuses:
            name = status.stage.name
            if name in names if names else status.state is State.EDITED:
                _check_acceptable(status, empty_tree(odb.format))
                made = build_record(status, survey.snapshot, status.output, 0)
                found[name] = replace(made, accepted=reason)
        return found

    return _decide(repo, odb, surveyor, "accept", reason, records, wait)


def _check_acceptable(status: StageStatus, empty: Oid) -> None:
    name = status.stage.name
    if status.state is State.FRESH:
        raise UserError(
            f"'{name}' is fresh: what is committed there is its result",
            hint="an edit counts once it is committed: git commit first",
        )
    if status.pinned:
        raise UserError(f"'{name}' is on hold", hint=f"git ml unhold {name}")
    if status.key is None:
        raise UserError(f"'{name}' {status.reason}", hint="bring what it reads up to date first: git ml run")
    if status.output == empty:
        raise UserError(f"'{name}' has no output that could be accepted", hint=f"git ml run {name}")


def hold(
    repo: Repository,
    odb: GitOdb,
    surveyor: Surveyor,
    names: Sequence[str],
    reason: str,
    *,
    until: str = "",
    while_inputs_stay: bool = False,
    wait: float,
) -> Decided | None:
    """Hold the outputs of stages as they stand, until a day (`YYYY-MM-DD`) or while their keys stay.

    None if all of them are held so already. Raises as `accept` does.
    """

    def records(survey: Survey) -> Mapping[str, Record]:
        found: dict[str, Record] = {}
        for status in survey.statuses:
            name, record = status.stage.name, status.record
            if name not in names:
                continue
            if record is None or record.output_tree != status.output:
                what = "was edited" if record is not None else "has no result yet"
                raise UserError(f"'{name}' {what}, so there is no result to hold", hint=f"git ml accept {name} first")
            if while_inputs_stay and status.key is None:
                raise UserError(f"'{name}' {status.reason}", hint="bring what it reads up to date first: git ml run")
            key = status.key if while_inputs_stay and status.key is not None else ""
            held = RecordHold(reason=reason, until=until, key=key)
            if record.hold != held:
                found[name] = replace(record, hold=held)
        return found

    return _decide(repo, odb, surveyor, "hold", reason, records, wait)


def unhold(repo: Repository, odb: GitOdb, surveyor: Surveyor, names: Sequence[str], *, wait: float) -> Decided | None:
    """End holds that `hold` made, of these stages or of all; None if there are none. Raises as `accept` does."""

    def records(survey: Survey) -> Mapping[str, Record]:
        return {
            status.stage.name: replace(status.record, hold=None)
            for status in survey.statuses
            if status.record is not None and status.record.hold and (not names or status.stage.name in names)
        }

    return _decide(repo, odb, surveyor, "unhold", "", records, wait)


def _decide(
    repo: Repository,
    odb: GitOdb,
    surveyor: Surveyor,
    verb: str,
    reason: str,
    records: Callable[[Survey], Mapping[str, Record]],
    wait: float,
) -> Decided | None:
    """Commit records on the branch that is checked out. The caller holds the lease."""
    finish_interrupted(repo, odb)
    branch = repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip()
    if not branch:
        raise UserError("HEAD is detached, there is no branch to commit on", hint="git switch -c NAME")
    who = _signature(repo, "AUTHOR"), _signature(repo, "COMMITTER")
    tip = repo.resolve(f"{branch}^{{commit}}")
    survey = surveyor.survey(tip)
    changed = records(survey)
    if not changed:
        return None
    with PackWriter(repo.objects_dir, odb.format, reader=odb) as pack:
        changes: dict[bytes, Entry | None] = {
            record_path(name): Entry(MODE_FILE, pack.write("blob", format_record(record)))
            for name, record in changed.items()
        }
        tree = edit_tree(pack, pack, survey.snapshot.root, changes)
        pack.finish()
    message = f"gitml: {verb} {', '.join(changed)}\n" + (f"\n{reason}\n" if reason else "")
    outcome = publish(repo, odb, branch, tip, tree, message.encode(), list(changes), wait=wait, who=who)
    if isinstance(outcome, Published):
        return Decided(outcome.commit, tuple(changed))
    what = getattr(outcome, "reason", "the branch was moved by another process")
    raise BusyError(f"cannot commit now: {what}", hint="nothing was changed; try again")


def _signature(repo: Repository, role: str) -> Signature:
    """Who git says is author or committer, now; raise `UserError` if it does not know."""
    done = repo.git.run("var", f"GIT_{role}_IDENT", check=False)
    if done.returncode != 0:
        raise UserError(
            "git does not know who you are",
            hint="git config --global user.name NAME; git config --global user.email ADDRESS",
        )
    return parse_signature(done.stdout.strip())
