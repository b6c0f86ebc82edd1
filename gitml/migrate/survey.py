"""What a migration would find: large files of each kind, by pattern."""

from collections.abc import Mapping, Sequence

from gitml.git.attributes import filters_by_files
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.migrate.attributes import ML, line
from gitml.migrate.convert import Form
from gitml.migrate.dvc import DvcCache, DvcRecipe, cache_places
from gitml.migrate.lfs import MAX_POINTER_SIZE
from gitml.migrate.recipe import ATTRIBUTES, Blob, classify, sizes_of
from gitml.migrate.selection import Choice, distinct_files, select
from gitml.oid import Oid
from gitml.provenance.codec import text_of
from gitml.record import field, record
from gitml.store.content import SMALL

_KINDS = {Form.PLAIN: "git", Form.GITML: "gitml", Form.LFS: "lfs"}


@record(frozen=False)
class Found:
    """Files of one kind that a pattern matches: how many paths, how many versions in all, their bytes."""

    kind: str
    """'git', 'lfs', 'dvc', or 'gitml' for what needs no migration."""
    pattern: str
    files: set[bytes] = field(default_factory=set)
    versions: int = 0
    size: int = 0


def look(
    repo: Repository, choice: Choice, include: Sequence[str], exclude: Sequence[str], above: int | None
) -> list[Found]:
    """What the chosen commits (of no choice: the newest) hold, most bytes first.

    Plain files of fewer than 64 KiB, or of not more than `above` bytes, are left out: they stay as they are.
    Without `include` the patterns are the files' extensions.
    """
    with GitOdb(repo.git, repo.format) as odb:
        if choice.is_history:
            roots = [commit.tree for commit in select(repo, odb, choice).commits.values()]
        else:
            roots = [repo.resolve("HEAD^{tree}")]
        limit = max(above if above is not None else 0, SMALL - 1)
        versions = _versions(repo, odb, roots, limit)
        versions.update(_dvc_versions(repo, odb, roots))
    patterns = _patterns(repo, sorted({path for _, path in versions}), include, exclude)
    found: dict[tuple[str, str], Found] = {}
    counted: set[tuple[str, str, bytes]] = set()
    for (kind, path), contents in versions.items():
        if path not in patterns:
            continue
        pattern = patterns[path]
        group = found.setdefault((kind, pattern), Found(kind, pattern))
        group.files.add(path)
        for key, size in contents.items():
            if (kind, pattern, key) not in counted:
                counted.add((kind, pattern, key))
                group.versions += 1
                group.size += size
    return sorted(found.values(), key=lambda each: (-each.size, each.kind, each.pattern))


_Versions = dict[tuple[str, bytes], dict[bytes, int]]
"""Kind and path; to each content there its size."""


def _versions(repo: Repository, odb: GitOdb, roots: Sequence[Oid], limit: int) -> _Versions:
    placed: dict[bytes, dict[Oid, None]] = {}
    for path, oid in distinct_files(odb, roots):
        placed.setdefault(path, {})[oid] = None
    sizes = sizes_of(repo, (oid for oids in placed.values() for oid in oids))
    blobs: dict[Oid, Blob] = {}
    found: _Versions = {}
    for path, oids in placed.items():
        for oid in oids:
            size = sizes.get(oid, 0)
            if MAX_POINTER_SIZE < size <= limit:
                continue
            blob = blobs.get(oid) or classify(odb, oid, size)
            blobs[oid] = blob
            if blob.form is not Form.PLAIN or blob.size > limit:
                found.setdefault((_KINDS[blob.form], path), {})[oid] = blob.size
    return found


def _dvc_versions(repo: Repository, odb: GitOdb, roots: Sequence[Oid]) -> _Versions:
    top = repo.worktree or repo.git_dir
    recipe = DvcRecipe(repo, odb, DvcCache(cache_places([top])))
    found: _Versions = {}
    sizes: dict[bytes, int] = {}
    for content in recipe.contents(roots, lambda *_: None):
        if content.key not in sizes:
            sizes[content.key] = recipe.size(content)
        found.setdefault(("dvc", content.path), {})[content.key] = sizes[content.key]
    return found


def _patterns(
    repo: Repository, paths: Sequence[bytes], include: Sequence[str], exclude: Sequence[str]
) -> Mapping[bytes, str]:
    """The pattern that each path counts under; paths that are not asked for are left out."""
    chosen = {path: _extension(path) for path in paths}
    if include:
        chosen = {}
        for pattern in include:
            rule = {ATTRIBUTES: line(pattern, ML) + b"\n"}
            for path in filters_by_files(repo, rule, paths):
                chosen.setdefault(path, pattern)
    if exclude:
        rules = b"".join(line(pattern, ML) + b"\n" for pattern in exclude)
        for path in filters_by_files(repo, {ATTRIBUTES: rules}, paths):
            chosen.pop(path, None)
    return chosen


def _extension(path: bytes) -> str:
    name = path.rpartition(b"/")[2]
    stem, dot, extension = name.rpartition(b".")
    return text_of(b"*." + extension if dot and stem else name)
