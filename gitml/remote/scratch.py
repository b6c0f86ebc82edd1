"""A repository that goes away, with what the refs of a store reach but for contents: to look at a store as a whole."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.command import clean_environment
from gitml.git.repository import Repository
from gitml.oid import ObjectFormat, Oid
from gitml.remote.fetch import fetch
from gitml.remote.state import State
from gitml.remote.store import Store
from gitml.remote.terms import Wishes
from gitml.remote.walk import Reached, reach


@contextmanager
def scratch_repository(object_format: ObjectFormat) -> Iterator[Repository]:
    """A bare repository below the directory for temporary files (`TMPDIR`)."""
    with tempfile.TemporaryDirectory(prefix="git-ml-remote-") as name:
        place = Path(name) / "scratch.git"
        done = subprocess.run(
            ["git", "init", "--quiet", "--bare", f"--object-format={object_format.value}", str(place)],
            capture_output=True, check=False, env={**clean_environment(), "GIT_TEMPLATE_DIR": ""},
        )  # fmt: skip
        if done.returncode != 0:
            raise GitmlError(os.fsdecode(done.stderr).strip().removeprefix("fatal: "))
        yield Repository(place, place, None, object_format)


def bring_graph(repo: Repository, store: Store, state: State, *, shown: bool) -> Reached:
    """Commits, trees and tags that the refs of a store reach; give all that they reach, contents as missing.

    Raise `CorruptError` or `MissingDataError` for a store in which something of that is not what or where it should be.
    """
    tips = sorted(state.tips())
    if not tips:
        return Reached(frozenset(), frozenset())
    landing = fetch(repo, store, state, tips, Wishes(filters="blob:none", shown=shown))
    landing.release()
    return reached_from(repo, tips)


def reached_from(repo: Repository, tips: Iterable[Oid]) -> Reached:
    """All that commits reach whose graph is here, contents as missing."""
    return reach(repo.git, tips, environment={"GIT_NO_LAZY_FETCH": "1"})
