"""What killed processes left: directories, files and refs of ours that nobody will come back to."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gitml.care.roots import git_directories
from gitml.git.promisor import LANDING_MARK
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.git.state import COMMIT_MARKER, commit_under_way
from gitml.liveness import is_alive

_OWNED = re.compile(r"(?:repair-|verify-)?(\d+)-[0-9a-f]+")
_TEMPORARY = re.compile(r".*\.tmp|tmp_.*")
_INCOMING = "refs/ml/incoming/"
"""What is fetched to be looked at and forgotten: `<process>-<random>`."""
_OLD = 24 * 3600
"""Seconds after which a temporary file without an owner's name has no owner any more."""


def find_litter(repo: Repository) -> list[Path]:
    """Files and directories that can go."""
    found = [
        directory / COMMIT_MARKER
        for directory in git_directories(repo)
        if (directory / COMMIT_MARKER).exists() and not commit_under_way(directory)
    ]
    for path in (*_entries(repo.state_dir), *_entries(repo.state_dir / "landing")):
        owned = _OWNED.fullmatch(path.name)
        if owned is not None:
            if not is_alive(int(owned[1])):
                found.append(path)
        elif _TEMPORARY.fullmatch(path.name) and _is_old(path):
            found.append(path)
    # git never repacks what a fetch that was killed held for a moment
    marks = (repo.objects_dir / "pack").glob("*.keep")
    return [*found, *(path for path in sorted(marks) if _is_old(path) and _text(path) == LANDING_MARK)]


def remove_litter(paths: list[Path]) -> None:
    """Remove them; what is gone already is gone."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def forget_incoming(repo: Repository) -> None:
    """Delete refs below which dead processes looked at what a remote has."""
    for name, oid in list_refs(repo.git, _INCOMING).items():
        process = name.removeprefix(_INCOMING).partition("-")[0]
        if process.isdigit() and not is_alive(int(process)):
            update_refs(repo.git, [RefUpdate(name, None, oid)])


def _entries(directory: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from sorted(directory.iterdir())


def _text(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""


def _is_old(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > _OLD
    return False
