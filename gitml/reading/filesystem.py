"""`gitml://`: a read-only fsspec file system over one revision, for pandas, pyarrow, polars and whoever speaks fsspec.

    pandas.read_parquet("gitml://data/x.parquet", storage_options={"rev": "v1.2"})

Spelled as fsspec spells git: `gitml://[REV@]PATH`. A revision with a slash or an `@` goes into the options; a path
whose first name has an `@` is written with an empty revision, `gitml://@at@sign/x`. `storage_options` are `repo`, a
directory of the repository (default: the current one), and `rev` (default: HEAD), which is resolved anew at each call,
so that HEAD means what it means then.
"""

import errno
import os
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from fsspec.spec import AbstractFileSystem

from gitml.git.repository import Repository
from gitml.reading.content import ContentReader
from gitml.reading.revision import Node, NoSuchPathError, Revision, Source

_SCHEME = "gitml://"


class ReadOnlyError(OSError):
    """Something was to be written. Data enters a repository by a commit."""

    def __init__(self) -> None:
        super().__init__(errno.EROFS, "gitml:// is read-only: write the file in the worktree, then git add and commit")


class GitmlFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of one revision. Names have no leading slash; `info` also has mode, oid, and sha256 where known."""

    protocol = "gitml"
    root_marker = ""

    def __init__(self, repo: str | os.PathLike[str] = ".", rev: str = "HEAD", **options: Any) -> None:
        super().__init__(repo=repo, rev=rev, **options)
        self.repo = os.path.realpath(repo)
        self.rev = rev
        if not Path(self.repo).is_dir():
            raise NoSuchPathError(os.fspath(repo), "this machine")
        self._source = Source(Repository.discover(Path(self.repo)))
        weakref.finalize(self, self._source.close)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        name = os.fsdecode(path) if isinstance(path, bytes | os.PathLike) else str(path)
        if name.startswith(_SCHEME):
            name = name.removeprefix(_SCHEME)
            first, slash, rest = name.partition("/")
            name = (first.partition("@")[2] if "@" in first else first) + slash + rest
        return name.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        first = path.removeprefix(_SCHEME).partition("/")[0]
        rev = first.partition("@")[0] if "@" in first else ""
        return {"rev": rev} if path.startswith(_SCHEME) and rev else {}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is in a directory, or the one file at `path`; raise `FileNotFoundError`."""
        revision = self._revision()
        node = revision.node(self._strip_protocol(path))
        nodes = revision.children(node.path) if node.kind == "directory" else [node]
        return [self._info(each) if detail else each.path for each in nodes]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size, type, mode, oid and sha256 of what is at `path`; raise `FileNotFoundError`."""
        return self._info(self._revision().node(self._strip_protocol(path)))

    def checksum(self, path: str) -> str:
        """What changes whenever the content does: its sha256, or git's oid where that is not known."""
        found = self.info(path)
        return str(found.get("sha256") or found["oid"])

    def ukey(self, path: str) -> str:
        """As `checksum`."""
        return self.checksum(path)

    def modified(self, path: str) -> datetime:
        """When the last commit that changed `path` was made; raise `FileNotFoundError`."""
        return self._commit_time(path, "-1")

    def created(self, path: str) -> datetime:
        """When the commit that added `path` was made; raise `FileNotFoundError`."""
        return self._commit_time(path, "--diff-filter=A")

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **_: Any
    ) -> list[Any]:
        """The bytes of several ranges; each file is opened once."""
        if max_gap is not None:
            raise NotImplementedError("ranges are never joined: chunks are")
        count = len(paths)
        starts = starts if isinstance(starts, list) else [starts] * count
        ends = ends if isinstance(ends, list) else [ends] * count
        if not len(starts) == len(ends) == count:
            raise ValueError("as many starts and ends as paths are needed")
        found: list[Any] = []
        files: dict[str, ContentReader] = {}
        try:
            for path, start, end in zip(paths, starts, ends, strict=True):
                try:
                    file = files.setdefault(path, files.get(path) or self.open(path))
                    first = start or 0
                    first = max(file.size + first, 0) if first < 0 else first
                    last = file.size if end is None else file.size + end if end < 0 else end
                    file.seek(first)
                    found.append(file.read(max(last - first, 0)))
                except Exception as error:
                    if on_error != "return":
                        raise
                    found.append(error)
        finally:
            for each in files.values():
                each.close()
        return found

    def _open(self, path: str, mode: str = "rb", **_: Any) -> ContentReader:
        if mode != "rb":
            raise ReadOnlyError
        return self._revision().open(self._strip_protocol(path))

    def _revision(self) -> Revision:
        return Revision(self._source, self.rev)

    def _info(self, node: Node) -> dict[str, Any]:
        info: dict[str, Any] = {
            "name": node.path,
            "size": node.size,
            "type": "directory" if node.kind in ("directory", "submodule") else "file",
            "mode": f"{node.mode:06o}",
            "oid": node.oid.hex(),
        }
        if node.kind == "link":
            info["islink"] = True
        if node.sha256 is not None:
            info["sha256"] = node.sha256
        return info

    def _commit_time(self, path: str, choice: str) -> datetime:
        name = self._strip_protocol(path)
        self._revision().node(name)
        listed = self._source.repo.git.lines("log", choice, "--format=%ct", self.rev, "--", f":(top,literal){name}")
        return datetime.fromtimestamp(int(listed[-1]), UTC)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ReadOnlyError

    _refused: Any = _refuse
    mkdir = makedirs = rmdir = rm = rm_file = _rm = touch = pipe = pipe_file = _refused
    put = put_file = cp_file = copy = mv = move = rename = write_text = write_bytes = _refused
