"""Reading what is here, and nothing else: no fetch on the way, and one damaged object is not the end of reading.

`git cat-file --batch` ends when it meets a damaged object, so it is started again; git's words about it are left out.
"""

import subprocess
from collections.abc import Mapping
from contextlib import suppress

from gitml.errors import CorruptError
from gitml.git.command import Git
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.odb import Kind, MissingObjectError


class DamagedObjectError(CorruptError):
    """An object is stored, and git cannot read it or its bytes are not those of its name. Carries `oid`."""

    def __init__(self, oid: Oid) -> None:
        super().__init__(f"object '{oid}' is damaged")
        self.oid = oid


class LocalReader:
    """An `ObjectReader` on a repository that never fetches. One for each thread."""

    def __init__(self, repo: Repository, index: ObjectIndex | None = None) -> None:
        self.format = repo.format
        self.index = index or ObjectIndex(repo.objects_dir, repo.format)
        self._odb = GitOdb(_QuietGit(repo.git.git_dir, repo.git.worktree), repo.format)

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError` or `DamagedObjectError`. Bytes are not hashed."""
        if len(oid) != self.format.size or not self.has(oid):
            raise MissingObjectError(oid)
        try:
            return self._odb.read(oid)
        except (MissingObjectError, CorruptError, EOFError, OSError):
            self.close()
        # a pack may have been replaced by another under our hands: once more, with fresh eyes
        self.index.refresh()
        try:
            return self._odb.read(oid)
        except (MissingObjectError, CorruptError, EOFError, OSError):
            self.close()
        if self.has(oid):
            raise DamagedObjectError(oid)
        raise MissingObjectError(oid)

    def has(self, oid: Oid) -> bool:
        """Whether the object is stored here, damaged or not."""
        return self.index.has(oid)

    def close(self) -> None:
        """End the git process; a later read starts another."""
        with suppress(OSError):
            self._odb.close()


class _QuietGit(Git):
    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return super().environment({"GIT_NO_LAZY_FETCH": "1", **(extra or {})})

    def popen(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.worktree or self.git_dir,
            env=self.environment(env),
        )
