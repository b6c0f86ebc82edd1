"""Consent to run a repository's commands by themselves.

A tracked file that makes a hook run code would cancel git's rule that hooks are not cloned. So a hook runs only
commands that this clone's own commits brought in, that stood there at `git ml install`, or that the user named to
`git ml run`. What is trusted is the digest of a stage's command and code (`key.command_digest`); the list lives on
the user's side, never in the repository.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from gitml.git.repository import Repository


def _store(repo: Repository) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    identity = hashlib.sha256(os.fsencode(repo.common_dir.resolve())).hexdigest()[:32]
    return Path(base) / "gitml" / "trust" / f"{identity}.json"


class Trust:
    """The commands that hooks may run in one clone."""

    def __init__(self, repo: Repository) -> None:
        self._path = _store(repo)
        try:
            listed = json.loads(self._path.read_bytes())["commands"]
            self._digests = {str(digest) for digest in listed}
        except (OSError, ValueError, KeyError, TypeError):
            self._digests = set()

    def has(self, digest: str) -> bool:
        """Whether hooks may run the command with this digest."""
        return digest in self._digests

    def add(self, digests: Iterable[str]) -> None:
        """Let hooks run these from now on."""
        added = set(digests) - self._digests
        if not added:
            return
        self._digests |= added
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"commands": sorted(self._digests)}, file)
        temporary.replace(self._path)

    def forget(self) -> None:
        """Trust nothing any more."""
        self._digests = set()
        self._path.unlink(missing_ok=True)
