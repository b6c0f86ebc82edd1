"""A file that is written under a name of its own, made durable, and renamed when it is whole."""

import fcntl
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from gitml.git.readahead import read_ahead

_IN_MEMORY = 1 << 20
"""Bytes of a pack that are collected before there is a file: most packs of a session are smaller."""
_COLLECTED = 64 << 10
"""Bytes from which on a write goes to the file rather than into memory first."""
_PARTS = 256
"""Parts of one write; every system takes at least 1024 (POSIX: 16)."""
_WRITEBACK = 32 << 20
"""Bytes of a large pack after which the disk is set to work, so that the last sync has little left to do."""
_BLOCK = 1 << 20


class NewFile:
    """A file under a temporary name, gone unless it is renamed. The file is made once there is more than a little."""

    def __init__(self, directory: Path, prefix: str, name: str | None = None) -> None:
        self._path = directory / (name or f"{prefix}{os.urandom(8).hex()}")
        self._directory = directory
        self._locks = name is not None
        self._held = bytearray()
        self._descriptor: int | None = None
        self._size = 0
        self._written_back = 0
        self._writeback: threading.Thread | None = None

    def __len__(self) -> int:
        return self._size + len(self._held)

    def write(self, *parts: bytes | memoryview) -> None:
        """Append."""
        size = sum(map(len, parts))
        if size < _COLLECTED and len(self._held) + size <= _IN_MEMORY:
            for part in parts:
                self._held += part
            return
        self._open()
        self._write_all([self._held, *parts])
        self._held.clear()

    def write_at(self, offset: int, data: bytes) -> None:
        """Replace what stands from `offset` on."""
        if offset < self._size:
            os.pwrite(self._fd, data, offset)
        else:
            self._held[offset - self._size : offset - self._size + len(data)] = data

    def read(self, offset: int, length: int) -> bytes:
        """What stands from `offset` on: `length` bytes, or what there is."""
        parts = []
        while length and offset < self._size and (part := os.pread(self._fd, min(length, self._size - offset), offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        if length:
            parts.append(bytes(memoryview(self._held)[offset - self._size : offset - self._size + length]))
        return b"".join(parts)

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """Everything from `start` on, in order; of much the next block is read while the last one is in use."""
        size = len(self)
        blocks = (self.read(offset, min(_BLOCK, size - offset)) for offset in range(start, size, _BLOCK))
        return read_ahead(blocks) if size - start > _WRITEBACK else blocks

    def duplicate(self) -> int | None:
        """Another descriptor of the file, which shares its lock; None if there is no file yet."""
        return None if self._descriptor is None else os.dup(self._descriptor)

    def truncate(self, size: int) -> None:
        """Forget what comes after `size` bytes."""
        if self._size <= size <= len(self):
            del self._held[size - self._size :]
            return
        if size < self._size:
            self._held.clear()
        self.spill()
        os.ftruncate(self._fd, size)
        self._size = size

    def start_sync(self) -> None:
        """Set the disk to work on all that was written, if it is much."""
        if self._size > _WRITEBACK:
            self.spill()
            self._start_writeback()

    def sync(self) -> None:
        """Wait until all is on the disk."""
        self.spill()
        self._end_writeback()
        os.fsync(self._fd)

    def rename(self, target: Path) -> None:
        """Give the file its name, and close it."""
        self.spill()
        self._path.rename(target)
        self._close()

    def discard(self) -> None:
        """Close, and remove the file unless it was renamed."""
        self._held.clear()
        if self._descriptor is not None:
            self._close()
            self._path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close, and leave the file where it is."""
        self._held.clear()
        if self._descriptor is not None:
            self._close()

    @property
    def _fd(self) -> int:
        assert self._descriptor is not None, "the file is closed"
        return self._descriptor

    def spill(self) -> None:
        """Write what was only collected."""
        self._open()
        if self._held:
            self._write_all([self._held])
            self._held.clear()

    def _open(self) -> None:
        """Make the file, unless there is one."""
        if self._descriptor is None:
            # Created read-only as git does; the umask (which core.sharedRepository users set) decides for whom.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                self._descriptor = os.open(self._path, flags, 0o444)
            except FileNotFoundError:
                self._directory.mkdir(exist_ok=True)
                self._descriptor = os.open(self._path, flags, 0o444)
            if self._locks:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _write_all(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        left, done = deque(memoryview(part) for part in parts if part), 0
        try:
            while left:
                written = os.pwritev(self._fd, list(islice(left, _PARTS)), self._size + done)
                done += written
                while left and written >= len(left[0]):
                    written -= len(left.popleft())
                if written:
                    left[0] = left[0][written:]
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        finally:
            for view in left:
                view.release()
        self._size += done
        if self._size - self._written_back >= _WRITEBACK:
            self._start_writeback()

    def _start_writeback(self) -> None:
        if self._writeback is None or not self._writeback.is_alive():
            self._written_back = self._size
            self._writeback = threading.Thread(target=_sync_data, args=(os.dup(self._fd),), name="writeback")
            self._writeback.start()

    def _end_writeback(self) -> None:
        if self._writeback is not None:
            self._writeback.join()
            self._writeback = None

    def _close(self) -> None:
        self._end_writeback()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _sync_data(descriptor: int) -> None:
    """Bring what was written to the disk and close `descriptor`; whether it worked, the sync at the end says."""
    try:
        with suppress(OSError):
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
