"""Reading objects through one long-running `git cat-file --batch`.

Git itself reads: alternates, promisor remotes, replaced packs and both hashes work as everywhere else
(measured at 1.8 GB/s for stored blobs, 3 ms to start).
"""

import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import islice
from types import TracebackType
from typing import IO, Self

from gitml.errors import CorruptError
from gitml.git.command import ENDING_ALL, Git
from gitml.oid import ObjectFormat, Oid
from gitml.store.odb import Kind, MissingObjectError

_GROUP = 4096


class GitOdb:
    """An `ObjectReader` on a repository. Safe to share between threads; close it, or use it in `with`."""

    def __init__(self, git: Git, object_format: ObjectFormat) -> None:
        self.format = object_format
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the git process; a later read starts another."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.terminate()  # a process forked from ours may hold the pipe open
            process.wait()

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError`, or `CorruptError` if git cannot read it."""
        found = self.lookup(oid.hex())
        if found is None:
            raise MissingObjectError(oid)
        return found[1], found[2]

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        return self._git.run("cat-file", "-e", oid.hex(), check=False).returncode == 0

    def lookup(self, name: str) -> tuple[Oid, Kind, bytes] | None:
        """The object that any one-line revision names (`<oid>`, `<rev>:<path>`), None if there is none."""
        with self._lock:
            while True:
                with self._request(name) as (pipe, header):
                    if header is None:
                        return None
                    oid, kind, size = header
                    data = pipe.read(size)
                if len(data) == size:
                    return oid, kind, data
                if not self._was_interrupted():
                    raise self._ended(oid.hex())

    @contextmanager
    def open(self, oid: Oid) -> Iterator[tuple[Kind, int, Iterator[bytes]]]:
        """Kind, size in bytes, and content in pieces, for blobs that must not be held whole.

        Other reads wait until the block ends. Raise `MissingObjectError`, or `CorruptError` if git cannot read it.
        """
        with self._lock, self._request(oid.hex()) as (pipe, header):
            if header is None:
                raise MissingObjectError(oid)
            _, kind, size = header
            left = size

            def pieces() -> Iterator[bytes]:
                nonlocal left
                while left:
                    piece = pipe.read(min(left, 1 << 20))
                    if not piece:
                        left = 0
                        raise self._ended(oid.hex())
                    left -= len(piece)
                    yield piece

            try:
                yield kind, size, pieces()
            finally:
                while left:
                    skipped = pipe.read(min(left, 1 << 20))
                    if not skipped:
                        break
                    left -= len(skipped)

    @contextmanager
    def _request(self, name: str) -> Iterator[tuple[IO[bytes], tuple[Oid, Kind, int] | None]]:
        if "\n" in name:
            yield BytesIO(), None
            return
        process, header = self._ask(name)
        if not header and self._was_interrupted():
            process, header = self._ask(name)
        if not header:
            raise self._ended(name)
        assert process.stdout is not None
        fields = header.split()
        if len(fields) != 3 or not fields[2].isdigit():
            yield process.stdout, None
            return
        yield process.stdout, (Oid.parse(fields[0]), fields[1].decode(), int(fields[2]))
        process.stdout.read(1)

    def _ask(self, name: str) -> tuple[subprocess.Popen[bytes], bytes]:
        """The process and the line with which it answers; empty if it has ended."""
        if self._process is None:
            self._process = self._git.popen("cat-file", "--batch")
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(name.encode("utf-8", "surrogateescape") + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return process, b""
        return process, process.stdout.readline()

    def _was_interrupted(self) -> bool:
        """Whether Ctrl-C or the like has ended the process, which is in one group with us; a later read starts another.

        Who is left has something to put in order, and needs to read for it.
        """
        process = self._process
        if process is None or process.wait() not in ENDING_ALL:
            return False
        self.close()
        return True

    def _ended(self, name: str) -> CorruptError:
        """What to raise when git gave up: it ends at an object that it cannot read."""
        self.close()
        return CorruptError(f"object '{name}' is damaged, git cannot read it", hint="see: git fsck")


def read_many(git: Git, oids: Iterable[Oid]) -> Iterator[tuple[Oid, Kind, bytes]]:
    """Those of many small objects that are here, without a round trip for each; in order."""
    waiting = iter(oids)
    while group := list(islice(waiting, _GROUP)):
        listed = b"".join(oid.hex().encode() + b"\n" for oid in group)
        answer = git.output("cat-file", "--batch", "--buffer", input=listed)
        at = 0
        for oid in group:  # one answer for each, in order
            end = answer.index(b"\n", at)
            fields = answer[at:end].split()
            at = end + 1
            if len(fields) == 3 and fields[2].isdigit():
                size = int(fields[2])
                yield oid, fields[1].decode(), answer[at : at + size]
                at += size + 1
