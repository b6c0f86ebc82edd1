"""What killed processes left below `.git/ml`: directories and files that nobody will come back to."""

import os
import re
import shutil
import time
from pathlib import Path

from gitml.care.roots import git_directories
from gitml.git.repository import Repository
from gitml.git.state import COMMIT_MARKER, commit_under_way

_OWNED = re.compile(r"(?:repair|promised)-(\d+)-[0-9a-f]+")
_TEMPORARY = re.compile(r".*\.tmp|tmp_.*")
_OLD = 24 * 3600
"""Seconds after which a temporary file without an owner's name has no owner any more."""


def find_litter(repo: Repository) -> list[Path]:
    """Files and directories that can go."""
    found = [
        directory / COMMIT_MARKER
        for directory in git_directories(repo)
        if (directory / COMMIT_MARKER).exists() and not commit_under_way(directory)
    ]
    if repo.state_dir.is_dir():
        for path in sorted(repo.state_dir.iterdir()):
            owned = _OWNED.fullmatch(path.name)
            if owned is not None:
                if not _is_alive(int(owned[1])):
                    found.append(path)
            elif _TEMPORARY.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _OLD:
                found.append(path)
    return found


def remove_litter(paths: list[Path]) -> None:
    """Remove them; what is gone already is gone."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
