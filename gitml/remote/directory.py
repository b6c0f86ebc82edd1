"""A directory as a store: what `Bucket` does with objects, done with files.

Files have no conditional write, so the comparison and the replacement happen under a lock of the kernel.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from obstore.store import LocalStore, MemoryStore

from gitml.remote.bucket import Bucket, Version, cut_short

_LARGE = 1 << 20
"""Bytes of a file that are brought to the disk at once."""


class DirectoryBucket(Bucket):
    """A directory as a store. What is written is on the disk before `exchange` makes it visible."""

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__(_local(directory) if directory.is_dir() else MemoryStore(), url)
        self._directory = directory
        self._unsynced: list[str] = []

    def write(self, key: str, data: bytes) -> None:
        """As for any bucket; the directory is made where there is none."""
        self._make()
        super().write(key, data)
        if len(data) >= _LARGE:
            # while other threads copy; one after the other at the end the disk would wait for us, then we for it
            try:
                _sync_file(self._directory / key)
            except OSError as error:
                raise self._error("write", key, error) from None
        with self._lock:
            self._unsynced.append(key)

    def write_part(self, key: str, source: int, start: int, end: int) -> None:
        """As for any bucket. The kernel copies, nothing passes through our memory, and the disk begins at once."""
        self._make()
        path = self._directory / key
        new = path.with_name(f"{path.name}#{os.urandom(4).hex()}")
        with self._request("PUT", key, large=True) as noted:
            noted.size = end - start
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    _copy(source, descriptor, start, end)
                    os.fsync(descriptor)
                    new.rename(path)
                finally:
                    os.close(descriptor)
                    new.unlink(missing_ok=True)
            except OSError as error:
                raise self._error("write", key, error) from None
        with self._lock:
            self._unsynced.append(key)

    def tidy(self, seconds: float) -> None:
        """As for any bucket; neither git nor a listing sees such files, only the clock of the file system tells."""
        over = time.time() - seconds
        for path in (*self._directory.glob(".refs.json.*"), *self._directory.glob("packs/**/*#*")):
            with suppress(OSError):
                if path.stat().st_mtime <= over:
                    path.unlink()

    def rely_on(self, key: str) -> None:
        """As for any bucket: a push that was killed may have left it in memory only."""
        with self._lock:
            self._unsynced.append(key)

    def exchange(self, key: str, data: bytes, version: Version | None) -> bool:
        """As for any bucket; under a lock of the kernel, which goes with its process."""
        with self._request("PUT", key) as noted:
            noted.size = len(data)
            try:
                self._make()
                gone = self._sync()
                if not gone:
                    return self._replace(self._directory / key, data, version)
                if _version_of(self._directory / key) == version:
                    raise FileNotFoundError(errno.ENOENT, "somebody removed it meanwhile", gone[0])
                return False  # a sweep did, which has changed the state
            except OSError as error:
                raise self._error("write", key, error) from None

    def read_versioned(self, key: str) -> tuple[bytes, Version] | None:
        """As for any bucket."""
        data = self.read(key)
        return None if data is None else (data, _digest(data))

    def minds_conditions(self) -> bool:
        """A file system with locks does."""
        return True

    def _make(self) -> None:
        if isinstance(self._store, MemoryStore):
            self._directory.mkdir(parents=True, exist_ok=True)
            self._store = _local(self._directory)

    def _sync(self) -> list[str]:
        """Have on the disk what was written since the last time; give what of it is not there any more."""
        with self._lock:
            keys, self._unsynced = self._unsynced, []
        gone = []
        for key in keys:
            try:
                _sync_file(self._directory / key)
            except FileNotFoundError:
                gone.append(key)
        directories: set[Path] = set()
        for key in keys:
            # up to the store itself: a directory is on the disk once the one that names it is
            directories.update(each for each in (self._directory / key).parents if each.is_relative_to(self._directory))
        for directory in directories:
            with suppress(FileNotFoundError):
                _sync_file(directory)
        return gone

    def _replace(self, path: Path, data: bytes, version: Version | None) -> bool:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _version_of(path) != version:
                return False
            new = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
            try:
                with new.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                new.rename(path)
            finally:
                new.unlink(missing_ok=True)
            os.fsync(descriptor)
            return True
        finally:
            os.close(descriptor)


def _local(directory: Path) -> LocalStore:
    return LocalStore(prefix=directory, automatic_cleanup=True)


def _version_of(path: Path) -> Version | None:
    try:
        return _digest(path.read_bytes())
    except FileNotFoundError:
        return None


def _digest(data: bytes) -> Version:
    return {"e_tag": sha256(data).hexdigest()}


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Append those bytes of one open file to another."""
    copied = 0
    while start < end:
        try:
            copied = os.copy_file_range(source, target, end - start, start)
        except (AttributeError, OSError) as error:  # another system, another file system, or one that cannot
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            copied = os.write(target, os.pread(source, min(end - start, _LARGE), start))
        if copied == 0:
            raise cut_short()
        start += copied


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
