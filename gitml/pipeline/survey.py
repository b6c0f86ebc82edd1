"""Where a commit stands: its pipeline, and the state of every stage by content."""

import os
from functools import lru_cache

from gitml.errors import GitmlError
from gitml.git.commits import parse_commit
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline import FILE
from gitml.pipeline.cache import RunCache
from gitml.pipeline.code import code_files
from gitml.pipeline.key import command_digest
from gitml.pipeline.knowledge import RepositoryKnowledge
from gitml.pipeline.listed import Listings
from gitml.pipeline.loading import load_asked, load_pipeline
from gitml.pipeline.locks import lock_files
from gitml.pipeline.plan import StageStatus, State, evaluate, key_at
from gitml.pipeline.settled import Settled, SettledStage, TracedSnapshot, note_settled
from gitml.pipeline.spec import Pipeline
from gitml.pipeline.trust import Trust
from gitml.record import record
from gitml.store.tree import Snapshot


@record
class Survey:
    """One commit evaluated. Without `pipeline.json` there is no pipeline and there are no states."""

    commit: Oid
    snapshot: Snapshot
    pipeline: Pipeline | None
    statuses: tuple[StageStatus, ...]

    @property
    def follows_from_tree(self) -> bool:
        """Whether the tree alone tells that everything is fresh, without the run cache, history or other branches."""
        return all(
            status.state is State.FRESH
            and status.recorded
            and not any(leaf.follows_record for leaf in status.stage.inputs)
            and not status.stage.egress  # what was copied is not in the tree
            # a hold that has ended: whether it has is a question of when the commit was made
            and not (status.record is not None and status.record.hold is not None and status.record.hold.until)
            for status in self.statuses
        )

    @property
    def places(self) -> set[bytes]:
        """Files and directories that stages read or write and that people change, `pipeline.json` among them."""
        if self.pipeline is None:
            return set()
        places = {FILE.encode()}
        for status in self.statuses:
            stage = status.stage
            places |= {os.fsencode(stage.where.partition(": ")[0]), stage.output}
            places |= {file.source for file in status.code} | set(status.params.files)
            places |= {mount.source for mount in stage.code or ()}
            places |= {leaf.path for leaf in stage.inputs if leaf.upstream is None and not leaf.is_elsewhere}
        return places - {b""}

    def as_settled(self) -> Settled:
        """What is to be kept of an evaluation that found everything fresh."""
        return Settled(
            stages=tuple(
                SettledStage(status.stage.name, status.stage.output.decode("utf-8", "replace"), len(status.datums))
                for status in self.statuses
            ),
            notices=tuple(self.pipeline.notices) if self.pipeline is not None else (),
            places=tuple(sorted(self.places)),
        )


class Surveyor:
    """Evaluates commits of one repository; keeps what it has read."""

    def __init__(self, repo: Repository, odb: GitOdb, cache: RunCache) -> None:
        self._repo = repo
        self.odb = odb
        self.cache = cache
        self.listings = Listings()
        self._key_at = lru_cache(maxsize=1000)(self._compute_key_at)

    def tree_of(self, commit: Oid) -> Oid:
        """The tree of a commit."""
        return parse_commit(self.odb.read(commit)[1]).tree

    def knowledge(self, commit: Oid) -> RepositoryKnowledge:
        """What is known of earlier runs, as seen from `commit`."""
        return RepositoryKnowledge(self._repo, self.odb, self.cache, commit, self._key_at)

    def survey(self, commit: Oid) -> Survey:
        """Evaluate `commit`; raise `SpecError` if its pipeline cannot be read."""
        snapshot = TracedSnapshot(self.odb, self.tree_of(commit))
        pipeline = load_asked(snapshot)
        statuses = () if pipeline is None else self._evaluate(pipeline, snapshot, commit)
        survey = Survey(commit, snapshot, pipeline, statuses)
        if self._repo.worktree is not None and survey.follows_from_tree:
            note_settled(self._repo, snapshot, survey.as_settled())
        return survey

    def _evaluate(self, pipeline: Pipeline, snapshot: Snapshot, commit: Oid) -> tuple[StageStatus, ...]:
        return tuple(evaluate(pipeline, snapshot, self.knowledge(commit), self.listings))

    def command_digests(self, commit: Oid) -> dict[str, str]:
        """Stage name to the digest of what is trusted of it at `commit`; empty if its pipeline cannot be read."""
        return {name: digest for name, (digest, _) in self._commands(commit).items()}

    def _commands(self, commit: Oid) -> dict[str, tuple[str, str]]:
        """For each stage the digest of what is trusted of it, and the same as if no file fixed its environment."""
        snapshot = Snapshot(self.odb, self.tree_of(commit))
        try:
            pipeline = load_pipeline(snapshot)
            if pipeline is None:
                return {}
            outputs = [stage.output for stage in pipeline.stages]
            found = {}
            for stage in pipeline.stages:
                code = code_files(stage, snapshot, outputs)
                locks = lock_files(stage, code, snapshot)
                found[stage.name] = command_digest(stage, code, locks), command_digest(stage, code, ())
            return found
        except GitmlError:
            return {}

    def own_digests(self, commit: Oid, trust: Trust) -> set[str]:
        """The commands that `commit` itself brought in: those that none of its parents has for that stage.

        One lock file at the top belongs to every stage. So whoever changes only that vouches for a command of others
        no more than before: it has to be trusted in a parent.
        """
        parents = parse_commit(self.odb.read(commit)[1]).parents
        before = [self._commands(parent) for parent in parents if self.odb.lookup(parent.hex()) is not None]
        brought = set()
        for name, (digest, bare) in self._commands(commit).items():
            known = [there[name] for there in before if name in there]
            if any(each == digest for each, _ in known):
                continue
            same = [each for each, its_bare in known if its_bare == bare]
            if not same or any(map(trust.lists, same)):
                brought.add(digest)
        return brought

    def _compute_key_at(self, commit: Oid, stage_name: str) -> str | None:
        snapshot = Snapshot(self.odb, self.tree_of(commit))
        try:
            pipeline = load_pipeline(snapshot)
        except GitmlError:
            return None
        return None if pipeline is None else key_at(pipeline, stage_name, snapshot)


def command_of(status: StageStatus) -> str:
    """The digest of a stage's command, code and environment, which trust is given to."""
    return command_digest(status.stage, status.code, status.locks)
