"""Consent to run a repository's commands by themselves.

A tracked file that makes a hook run code would cancel git's rule that hooks are not cloned. So a hook runs only
commands that this clone's own commits brought in, that stood there at `git ml install`, or that the user named to
`git ml trust` or `git ml run`. What is trusted is the digest of a stage's command and code (`key.command_digest`); the
list lives on the user's side, never in the repository. Its level says how commands get onto it by themselves.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from gitml.errors import UserError
from gitml.git.repository import Repository


class Level(StrEnum):
    """Which commands hooks may run, from none to all."""

    NEVER = "never"
    """Hooks run nothing."""
    ASK = "ask"
    """Those that were named to `git ml trust` or `git ml run`."""
    MINE = "mine"
    """Also those that commits made in this clone bring in."""
    SIGNED = "signed"
    """Also those of commits with a good signature."""
    REPO = "repo"
    """All, whoever brought them in."""


VARIABLE = "GITML_TRUST"
"""Takes the place of the stored level, for servers and CI."""


def _store(repo: Repository) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    identity = hashlib.sha256(os.fsencode(repo.common_dir.resolve())).hexdigest()[:32]
    return Path(base) / "gitml" / "trust" / f"{identity}.json"


class Trust:
    """The commands that hooks may run in one clone."""

    def __init__(self, repo: Repository) -> None:
        self._path = _store(repo)
        try:
            stored = json.loads(self._path.read_bytes())
            self._digests = {str(digest) for digest in stored["commands"]}
            self._stored = Level(stored.get("level", Level.MINE))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._digests, self._stored = set(), Level.MINE

    @property
    def level(self) -> Level:
        """The level that holds now; raise `UserError` if the environment names none that there is."""
        given = os.environ.get(VARIABLE, "")
        try:
            return Level(given) if given else self._stored
        except ValueError:
            raise UserError(f"{VARIABLE} is '{given}', which is no level", hint=f"levels: {', '.join(Level)}") from None

    @property
    def adopts_own(self) -> bool:
        """Whether commits made in this clone bring their commands with them."""
        return self.level not in (Level.NEVER, Level.ASK)

    def has(self, digest: str) -> bool:
        """Whether hooks may run the command with this digest."""
        level = self.level
        return level is not Level.NEVER and (level is Level.REPO or digest in self._digests)

    def lists(self, digest: str) -> bool:
        """Whether the command with this digest was reviewed, whatever the level."""
        return digest in self._digests

    def set_level(self, level: Level) -> None:
        """Store the level for this clone."""
        self._stored = level
        self._write()

    def add(self, digests: Iterable[str]) -> None:
        """Let hooks run these from now on."""
        added = set(digests) - self._digests
        if not added:
            return
        self._digests |= added
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"commands": sorted(self._digests), "level": self._stored}, file)
        temporary.replace(self._path)

    def forget(self) -> None:
        """Trust nothing any more."""
        self._digests, self._stored = set(), Level.MINE
        self._path.unlink(missing_ok=True)
