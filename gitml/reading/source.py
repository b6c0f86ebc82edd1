"""Where objects come from: packs of this repository, git, and remotes for what is not here.

Everything that a file needs is asked for at once, so that what is missing is fetched in one request. Chunks are checked
against their ids. A process that was forked opens descriptors and a git process of its own. Hides all of this behind
"bring these here" and "read this".
"""

import errno
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from gitml.errors import CorruptError, GitmlError, MissingDataError
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex
from gitml.git.packreader import LocalOdb, PackReader
from gitml.git.promisor import fetch_missing
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.content import read_chunk
from gitml.store.manifest import Chunk, Manifest, ManifestError, missing_parts, read_manifest
from gitml.store.odb import Kind, MissingObjectError
from gitml.store.pointer import Pointer


class ReadingError(GitmlError, OSError):
    """Why something cannot be read: one of our errors and one of Python's, with its `errno`."""

    number = errno.EIO

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno = self.number
        if hint is not None:
            self.add_note(f"hint: {hint}")

    def __str__(self) -> str:
        return self.message


class ContentMissingError(ReadingError, MissingDataError):
    """Content of a file is neither here nor on a remote that could be asked. The file itself exists."""

    exit_code = MissingDataError.exit_code


class ContentDamagedError(ReadingError, CorruptError):
    """Stored bytes are not what their name, manifest or pointer promises."""

    exit_code = CorruptError.exit_code


class _Open(NamedTuple):
    """What is open in one process."""

    process: int
    odb: GitOdb
    known: ObjectIndex
    packs: PackReader


class Source:
    """Objects of one repository, verified, fetched where needed. Threads may share it. Close it when done."""

    def __init__(self, repo: Repository, *, fetch: bool = True) -> None:
        self.repo = repo
        self.format = repo.format
        self._fetch = fetch
        self._open: _Open | None = None
        self._lock = threading.RLock()
        self._fetching = threading.Lock()
        self._process = os.getpid()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def close(self) -> None:
        """End the git process and close the packs; a later read opens them again."""
        opened, self._open = self._open, None
        if opened is not None and opened.process == os.getpid():
            opened.packs.close()
            opened.odb.close()

    def has(self, oid: Oid) -> bool:
        """Whether an object is here, as far as was looked."""
        return self._now().known.has(oid)

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """An object's kind and content, fetched if it is not here; raise `MissingObjectError`, `CorruptError`."""
        try:
            return self._now().packs.read(oid)
        except MissingObjectError:
            if self._bring([oid]):
                raise
            return self._now().packs.read(oid)

    def lookup(self, name: str) -> tuple[Oid, Kind, bytes] | None:
        """The object that a revision names, None if there is none."""
        return self._now().odb.lookup(name)

    def odb(self) -> GitOdb:
        """Git itself, for blobs that must not be held whole."""
        return self._now().odb

    def bring(self, oids: Iterable[Oid]) -> None:
        """Have all of `oids` here, what is missing in one request; raise `ContentMissingError` if some stay away."""
        left = self._bring(oids)
        if left:
            raise ContentMissingError(
                f"{_objects(len(left))} not here, and no remote has them, first '{min(left)}'",
                hint="push them from a clone that has them: git ml push",
            )

    def manifest(self, pointer: Pointer) -> Manifest:
        """The manifest that a pointer names; raise `ContentMissingError`, `ContentDamagedError`."""
        oid = pointer.manifest
        if len(oid) != self.format.size:
            raise ContentDamagedError(f"manifest '{oid}' is named with another hash than this repository uses")
        try:
            while True:
                try:
                    manifest = read_manifest(oid, self._now().packs)
                    break
                except MissingObjectError:
                    # one level at a time, its pieces together
                    self.bring(missing_parts(oid, self._now().packs, self.has))
            if manifest.size != pointer.size:
                raise ManifestError(f"{manifest.size} bytes, the pointer says {pointer.size}", oid)
        except CorruptError as error:
            raise _damaged(error) from error
        return manifest

    def chunk(self, chunk: Chunk, index: int) -> bytes:
        """The verified bytes of a chunk; raise `ContentMissingError`, `ContentDamagedError`."""
        try:
            return read_chunk(chunk, index, self)
        except MissingObjectError as error:
            raise ContentMissingError(
                f"chunk '{chunk.oid}' is not here, and no remote has it",
                hint="push it from a clone that has it: git ml push",
            ) from error
        except CorruptError as error:
            raise _damaged(error) from error

    def _bring(self, oids: Iterable[Oid]) -> set[Oid]:
        """Fetch what is not here; give what could not be had."""
        index = self._now().known
        missing = {oid for oid in oids if not index.has(oid)}
        if not missing:
            return set()
        # one at a time: another thread may be fetching the same
        with self._fetching:
            index.refresh()
            missing = {oid for oid in missing if not index.has(oid)}
            if not missing or not self._fetch:
                return missing
            try:
                left = fetch_missing(self.repo, missing)
            except GitmlError as error:
                raise ContentMissingError(
                    f"{_objects(len(missing))} not here: {error.message}", hint=error.hint
                ) from error
            except OSError as error:
                raise ContentMissingError(
                    f"{_objects(len(missing))} not here and cannot be kept: {error.strerror or error}"
                ) from error
            index.refresh()
            return left

    def _now(self) -> _Open:
        """What is open in this process; after a fork new things, as a pipe cannot be shared."""
        opened = self._open
        if opened is not None and opened.process == os.getpid():
            return opened
        if self._process != os.getpid():
            # whoever held these locks is not in this process
            self._process, self._lock, self._fetching = os.getpid(), threading.RLock(), threading.Lock()
        with self._lock:
            if self._open is None or self._open.process != os.getpid():
                odb = GitOdb(self.repo.git, self.format)
                index = ObjectIndex(self.repo.objects_dir, self.format)
                self._open = _Open(os.getpid(), odb, index, PackReader(index, LocalOdb(index, odb)))
            return self._open


def _damaged(error: CorruptError) -> ContentDamagedError:
    return ContentDamagedError(error.message, hint=error.hint or "look closer: git ml fsck --deep")


def _objects(number: int) -> str:
    return f"{number:,} objects of the content are" if number != 1 else "1 object of the content is"
