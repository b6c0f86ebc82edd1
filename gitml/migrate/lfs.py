"""git-lfs on disk: its pointers (spec v1) and its store, `lfs/objects/aa/bb/<sha256>` in the git directory."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from gitml.errors import CorruptError, MissingDataError
from gitml.git.repository import Repository
from gitml.migrate.durable import write_new
from gitml.record import record

MAX_POINTER_SIZE = 1024
"""Bytes up to which git-lfs itself takes a blob for a pointer."""

_VERSIONS = (b"https://git-lfs.github.com/spec/v1", b"https://hawser.github.com/spec/v1", b"http://git-media.io/v/2")
_READ = 1 << 20


@record
class LfsPointer:
    """Which content stands here. `extended`: it was changed by an extension program on its way in."""

    sha256: bytes
    size: int
    extended: bool = False


def parse_lfs_pointer(data: bytes) -> LfsPointer | None:
    """The pointer that a blob holds, None if it is none."""
    if len(data) > MAX_POINTER_SIZE or not data.startswith(b"version "):
        return None
    fields: dict[bytes, bytes] = {}
    for each in data.strip().split(b"\n"):
        key, _, value = each.strip().partition(b" ")
        fields[key] = value
    oid = re.fullmatch(rb"sha256:([0-9a-f]{64})", fields.get(b"oid", b""))
    size = fields.get(b"size", b"")
    if fields[b"version"] not in _VERSIONS or oid is None or not size.isdigit():
        return None
    extended = any(key.startswith(b"ext-") for key in fields)
    return LfsPointer(bytes.fromhex(oid[1].decode()), int(size), extended)


def format_lfs_pointer(sha256: bytes, size: int) -> bytes:
    """The pointer as git-lfs writes it; empty content is its own pointer."""
    if size == 0:
        return b""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256.hex()}\nsize {size}\n".encode()


class LfsStore:
    """The contents that git-lfs keeps for a repository, shared by its worktrees."""

    def __init__(self, repo: Repository) -> None:
        configured = repo.config("lfs.storage")
        root = repo.common_dir / (configured or "lfs")  # an absolute path stands for itself
        self._objects = root / "objects"
        self._temporary = root / "tmp"

    def path(self, sha256: bytes) -> Path:
        """Where content is kept."""
        name = sha256.hex()
        return self._objects / name[:2] / name[2:4] / name

    def has(self, pointer: LfsPointer) -> bool:
        """Whether the content is here, by its name and size."""
        try:
            return pointer.size == 0 or self.path(pointer.sha256).stat().st_size == pointer.size
        except OSError:
            return False

    def read(self, pointer: LfsPointer) -> Iterator[bytes]:
        """The content in pieces; raise `MissingDataError`, or `CorruptError` at the end if it has another digest."""
        if pointer.size == 0:
            return
        digest = hashlib.sha256()
        try:
            with self.path(pointer.sha256).open("rb") as file:
                while piece := file.read(_READ):
                    digest.update(piece)
                    yield piece
        except FileNotFoundError:
            raise MissingDataError(f"git-lfs object '{pointer.sha256.hex()}' is missing") from None
        if digest.digest() != pointer.sha256:
            raise CorruptError(
                f"git-lfs object '{pointer.sha256.hex()}' is damaged: its sha256 is {digest.hexdigest()}"
            )

    def write(self, pieces: Iterable[bytes]) -> bytes:
        """Keep content durably; give its pointer."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary / f"gitml-{os.urandom(8).hex()}"
        digest = hashlib.sha256()
        try:
            size = write_new(temporary, pieces, digest)
            target = self.path(digest.digest())
            if size and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return format_lfs_pointer(digest.digest(), size)


def is_lfs_installed() -> bool:
    """Whether the program git-lfs can be run."""
    return shutil.which("git-lfs") is not None
