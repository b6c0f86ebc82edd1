"""Which of the files that changed are tables, and how both versions differ. A child compares them, within limits."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.provenance.codec import text_of
from gitml.reading.source import Source
from gitml.reading.view import View
from gitml.review.comparison import FileChange, Role, TableChange
from gitml.review.models import write_content
from gitml.tables.child import compare_in_child

_MOST = 10
"""Tables that are compared; the largest ones first."""
_LARGEST = 4 << 30
"""Bytes of a table that is compared."""
SUFFIXES = (
    ".csv",
    ".tsv",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".arrow",
    ".feather",
    ".ipc",
    ".sqlite",
    ".sqlite3",
    ".db",
)


def table_changes(
    repo: Repository,
    old: tuple[Oid, Oid],
    new: tuple[Oid, Oid],
    files: Iterable[FileChange],
    *,
    key: Sequence[str] = (),
    masked: Sequence[str] = (),
) -> list[TableChange]:
    """The tables among `files` that both sides have, each with what differs; `old` and `new` are commit and tree.

    `key` are the columns that tell rows apart, `masked` patterns of columns whose cells are not shown. What is not here
    is fetched. Whatever goes wrong with one file is said of it.
    """
    listed = [file for file in files if _is_table(file)]
    listed.sort(key=lambda file: (-(file.new_size or 0), file.path))
    source = Source(repo)
    try:
        before, now = (View(source, commit.hex()[:10], commit, tree, b"") for commit, tree in (old, new))
        return [_change(before, now, file, key, masked) for file in listed[:_MOST]]
    finally:
        source.close()


def _is_table(file: FileChange) -> bool:
    name = text_of(file.path).lower()
    return not (file.new or file.gone) and file.role not in (Role.CODE, Role.PARAMS) and name.endswith(SUFFIXES)


def _change(before: View, now: View, file: FileChange, key: Sequence[str], masked: Sequence[str]) -> TableChange:
    if max(file.old_size or 0, file.new_size or 0) > _LARGEST:
        return TableChange(path=file.path, diff=None, problem=f"larger than {_LARGEST} bytes: not compared")
    with tempfile.TemporaryDirectory(prefix="gitml-review-") as temporary:
        place = Path(temporary)
        try:
            write_content(before, file.old_path or file.path, place / "old")
            write_content(now, file.path, place / "new")
        except (GitmlError, OSError) as error:
            problem = error.message if isinstance(error, GitmlError) else str(error.strerror)
            return TableChange(path=file.path, diff=None, problem=problem)
        name = text_of(file.path)
        return TableChange(
            path=file.path, diff=compare_in_child(place / "old", place / "new", name, key=key, masked=masked)
        )
