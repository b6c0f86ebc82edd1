"""Bytes of packs on their way here: ranges of what is wanted, neighbours together, several at a time.

What arrives is written where it stands in the pack, into a file that is as long as the pack and mostly holes. Beside it
a journal says which ranges are there, so a download that was killed goes on where it stood.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gitml.remote.packs import pieces
from gitml.remote.progress import Progress
from gitml.remote.state import Pack
from gitml.remote.store import PARALLEL, Store

if TYPE_CHECKING:
    import hashlib

GAP = 128 << 10
"""Bytes between two wanted ranges that are rather read than skipped: a request costs more."""

SMALL = 1 << 20
"""A pack up to this size comes whole rather than in more than two requests."""

_TINY = 64 << 10
"""A pack up to this size always comes whole: then what is wanted of it later is here."""

_WINDOW = 16 << 20
"""Bytes of a pack that are mapped at a time: they count as memory."""

Range = tuple[int, int]
"""From the first byte to the one behind the last."""


Request = tuple["PartialPack", str, int, int, int]
"""What a request is for: pack, object, where that begins in the pack, and which bytes of the pack are wanted."""


class PartialPack:
    """What is here of one pack of a store. Close it, or use it in `with`.

    A second process that wants the same pack at the same time gets a file of its own, which goes with it.
    """

    def __init__(self, place: Path, pack: Pack) -> None:
        self.pack = pack
        directory = place / "partial"
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._stays = True
        self.path = directory / f"{pack.id}.pack"
        self._descriptor = _open(self.path)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            self._stays = False
            self.path = directory / f"{pack.id}.{os.getpid()}-{os.urandom(4).hex()}.pack"
            self._descriptor = _open(self.path)
        self._journal = self.path.with_suffix(".ranges")
        self._have = _merged(self._read_journal(), 0) if os.fstat(self._descriptor).st_size else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; what is here stays for the next."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            if not self._stays:
                self.discard()

    def discard(self) -> None:
        """Close it and remove it."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    def lend(self, target: Path) -> None:
        """Give the file, which must be whole, a second name; where there are no hard links, another one."""
        try:
            target.hardlink_to(self.path)
        except OSError:
            self.path.rename(target)
            self._journal.unlink(missing_ok=True)

    def lacks(self, wanted: Iterable[Range]) -> list[Range]:
        """Those parts of ranges that are not here."""
        return _without(_merged(wanted, 0), self._have)

    def sync(self) -> None:
        """Set the disk to work; whether it did, a sync of the file at its place says."""
        with suppress(OSError):
            os.fdatasync(self._descriptor)

    def digest(self, digest: "hashlib._Hash", end: int) -> None:
        """Have `digest` take the bytes up to `end`, which are here, a window of the file at a time and not copied."""
        for start in range(0, end, _WINDOW):
            with mmap.mmap(self._descriptor, min(_WINDOW, end - start), prot=mmap.PROT_READ, offset=start) as window:
                digest.update(window)

    def read(self, start: int, end: int) -> bytes:
        """Bytes that are here."""
        return os.pread(self._descriptor, end - start, start)

    def write(self, start: int, data: bytes | memoryview) -> None:
        """Bytes that have come; safe from several threads."""
        os.pwrite(self._descriptor, data, start)
        with self._journal.open("a", encoding="ascii") as journal:
            journal.write(f"{start} {start + len(data)}\n")
        with self._lock:
            self._have = _merged([*self._have, (start, start + len(data))], 0)

    def _read_journal(self) -> list[Range]:
        found = []
        with suppress(FileNotFoundError):
            for line in self._journal.read_text("ascii", "replace").splitlines(keepends=True):
                parts = line.split()
                if line.endswith("\n") and len(parts) == 2 and all(part.isdigit() for part in parts):
                    start, end = int(parts[0]), int(parts[1])
                    if start < end <= self.pack.size:
                        found.append((start, end))
        return found


def download(store: Store, wanted: Sequence[tuple[PartialPack, Iterable[Range]]], *, label: str, shown: bool) -> None:
    """Bring ranges of packs here; what is here already does not travel. Raise `StoreError`."""
    requests: list[Request] = []
    for partial, ranges in wanted:
        lacking = _merged(partial.lacks(ranges), GAP)
        if lacking and partial.pack.size <= (SMALL if len(lacking) > 2 else _TINY):
            lacking = [(0, partial.pack.size)]
        for key, start, end in pieces(partial.pack):
            requests += [
                (partial, key, start, max(low, start), min(high, end))
                for low, high in lacking
                if low < end and start < high
            ]
    if not requests:
        return
    with Progress(label, sum(end - start for *_, start, end in requests), shown=shown) as progress:
        bringing = _Bringing(store, progress)
        _side_by_side(bringing.bring, requests)


class _Bringing:
    """Requests on their way. Without ranges every object comes whole, so it is asked for only once."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store = store
        self._progress = progress
        self._lock = Lock()
        self._asked: set[str] = set()

    def bring(self, request: Request) -> None:
        """Write what is wanted where it stands, or leave it to whoever has asked for the whole object."""
        partial, key, piece_start, start, end = request
        if not self._store.bucket.gives_ranges:
            with self._lock:
                is_asked = key in self._asked
                self._asked.add(key)
            if is_asked or not partial.lacks([(start, end)]):
                self._progress.skip(end - start)
                return
        at, data = self._store.bucket.read_around(key, start - piece_start, end - piece_start)
        partial.write(piece_start + at, data)
        self._progress.advance(end - start)


def _side_by_side(work: Callable[[Request], None], items: Sequence[Request]) -> None:
    threads = ThreadPoolExecutor(PARALLEL)
    try:
        for _ in threads.map(work, items):
            pass
    finally:
        threads.shutdown(cancel_futures=True)


def _merged(ranges: Iterable[Range], gap: int) -> list[Range]:
    """Ranges in order, those with at most `gap` bytes between them as one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start - found[-1][1] <= gap:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _without(ranges: Iterable[Range], taken: Sequence[Range]) -> list[Range]:
    """What of ranges no range of `taken` covers; both in order and apart."""
    found = []
    number = 0
    for start, end in ranges:
        at = start
        while number < len(taken) and taken[number][1] <= start:
            number += 1
        for low, high in islice(taken, number, None):
            if low >= end:
                break
            if low > at:
                found.append((at, low))
            at = max(at, high)
        if at < end:
            found.append((at, end))
    return found


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
