"""What git ignores: its own rules, asked about files that are not checked out."""

import os
import posixpath
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from gitml.git.command import Git
from gitml.git.repository import Repository


def ignored_by_files(repo: Repository, files: Mapping[bytes, bytes], paths: Iterable[bytes]) -> set[bytes]:
    """Those of `paths` that git ignores if `files` (directory with its slash, content) are all `.gitignore` files.

    The files need not be in the repository. The user's own rules do not count: they hold for one machine only.
    """
    wanted = list(paths)
    if not wanted or not files:
        return set()
    with tempfile.TemporaryDirectory(prefix="gitml-") as temporary:
        for directory, content in files.items():
            place = Path(temporary) / os.fsdecode(posixpath.join(directory, b".gitignore"))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        done = Git(repo.git_dir, Path(temporary)).run(
            "-c", "core.excludesFile=", "check-ignore", "--no-index", "-z", "--stdin",
            input=b"".join(path + b"\0" for path in wanted), check=False,
        )  # fmt: skip
    return set(done.stdout.split(b"\0")[:-1])
