"""`gitml://` for fsspec: the files of a commit as a read-only file system, for pandas, Polars, Dask and others.

Found by fsspec through an entry point; nothing else imports it. Hides how URLs are spelled and what fsspec expects.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, NoReturn

from fsspec.spec import AbstractFileSystem

from gitml.oid import Oid
from gitml.reading.source import ReadingError
from gitml.reading.view import ContentFile, File, Found, UnknownRevisionError, View
from gitml.store.tree import MODE_GITLINK, MODE_LINK, MODE_TREE, Entry

_URL = re.compile(r"gitml://(?:(?P<place>(?:[^@]|@\{[^}]*\})*)@(?!\{))?(?P<path>.*)", re.DOTALL)

Info = dict[str, Any]


class ReadOnlyError(ReadingError):
    """A commit cannot be written to."""

    number = errno.EROFS


class GitmlFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files of one commit: `gitml://[[REPO:]REV@]PATH`, or `rev` and `repo` as storage options.

    It shows the commit that `rev` named when the object was made, also after it was pickled. `repo` is a directory in
    the repository. Paths are from its top. With `fetch` false, no remote is asked for content that is not here.
    """

    protocol = "gitml"
    root_marker = ""
    # HEAD of now and HEAD of later are two file systems
    cachable = False

    def __init__(
        self, repo: str | os.PathLike[str] = ".", rev: str = "HEAD", *, fetch: bool = True, **storage_options: Any
    ) -> None:
        super().__init__(**storage_options)
        try:
            self._view = View.open(repo, rev or "HEAD", fetch=fetch)
        except UnknownRevisionError as error:
            hint = "in a URL the revision stands before '@'; a path with '@' in it is written gitml://@PATH"
            raise UnknownRevisionError(error.message, hint=f"{error.hint}\n{hint}") from None
        place = self._view.source.repo
        self._pinned = {
            **storage_options,
            "repo": os.fspath(place.worktree or place.git_dir),
            "rev": (self._view.commit or self._view.tree).hex(),
            "fetch": fetch,
        }
        self._files: dict[Oid, File] = {}

    @property
    def storage_args(self) -> tuple[()]:
        """None: all is in `storage_options`."""
        return ()

    @storage_args.setter
    def storage_args(self, given: tuple[Any, ...]) -> None:
        pass

    @property
    def storage_options(self) -> dict[str, Any]:
        """What makes the same file system elsewhere: the commit, not the name that it had."""
        return self._pinned

    @storage_options.setter
    def storage_options(self, given: dict[str, Any]) -> None:
        pass

    @property
    def _fs_token(self) -> str:
        return f"gitml {self._pinned['repo']} {self._pinned['rev']}"

    @property
    def fsid(self) -> str:
        """The repository and the commit."""
        return self._fs_token

    def close(self) -> None:
        """End the git process that reads; a later read starts another."""
        self._view.close()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = os.fspath(path)
        text = text.removeprefix("gitml::")
        match = _URL.fullmatch(text)
        return (match["path"] if match else text).strip("/")

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path."""
        if name.startswith("gitml://"):
            return name
        return f"gitml://{'@' if '@' in name else ''}{name}"

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        match = _URL.fullmatch(os.fspath(path))
        if match is None or not match["place"]:
            return {}
        repo, _, rev = match["place"].rpartition(":")
        return {name: value for name, value in (("repo", repo), ("rev", rev)) if value}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What is in a directory, or the file itself; details as `info` gives them."""
        name = self._strip_protocol(path)
        found = self._view.find(os.fsencode(name))
        if not found.is_directory:
            return [self._info(name, found)] if detail else [name]
        entries = self._view.list(found.path)
        names = {f"{name}/{os.fsdecode(each)}" if name else os.fsdecode(each): entry for each, entry in entries.items()}
        if not detail:
            return sorted(names)
        if found.entry.mode == MODE_TREE:
            self._learn(found.entry.oid, entries.values())
        return [self._child(each, entry) for each, entry in sorted(names.items())]

    def info(self, path: str, **kwargs: Any) -> Info:
        """Name, `type`, `size`, git's `mode`, `oid` of the blob or tree, `sha256` of content that is stored as chunks.

        A symbolic link shows what it leads to, and `islink`.
        """
        name = self._strip_protocol(path)
        link = self._view.find(os.fsencode(name), follow=False).entry
        info = self._info(name, self._view.find(os.fsencode(name)))
        return {**info, "islink": True, "destination": self._view.target(link)} if link.mode == MODE_LINK else info

    def walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "omit", **kwargs: Any
    ) -> Iterator[Any]:
        """As `os.walk`; links to directories are listed, not entered."""
        # this is called again for each directory
        if maxdepth != 1 and not kwargs.get("described"):
            # one git process for all, not one for each directory
            try:
                found = self._view.find(os.fsencode(self._strip_protocol(path)))
            except OSError:
                pass  # told by the walk
            else:
                if found.entry.mode == MODE_TREE:
                    self._files.update(self._view.describe(found.entry.oid, recursive=True))
        kwargs["described"] = True
        yield from super().walk(path, maxdepth=maxdepth, topdown=topdown, on_error=on_error, **kwargs)

    def checksum(self, path: str) -> int:
        """A number that is the same for the same content."""
        return int(self.ukey(path), 16)

    def ukey(self, path: str) -> str:
        """The oid at a path: equal for equal content, in every repository."""
        return str(self.info(path)["oid"])

    def created(self, path: str) -> datetime:
        """When the first commit was made that has the path."""
        return self._moment(path, first=True)

    def modified(self, path: str) -> datetime:
        """When the commit was made that changed the path last."""
        return self._moment(path, first=False)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Bytes of several ranges; what is missing of a file is fetched in one request for all its ranges."""
        if max_gap is not None:
            raise NotImplementedError
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        first = starts if isinstance(starts, list) else [starts] * len(paths)
        last = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(first) == len(last):
            raise ValueError("as many starts and ends as paths are needed")
        wanted: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            wanted.setdefault(self._strip_protocol(path), []).append(number)
        found: list[Any] = [None] * len(paths)
        for path, numbers in wanted.items():
            try:
                with ExitStack() as stack:
                    file = stack.enter_context(self._open(path))
                    limits = {number: slice(first[number], last[number]).indices(file.size)[:2] for number in numbers}
                    file.bring(list(limits.values()))
                    for number, (start, end) in limits.items():
                        file.seek(start)
                        found[number] = file.read(max(end - start, 0))
            except Exception as error:
                if on_error != "return":
                    raise
                found = [error if number in numbers else each for number, each in enumerate(found)]
        return found

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> ContentFile:
        if mode != "rb":
            self._refuse(path)
        return self._view.open_file(os.fsencode(self._strip_protocol(path)))

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Refused."""
        self._refuse(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Refused."""
        self._refuse(path)

    def rmdir(self, path: str) -> None:
        """Refused."""
        self._refuse(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Refused."""
        self._refuse(path)

    def rm_file(self, path: str) -> None:
        """Refused."""
        self._refuse(path)

    def _rm(self, path: str) -> None:
        self._refuse(path)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Refused."""
        self._refuse(path2)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: Any = None, **kwargs: Any) -> None:
        """Refused."""
        self._refuse(path1)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        """Refused."""
        self._refuse(rpath)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Refused."""
        self._refuse(path)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Refused."""
        self._refuse(path)

    def _refuse(self, path: Any) -> NoReturn:
        raise ReadOnlyError(
            f"cannot write '{path}': commits do not change", hint="write it in a worktree, then: git add && git commit"
        )

    def _learn(self, tree: Oid, entries: Any) -> None:
        """Know the files of a directory."""
        if any(not _is_directory(entry) and entry.oid not in self._files for entry in entries):
            self._files.update(self._view.describe(tree))

    def _child(self, name: str, entry: Entry) -> Info:
        """An entry of a directory; a link that leads to no file is of the type `link`."""
        if entry.mode != MODE_LINK:
            return self._info(name, Found(os.fsencode(name), entry))
        link = {"name": name, "type": "link", "size": 0, "mode": entry.mode, "oid": entry.oid.hex(), "sha256": None}
        more = {"islink": True, "destination": self._view.target(entry)}
        try:
            found = self._view.find(os.fsencode(name))
        except OSError:
            return {**link, **more}
        return {**(link if found.is_directory else self._info(name, found)), **more}

    def _info(self, name: str, found: Found) -> Info:
        entry = found.entry
        if found.is_directory:
            file, kind = File(0), "directory"
        else:
            known = self._files.get(entry.oid)
            if known is None:
                known = self._files[entry.oid] = self._view.describe_file(found)
            file, kind = known, "file"
        sha256 = file.pointer.sha256.hex() if file.pointer is not None else None
        return {
            "name": name,
            "type": kind,
            "size": file.size,
            "mode": entry.mode,
            "oid": entry.oid.hex(),
            "sha256": sha256,
        }

    def _moment(self, path: str, *, first: bool) -> datetime:
        found = self._view.find(os.fsencode(self._strip_protocol(path)))
        seconds = self._view.changed(found.path, first=first)
        if seconds is None:
            raise NotImplementedError("a tree that is not that of a commit has no dates")
        return datetime.fromtimestamp(seconds, UTC)


def _is_directory(entry: Entry) -> bool:
    return entry.mode in (MODE_TREE, MODE_GITLINK)
