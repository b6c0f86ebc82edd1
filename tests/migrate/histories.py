"""Histories written in one go, and questions about what became of them."""

import hashlib
import os
import random
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gitml.git.command import Git
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.install import install
from gitml.migrate.migration import Outcome, Request, migrate
from gitml.migrate.selection import Choice
from gitml.oid import Oid
from gitml.store.content import read_content
from gitml.store.pointer import is_pointer, parse_pointer

Files = Mapping[bytes, bytes | tuple[int, bytes] | None]
"""Path to content, to mode and content, or to None for a file that goes."""


def noise(seed: int, size: int = 70_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def text(seed: int, rows: int = 12_000) -> bytes:
    numbers = random.Random(seed)
    return b"".join(b"%d,%d\n" % (row, numbers.randrange(1000)) for row in range(rows))


class History:
    """A stream for `git fast-import`."""

    def __init__(self) -> None:
        self._stream: list[bytes] = []
        self._mark = 0

    def commit(self, branch: str, message: bytes, files: Files, parents: Sequence[int] = ()) -> int:
        """Add a commit on `branch` with changes against its first parent; give its mark."""
        self._mark += 1
        when = 1_700_000_000 + 60 * self._mark
        self._stream.append(
            b"commit refs/heads/%s\nmark :%d\n" % (branch.encode(), self._mark)
            + b"author Ada <ada@example.org> %d +0100\ncommitter Bob <bob@example.org> %d +0100\n" % (when, when)
            + _data(message)
        )
        for number, parent in enumerate(parents):
            self._stream.append(b"%s :%d\n" % (b"merge" if number else b"from", parent))
        for path, file in files.items():
            quoted = b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
            if file is None:
                self._stream.append(b"D %s\n" % quoted)
                continue
            mode, content = file if isinstance(file, tuple) else (0o100644, file)
            if mode == 0o160000:
                self._stream.append(b"M 160000 %s %s\n" % (content, quoted))
            else:
                self._stream.append(b"M %o inline %s\n" % (mode, quoted) + _data(content))
        return self._mark

    def root(self, branch: str, message: bytes, files: Files) -> int:
        """As `commit`, without a parent on a branch that may have commits."""
        self._stream.append(b"reset refs/heads/%s\n\n" % branch.encode())
        return self.commit(branch, message, files)

    def tag(self, name: str, mark: int, message: bytes) -> None:
        self._stream.append(
            b"tag %s\nfrom :%d\ntagger Ada <ada@example.org> 1700000000 +0000\n" % (name.encode(), mark)
            + _data(message)
        )

    def ref(self, name: str, mark: int) -> None:
        self._stream.append(b"reset %s\nfrom :%d\n\n" % (name.encode(), mark))

    def write(self, repo: Path) -> None:
        """Put everything into a repository."""
        subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=repo, input=b"".join(self._stream), check=True)


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


class File(NamedTuple):
    mode: int
    oid: Oid
    content: bytes
    """The bytes that the user sees."""


def files_of(repo: Repository, odb: GitOdb, commit: Oid | str) -> dict[bytes, File]:
    """All files of a commit, pointers resolved (gitlinks with their oid)."""
    found = {}
    for line in repo.git.output("ls-tree", "-r", "-z", "--full-tree", str(commit)).split(b"\0"):
        meta, tab, path = line.partition(b"\t")
        if tab:
            mode, kind, name = meta.split()
            oid = Oid.parse(name)
            data = odb.read(oid)[1] if kind == b"blob" else name
            if is_pointer(data):
                data = b"".join(read_content(parse_pointer(data), odb))
            found[path] = File(int(mode, 8), oid, data)
    return found


def trees_of(git: Git, commits: Sequence[Oid]) -> list[str]:
    """The trees of commits."""
    return [git.line("rev-parse", f"{commit}^{{tree}}") for commit in commits]


def run(path: Path, *, to: str = "", source: str = "git", choice: Choice | None = None, **more: object) -> Outcome:
    """Migrate the repository at `path`: `source` to gitml, or to `to`."""
    request = Request(
        imports=not to,
        kind=to or source,
        choice=choice or Choice(),
        message="migrated",
        **more,  # type: ignore[arg-type]
    )
    return migrate(Repository.discover(path), request, lambda *_: None)


EVERYTHING = Choice(everything=True)


def set_up(path: Path) -> Repository:
    """Check the current branch out, with gitml installed."""
    subprocess.run(["git", "reset", "-q", "--hard"], cwd=path, check=True)
    repo = Repository.discover(path)
    install(repo, fetch=False)
    return repo


def status(path: Path) -> str:
    done = subprocess.run(["git", "status", "--porcelain"], cwd=path, check=True, capture_output=True)
    return os.fsdecode(done.stdout)


def refs(repo: Repository) -> dict[str, str]:
    """Branches, tags, notes and remote-tracking refs."""
    lines = repo.git.lines("for-each-ref", "--format=%(refname) %(objectname)")
    return {name: oid for name, oid in (line.split(" ") for line in lines) if not name.startswith("refs/ml/")}
