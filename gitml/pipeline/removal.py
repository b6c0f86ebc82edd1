"""Removing directories that others filled."""

import contextlib
import os
import shutil
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a directory with all below it, also where modes forbid it. Nothing there is fine.

    What still resists (an immutable file, a busy mount) stays behind: a finished task does not fail for it.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError:
        _open_up(path)
        shutil.rmtree(path, ignore_errors=True)


def _open_up(directory: Path) -> None:
    """Make every directory below `directory` ours to empty; links are not followed."""
    with contextlib.suppress(OSError):
        directory.chmod(0o700)
        with os.scandir(directory) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in inner:
            _open_up(path)
