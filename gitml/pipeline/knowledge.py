"""What is known of earlier runs: the run cache, and the records in history.

Records in history count as runs too, so a clone without `refs/ml/runs` decides as every other does.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from gitml.errors import CorruptError
from gitml.git.commits import parse_commit
from gitml.git.odb import GitOdb
from gitml.git.remotes import fetching_remotes
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.failure import FailureInfo
from gitml.pipeline.sources import Source
from gitml.pipeline.spec.model import PfsInput
from gitml.pipeline.trigger import Since
from gitml.provenance.record import RECORDS, Record, parse_record, record_path
from gitml.record import record
from gitml.store.tree import MODE_TREE, Entry, Snapshot, empty_tree

_OID = re.compile(r"[0-9a-f]{4,64}")


@record
class RecordChange:
    """A commit that changed a stage's record, and what it says there (None: removed or unreadable)."""

    commit: Oid
    record: Record | None


KeyAt = Callable[[Oid, str], str | None]
"""(commit, stage name) → the stage key of that commit's own tree, None if it has none."""


class RepositoryKnowledge:
    """`plan.Knowledge` of one repository, as seen from one commit.

    History is read only when the record in the tree and the run cache leave a question open.
    """

    def __init__(self, repo: Repository, odb: GitOdb, cache: RunCache, commit: Oid, key_at: KeyAt) -> None:
        self._repo = repo
        self._odb = odb
        self._cache = cache
        self._commit = commit
        self._key_at = key_at
        self._history: dict[str, list[RecordChange]] = {}
        self._recorded: frozenset[bytes] | None = None
        """Every path of a record that a commit ever changed; None before it was asked for."""

    def outputs(self, stage_name: str, key: str) -> Sequence[Oid]:
        """The output trees of successful runs for this key."""
        known = dict.fromkeys(self._cache.outputs(key))
        for change in self.history(stage_name):
            if change.record is not None and change.record.key == key:
                known[change.record.output_tree] = None
        return list(known)

    def failed(self, stage_name: str, key: str) -> FailureInfo | None:  # noqa: ARG002 - the key says it all here
        """Why the stage failed for this key, if it did."""
        return self._cache.failure(key)

    def is_output(self, stage_name: str, oid: Oid) -> bool:
        """Whether `oid` is an output of any recorded run of the stage."""
        return self._cache.is_output(stage_name, oid) or any(
            change.record is not None and change.record.output_tree == oid for change in self.history(stage_name)
        )

    def is_made(self, stage_name: str, oid: Oid) -> bool:
        """Whether `oid` is an output of any recorded run, also of a stage that was called otherwise."""
        return (
            self.is_output(stage_name, oid)
            or self._cache.is_any_output(oid)
            or any(record.output_tree == oid for record in self._records())
        )

    def _records(self) -> Iterator[Record]:
        """The records in the tree; those of stages that are no more stay there."""
        snapshot = Snapshot(self._odb, parse_commit(self._odb.read(self._commit)[1]).tree)
        for path, entry in snapshot.walk(RECORDS):
            if entry.is_file:
                with suppress(CorruptError):
                    yield parse_record(snapshot.read(path))

    def rolled_back(self, stage_name: str, key: str, output: bytes) -> bool:
        """Whether what stands at `output` was changed after the result for `key` was committed, the inputs staying.

        The newest genuine change of the record decides, one whose key is the stage key of its own commit: a
        revert or a cherry-pick of a result brings a record that belongs to other inputs. Where nothing was ever put,
        as the output got another place, nothing was taken out.
        """
        for change in self.history(stage_name):
            record = change.record
            if record is None or record.output_path != output:
                continue
            if self._key_at(change.commit, stage_name) == record.key:
                return record.key == key
        return False

    def committed(self) -> int:
        """When the commit was made, seconds since the epoch."""
        return parse_commit(self._odb.read(self._commit)[1]).committer.time

    def tasks_done(self, task_keys: Sequence[str]) -> int:
        """How many of the tasks have their result in the cache."""
        known = self._cache.known(task_keys)
        return sum(key in known for key in task_keys)

    def source(self, leaf: PfsInput) -> Source | None:
        """The commit that an input with `branch` or `commit` is read from, None if it is not here.

        A branch is the local one, else that of the first remote that has it; a commit is a tag or an oid.
        """
        for name in self._revisions(leaf):
            found = self._odb.lookup(f"{name}^{{commit}}")
            if found is not None:
                return Source(found[0], parse_commit(found[2]).tree)
        return None

    def since(self, leaf: PfsInput, before: Entry, now: Entry) -> Since | None:
        """What happened to an input since it was `before`, None if history does not tell.

        What a run is about to commit, and history does not have yet, counts as one more change.
        """
        source = self.source(leaf) if leaf.is_elsewhere else None
        tip = source.commit if source is not None else self._commit
        path = leaf.path.decode("utf-8", "surrogateescape")
        absent = Entry(MODE_TREE, empty_tree(self._odb.format))
        times: list[int] = []
        for line in self._repo.git.lines("log", "--format=%H", tip.hex(), "--", f":(top,literal){path}"):
            commit = parse_commit(self._odb.read(Oid.parse(line))[1])
            entry = Snapshot(self._odb, commit.tree).get(leaf.path) or absent
            if not times and entry != now:
                times.append(self.committed())
            if entry == before:
                return Since(tuple(times), commit.committer.time)
            times.append(commit.committer.time)
        return None

    def _revisions(self, leaf: PfsInput) -> Iterator[str]:
        if leaf.commit:
            yield f"refs/tags/{leaf.commit}"
            if _OID.fullmatch(leaf.commit):
                yield leaf.commit
            return
        yield f"refs/heads/{leaf.branch}"
        for remote in fetching_remotes(self._repo):
            yield f"refs/remotes/{remote}/{leaf.branch}"

    def history(self, stage_name: str) -> list[RecordChange]:
        """The commits that changed the stage's record, newest first."""
        if stage_name not in self._history:
            found = [] if self._is_without_records(stage_name) else list(self._read_history(stage_name))
            self._history[stage_name] = found
        return self._history[stage_name]

    def _is_without_records(self, stage_name: str) -> bool:
        """Whether no commit has, or ever had, a record of the stage: asked once for all, from the second stage on.

        Where a record is in no difference between a commit and one of its parents, it is in no commit.
        """
        if not self._history:
            return False
        if self._recorded is None:
            listed = self._repo.git.output(
                "-c", "log.diffMerges=separate", "log", "-z", "--format=", "--full-history", "--no-renames", "-m",
                "--root", "--name-only", self._commit.hex(), "--", f":(top,literal){RECORDS.decode()}",
            )  # fmt: skip
            self._recorded = frozenset(listed.split(b"\0"))
        return record_path(stage_name) not in self._recorded

    def _read_history(self, stage_name: str) -> Iterator[RecordChange]:
        path = record_path(stage_name).decode()
        for line in self._repo.git.lines("log", "--format=%H", self._commit.hex(), "--", f":(top,literal){path}"):
            commit = Oid.parse(line)
            found = self._odb.lookup(f"{commit}:{path}")
            record = None
            if found is not None and found[1] == "blob":
                try:
                    record = parse_record(found[2])
                except CorruptError:
                    record = None  # a conflict or a hand edit: says nothing of a run
            yield RecordChange(commit, record)
