"""Where one task runs: a fresh directory with its inputs, code and parameters, and nothing else.

    <root>/cache/…              large contents, written once per run, read-only
    <root>/tasks/<n>/work       the top of the workspace: code and parameters at their repository paths
                                and in its `pfs` inputs by name, and `out`
    <root>/tasks/<n>/mounts/    code that asked for an absolute place, below that very path
    <root>/tasks/<n>/tmp/       private temporary files, with the private home directory

Small files are copied, so a task may do with them what it likes. Large ones are cloned where the file system
can, else hard links into the cache, and a task that writes through one is found out. Every placed file has the
same modification time, which makes builds repeatable and any later write visible.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from gitml.errors import CorruptError, GitmlError, UserError
from gitml.oid import Oid
from gitml.pipeline.code import CodeFile
from gitml.pipeline.contents import STAMP, Cached, Content, Contents, content_of
from gitml.pipeline.datum import DatumInput
from gitml.pipeline.removal import remove_tree
from gitml.provenance.codec import printable
from gitml.record import field, record
from gitml.store.odb import ObjectReader
from gitml.store.tree import MODE_EXECUTABLE, MODE_GITLINK, MODE_LINK, Entry, Snapshot, empty_tree

_FICLONE = 0x40049409
_SHELL_SAFE = re.compile(rb"[A-Za-z0-9_./@%+=,-]+")


class WorkspaceError(UserError):
    """What a task needs cannot be laid out as files."""


class DiskError(GitmlError):
    """The machine cannot hold a workspace: disk full, no permission, path too long."""


class _Placed(NamedTuple):
    inode: int
    size: int
    is_pointer: bool


@record(frozen=False)
class Workspace:
    """The directories of one task. A context manager: all is removed at the end.

    `alias` is `top` in a spelling that a shell command can hold without quotes.
    """

    top: Path
    alias: Path
    inputs: tuple[DatumInput, ...]
    mounts: Mapping[str, Path]
    """Absolute place of code inside the sandbox, and the directory or file that stands for it."""
    _owner: "Workspaces"
    shown: Mapping[str, Path] = field(default_factory=dict)
    """Directories of the host, by the absolute place at which the task sees them, read-only."""
    lends: bool = True
    """Whether a result may be a link to a private temporary file, or to one in the directories of code."""
    seen_at: Path | None = None
    """Where the task saw `work`, if it was not there."""
    _placed: dict[bytes, "_Placed"] = field(default_factory=dict)
    """Every input file by its path below `pfs`."""
    _linked: list[tuple[bytes, Cached]] = field(default_factory=list)
    _emptied: dict[bytes, Entry] = field(default_factory=dict)
    """Input files that stand without their bytes, by path below `pfs`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def work(self) -> Path:
        """The top of the workspace as a task sees it."""
        return self.top / "work"

    @property
    def pfs(self) -> Path:
        """What `/pfs` is."""
        return self.top / "work" / "pfs"

    @property
    def out(self) -> Path:
        """What `/pfs/out` is."""
        return self.pfs / "out"

    @property
    def tmp(self) -> Path:
        """Private temporary directory; holds `home`."""
        return self.top / "tmp"

    def changed_inputs(self) -> list[bytes]:
        """Paths below `/pfs` of inputs shared with other tasks that were written to meanwhile."""
        changed = [(path, cached) for path, cached in self._linked if not cached.intact()]
        for _, cached in changed:
            self._owner.contents.forget(cached)
        return [path for path, _ in changed]

    def untouched(self, path: bytes) -> tuple[Entry, bool] | None:
        """What git has for the input file at `path` (below `/pfs`), and whether that is a pointer.

        None if what is there now is not the file that was placed there.
        """
        known = self._placed.get(path)
        if known is None:
            return None
        now = (self.pfs / os.fsdecode(path)).lstat()
        if (now.st_ino, now.st_size) != known[:2] or now.st_mtime_ns != STAMP * 10**9:
            return None
        for item in self.inputs:
            root = _join(os.fsencode(item.name), item.path)
            if path == root:
                return item.entry, known.is_pointer
            if item.entry.is_tree and path.startswith(root + b"/"):
                entry = self._owner.entry_at(item.entry, path[len(root) + 1 :])
                return None if entry is None else (entry, known.is_pointer)
        return None

    def withheld(self, path: bytes) -> Entry | None:
        """What git has for the input file at `path` (below `/pfs`) that stands there without its bytes.

        None if it was given whole, or if what is there now is not the file that was placed.
        """
        entry = self._emptied.get(path)
        if entry is None:
            return None
        now, known = (self.pfs / os.fsdecode(path)).lstat(), self._placed[path]
        return entry if (now.st_ino, now.st_size, now.st_mtime_ns) == (known.inode, 0, STAMP * 10**9) else None

    @contextmanager
    def content(self, entry: Entry) -> Iterator[Content]:
        """The bytes behind an entry that `withheld` gave."""
        with self._owner.content(entry.oid) as found:
            yield found

    def close(self) -> None:
        """Remove everything; what a task made unreadable too."""
        for _, cached in self._linked:
            self._owner.contents.unuse(cached)
        self._linked = []
        remove_tree(self.top)


class Workspaces:
    """Builds workspaces below `root`, which belongs to one run. Safe to share between threads.

    `cache_limit` bytes of large contents are kept for later tasks once no running task uses them.
    """

    def __init__(self, root: Path, odb: ObjectReader, *, cache_limit: int = 4 << 30) -> None:
        self.root = root
        self._odb = odb
        self.contents = Contents(root / "cache", odb, cache_limit)
        self._numbers = itertools.count(1)
        # A task that outlived a killed runner still writes to its old path, which must not become another's.
        self._token = secrets.token_hex(4)
        self._trees = Snapshot(odb, empty_tree(odb.format))
        self._clones = hasattr(fcntl, "ioctl") and os.uname().sysname == "Linux"
        self._alias_home: Path | None = None
        with _reported(root):
            remove_tree(root)
            (root / "cache").mkdir(parents=True)
            (root / "tasks").mkdir()
            self._alias = self._find_alias()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything below the root, and the root."""
        remove_tree(self.root)
        if self._alias_home is not None:
            remove_tree(self._alias_home)

    def create(
        self,
        inputs: Sequence[DatumInput],
        code: Iterable[CodeFile] = (),
        files: Mapping[bytes, bytes] | None = None,
        mounts: Iterable[str] = (),
    ) -> Workspace:
        """A workspace with exactly `inputs` below `pfs`, `code`, and `files` at repository paths with given bytes.

        `mounts` are the absolute places that the stage's code asked for. Raise `WorkspaceError` for what cannot be
        laid out, `DiskError` when the machine is at fault, and whatever reading objects raises; nothing is left
        behind then.
        """
        name = f"{self._token}-{next(self._numbers)}"
        top = self.root / "tasks" / name
        code = tuple(code)
        workspace = Workspace(
            top=top,
            alias=self._alias / "tasks" / name,
            inputs=tuple(inputs),
            mounts=_mounts(top, mounts, code),
            _owner=self,
        )
        try:
            with _reported(top):
                (top / "tmp" / "home").mkdir(parents=True)
                workspace.out.mkdir(parents=True)
                placed: dict[bytes, Entry] = {}
                for item in inputs:
                    self._place_input(workspace, item, placed)
                for file in code:
                    self._place_code(workspace, file)
                for path, data in (files or {}).items():
                    _place_bytes(workspace, path, data)
                for place in workspace.mounts.values():
                    if not os.path.lexists(place):
                        place.mkdir(parents=True)
        except BaseException:
            workspace.close()
            raise
        return workspace

    def maker(
        self,
        inputs: Sequence[DatumInput],
        code: Sequence[CodeFile],
        files: Mapping[bytes, bytes],
        mounts: Sequence[str],
    ) -> Callable[..., Workspace]:
        """What makes such workspaces, as `create` does; with `inputs=False` or `code=False` without these."""
        whole = inputs, code, files, mounts

        def make(*, inputs: bool = True, code: bool = True) -> Workspace:
            return self.create(whole[0] if inputs else (), *(whole[1:] if code else ()))

        return make

    def entry_at(self, entry: Entry | None, path: bytes) -> Entry | None:
        """What the directory `entry` has at `path`, None if there is nothing."""
        for name in path.split(b"/"):
            if entry is None or not entry.is_tree:
                return None
            entry = self._trees.entries(entry.oid).get(name)
        return entry

    def _find_alias(self) -> Path:
        """The root, or a link to it if its path has characters that shells treat specially."""
        if _SHELL_SAFE.fullmatch(os.fsencode(self.root)):
            return self.root
        self._alias_home = Path(tempfile.mkdtemp(prefix="gitml-"))
        alias = self._alias_home / "run"
        alias.symlink_to(self.root.absolute())
        return alias

    def _place_input(self, workspace: Workspace, item: DatumInput, placed: dict[bytes, Entry]) -> None:
        """Put the files of an input into place. A group may bring a directory and a file in it: that is one file."""
        name = os.fsencode(item.name)
        _check_path(name)
        if item.path:
            _check_path(item.path)
        if item.entry.is_tree:
            (workspace.pfs / os.fsdecode(_join(name, item.path))).mkdir(parents=True, exist_ok=True)
        for path, entry in self._files(item.path, item.entry):
            below = _join(name, path)
            if placed.setdefault(below, entry) is not entry and placed[below] == entry:
                continue
            if entry.mode == MODE_LINK:
                self._place_link(workspace.pfs / os.fsdecode(below), path, entry, item.name)
                continue
            where = workspace.pfs / os.fsdecode(below)
            if item.empty_files:
                where.parent.mkdir(parents=True, exist_ok=True)
                _write_small(where, b"", executable=entry.mode == MODE_EXECUTABLE)
                workspace._placed[below] = _Placed(where.lstat().st_ino, 0, False)
                workspace._emptied[below] = entry
                continue
            cached, by_pointer = self._place(where, entry)
            made = where.lstat()
            workspace._placed[below] = _Placed(made.st_ino, made.st_size, by_pointer)
            if cached is not None:
                workspace._linked.append((below, cached))

    def _place_code(self, workspace: Workspace, file: CodeFile) -> None:
        target = os.fsencode(file.target)
        _check_path(target.lstrip(b"/"))
        if target.startswith(b"/"):
            where = workspace.top / "mounts" / file.target.lstrip("/")
            mount = next(place for place in workspace.mounts if _is_below(file.target, place))
            below = target[len(os.fsencode(mount)) + 1 :]
        else:
            _check_beside_pfs(target)
            where, below = workspace.work / file.target, target
        _checked_mode(target, file.entry)
        if file.entry.mode == MODE_LINK:
            self._place_link(where, below, file.entry, "code")
        else:
            self._place(where, file.entry, private=True)
            if target.startswith(b"/") and file.entry.mode != MODE_EXECUTABLE:
                _make_runnable(where)

    def _files(self, path: bytes, entry: Entry) -> Iterator[tuple[bytes, Entry]]:
        """Every file at or below `path`, checked to have a name that stays below it."""
        if path:
            _check_path(path)
        if not entry.is_tree:
            yield path, _checked_mode(path, entry)
            return
        for name, child in self._trees.entries(entry.oid).items():
            if not name or name in {b".", b".."} or b"/" in name:
                raise CorruptError(f"tree {entry.oid} has an entry called '{printable(name)}'")
            below = _join(path, name)
            if child.is_tree:
                yield from self._files(below, child)
            else:
                yield below, _checked_mode(below, child)

    def _place_link(self, where: Path, path: bytes, entry: Entry, name: str) -> None:
        target = self._odb.read(entry.oid)[1]
        _check_link(path, target, name)
        where.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            where.symlink_to(os.fsdecode(target))

    def _place(self, where: Path, entry: Entry, *, private: bool = False) -> tuple[Cached | None, bool]:
        """Put the content of `entry` at `where`.

        Give the cache entry if the two share their bytes, and whether the content is behind a pointer.
        """
        where.parent.mkdir(parents=True, exist_ok=True)
        executable = entry.mode == MODE_EXECUTABLE
        small = self.contents.small(entry.oid, executable)
        if small is not None:
            _write_small(where, small, executable=executable)
            return None, False
        cached = self.contents.use(entry.oid, executable)
        shared = False
        try:
            if os.path.lexists(where):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(where))
            shared = self._share(cached, where, private=private)
            return (cached if shared else None), cached.is_pointer
        finally:
            if not shared:
                self.contents.unuse(cached)

    def _share(self, cached: Cached, where: Path, *, private: bool) -> bool:
        """Clone, link or copy a cached file; True if it is a link."""
        if self._clones:
            try:
                _clone(cached.path, where, cached.mode | 0o200)
            except OSError:
                self._clones = False
            else:
                return False
        if not private:
            try:
                where.hardlink_to(cached.path)
            except OSError:
                pass  # another file system, or the limit of links to one file
            else:
                return True
        shutil.copyfile(cached.path, where)
        where.chmod(cached.mode | 0o200)
        os.utime(where, (STAMP, STAMP))
        return False

    def content(self, oid: Oid) -> AbstractContextManager[Content]:
        """The content of a blob, or of the file it points to if it is a pointer."""
        return content_of(oid, self._odb)


@contextmanager
def _reported(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            name = printable(os.fsencode(error.filename or where))
            raise WorkspaceError(
                f"two things want the place '{name}' in a workspace", hint="give the inputs or code other names"
            ) from error
        raise DiskError(f"cannot build a workspace at '{where}': {error.strerror}") from error


def _mounts(top: Path, asked: Iterable[str], code: Sequence[CodeFile]) -> dict[str, Path]:
    """The outermost absolute places of code, and where below the workspace they are."""
    wanted = {place.rstrip("/") for place in asked if place.startswith("/")}
    for file in code:
        if file.target.startswith("/") and not any(_is_below(file.target, place) for place in wanted):
            wanted.add(file.target.rpartition("/")[0])
    outermost: list[str] = []
    for place in sorted(wanted):
        if not place or _is_below(place, "/pfs"):
            raise WorkspaceError(f"code cannot be mounted at '{place or '/'}'", hint="choose a directory such as /code")
        _check_path(os.fsencode(place[1:]))
        if not any(_is_below(place, outer) for outer in outermost):
            outermost.append(place)
    return {place: top / "mounts" / place[1:] for place in outermost}


def _make_runnable(path: Path) -> None:
    """Make a script executable: an image is made by commands, and one of them often was `chmod +x`."""
    with path.open("rb") as file:
        if file.read(2) == b"#!":
            path.chmod(path.stat().st_mode | 0o111)


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def _place_bytes(workspace: Workspace, path: bytes, data: bytes) -> None:
    _check_path(path)
    _check_beside_pfs(path)
    where = workspace.work / os.fsdecode(path)
    if not os.path.lexists(where):  # else the whole file is part of the code
        where.parent.mkdir(parents=True, exist_ok=True)
        _write_small(where, data, executable=False)


def _join(left: bytes, right: bytes) -> bytes:
    return left + b"/" + right if left and right else left or right


def _check_path(path: bytes) -> None:
    if not path or any(part in {b"", b".", b".."} for part in path.split(b"/")) or b"\0" in path:
        raise WorkspaceError(f"path '{printable(path)}' leaves the workspace")


def _check_beside_pfs(path: bytes) -> None:
    if path == b"pfs" or path.startswith(b"pfs/"):
        raise WorkspaceError(
            f"code '{printable(path)}' would stand among the inputs, which are in 'pfs'",
            hint='mount it elsewhere: "code": {"/code": "pfs"}',
        )


def _checked_mode(path: bytes, entry: Entry) -> Entry:
    if entry.mode == MODE_GITLINK:
        raise WorkspaceError(
            f"'{printable(path)}' is a submodule, whose files are not in this repository",
            hint="commit the files themselves, or leave the submodule out of the input",
        )
    return entry


def _check_link(path: bytes, target: bytes, name: str) -> None:
    """Raise `WorkspaceError` unless a link at `path` (below its root) surely stays below that root.

    Only leading `..` are allowed: the link's own directory is a real one, and names below may be links that
    were checked the same way, so such a target cannot leave.
    """
    names = [name for name in target.split(b"/") if name not in {b"", b"."}]
    up = next((index for index, name in enumerate(names) if name != b".."), len(names))
    if not path or target.startswith(b"/") or up > path.count(b"/") or b".." in names[up:]:
        raise WorkspaceError(
            f"link '{printable(path)}' of '{name}' points to '{printable(target)}', outside of it",
            hint="a task sees only what is declared: commit the file instead of a link",
        )


def _write_small(where: Path, data: bytes, *, executable: bool) -> None:
    fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777 if executable else 0o666)
    with open(fd, "wb", buffering=0) as file:  # noqa: PTH123 - an open descriptor
        file.write(data)
        os.utime(fd, (STAMP, STAMP))


def _clone(source: Path, where: Path, mode: int) -> None:
    """Share the bytes of `source` copy-on-write (btrfs, XFS and others); raise `OSError` where that is not known."""
    fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with source.open("rb") as file:
            fcntl.ioctl(fd, _FICLONE, file.fileno())
        os.fchmod(fd, mode)
        os.utime(fd, (STAMP, STAMP))
    except OSError:
        where.unlink()
        raise
    finally:
        os.close(fd)
