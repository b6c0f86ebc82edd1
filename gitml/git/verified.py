"""Pointers whose sha256 is known to be that of the content which their manifest names.

A pointer says two things about a content, and anybody can write one in which they contradict each other. So whoever
compares a file with what its pointer names has to compute both, the names of its chunks and the sha256 of the whole. Of
a pointer that was made here, or compared here once, the names are enough: they take half of the time, and as many
processors as there are.

Digests of such pointers are appended to one file. Whatever else it may hold is the digest of no pointer.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from gitml.git.repository import Repository
from gitml.store.pointer import Pointer, format_pointer

LARGE = 16 << 20
"""Bytes of a content from which on its pointer is remembered: less is hashed in no time."""
_MOST = 1 << 16
"""Pointers that are remembered; of more only the newer half stays."""
_SIZE = hashlib.sha256().digest_size


class VerifiedPointers:
    """The pointers that are known to be right in one repository. Failing to remember one is no harm."""

    def __init__(self, repo: Repository) -> None:
        self._path = repo.state_dir / "verified"
        self._known: dict[bytes, None] | None = None

    def __contains__(self, pointer: Pointer) -> bool:
        return pointer.size >= LARGE and _digest(pointer) in self._digests()

    def add(self, pointer: Pointer) -> None:
        """Remember a pointer: both of its digests were computed from the same bytes."""
        if pointer.size < LARGE or pointer in self:
            return
        digests = self._digests()
        digests[_digest(pointer)] = None
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                if size % _SIZE == 0 and size < _MOST * _SIZE:
                    os.write(descriptor, _digest(pointer))
                    return
            finally:
                os.close(descriptor)
            _replace(self._path, list(digests)[-_MOST // 2 :])

    def _digests(self) -> dict[bytes, None]:
        if self._known is None:
            data = b""
            with suppress(OSError):
                data = self._path.read_bytes()
            self._known = dict.fromkeys(data[at : at + _SIZE] for at in range(0, len(data), _SIZE))
        return self._known


def _digest(pointer: Pointer) -> bytes:
    return hashlib.sha256(format_pointer(pointer)).digest()


def _replace(path: Path, digests: list[bytes]) -> None:
    temporary = path.with_name(f"{path.name}-{os.getpid()}")
    try:
        temporary.write_bytes(b"".join(each for each in digests if len(each) == _SIZE))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
