"""Which repository this is, whatever its path: its first commit, and where it was cloned from."""

import re

from gitml.git.repository import Repository
from gitml.oid import Oid

_USER_INFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*@")


def root_commit(repo: Repository) -> Oid | None:
    """A commit of HEAD's history that has no parents here, None while there is no commit.

    Of several it is the one that git lists last. In a shallow clone it is where history was cut.
    """
    done = repo.git.run("rev-list", "--max-parents=0", "HEAD", "--", check=False)
    lines = done.stdout.split()
    return Oid.parse(lines[-1]) if done.returncode == 0 and lines else None


def has_commit(repo: Repository, commit: str) -> bool:
    """Whether a commit is in this repository; nothing is fetched to find out."""
    done = repo.git.run("cat-file", "-e", f"{commit}^{{commit}}", check=False, env={"GIT_NO_LAZY_FETCH": "1"})
    return done.returncode == 0


def origin(repo: Repository) -> str:
    """The address of the remote `origin` without user name, password and what may be left out; "" without one."""
    address = repo.config("remote.origin.url") or ""
    return _USER_INFO.sub(r"\1", address).rstrip("/").removesuffix(".git")
