"""What `git diff`, `git show` and `git log -p` show of pointers and models: the driver `diff=ml`.

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
from gitml.review.lines import lines_of
from gitml.store.pointer import MAX_POINTER_SIZE, Pointer, PointerError, is_pointer, parse_pointer

_LARGEST = 4 << 30
"""Bytes of content that is looked into."""


def main(arguments: Sequence[str]) -> int:
    """Print a version in lines; give the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: git ml textconv FILE (git starts this for files with diff=ml)\n")
        return 129
    path = Path(arguments[0])
    with path.open("rb") as file:
        head = file.read(MAX_POINTER_SIZE + 1)
    if is_pointer(head) and len(head) <= MAX_POINTER_SIZE:
        lines = _pointer_lines(head)
    elif looks_like_a_model(path.name, head):
        lines = [_identity(path), *lines_of(summarize(path))]
    elif b"\0" in head:
        lines = [_identity(path)]
    else:
        sys.stdout.flush()
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        return 0
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _pointer_lines(data: bytes) -> list[str]:
    try:
        pointer = parse_pointer(data)
    except PointerError as error:
        return [f"a pointer that cannot be read: {harmless(error.message)}"]
    return [f"{pointer.size} bytes, sha256 {pointer.sha256.hex()}", *_content_lines(pointer)]


def _identity(path: Path) -> str:
    """As for a pointer: numbers may differ where nothing else does."""
    with path.open("rb") as file:
        return f"{path.stat().st_size} bytes, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _content_lines(pointer: Pointer) -> list[str]:
    """What the content is, if it is here and a model."""
    if pointer.size > _LARGEST:
        return []
    try:
        source = Source(Repository.discover(), fetch=False)
    except GitmlError:
        return []
    try:
        with ChunkedContent(source, pointer, source.manifest(pointer)) as content:
            head = content.read(64) or b""
            # names are not known here: only what its first bytes tell
            if not (looks_like_a_model("", head) or head[:1] == b"\x80" or head[:4] == b"PK\x03\x04"):
                return []
            content.seek(0)
            with tempfile.TemporaryDirectory(prefix="gitml-textconv-") as temporary:
                target = Path(temporary) / "content.pkl"
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                return lines_of(summarize(target))
    except GitmlError as error:
        return [f"content: {harmless(error.message)}"]
    finally:
        source.close()
