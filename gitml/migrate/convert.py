"""Contents from one form to another: each distinct one read once, verified, stored once; two at a time.

What is written goes to packs of a scratch repository. Between two whole objects of one pack git looks for no delta
when it repacks (git: builtin/pack-objects.c, try_delta). So successive versions of a path go to different packs: each
job has a *lane*.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from enum import Enum
from types import TracebackType
from typing import Self

from gitml.errors import CorruptError, GitmlError, MissingDataError
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.provenance.codec import printable
from gitml.record import record
from gitml.store.content import SMALL, store_content
from gitml.store.pointer import format_pointer

LANES = 8
"""Packs over which the versions of a path are spread."""

_THREADS = 2
_NAMED = 10


class Form(Enum):
    """How the content of a file is kept in the tree."""

    PLAIN = "git"
    GITML = "gitml"
    LFS = "lfs"
    DVC = "dvc"
    """By a file beside it that speaks of it."""


@record
class Job:
    """One content to convert. `path` is one place where it stands, `lane` the number of the version there."""

    key: bytes
    path: bytes
    size: int
    lane: int
    read: Callable[[GitOdb], Iterator[bytes]]


Keep = Callable[[Job, Iterator[bytes]], bytes]
"""Keeps a content outside of git; gives what stands in the tree for it."""

Report = Callable[[str, int, int, int], None]
"""Phase, things done, things in all, bytes done."""


class ConversionError(GitmlError):
    """Contents that are not here or damaged, so nothing was changed. Carries the `reasons` by path."""

    def __init__(self, reasons: Mapping[bytes, GitmlError]) -> None:
        first = next(iter(reasons.values()))
        lines = [f"'{printable(path)}': {error.message}" for path, error in list(reasons.items())[:_NAMED]]
        more = [f"and {len(reasons) - _NAMED} more"] if len(reasons) > _NAMED else []
        what = "damaged" if any(isinstance(error, CorruptError) for error in reasons.values()) else "missing"
        count = f"{len(reasons)} contents are" if len(reasons) > 1 else "one content is"
        super().__init__("\n".join([f"{count} {what}, nothing was changed", *lines, *more]), hint=first.hint)
        self.reasons = dict(reasons)
        self.exit_code = CorruptError.exit_code if what == "damaged" else MissingDataError.exit_code


@record
class Converted:
    """The new blob for each key, and by path why others could not be converted."""

    blobs: Mapping[bytes, Oid]
    failed: Mapping[bytes, GitmlError]


class Converter:
    """Writes contents in the form `target` into packs of the repository `scratch`. A context manager.

    Where that form keeps them outside of git, `keep` does. Objects are readable after `convert`.
    """

    def __init__(self, scratch: Repository, target: Form, keep: Keep) -> None:
        self._repo = scratch
        self._target = target
        self._keep = keep
        self._known = _Known(scratch)
        self._lanes: dict[int, PackWriter] = {}
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def convert(self, jobs: Sequence[Job], report: Report) -> Converted:
        """Do all jobs that can be done and finish the packs."""
        done: dict[bytes, Oid] = {}
        failed: dict[bytes, GitmlError] = {}
        total, count, size = len(jobs), 0, 0
        with ThreadPoolExecutor(_THREADS, "convert") as pool:
            waiting = iter(jobs)
            readers = threading.local()

            def work() -> None:
                nonlocal count, size
                with GitOdb(self._repo.git, self._repo.format) as readers.odb:
                    while True:
                        with self._lock:
                            job = next(waiting, None)
                        if job is None:
                            return
                        try:
                            done[job.key] = self._convert(job, readers.odb)
                        except GitmlError as error:
                            failed[job.path] = error
                        with self._lock:
                            count, size = count + 1, size + job.size
                            report("contents", count, total, size)

            for each in [pool.submit(work) for _ in range(_THREADS)]:
                each.result()
        for writer in self._lanes.values():
            writer.finish()
        return Converted(done, failed)

    def _convert(self, job: Job, odb: GitOdb) -> Oid:
        pack = self._lane(job.lane % LANES)
        pieces = job.read(odb)
        if self._target in (Form.LFS, Form.DVC):
            return pack.write("blob", self._keep(job, pieces))
        if job.size < SMALL:
            return pack.write("blob", b"".join(pieces))
        if self._target is Form.GITML:
            return pack.write("blob", format_pointer(store_content(pieces, pack, size=job.size).pointer))
        return pack.write_stream("blob", job.size, pieces)

    def _lane(self, number: int) -> PackWriter:
        with self._lock:
            if number not in self._lanes:
                writer = PackWriter(self._repo.objects_dir, self._repo.format, known=self._known)
                self._lanes[number] = self._stack.enter_context(writer)
                self._known.writers = tuple(self._lanes.values())
            return self._lanes[number]


class _Known(ObjectIndex):
    """What the repository has, and what is in packs that are being written."""

    def __init__(self, repo: Repository) -> None:
        super().__init__(repo.objects_dir, repo.format)
        self.writers: tuple[PackWriter, ...] = ()

    def has(self, oid: Oid) -> bool:
        return any(writer.holds(oid) for writer in self.writers) or super().has(oid)


def read_plain(oid: Oid) -> Callable[[GitOdb], Iterator[bytes]]:
    """Reads a blob as it is."""

    def read(odb: GitOdb) -> Iterator[bytes]:
        with odb.open(oid) as (_, _, pieces):
            yield from pieces

    return read


def lanes(versions: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """For every content of (path, key), in the order of history, the number of the version that it is at its path."""
    counts: dict[bytes, int] = {}
    found: dict[bytes, int] = {}
    for path, key in versions:
        if key not in found:
            found[key] = counts.get(path, 0)
            counts[path] = found[key] + 1
    return found
