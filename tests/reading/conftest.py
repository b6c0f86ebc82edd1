"""A repository with a little of everything, made without a filter, and a clone that has no content."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.git.data import DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.store.content import store_content
from gitml.store.pointer import format_pointer


def noise(size: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Store:
    """A repository whose commits are made from contents: 64 KiB and more become pointers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def repository(self) -> Repository:
        return Repository.discover(self.path)

    def git(self, *arguments: str, stdin: bytes | None = None) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def commit(self, files: dict[bytes, bytes], links: dict[bytes, bytes] | None = None, *, cover: bool = True) -> str:
        """Commit exactly these files on the branch; bytes that start with `raw:` are stored as a plain blob."""
        repository = self.repository
        lines: list[bytes] = []
        with (
            GitOdb(repository.git, repository.format) as odb,
            PackWriter(repository.objects_dir, repository.format, reader=odb) as pack,
        ):
            for path, content in files.items():
                blob = content.removeprefix(b"raw:")
                if len(content) >= 65536 and blob == content:
                    blob = format_pointer(store_content([content], pack).pointer)
                lines.append(b"100644 %s\t%s\0" % (pack.write("blob", blob).hex().encode(), path))
            for path, target in (links or {}).items():
                lines.append(b"120000 %s\t%s\0" % (pack.write("blob", target).hex().encode(), path))
            pack.finish()
            self.git("read-tree", "--empty")
            self.git("update-index", "-z", "--index-info", stdin=b"".join(lines))
            self.git("commit", "-q", "--allow-empty", "-m", "files")
            if cover:
                DataLog(repository, odb).cover_commit(repository.resolve("HEAD"))
        return self.git("rev-parse", "HEAD")

    def blobs(self) -> set[str]:
        """Every blob that is here."""
        listed = self.git("cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)").splitlines()
        return {line.removeprefix("blob ") for line in listed if line.startswith("blob ")}


@pytest.fixture
def store(repo: Path) -> Store:
    return Store(repo)


@pytest.fixture
def away(tmp_path: Path) -> Callable[[Store], Store]:
    """A fresh clone of what a store has, without its content."""

    def clone(origin: Store) -> Store:
        subprocess.run(["git", "clone", "-q", "--no-checkout", f"file://{origin.path}", tmp_path / "clone"], check=True)
        return Store(tmp_path / "clone")

    return clone
