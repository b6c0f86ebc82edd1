"""Contents on their way into a store that others know: written durably, then put in their place in one step."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

READ_ONLY = 0o444
_BLOCK = 1 << 20


class Digest(Protocol):
    """As `hashlib` gives them."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        ...


def write_new(path: Path, pieces: Iterable[bytes], digest: Digest) -> int:
    """Write a new file, durably; give its size in bytes. What `pieces` raises passes through."""
    size = 0
    with path.open("xb") as file:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return size


def move(path: Path, target: Path) -> None:
    """Rename a file; copy it, read-only, where `target` is on another file system."""
    try:
        path.rename(target)
    except OSError:
        temporary = target.with_name(f"tmp_{os.urandom(8).hex()}")  # git knows such names for garbage
        with path.open("rb") as source, temporary.open("xb") as copy:
            shutil.copyfileobj(source, copy, _BLOCK)
            copy.flush()
            os.fsync(copy.fileno())
        temporary.chmod(READ_ONLY)
        temporary.rename(target)
