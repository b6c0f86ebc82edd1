"""Refs of ours that follow a push which git is doing, in the same step: how its hook tells them to its remote helper.

A remote helper that has listed a store for a push waits here, with a lock of the kernel on a file of its own, which
ends with its process. The hook that git starts next sees who waits, and leaves there what is to follow: data and runs
then move with the branches, in one write of the store. Where nobody waits, or two do, a hook pushes by itself.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from gitml.oid import Oid
from gitml.record import field, record

_OURS = ("refs/ml/", "refs/heads/gitml/")
_TRANSPORT = "ml::"


@record(frozen=False)
class Followers:
    """What follows a push. Names of refs are those at the remote, but in `tracked`, which are those here."""

    added: dict[str, Oid] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    """Heads that what is added supersedes."""
    tracked: dict[str, Oid | None] = field(default_factory=dict)
    """What to remember of the remote once all has moved; None forgets a ref."""


class Waiting:
    """A push to `url` that is under way, as its remote helper sees it. A context manager that waits no more."""

    def __init__(self, state_dir: Path, url: str, refs: Mapping[str, Oid]) -> None:
        self._path = state_dir / "pushes" / f"{os.getpid()}-{os.urandom(4).hex()}"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(self._path.parent)
        self._file: IO[str] = self._path.open("x", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        ours = {name: oid.hex() for name, oid in refs.items() if name.startswith(_OURS)}
        json.dump({"url": url.removeprefix(_TRANSPORT), "refs": ours}, self._file)
        self._file.flush()

    def followers(self) -> Followers:
        """What the hook left, nothing if there is none."""
        try:
            document = json.loads(_answer_of(self._path).read_bytes())
        except FileNotFoundError:
            return Followers()
        return Followers(
            {name: Oid.parse(oid) for name, oid in document["added"].items()},
            set(document["deleted"]),
            {name: None if oid is None else Oid.parse(oid) for name, oid in document["tracked"].items()},
        )

    def close(self) -> None:
        """Wait no more."""
        self._path.unlink(missing_ok=True)
        _answer_of(self._path).unlink(missing_ok=True)
        self._file.close()


@record
class Leader:
    """A push that is under way, as the hook sees it: what the remote has of our refs, and who waits."""

    refs: Mapping[str, Oid]
    _path: Path

    def follow(self, followers: Followers) -> None:
        """Leave what is to follow."""
        document = {
            "added": {name: oid.hex() for name, oid in followers.added.items()},
            "deleted": sorted(followers.deleted),
            "tracked": {name: None if oid is None else oid.hex() for name, oid in followers.tracked.items()},
        }
        answer = _answer_of(self._path)
        new = answer.with_suffix(".new")
        new.write_text(json.dumps(document), encoding="utf-8")
        new.replace(answer)


def find_leader(state_dir: Path, url: str) -> Leader | None:
    """The one push to `url` that waits; None if there is none, or if it cannot be told which is ours."""
    found = [
        Leader({name: Oid.parse(oid) for name, oid in document["refs"].items()}, path)
        for path, document in _who_waits(state_dir / "pushes")
        if document["url"] == url.removeprefix(_TRANSPORT)
    ]
    return found[0] if len(found) == 1 else None


def _answer_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.followers")


def _files(directory: Path) -> Iterable[Path]:
    return (path for path in directory.glob("*-*") if not path.suffix)


def _who_waits(directory: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in _files(directory):
        # a file that is just being written is no JSON yet: its helper has not answered git, so it is not ours
        with suppress(FileNotFoundError, ValueError), path.open(encoding="utf-8") as file:
            if _is_locked(file):
                yield path, json.load(file)


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _remove_left(directory: Path) -> None:
    """Remove what killed pushes left."""
    for path in _files(directory):
        with suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
            # a new file is empty until it is locked: it is somebody's
            if not _is_locked(file) and file.read(1):
                path.unlink(missing_ok=True)
                _answer_of(path).unlink(missing_ok=True)
