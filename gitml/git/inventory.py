"""Which files of a commit are pointers, and whether their content is here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from gitml.errors import CorruptError, UserError
from gitml.git.odb import GitOdb
from gitml.git.pack import ObjectIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.manifest import read_manifest
from gitml.store.odb import MissingObjectError
from gitml.store.pointer import PointerError, is_pointer, parse_pointer

_LARGEST = 1024
"""Bytes up to which a blob is looked at: a damaged pointer may be shorter or longer than a sound one."""


@dataclass(frozen=True, slots=True)
class TrackedFile:
    """A file stored as chunks. `size` in bytes and `sha256` are those of the content."""

    path: str
    size: int
    sha256: str
    chunks: int
    here: bool
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
        if len(fields) == 4 and fields[1] == b"blob" and int(fields[3]) <= _LARGEST:
            inside = not wanted or any(path == each or path.startswith(each + b"/") or each == b"." for each in wanted)
            if inside:
                found.append((path, Oid.parse(fields[2])))
    return found


def tracked_files(repo: Repository, odb: GitOdb, commit: Oid, pathspecs: Sequence[str] = ()) -> list[TrackedFile]:
    """The files of `commit` that are pointers; raise `UserError` for a path that names nothing there."""
    top = _from_top(repo, pathspecs)
    for path, given in zip(top, pathspecs, strict=True):
        if odb.lookup(f"{commit}:{'' if path == '.' else path}") is None:
            raise UserError(f"there is no '{given}' in this commit")
    index = ObjectIndex(repo.objects_dir, repo.format)
    return [
        _inspect(odb, index, path, data)
        for path, oid in pointer_candidates(repo, commit, top)
        if is_pointer(data := odb.read(oid)[1])
    ]


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
    try:
        manifest = read_manifest(pointer.manifest, odb)
    except MissingObjectError:
        return TrackedFile(name, pointer.size, sha256, 0, here=False)
    except CorruptError as error:
        return TrackedFile(name, pointer.size, sha256, 0, here=False, malformed=error.message)
    if manifest.size != pointer.size:
        fault = f"the manifest lists {manifest.size} bytes, the pointer says {pointer.size}"
        return TrackedFile(name, pointer.size, sha256, 0, here=False, malformed=fault)
    here = all(index.has(chunk.oid) for chunk in manifest.chunks)
    return TrackedFile(name, pointer.size, sha256, len(manifest.chunks), here=here)
