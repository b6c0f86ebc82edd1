"""Branches whose stages read another branch: which of them must be looked at when that one has moved."""

import json

from gitml.errors import GitmlError
from gitml.git.odb import GitOdb
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline import FILE
from gitml.store.tree import Snapshot

_HEADS = "refs/heads/"


def branch_that_may_have_readers(repo: Repository, odb: GitOdb) -> str | None:
    """The branch checked out here (a full ref name) if another local branch could read it; quick, and true too often.

    A specification that names the branch has its name in `pipeline.json`, or in a file that is listed there.
    """
    # one question for all that hooks want to know, as they are in a hurry
    listed = repo.git.output("for-each-ref", "--format=%(HEAD) %(objectname) %(refname)", _HEADS).splitlines()
    here = next((line[2:].split(b" ", 1)[1] for line in listed if line.startswith(b"*")), None)
    if here is None:
        return None  # detached
    branch = here.decode("utf-8", "surrogateescape")
    name = json.dumps(branch.removeprefix(_HEADS)).encode()
    seen: set[Oid] = set()
    for line in listed:
        if line.startswith(b"*"):
            continue
        found = odb.lookup(f"{line[2:].split(b' ', 1)[0].decode()}:{FILE}")
        if found is None or found[0] in seen:
            continue
        seen.add(found[0])
        if name[1:-1] in found[2] or _lists_files(found[2]):
            return branch
    return None


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
    for other, tip in sorted(list_refs(repo.git, _HEADS).items()):
        if other == branch:
            continue
        tree = odb.lookup(f"{tip}^{{tree}}")
        try:
            pipeline = load_pipeline(Snapshot(odb, tree[0])) if tree is not None else None
        except GitmlError:
            continue  # whoever works there is told
        if pipeline is not None and any(leaf.branch == name for stage in pipeline.stages for leaf in stage.inputs):
            found.append(other)
    return found
