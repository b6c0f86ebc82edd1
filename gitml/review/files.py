"""Which files changed, how large they are, and what they are to the pipeline."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from gitml.git.pointers import read_pointers
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.spec.model import Stage
from gitml.provenance.record import RECORDS
from gitml.record import record
from gitml.review.comparison import FileChange, Role
from gitml.review.stored import stored_bytes


@record
class _Raw:
    """A line of `git diff-tree`: None where there is no file."""

    old: Oid | None
    new: Oid | None
    old_path: bytes
    path: bytes


def file_changes(
    repo: Repository,
    old: Oid,
    new: Oid,
    stages: Sequence[Stage],
    code: Collection[bytes],
    pathspecs: Sequence[str] = (),
) -> list[FileChange]:
    """The files that differ between two trees, but for records, in the order of their paths.

    `code` are the paths that stages of either side name as code.
    """
    listed = [raw for raw in _changed(repo, old, new, pathspecs) if not raw.path.startswith(RECORDS + b"/")]
    blobs = {oid for raw in listed for oid in (raw.old, raw.new) if oid is not None}
    pointers = read_pointers(repo.git, blobs)
    sizes = {**_sizes(repo, blobs), **{oid: pointer.size for oid, pointer in pointers.items()}}
    stored = stored_bytes(
        repo, (raw.old for raw in listed if raw.old), (raw.new for raw in listed if raw.new), pointers, sizes
    )
    counted: set[Oid] = set()
    found = []
    for raw in listed:
        role, stage = _role(raw.path, stages, code)
        if role is Role.OTHER and (raw.old in pointers or raw.new in pointers):
            role = Role.DATA
        found.append(
            FileChange(
                path=raw.path, old_path=raw.old_path if raw.old_path != raw.path else None,
                new=raw.old is None, gone=raw.new is None, role=role, stage=stage,
                old_size=None if raw.old is None else sizes.get(raw.old),
                new_size=None if raw.new is None else sizes.get(raw.new),
                stored=None if raw.new is None else 0 if raw.new in counted else stored.get(raw.new),
            )
        )  # fmt: skip
        if raw.new is not None:
            counted.add(raw.new)
    return found


def _changed(repo: Repository, old: Oid, new: Oid, pathspecs: Sequence[str]) -> Iterator[_Raw]:
    limits = ["--", *pathspecs] if pathspecs else []
    output = repo.git.output("diff-tree", "-r", "-z", "-M", "--raw", "--no-abbrev", old.hex(), new.hex(), *limits)
    fields = iter(output.split(b"\0"))
    for meta in fields:
        if not meta.startswith(b":"):
            continue
        old_mode, new_mode, old_oid, new_oid, status = meta[1:].split(b" ")
        first = next(fields)
        second = next(fields) if status[:1] in b"RC" else first
        yield _Raw(_blob(old_mode, old_oid), _blob(new_mode, new_oid), first, second)


def _blob(mode: bytes, oid: bytes) -> Oid | None:
    return None if mode in (b"000000", b"160000") else Oid.parse(oid)


def _sizes(repo: Repository, blobs: Iterable[Oid]) -> dict[Oid, int]:
    asked = b"".join(oid.hex().encode() + b"\n" for oid in blobs)
    if not asked:
        return {}
    lines = repo.git.output("cat-file", "--batch-check", input=asked, env={"GIT_NO_LAZY_FETCH": "1"}).splitlines()
    fields = (line.split() for line in lines)
    return {Oid.parse(each[0]): int(each[2]) for each in fields if len(each) == 3}


def _role(path: bytes, stages: Sequence[Stage], code: Collection[bytes]) -> tuple[Role, str | None]:
    for stage in stages:
        if _is_in(path, stage.output):
            return Role.OUTPUT, stage.name
    if path in code:
        return Role.CODE, None
    if any(path == ref.path for stage in stages for ref in stage.params):
        return Role.PARAMS, None
    if any(_is_in(path, leaf.path) for stage in stages for leaf in stage.inputs):
        return Role.DATA, None
    return Role.OTHER, None


def _is_in(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory + b"/") or not directory


def by_role(files: Iterable[FileChange]) -> Mapping[Role, list[FileChange]]:
    """The files of each role that has any, in the order of `Role`."""
    found: dict[Role, list[FileChange]] = {role: [] for role in Role}
    for file in files:
        found[file.role].append(file)
    return {role: listed for role, listed in found.items() if listed}
