"""Checking specifications before they are committed: in the worktree, or as somebody hands them over.

Hidden here: which of the given files stands for `pipeline.json` and which for one that it lists.
"""

import os
from collections.abc import Iterator, Sequence

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.git.uncommitted import worktree_snapshot
from gitml.pipeline import FILE
from gitml.pipeline.loading import check_pipeline
from gitml.pipeline.params import read_params
from gitml.pipeline.spec.documents import parse_documents
from gitml.pipeline.spec.error import Place, SpecError, quoted
from gitml.pipeline.spec.load import is_wrapped
from gitml.pipeline.spec.model import Pipeline, Stage
from gitml.provenance.codec import text_of
from gitml.record import record
from gitml.store.tree import Snapshot

STDIN = b"<stdin>"
"""What a specification is called that came without a file."""


@record(kw_only=True)
class Validation:
    """What was found."""

    files: tuple[bytes, ...]
    """What was looked at."""
    stages: tuple[str, ...]
    """Names; empty if there is a problem."""
    problems: tuple[SpecError, ...]
    warnings: tuple[str, ...]


def validate(repo: Repository, files: Sequence[bytes], given: bytes | None = None) -> Validation:
    """Check `pipeline.json` of the worktree with all that it lists; with `files` (paths from the top) only these.

    A file that surrounds stages as `pipeline.json` does takes its place; any other is read as if `pipeline.json` listed
    it. `given` is the content of one more. Raise `UserError` for a file that is not there, or if there is none at all.
    """
    extra = {STDIN: given} if given is not None else {}
    snapshot = worktree_snapshot(repo, extra)
    asked = [*files, *extra]
    roots = [path for path in asked if _is_root(snapshot, path)]
    if len(roots) > 1:
        raise UserError(
            f"{quoted(roots[0])} and {quoted(roots[1])} both surround stages", hint="check one after the other"
        )
    root = roots[0] if roots else FILE.encode() if snapshot.get(FILE.encode()) is not None else None
    if root is None and not asked:
        raise UserError(f"there is no {FILE} here", hint="name the files to check: git ml validate FILE")
    checked = check_pipeline(snapshot, root, [path for path in asked if path not in roots])
    names = {os.fsdecode(path) for path in asked}
    problems = [*checked.problems, *(_parameters(checked.pipeline, snapshot) if checked.pipeline is not None else ())]
    told = [error for error in problems if not asked or roots or error.place.file in names]
    return Validation(
        files=tuple(asked) or (FILE.encode(),),
        stages=tuple(stage.name for stage in checked.pipeline.stages) if checked.pipeline and not told else (),
        problems=tuple(told),
        warnings=(*checked.notices, *(_images(checked.pipeline) if checked.pipeline is not None else ())),
    )


def _is_root(snapshot: Snapshot, path: bytes) -> bool:
    entry = snapshot.get(path)
    if entry is None or not entry.is_file:
        what = "is not here" if entry is None else "is not a file"
        hint = "files that git ignores are not looked at" if entry is None else "name the files in it"
        raise UserError(f"{quoted(path)} {what}", hint=hint)
    if path == FILE.encode():
        return True
    try:
        documents = parse_documents(snapshot.read(path), text_of(path))
    except SpecError:
        return False
    return len(documents) == 1 and is_wrapped(documents[0][0])


def _parameters(pipeline: Pipeline, snapshot: Snapshot) -> Iterator[SpecError]:
    """Parameters that stages select and that are not there."""
    for stage in pipeline.stages:
        file = stage.where.partition(": ")[0]
        try:
            read_params(stage, snapshot)
        except UserError as error:
            yield SpecError(Place(file), error.message, hint=error.hint)


def _images(pipeline: Pipeline) -> Iterator[str]:
    """One sentence for each image that may be another one tomorrow."""
    stages: dict[str, Stage] = {}
    for stage in pipeline.stages:
        if stage.transform.image is not None:
            stages.setdefault(stage.transform.image, stage)
    for image, stage in stages.items():
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@" not in image and tag in {"", "latest"}:
            which = "the tag" if tag else "no tag, which means"
            yield f"image {quoted(image)} has {which} 'latest', and may change: name a version ({stage.where})"
