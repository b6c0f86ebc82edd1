"""Which of the files that changed are models, and how both versions differ. A child parses them; none is loaded."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gitml.errors import GitmlError, UserError
from gitml.formats.child import compare, summarize
from gitml.formats.compare import ModelDiff
from gitml.formats.detect import SUFFIXES, looks_like_a_model
from gitml.formats.summary import Summary
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.provenance.codec import text_of
from gitml.reading.source import Source
from gitml.reading.view import View
from gitml.review.comparison import FileChange, ModelChange, Role

_MOST = 20
"""Models that are looked into."""
_LARGEST = 16 << 30
"""Bytes of a model that is looked into: it is written to a temporary file."""
_SMALLEST = 128
"""Bytes of a file that may be a model without having the name of one."""
_LOOKED_AT = 200
"""Files whose first bytes are looked at."""
_TEXTS = (
    ".csv", ".tsv", ".jsonl", ".md", ".txt", ".html", ".svg", ".png", ".jpg", ".jpeg", ".pdf", ".py", ".sh", ".yaml",
    ".yml", ".toml", ".parquet", ".arrow", ".feather", ".sqlite", ".log", ".xml",
)  # fmt: skip
NOT_THERE = Summary(format="none", opaque="not there")


def model_changes(
    repo: Repository, old: tuple[Oid, Oid], new: tuple[Oid, Oid], files: Iterable[FileChange]
) -> list[ModelChange]:
    """The models among `files`, each with what differs; `old` and `new` are commit and tree of the sides.

    What is not here is fetched. Whatever goes wrong with one file is said of it.
    """
    source = Source(repo)
    try:
        before, now = (View(source, commit.hex()[:10], commit, tree, b"") for commit, tree in (old, new))
        found: list[ModelChange] = []
        for file in _candidates(now, files):
            if len(found) == _MOST:
                break
            found.append(_change(before, now, file))
        return found
    finally:
        source.close()


def _candidates(view: View, files: Iterable[FileChange]) -> Iterator[FileChange]:
    looked = 0
    for file in sorted(files, key=lambda file: (file.role is not Role.OUTPUT, -(file.new_size or 0), file.path)):
        name = text_of(file.path).lower()
        if file.gone or file.role in (Role.CODE, Role.PARAMS) or name.endswith(_TEXTS):
            continue
        if name.endswith(SUFFIXES):
            yield file
        elif (file.new_size or 0) >= _SMALLEST and looked < _LOOKED_AT:
            looked += 1
            try:
                with view.open_file(file.path) as content:
                    head = content.read(64)
            except GitmlError:
                continue
            if looks_like_a_model(name, head):
                yield file


def _change(before: View, now: View, file: FileChange) -> ModelChange:
    name = text_of(file.path)
    if max(file.old_size or 0, file.new_size or 0) > _LARGEST:
        return ModelChange(path=file.path, diff=None, problem=f"larger than {_LARGEST} bytes: not looked into")
    with tempfile.TemporaryDirectory(prefix="gitml-review-") as temporary:
        place = Path(temporary)
        try:
            write_content(now, file.path, place / "new")
            if file.new:
                return ModelChange(path=file.path, diff=ModelDiff(old=NOT_THERE, new=summarize(place / "new", name)))
            write_content(before, file.old_path or file.path, place / "old")
        except (GitmlError, OSError) as error:
            problem = error.message if isinstance(error, GitmlError) else str(error.strerror)
            return ModelChange(path=file.path, diff=None, problem=problem)
        return ModelChange(path=file.path, diff=compare(place / "old", place / "new", name))


def write_content(view: View, path: bytes, target: Path, most: int | None = None) -> None:
    """Write a file of a tree to `target`; raise `GitmlError`, also for one of more than `most` bytes, or `OSError`."""
    with view.open_file(path) as content, target.open("wb") as file:
        if most is not None and content.size > most:
            raise UserError(f"larger than {most} bytes: not compared")
        content.bring([(0, content.size)])
        shutil.copyfileobj(content, file, 1 << 20)
