"""What a person reviews before hooks may run it: commands and code, who vouches for them, what is new in them."""

import os
from collections.abc import Iterable, Iterator, Sequence

from gitml.errors import GitmlError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.code import code_files
from gitml.pipeline.key import command_digest, command_fields
from gitml.pipeline.loading import load_pipeline
from gitml.pipeline.locks import lock_files
from gitml.pipeline.plan import StageStatus
from gitml.pipeline.spec.model import Stage
from gitml.pipeline.survey import Survey, Surveyor
from gitml.pipeline.trust import Trust
from gitml.provenance.codec import Json
from gitml.provenance.record import RECORDS
from gitml.record import record
from gitml.store.tree import Snapshot

_MOST_COMMITS = 200
"""Commits that are searched for the state that was reviewed last."""


@record(kw_only=True)
class Review:
    """The command and the code of one stage."""

    stage: str
    digest: str
    reviewed: bool
    """Whether hooks may run it at the level of this clone."""
    fields: dict[str, Json]
    """What the specification says of the command, as it is hashed."""
    code: tuple[bytes, ...]
    """Repository paths of the code."""
    environment: tuple[bytes, ...]
    """Repository paths of the files that fix the environment."""
    before: "Review | None" = None
    """The same stage as it was reviewed last; None if it never was, or history does not reach it."""
    since: Oid | None = None
    """The newest commit that has it so."""


def reviews(repo: Repository, surveyor: Surveyor, survey: Survey, trust: Trust) -> list[Review]:
    """What hooks would run at a commit, stage by stage, each with what was reviewed last."""
    pipeline = survey.pipeline
    if pipeline is None:
        return []
    found = []
    for stage in pipeline.stages:
        here = _review(stage, survey.snapshot, [each.output for each in pipeline.stages], trust)
        if here.reviewed:
            found.append(here)
            continue
        earlier = next(_reviewed_before(repo, surveyor, survey.commit, stage.file, here, trust), None)
        if earlier is None:
            found.append(here)
            continue
        commit, before = earlier
        found.append(
            Review(
                stage=here.stage, digest=here.digest, reviewed=False, fields=here.fields, code=here.code,
                environment=here.environment, before=before, since=commit,
            )
        )  # fmt: skip
    return found


def _review(stage: Stage, snapshot: Snapshot, outputs: Sequence[bytes], trust: Trust) -> Review:
    code = code_files(stage, snapshot, outputs)
    locks = lock_files(stage, code, snapshot)
    digest = command_digest(stage, code, locks)
    return Review(
        stage=stage.name,
        digest=digest,
        reviewed=trust.has(digest),
        fields=command_fields(stage),
        code=tuple(dict.fromkeys(file.source for file in code)),
        environment=tuple(path for path, _ in locks),
    )


def _reviewed_before(
    repo: Repository, surveyor: Surveyor, start: Oid, file: bytes, here: Review, trust: Trust
) -> Iterator[tuple[Oid, Review]]:
    """The commits whose command of a stage was reviewed, newest first; `file` has its specification."""
    paths = dict.fromkeys([b"pipeline.json", file, *here.code, *here.environment])
    listed = repo.git.lines(
        "log", f"--max-count={_MOST_COMMITS}", "--format=%H%n%P", start.hex(), "--", *map(_literal, paths)
    )
    # a change was reviewed or not; what stood before the first one listed may stand in its parent only
    for commit in dict.fromkeys(Oid.parse(name) for line in listed for name in line.split()):
        try:
            snapshot = Snapshot(surveyor.odb, surveyor.tree_of(commit))
            pipeline = load_pipeline(snapshot)
            if pipeline is None:
                continue
            stage = pipeline.stage(here.stage)
            before = _review(stage, snapshot, [each.output for each in pipeline.stages], trust)
        except (GitmlError, KeyError):
            continue
        if trust.lists(before.digest):
            yield commit, before


def code_diff(repo: Repository, review: Review, commit: Oid) -> list[str]:
    """The lines of `git diff` of code and environment since the last review; raise `ValueError` if there was none."""
    if review.before is None or review.since is None:
        raise ValueError(f"stage '{review.stage}' was never reviewed")
    before = review.before
    paths = sorted({*review.code, *before.code, *review.environment, *before.environment})
    if not paths:
        return []
    return repo.git.output(
        "diff", "--no-color", "--no-ext-diff", "--no-textconv", review.since.hex(), commit.hex(), "--",
        *map(_literal, paths),
    ).decode("utf-8", "replace").splitlines()  # fmt: skip


def is_vouched_for(repo: Repository, commit: Oid, statuses: Iterable[StageStatus]) -> bool:
    """Whether the last commit that changed anything but results has a good signature, as git verifies it.

    A signature is for the whole tree of its commit, so it stands for everything below that is still the same.
    """
    results = [*(os.fsdecode(status.stage.output) for status in statuses), os.fsdecode(RECORDS)]
    others = [":(top)", *(f":(top,literal,exclude){path}" for path in results)]
    done = repo.git.run("log", "-1", "--format=%G?", commit.hex(), "--", *others, check=False)
    return done.returncode == 0 and done.stdout.strip() == b"G"


def _literal(path: bytes) -> str:
    return f":(top,literal){os.fsdecode(path)}"
