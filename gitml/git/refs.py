"""Refs are moved in one atomic transaction, each with what it is expected to hold."""

import time
from collections.abc import Iterable
from enum import Enum
from typing import Final

from gitml.errors import BusyError
from gitml.git.command import Git, GitError
from gitml.oid import Oid
from gitml.record import record


class _Any(Enum):
    ANY = "any"


ANY: Final = _Any.ANY
"""An expectation that every state of a ref meets."""


@record
class RefUpdate:
    """One ref to move: `new` is None to delete it, `old` None if it must not exist yet."""

    name: str
    new: Oid | None
    old: Oid | _Any | None = ANY


class RefMovedError(BusyError):
    """A ref does not hold what was expected, so nothing was changed. Carries its `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"ref '{name}' was moved by another process", hint="try again")
        self.name = name


class RefLockedError(BusyError):
    """Another process is changing a ref, or left a lock file behind."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"cannot lock refs: {detail}", hint="try again; if no git runs here, delete the lock file it names"
        )


def update_refs(git: Git, updates: Iterable[RefUpdate], *, message: str | None = None) -> None:
    """Move all refs or none; `message` goes to the reflog.

    Git moves them one by one in the end, in this order: killed just then, it leaves some, and locks. So a kill of our
    process group does not reach it.

    Raise `RefMovedError` if one is not what was expected, `RefLockedError` if one is being changed right now, and
    `GitError` for anything else (a bad name, an object that is missing).
    """
    wanted = list(updates)
    if not wanted:
        return
    arguments = ["update-ref", *(["-m", message] if message else []), "--stdin", "-z"]
    done = git.run(*arguments, input=b"".join(map(_command, wanted)), check=False, env={"LC_ALL": "C"}, apart=True)
    if done.returncode == 0:
        return
    for update in wanted:
        if update.old is not ANY and _current(git, update.name) != update.old:
            raise RefMovedError(update.name)
    detail = done.stderr.decode("utf-8", "replace").strip()
    if ".lock'" in detail and "File exists" in detail:
        raise RefLockedError(detail.splitlines()[0].removeprefix("fatal: "))
    raise GitError(arguments, done.returncode, done.stderr)


def list_refs(git: Git, *patterns: str) -> dict[str, Oid]:
    """Name to oid of the refs that lie below one of `patterns` (a path, or a glob where `*` stops at `/`)."""
    lines = git.output("for-each-ref", "--format=%(objectname) %(refname)", *patterns).splitlines()
    return {
        name.decode("utf-8", "surrogateescape"): Oid.parse(oid) for oid, name in (line.split(b" ", 1) for line in lines)
    }


def _command(update: RefUpdate) -> bytes:
    name = update.name.encode("utf-8", "surrogateescape")
    if update.old is ANY:
        old = b""
    elif update.old is None:
        old = b"0" * 40 if update.new is None else b"0" * (2 * len(update.new))
    else:
        old = update.old.hex().encode()
    if update.new is not None:
        return b"update %s\0%s\0%s\0" % (name, update.new.hex().encode(), old)
    if update.old is None:
        return b"verify %s\0%s\0" % (name, b"")
    return b"delete %s\0%s\0" % (name, old)


def _current(git: Git, name: str) -> Oid | None:
    done = git.run("rev-parse", "--verify", "--quiet", "--end-of-options", name, check=False)
    return Oid.parse(done.stdout.strip()) if done.returncode == 0 else None


def pause(attempt: int) -> None:
    """Wait before another attempt to move refs that others move too; `attempt` counts from 0."""
    time.sleep(min(0.005 * 2**attempt, 0.2))
