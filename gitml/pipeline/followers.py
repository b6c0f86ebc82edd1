"""Branches whose stages read another branch: which of them must be looked at when that one has moved."""

import json
from collections.abc import Iterator

from gitml.errors import GitmlError
from gitml.git.odb import GitOdb
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline import FILE
from gitml.store.tree import Snapshot

_HEADS = "refs/heads/"


def may_have_readers(repo: Repository, odb: GitOdb, branch: str) -> bool:
    """Whether another local branch could read `branch` (a full ref name); quick, and true too often.

    A specification that names the branch has its name in `pipeline.json`, or in a file that is listed there.
    """
    name = json.dumps(branch.removeprefix(_HEADS)).encode()
    seen: set[Oid] = set()
    for _, tip in _others(repo, branch):
        found = odb.lookup(f"{tip}:{FILE}")
        if found is None or found[0] in seen:
            continue
        seen.add(found[0])
        if name[1:-1] in found[2] or _lists_files(found[2]):
            return True
    return False


def _lists_files(text: bytes) -> bool:
    """Whether a pipeline names other files or may do so; `text` that is no JSON is not read for it."""
    try:
        document = json.loads(text)
    except ValueError:
        return True
    stages = document.get("stages") if isinstance(document, dict) else None
    return isinstance(stages, list) and any(
        isinstance(item, str) or (isinstance(item, dict) and "file" in item) for item in stages
    )


def readers(repo: Repository, odb: GitOdb, branch: str) -> list[str]:
    """The other local branches (full ref names) with a stage that reads `branch`, sorted."""
    from gitml.pipeline.loading import load_pipeline  # noqa: PLC0415 - hooks ask the other question, in a hurry

    name = branch.removeprefix(_HEADS)
    found = []
    for other, tip in _others(repo, branch):
        tree = odb.lookup(f"{tip}^{{tree}}")
        try:
            pipeline = load_pipeline(Snapshot(odb, tree[0])) if tree is not None else None
        except GitmlError:
            continue  # whoever works there is told
        if pipeline is not None and any(leaf.branch == name for stage in pipeline.stages for leaf in stage.inputs):
            found.append(other)
    return found


def _others(repo: Repository, branch: str) -> Iterator[tuple[str, Oid]]:
    for name, tip in sorted(list_refs(repo.git, _HEADS).items()):
        if name != branch:
            yield name, tip
