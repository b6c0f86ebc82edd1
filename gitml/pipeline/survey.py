"""Where a commit stands: its pipeline, and the state of every stage by content."""

from dataclasses import dataclass
from functools import lru_cache

from gitml.errors import GitmlError
from gitml.git.commits import parse_commit
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.code import code_files
from gitml.pipeline.key import command_digest
from gitml.pipeline.knowledge import RepositoryKnowledge
from gitml.pipeline.loading import load_asked, load_pipeline
from gitml.pipeline.plan import StageStatus, State, evaluate, key_at
from gitml.pipeline.settled import TracedSnapshot, note_settled
from gitml.pipeline.spec import Pipeline
from gitml.store.tree import Snapshot


@dataclass(frozen=True, slots=True)
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
            for status in self.statuses
        )


class Surveyor:
    """Evaluates commits of one repository; keeps what it has read."""

    def __init__(self, repo: Repository, odb: GitOdb, cache: RunCache) -> None:
        self._repo = repo
        self.odb = odb
        self.cache = cache
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
        statuses = () if pipeline is None else tuple(evaluate(pipeline, snapshot, self.knowledge(commit)))
        survey = Survey(commit, snapshot, pipeline, statuses)
        if self._repo.worktree is not None and survey.follows_from_tree:
            note_settled(self._repo, snapshot)
        return survey

    def command_digests(self, commit: Oid) -> dict[str, str]:
        """Stage name to the digest of its command and code at `commit`; empty if its pipeline cannot be read."""
        snapshot = Snapshot(self.odb, self.tree_of(commit))
        try:
            pipeline = load_pipeline(snapshot)
            if pipeline is None:
                return {}
            outputs = [stage.output for stage in pipeline.stages]
            return {
                stage.name: command_digest(stage, code_files(stage, snapshot, outputs)) for stage in pipeline.stages
            }
        except GitmlError:
            return {}

    def own_digests(self, commit: Oid) -> set[str]:
        """The commands that `commit` itself brought in: those that none of its parents has for that stage."""
        here = self.command_digests(commit)
        parents = parse_commit(self.odb.read(commit)[1]).parents
        before = [self.command_digests(parent) for parent in parents if self.odb.lookup(parent.hex()) is not None]
        return {digest for name, digest in here.items() if all(there.get(name) != digest for there in before)}

    def _compute_key_at(self, commit: Oid, stage_name: str) -> str | None:
        snapshot = Snapshot(self.odb, self.tree_of(commit))
        try:
            pipeline = load_pipeline(snapshot)
        except GitmlError:
            return None
        return None if pipeline is None else key_at(pipeline, stage_name, snapshot)


def command_of(status: StageStatus) -> str:
    """The digest of a stage's command and code, which trust is given to."""
    return command_digest(status.stage, status.code)
