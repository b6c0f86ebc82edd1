"""What a command works with, wired once: repository, objects, run cache, surveyor, lease."""

from collections.abc import Iterator
from contextlib import contextmanager

from gitml.errors import UserError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.lease import Lease
from gitml.pipeline.shown import Standing
from gitml.pipeline.spec import Pipeline
from gitml.pipeline.standing import standings
from gitml.pipeline.survey import Survey, Surveyor
from gitml.pipeline.trust import Trust
from gitml.record import record


@record
class Context:
    """One repository, open for one command."""

    repo: Repository
    odb: GitOdb
    cache: RunCache
    surveyor: Surveyor
    lease: Lease

    def commit(self, revision: str = "HEAD") -> Oid:
        """The commit that `revision` names; raise `UserError`."""
        if revision == "HEAD" and self.repo.try_resolve("HEAD") is None:
            bare = self.repo.worktree is None
            raise UserError("there is no commit yet", hint="push one to it" if bare else "git add . && git commit")
        return self.repo.resolve(f"{revision}^{{commit}}")

    def survey(self, revision: str = "HEAD") -> tuple[Survey, Pipeline]:
        """The evaluation of a commit that has a pipeline; raise `UserError` for one that has none."""
        survey = self.surveyor.survey(self.commit(revision))
        if survey.pipeline is None:
            raise UserError(
                f"there is no pipeline.json in {revision}",
                hint="write one (see docs/pipeline.md, or: git ml init --template classification), then commit it",
            )
        return survey, survey.pipeline

    def standings(self, survey: Survey) -> list[Standing]:
        """Where the stages stand; where hooks are set up also which commands they would not run."""
        return standings(
            survey, self.lease, Trust(self.repo) if self.repo.has_filter else None,
            branch=lambda: self.repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip(),
        )  # fmt: skip


@contextmanager
def open_context() -> Iterator[Context]:
    """Open the repository of the current directory."""
    repo = Repository.discover()
    with GitOdb(repo.git, repo.format) as odb:
        cache = RunCache(repo, odb)
        yield Context(repo, odb, cache, Surveyor(repo, odb, cache), Lease(repo))
