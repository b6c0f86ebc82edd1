"""The repository beside the repository: where a migration is built, unseen, until one transaction makes it real.

It is bare, lies below `ml/` of the common git directory and borrows all objects of the real one. What is new in it
moves over by renaming packs. A killed migration leaves nothing but this directory, which the next one removes.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gitml.errors import BusyError
from gitml.git.command import clean_environment
from gitml.git.newfile import sync_directory
from gitml.git.refs import RefUpdate, update_refs
from gitml.git.repository import Repository
from gitml.migrate.durable import move
from gitml.oid import Oid


@contextmanager
def locked(repo: Repository) -> Iterator[None]:
    """Keep other migrations away during the block; raise `BusyError` if one is under way."""
    repo.state_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(repo.state_dir / "migrate.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("another migration is under way in this repository", hint="wait for it to end") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch_repository(repo: Repository, refs: Mapping[str, Oid]) -> Iterator[Repository]:
    """A bare repository with these refs and all objects of `repo`; it is gone after the block."""
    place = repo.state_dir / "migrate"
    shutil.rmtree(place, ignore_errors=True)
    try:
        subprocess.run(
            ["git", "init", "--quiet", "--bare", "--template=", f"--object-format={repo.format.value}", str(place)],
            check=True,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
        )
        alternates = place / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_bytes(os.fsencode(repo.objects_dir.resolve()) + b"\n")
        attributes = repo.common_dir / "info" / "attributes"
        if attributes.exists():
            (place / "info").mkdir(exist_ok=True)
            shutil.copy(attributes, place / "info" / "attributes")
        scratch = Repository(git_dir=place, common_dir=place, worktree=None, format=repo.format)
        # fast-import would write few objects one by one
        scratch.configure("fastimport.unpackLimit", "1")
        update_refs(scratch.git, [RefUpdate(name, oid, None) for name, oid in refs.items()])
        yield scratch
    finally:
        shutil.rmtree(place, ignore_errors=True)


def adopt_objects(repo: Repository, scratch: Repository) -> None:
    """Make everything that is new in `scratch` part of `repo`, durably; each pack before its index."""
    moved: set[Path] = set()
    packs = sorted((scratch.objects_dir / "pack").glob("pack-*"), key=lambda path: path.suffix == ".idx")
    loose = [path for path in scratch.objects_dir.glob("??/*") if len(path.parent.name) == 2]
    for path in [*packs, *loose]:
        target = repo.objects_dir / path.relative_to(scratch.objects_dir)
        if path.suffix not in (".pack", ".idx", "") or target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        move(path, target)
        moved.add(target.parent)
    for directory in moved:
        sync_directory(directory)
