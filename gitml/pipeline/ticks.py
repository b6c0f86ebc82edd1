"""Committing the ticks of cron inputs: empty files in their directories, one commit for all that are due.

The commit depends on the tree before it and on the ticks alone, so two clones that tick make the same one.
"""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from gitml.errors import BusyError, GitmlError, UserError
from gitml.git.commits import Signature, parse_commit
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.publish import Published, finish_interrupted, publish
from gitml.git.repository import Repository
from gitml.git.signing import COMMITTER
from gitml.oid import Oid
from gitml.pipeline import FILE
from gitml.pipeline.loading import load_pipeline
from gitml.pipeline.schedule import due, last_tick, parse_moment, parse_schedule, tick_name
from gitml.pipeline.spec import Pipeline
from gitml.pipeline.spec.model import PfsInput, Stage
from gitml.record import record
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, Snapshot, edit_tree, format_tree

_MOST_COMMITS = 1000
"""Changes of the specification that are looked through for the one that brought a cron input."""


@record
class CronLine:
    """A cron input as it stands."""

    stage: str
    name: str
    path: bytes
    spec: str
    last: datetime | None
    """The newest tick in the tree."""
    due: tuple[datetime, ...]
    next: datetime | None
    """The first tick that is still to come, None if there is none."""


@record
class Ticked:
    """A commit of ticks on a branch (a full ref name)."""

    commit: Oid
    branch: str
    ticks: tuple[tuple[str, datetime], ...]
    """Stage and time of each."""


class Clock:
    """The cron inputs of one repository at the branch that is checked out."""

    def __init__(self, repo: Repository, odb: GitOdb) -> None:
        self._repo = repo
        self._odb = odb

    def lines(self, tip: Oid, now: datetime) -> list[CronLine]:
        """Every cron input of the pipeline at `tip`; raise `SpecError` if that cannot be read."""
        snapshot = self._snapshot(tip)
        return [self._line(tip, snapshot, stage, leaf, now) for stage, leaf in _cron_inputs(load_pipeline(snapshot))]

    def tick(self, now: datetime, *, forced: Collection[str] = (), wait: float) -> Ticked | None:
        """Commit the ticks that are due, and one at `now` for the stages `forced`; None if there are none.

        The caller holds the lease. Raise `BusyError` if the commit cannot be made within `wait` seconds; nothing is
        lost, the ticks are still due.
        """
        finish_interrupted(self._repo, self._odb)
        branch = self._repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip()
        if not branch:
            raise UserError("HEAD is detached, there is no branch to commit on", hint="git switch NAME")
        tip = self._repo.resolve(f"{branch}^{{commit}}")
        snapshot = self._snapshot(tip)
        ticks: list[tuple[str, datetime]] = []
        changes: dict[bytes, Entry | None] = {}
        now = now.replace(microsecond=0)
        with PackWriter(self._repo.objects_dir, self._odb.format, reader=self._odb) as pack:
            empty = Entry(MODE_FILE, pack.write("blob", b""))
            for stage, leaf in _cron_inputs(load_pipeline(snapshot)):
                line = self._line(tip, snapshot, stage, leaf, now)
                moments = sorted({*line.due, *({now} - {line.last} if stage.name in forced else ())})
                if not moments:
                    continue
                ticks += [(stage.name, moment) for moment in moments]
                if leaf.cron is not None and leaf.cron.overwrite:
                    tree = pack.write("tree", format_tree([(tick_name(moments[-1]), empty)]))
                    changes[leaf.path] = Entry(MODE_TREE, tree)
                else:
                    changes |= {leaf.path + b"/" + tick_name(moment): empty for moment in moments}
            if not ticks:
                return None
            tree = edit_tree(pack, pack, snapshot.root, changes)
            pack.finish()
        who = Signature(*COMMITTER, int(max(moment for _, moment in ticks).timestamp()), "+0000")
        names = ", ".join(dict.fromkeys(name for name, _ in ticks))
        message = f"gitml: tick {names}\n".encode()
        outcome = publish(self._repo, self._odb, branch, tip, tree, message, list(changes), wait=wait, who=(who, who))
        if not isinstance(outcome, Published):
            what = getattr(outcome, "reason", "the branch was moved by another process")
            raise BusyError(f"cannot commit ticks now: {what}", hint="they stay due: git ml cron")
        return Ticked(outcome.commit, branch, tuple(ticks))

    def _snapshot(self, commit: Oid) -> Snapshot:
        return Snapshot(self._odb, parse_commit(self._odb.read(commit)[1]).tree)

    def _line(self, tip: Oid, snapshot: Snapshot, stage: Stage, leaf: PfsInput, now: datetime) -> CronLine:
        assert leaf.cron is not None
        schedule = parse_schedule(leaf.cron.spec)
        last = last_tick(snapshot.list(leaf.path))
        found = due(schedule, last or self._start(tip, stage, leaf), now)
        coming = next((tick for tick in schedule.after(max(now, last or now))), None)
        if schedule.every:
            coming = next(schedule.after(found[-1] if found else last or self._start(tip, stage, leaf)), None)
        return CronLine(stage.name, leaf.name, leaf.path, leaf.cron.spec, last, tuple(found), coming)

    def _start(self, tip: Oid, stage: Stage, leaf: PfsInput) -> datetime:
        """From when on an input without a tick ticks: what `start` says, else the commit that brought the input."""
        assert leaf.cron is not None
        if leaf.cron.start:
            return parse_moment(leaf.cron.start)
        since = parse_commit(self._odb.read(tip)[1]).committer.time
        files = {FILE, stage.where.partition(": ")[0]}
        paths = [f":(top,literal){name}" for name in sorted(files)]
        log = self._repo.git.lines("log", "--format=%H", f"-{_MOST_COMMITS}", "--first-parent", tip.hex(), "--", *paths)
        for text in log:
            commit = Oid.parse(text)
            try:
                known = _cron_inputs(load_pipeline(self._snapshot(commit)))
            except GitmlError:
                break
            if not any((one.name, each.path) == (stage.name, leaf.path) for one, each in known):
                break
            since = parse_commit(self._odb.read(commit)[1]).committer.time
        return datetime.fromtimestamp(since, UTC)


def _cron_inputs(pipeline: Pipeline | None) -> Iterator[tuple[Stage, PfsInput]]:
    for stage in pipeline.stages if pipeline is not None else ():
        for leaf in dict.fromkeys(stage.inputs):
            if leaf.cron is not None:
                yield stage, leaf
