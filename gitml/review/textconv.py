"""What `git diff`, `git show` and `git log -p` show of pointers, models and tables: the driver `diff=ml`.

git gives the name of a file that holds one version, as it is in the repository or as it is in the worktree, and shows
the differences of what is printed (gitattributes: textconv). Nothing is fetched: a diff must not wait for a network.
"""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gitml.errors import GitmlError
from gitml.formats.child import summarize
from gitml.formats.detect import looks_like_a_model
from gitml.git.repository import Repository
from gitml.provenance.codec import harmless
from gitml.reading.content import ChunkedContent
from gitml.reading.source import Source
from gitml.review.lines import lines_of, lines_of_tables
from gitml.store.content import SMALL
from gitml.store.pointer import MAX_POINTER_SIZE, Pointer, PointerError, is_pointer, parse_pointer
from gitml.tables.child import Limits, compare_in_child

_LARGEST = 4 << 30
"""Bytes of content that is looked into."""
_SECONDS = 60
"""For a table: a pager waits."""
_TEXT = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson")
"""Tables that git shows as they are, if they are small."""
_BINARY = (".parquet", ".arrow", ".feather", ".ipc", ".sqlite", ".sqlite3", ".db")


def main(arguments: Sequence[str]) -> int:
    """Print a version in lines; give the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: git ml textconv FILE (git starts this for files with diff=ml)\n")
        return 129
    path = Path(arguments[0])
    with path.open("rb") as file:
        head = file.read(MAX_POINTER_SIZE + 1)
    if is_pointer(head) and len(head) <= MAX_POINTER_SIZE:
        lines = _pointer_lines(head, path.name)
    elif looks_like_a_model(path.name, head):
        lines = [_identity(path), *lines_of(summarize(path))]
    elif _is_table(path.name, head) and not (path.name.lower().endswith(_TEXT) and path.stat().st_size < SMALL):
        # git gives what smudge makes of a pointer: what could be one is shown the same, whether it is or not
        lines = [_identity(path), *_table_lines(path, path.name)]
    elif b"\0" in head:
        lines = [_identity(path)]
    else:
        sys.stdout.flush()
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        return 0
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _is_table(name: str, head: bytes) -> bool:
    return name.lower().endswith((*_TEXT, *_BINARY)) or head.startswith((b"PAR1", b"ARROW1", b"SQLite format 3\0"))


def _table_lines(path: Path, name: str) -> list[str]:
    """Columns and what is in them; a file that is compared with itself tells just that."""
    return lines_of_tables(compare_in_child(path, path, name, samples=0, limits=Limits(seconds=_SECONDS)))


def _pointer_lines(data: bytes, name: str) -> list[str]:
    try:
        pointer = parse_pointer(data)
    except PointerError as error:
        return [f"a pointer that cannot be read: {harmless(error.message)}"]
    return [f"{pointer.size} bytes, sha256 {pointer.sha256.hex()}", *_content_lines(pointer, name)]


def _identity(path: Path) -> str:
    """As for a pointer: numbers may differ where nothing else does."""
    with path.open("rb") as file:
        return f"{path.stat().st_size} bytes, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _content_lines(pointer: Pointer, name: str) -> list[str]:
    """What the content is, if it is here and a model or a table. git keeps the end of a file's name, others may not."""
    if pointer.size > _LARGEST:
        return []
    try:
        source = Source(Repository.discover(), fetch=False)
    except GitmlError:
        return []
    try:
        with ChunkedContent(source, pointer, source.manifest(pointer)) as content:
            head = content.read(64) or b""
            table = _is_table(name, head)
            if not (table or looks_like_a_model("", head) or head[:1] == b"\x80" or head[:4] == b"PK\x03\x04"):
                return []
            content.seek(0)
            with tempfile.TemporaryDirectory(prefix="gitml-textconv-") as temporary:
                target = Path(temporary) / "content.pkl"
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                return _table_lines(target, name) if table else lines_of(summarize(target))
    except GitmlError as error:
        return [f"content: {harmless(error.message)}"]
    finally:
        source.close()
