"""Consent to run a repository's commands by themselves.

A tracked file that makes a hook run code would cancel git's rule that hooks are not cloned. So a hook runs only
commands that this clone's own commits brought in, that stood there at `git ml install`, or that the user named to
`git ml trust` or `git ml run`. What is trusted is the digest of a stage's command, code and environment
(`key.command_digest`); the list lives on the user's side, never in the repository. Its level says how commands get onto
it by themselves.

The list is for one repository, not for whatever stands at a path: it names the first commit and where the clone came
from. At the path of a clone that was removed another one may appear, which nobody has reviewed.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

from gitml.errors import UserError
from gitml.git.identity import has_commit, origin, root_commit
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


class Doubt(StrEnum):
    """Why a list that was kept counts no more."""

    FORM = "form"
    """An earlier version made it, which asked for less."""
    REPOSITORY = "repository"
    """It is of another repository than the one that is here."""

    @property
    def words(self) -> str:
        """What people are told; once, since the next review ends it."""
        if self is Doubt.FORM:
            return (
                "what was reviewed here before counts no more: a review now covers lock files too, "
                "and holds for this repository only"
            )
        return (
            "what was reviewed here before counts no more: it was another repository "
            "(its first commit or the address of 'origin' is not the same)"
        )


VARIABLE = "GITML_TRUST"
"""Takes the place of the stored level, for servers and CI."""
_FORMAT = 2


def list_of(common_dir: Path) -> Path:
    """Where the list of the repository with this directory of git is kept."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    identity = hashlib.sha256(os.fsencode(common_dir.resolve())).hexdigest()[:32]
    return Path(base) / "gitml" / "trust" / f"{identity}.json"


class Trust:
    """The commands that hooks may run in one clone."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._path = list_of(repo.common_dir)
        self._digests: set[str] = set()
        self._stored = Level.MINE
        self._root = self._origin = ""
        self.doubt: Doubt | None = None
        """Why what was reviewed before has to be reviewed again; None if nothing has."""
        try:
            self._read(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._digests, self._stored = set(), Level.MINE

    def _read(self, stored: dict[str, Any]) -> None:
        level = Level(stored.get("level", Level.MINE))
        if "format" not in stored:
            # the level is a decision of the user's that means what it meant
            self._stored, self.doubt = level, Doubt.FORM if stored["commands"] else None
            return
        root, address = str(stored["root"]), str(stored["origin"])
        if (root and not has_commit(self._repo, root)) or (address and address != origin(self._repo)):
            # a stranger's repository gets what every new clone gets, or less if the user wants less
            self._stored = level if level in (Level.NEVER, Level.ASK) else Level.MINE
            self.doubt = Doubt.REPOSITORY
            return
        self._stored, self._root, self._origin = level, root, address
        self._digests = {str(digest) for digest in stored["commands"]}
        self.doubt = Doubt(stored["doubt"]) if stored.get("doubt") else None

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

    def add(self, digests: Iterable[str], *, whole: bool = False) -> None:
        """Let hooks run these from now on; `whole`: a person stands for all that is here now, which ends doubts."""
        added = set(digests) - self._digests
        settled = self.doubt is not None and whole
        if not added and not settled:
            return
        self._digests |= added
        if settled:
            self.doubt = None
        self._write()

    def bind(self) -> None:
        """Note which repository this is, if a list is kept that does not say it yet."""
        if self.doubt is None and self._path.exists() and self._unbound():
            self._write()

    def _unbound(self) -> bool:
        return not self._root or (not self._origin and bool(origin(self._repo)))

    def _write(self) -> None:
        if not self._root:
            found = root_commit(self._repo)
            self._root = found.hex() if found is not None else ""
        self._origin = origin(self._repo)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            kept = {"format": _FORMAT, "root": self._root, "origin": self._origin, "level": self._stored}
            json.dump({**kept, "doubt": self.doubt, "commands": sorted(self._digests)}, file)
        temporary.replace(self._path)

    def forget(self) -> None:
        """Trust nothing any more."""
        self._digests, self._stored, self.doubt = set(), Level.MINE, None
        self._path.unlink(missing_ok=True)
