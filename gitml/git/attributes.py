"""What paths are under gitml: git's own attribute rules, asked about files that are not checked out."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from gitml.git.command import Git
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.odb import ObjectReader
from gitml.store.tree import Snapshot

_ATTRIBUTES = b".gitattributes"


def filter_of(repo: Repository, odb: ObjectReader, tree: Oid, paths: Iterable[bytes]) -> set[bytes]:
    """Those of `paths` that have `filter=ml` by the `.gitattributes` files of `tree` (and by local ones).

    `git check-attr --source` would do it from git 2.40 on; before, an index that holds only the attribute files of
    the tree is asked.
    """
    wanted = list(paths)
    if not wanted:
        return set()
    snapshot = Snapshot(odb, tree)
    listing = []
    for directory in sorted({above for path in wanted for above in _directories(path)}):
        name = directory + b"/" + _ATTRIBUTES if directory else _ATTRIBUTES
        entry = snapshot.get(name)
        if entry is not None and entry.is_file:
            listing.append(b"%o %s\t%s\0" % (entry.mode, entry.oid.hex().encode(), name))
    with tempfile.TemporaryDirectory(prefix="gitml-") as temporary:
        index = {"GIT_INDEX_FILE": os.fspath(Path(temporary) / "index")}
        repo.git.output("update-index", "-z", "--index-info", input=b"".join(listing), env=index)
        answer = repo.git.output(
            "check-attr",
            "--cached",
            "-z",
            "--stdin",
            "filter",
            input=b"".join(path + b"\0" for path in wanted),
            env=index,
        )
    fields = answer.split(b"\0")
    return {path for path, value in zip(fields[0::3], fields[2::3], strict=False) if value == b"ml"}


def filters_by_files(repo: Repository, files: Mapping[bytes, bytes], paths: Iterable[bytes]) -> dict[bytes, bytes]:
    """The attribute `filter` of each of `paths` that has one, if `files` (path, content) are all attribute files.

    The files need not be in the repository. Its `info/attributes` and the user's own file count as they always do.
    """
    wanted = list(paths)
    if not wanted:
        return {}
    with tempfile.TemporaryDirectory(prefix="gitml-") as temporary:
        for name, content in files.items():
            place = Path(temporary) / os.fsdecode(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        listed = b"".join(path + b"\0" for path in wanted)
        answer = Git(repo.git_dir, Path(temporary)).output("check-attr", "-z", "--stdin", "filter", input=listed)
    fields = answer.split(b"\0")
    unset = (b"unspecified", b"unset", b"set")
    return {path: value for path, value in zip(fields[0::3], fields[2::3], strict=False) if value not in unset}


def _directories(path: bytes) -> list[bytes]:
    """Every directory above `path`, the top (`b""`) first."""
    parts = path.split(b"/")[:-1]
    return [b"/".join(parts[:depth]) for depth in range(len(parts) + 1)]
