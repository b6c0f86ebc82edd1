"""Content in the place of its pointer: read, verified, written aside and renamed, by two threads.

A file is either the pointer that it was or the whole content, never a part of it; what the user changes meanwhile is
left alone. Small files are filled in side by side. Of a large one the chunks are read, inflated and written by two
threads while a third computes the digest of the whole in order, so that neither the length of a file nor the number of
files decides how much memory it takes. Content that was just filled in elsewhere is shared with that file where the
file system can (`FICLONE`).
"""

import errno
import fcntl
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gitml.errors import GitmlError
from gitml.git.places import Places, file_state
from gitml.git.repository import Repository
from gitml.store.content import ContentError, read_content
from gitml.store.manifest import Chunk, Manifest, ManifestError, read_manifest
from gitml.store.odb import ObjectReader
from gitml.store.pointer import MAX_POINTER_SIZE, MIN_POINTER_SIZE, Pointer, is_pointer, parse_pointer

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_THREADS = 2
_SMALL = 4 << 20
"""Bytes up to which a file is filled in by one thread, beside others."""
_FILES_AHEAD = 16
_CHUNKS_AHEAD = 12
_BACKDATED = 2_000_000_000
_FICLONE = 0x40049409
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Filling(NamedTuple):
    """A file to fill in: its path, the pointer's text that stands there, the state that the file has then."""

    path: bytes
    text: bytes
    state: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the content, 0 if the pointer is malformed."""
        try:
            return parse_pointer(self.text).size
        except GitmlError:
            return 0


class Filled(NamedTuple):
    """What became of a file: its state with its content, or why it has none; neither if it changed meanwhile."""

    filling: Filling
    state: os.stat_result | None = None
    error: GitmlError | None = None


class NoSpaceError(GitmlError):
    """The file system is full, or the user's share of it."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no space left for {size} bytes", hint="make room, then: git ml checkout")


def standing_pointer(places: Places, path: bytes) -> Filling | None:
    """The pointer, sound or not, that stands at a path of the worktree; None if something else does."""
    place = places.of(path)
    try:
        if place is None:
            return None
        found = place.lstat()
        if not stat.S_ISREG(found.st_mode) or not MIN_POINTER_SIZE <= found.st_size <= MAX_POINTER_SIZE:
            return None
        with place.open("rb") as file:
            text = file.read(MAX_POINTER_SIZE + 1)
    except OSError:
        return None
    return Filling(path, text, file_state(found)) if is_pointer(text) else None


class Filler:
    """Fills files in, with content from `reader`, which several threads call.

    `advance` is told, from the calling thread, how many bytes came into place since the last call.
    """

    def __init__(
        self, repo: Repository, places: Places, reader: ObjectReader, advance: Callable[[int], None] = lambda _: None
    ) -> None:
        self._repo = repo
        self._places = places
        self._reader = reader
        self._advance = advance
        self._clonable = True
        self._made: dict[bytes, tuple[Path, tuple[int, ...]]] = {}

    def fill(self, fillings: Iterable[Filling]) -> Iterator[Filled]:
        """Fill in all of them, and give what became of each as it is known."""
        # loads the logging package, which whoever finds no pointer does without
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="fill") as pool:
            waiting: deque[tuple[int, Future[Filled]]] = deque()
            try:
                for filling in fillings:
                    size = filling.size
                    if size <= _SMALL:
                        waiting.append((size, pool.submit(self._fill, filling, None)))
                        if len(waiting) > _FILES_AHEAD:
                            yield self._ended(*waiting.popleft())
                        continue
                    while waiting:
                        yield self._ended(*waiting.popleft())
                    yield self._fill(filling, pool)
                while waiting:
                    yield self._ended(*waiting.popleft())
            finally:
                for _, future in waiting:
                    future.cancel()

    def _ended(self, size: int, future: "Future[Filled]") -> Filled:
        filled = future.result()
        self._advance(size)
        return filled

    def _fill(self, filling: Filling, pool: "Executor | None") -> Filled:
        try:
            return Filled(filling, self._put(filling, parse_pointer(filling.text), pool))
        except GitmlError as error:
            return Filled(filling, error=error)
        except OSError as error:
            if error.errno in _NO_SPACE:
                return Filled(filling, error=NoSpaceError(filling.size))
            return Filled(filling, error=GitmlError(f"cannot write the file: {error.strerror or error}"))

    def _put(self, filling: Filling, pointer: Pointer, pool: "Executor | None") -> os.stat_result | None:
        """Replace one pointer by its content; the file's new state, None if it is another file meanwhile."""
        place = self._places.of(filling.path)
        if place is None:
            return None
        temporary = self._temporary(place, pointer.size)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not self._clone(descriptor, pointer):
                self._write(descriptor, pointer, pool)
            os.fchmod(descriptor, stat.S_IMODE(filling.state[0]))
            # Older than the index that is written next: else git takes the file for one that may have changed in the
            # same second, and reads it again at each status (git: Documentation/technical/racy-git). And whoever
            # writes to it from now on gives it another time.
            moment = time.time_ns() - _BACKDATED
            os.utime(descriptor, ns=(moment, moment))
            made = os.fstat(descriptor)
            if standing_pointer(self._places, filling.path) != filling:
                return None
            temporary.rename(place)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
        now = place.lstat()
        same = (made.st_ino, made.st_size, made.st_mtime_ns) == (now.st_ino, now.st_size, now.st_mtime_ns)
        if not same:
            return None
        self._made[pointer.sha256] = place, file_state(now)
        return now

    def _temporary(self, place: Path, size: int) -> Path:
        """A new name on the same file system as `place`, out of the user's sight where possible."""
        room = os.statvfs(place.parent)
        if size > room.f_bavail * room.f_frsize:
            raise NoSpaceError(size)
        ours = self._repo.git_dir / "ml" / "tmp"
        ours.mkdir(parents=True, exist_ok=True)
        directory = ours if ours.stat().st_dev == place.parent.stat().st_dev else place.parent
        return directory / f".gitml-{os.urandom(8).hex()}"

    def _clone(self, descriptor: int, pointer: Pointer) -> bool:
        """Share the content of a file that was just filled in, if that is possible."""
        made = self._made.get(pointer.sha256) if self._clonable else None
        if made is None:
            return False
        try:
            source = os.open(made[0], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            if file_state(os.fstat(source)) != made[1]:
                return False
            fcntl.ioctl(descriptor, _FICLONE, source)
            return file_state(os.fstat(source)) == made[1]
        except OSError:
            self._clonable = False
            return False
        finally:
            os.close(source)

    def _write(self, descriptor: int, pointer: Pointer, pool: "Executor | None") -> None:
        """Write the content and verify it; raise `CorruptError` or `MissingObjectError`."""
        manifest = read_manifest(pointer.manifest, self._reader)
        if manifest.size != pointer.size:
            raise ManifestError(f"{manifest.size} bytes, the pointer says {pointer.size}", pointer.manifest)
        os.ftruncate(descriptor, 0)
        digest = sha256()
        for data in self._chunks(descriptor, manifest, pool):
            digest.update(data)
            if pool is not None:
                self._advance(len(data))
        if digest.digest() != pointer.sha256:
            for _ in read_content(pointer, self._reader):
                pass  # names the chunk that is damaged, or the digest
            raise ContentError("the content did not come twice the same; is the memory of this machine sound?")

    def _chunks(self, descriptor: int, manifest: Manifest, pool: "Executor | None") -> Iterator[bytes]:
        """The chunks in order, each already written in its place; with `pool` several are on their way at once."""
        places = _offsets(manifest.chunks)
        if pool is None:
            for place in places:
                yield self._write_chunk(descriptor, *place)
            return
        waiting: deque[Future[bytes]] = deque()
        try:
            for place in places:
                waiting.append(pool.submit(self._write_chunk, descriptor, *place))
                if len(waiting) > _CHUNKS_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # nobody may write to the descriptor once it is closed
            for future in waiting:
                if not future.cancel():
                    future.exception()

    def _write_chunk(self, descriptor: int, index: int, chunk: Chunk, at: int) -> bytes:
        kind, data = self._reader.read(chunk.oid)
        if kind != "blob" or len(data) != chunk.size:
            what = f"chunk '{chunk.oid}' is a {kind} of {len(data)} bytes, expected a blob of {chunk.size}"
            raise ContentError(what, chunk=chunk.oid, index=index)
        left = memoryview(data)
        while left:
            count = os.pwrite(descriptor, left, at)
            left, at = left[count:], at + count
        return data


def _offsets(chunks: Iterable[Chunk]) -> Iterator[tuple[int, Chunk, int]]:
    """Each chunk with its number and its place in the content."""
    at = 0
    for index, chunk in enumerate(chunks):
        yield index, chunk, at
        at += chunk.size
