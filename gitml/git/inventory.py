"""Which files of a commit are pointers, and whether their content is here."""

import os
import time
from collections.abc import Iterable, Sequence

from gitml.errors import CorruptError, UserError
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex
from gitml.git.pointers import LARGEST, read_pointers
from gitml.git.promisor import absent_at
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers
from gitml.oid import Oid
from gitml.record import record
from gitml.store.manifest import ManifestError, missing_parts, read_manifest
from gitml.store.odb import MissingObjectError
from gitml.store.pointer import Pointer, PointerError, is_pointer, parse_pointer


@record
class TrackedFile:
    """A file stored as chunks. `size` in bytes and `sha256` are those of the content."""

    path: str
    size: int
    sha256: str
    chunks: int
    here: bool
    manifest: Oid | None = None
    """None if the pointer cannot be read."""
    malformed: str = ""
    """Why the pointer or its manifest cannot be read; empty if it can."""


def pointer_candidates(repo: Repository, commit: Oid, pathspecs: Sequence[str] = ()) -> list[tuple[bytes, Oid]]:
    """Path and blob of every file of a commit that is small enough to be a pointer, sound or not."""
    listing = repo.git.output("ls-tree", "-r", "-z", "-l", "--full-tree", commit.hex())
    wanted = tuple(os.fsencode(os.path.normpath(path)) for path in pathspecs)
    found: list[tuple[bytes, Oid]] = []
    for line in listing.split(b"\0"):
        meta, _, path = line.partition(b"\t")
        fields = meta.split()
        if len(fields) == 4 and fields[1] == b"blob" and int(fields[3]) <= LARGEST:
            inside = not wanted or any(path == each or path.startswith(each + b"/") or each == b"." for each in wanted)
            if inside:
                found.append((path, Oid.parse(fields[2])))
    return found


def contents_at(
    repo: Repository, odb: GitOdb, commits: Iterable[Oid], pathspecs: Sequence[str] = ()
) -> dict[tuple[bytes, Oid], Pointer]:
    """The contents that commits refer to, by path and manifest; raise `UserError` for a path none of them has."""
    top = _from_top(repo, pathspecs)
    listed = list(commits)
    for path, given in zip(top, pathspecs, strict=True):
        if not any(odb.lookup(f"{commit}:{'' if path == '.' else path}") for commit in listed):
            raise UserError(f"there is no '{given}' in {'this commit' if len(listed) == 1 else 'these commits'}")
    found = dict.fromkeys(each for commit in listed for each in pointer_candidates(repo, commit, top))
    pointers = read_pointers(repo.git, (oid for _, oid in found))
    return {(path, pointers[oid].manifest): pointers[oid] for path, oid in found if oid in pointers}


def recent_commits(repo: Repository, days: int) -> list[Oid]:
    """HEAD, and the tips of all branches, also those of remotes, that are at most `days` old."""
    lines = repo.git.lines("for-each-ref", "--format=%(objectname) %(committerdate:unix)", "refs/heads", "refs/remotes")
    oldest = time.time() - days * 86400
    pairs = (line.split() for line in lines)
    tips = [Oid.parse(pair[0]) for pair in pairs if len(pair) == 2 and int(pair[1]) >= oldest]
    head = repo.try_resolve("HEAD")
    return list(dict.fromkeys([*([head] if head is not None else []), *tips]))


def tracked_files(repo: Repository, odb: GitOdb, commit: Oid, pathspecs: Sequence[str] = ()) -> list[TrackedFile]:
    """The files of `commit` that are pointers; raise `UserError` for a path that names nothing there."""
    top = _from_top(repo, pathspecs)
    for path, given in zip(top, pathspecs, strict=True):
        if odb.lookup(f"{commit}:{'' if path == '.' else path}") is None:
            raise UserError(f"there is no '{given}' in this commit")
    index = ObjectIndex(repo.objects_dir, repo.format)
    texts = [(path, odb.read(oid)[1]) for path, oid in pointer_candidates(repo, commit, top)]
    found = [_inspect(odb, index, path, text) for path, text in texts if is_pointer(text)]
    if not all(file.here for file in found) and adopt_leftovers(repo, odb):
        index.refresh()
        found = [_inspect(odb, index, path, text) for path, text in texts if is_pointer(text)]
    return found


def _from_top(repo: Repository, paths: Sequence[str]) -> list[str]:
    if repo.worktree is None:
        return list(paths)
    return [os.path.relpath(os.path.realpath(path), os.path.realpath(repo.worktree)) for path in paths]


def _inspect(odb: GitOdb, index: ObjectIndex, path: bytes, data: bytes) -> TrackedFile:
    name = os.fsdecode(path)
    try:
        pointer = parse_pointer(data)
    except PointerError as error:
        return TrackedFile(name, 0, "", 0, here=False, malformed=error.message)
    sha256 = pointer.sha256.hex()
    here, chunks = False, 0
    try:
        if index.has(pointer.manifest):
            here = not missing_parts(pointer.manifest, odb, index.has)
            manifest = read_manifest(pointer.manifest, odb)
            chunks = len(manifest.chunks)
            if manifest.size != pointer.size:
                raise ManifestError(f"{manifest.size} bytes, the pointer says {pointer.size}", pointer.manifest)
    except MissingObjectError:
        pass  # a piece of the manifest is not here
    except CorruptError as error:
        return TrackedFile(
            name, pointer.size, sha256, 0, here=False, manifest=pointer.manifest, malformed=error.message
        )
    return TrackedFile(name, pointer.size, sha256, chunks, here=here, manifest=pointer.manifest)


def not_at(repo: Repository, remote: str, files: Iterable[TrackedFile]) -> set[str]:
    """The paths of files whose content a remote (a name or a URL) has not got; raise `FetchError`.

    It is asked for manifests: a remote that has one has what it lists, because both arrive in one push.
    """
    listed = [(file.path, file.manifest) for file in files if file.manifest is not None]
    absent = absent_at(repo, remote, (manifest for _, manifest in listed))
    return {path for path, manifest in listed if manifest in absent}
