"""`git add` without the filter's pipe: large files under gitml are read here, in two threads, everything else by git.

The result is that of `git add`: git lists the files by its own rules of ignoring and attributes, and what is no large
file under gitml is handed to it. Pointers then go into the index together with what the files looked like while they
were read, so that `git status` has nothing to compare.
"""

import os
import stat
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gitml.allocation import keep_freed_memory, spare_threads
from gitml.errors import UserError
from gitml.git.command import GitError
from gitml.git.index import Clean, Index, UnsupportedIndexError, record_clean
from gitml.git.indexlock import UNTRANSLATED, is_locked, locked_index, patiently, write_index
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.places import Places
from gitml.git.pointers import read_pointers
from gitml.git.repository import Repository
from gitml.git.staging import Staging
from gitml.git.statcache import StatCache, state_of
from gitml.git.verified import VerifiedPointers
from gitml.git.worktree import Progress
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.comparison import compare_content
from gitml.store.content import SMALL, Stored, prepare_content, store_content
from gitml.store.datatree import write_data_tree
from gitml.store.manifest import read_manifest
from gitml.store.pointer import Pointer, format_pointer

if TYPE_CHECKING:
    from concurrent.futures import Future

_T = TypeVar("_T")

_PIECE = 8 << 20
_SIDE_BY_SIDE = 4 << 20
"""Files of up to this many bytes are prepared several at a time; larger ones use both threads by themselves."""
_AHEAD = 8
_TRIES = 3
"""Times that a file is read if it changes meanwhile."""
_STAT = struct.Struct(">10L")
_EXECUTABLE = 0o100755
_REGULAR = 0o100644


@record
class Added:
    """What `git ml add` did, or would do, by path."""

    stored: Mapping[bytes, int] = field(default_factory=dict)
    """Large files under gitml whose index entry is new: their sizes in bytes."""
    unchanged: tuple[bytes, ...] = ()
    """Large files under gitml that were read, or looked up, and are what the index has."""
    others: tuple[bytes, ...] = ()
    """What was handed to git."""
    said: bytes = b""
    """What git said about that, with `verbose` or `dry_run`."""


class _Entry(NamedTuple):
    mode: int
    oid: Oid
    unchanged: bool
    """Whether the file looks as the index says, so that git would not read it either."""


class _Read(NamedTuple):
    """A file whose content is stored (or was already)."""

    path: bytes
    found: os.stat_result
    pointer: Pointer


def add_files(
    repo: Repository,
    pathspecs: Sequence[str],
    directory: Path,
    *,
    update: bool = False,
    dry_run: bool = False,
    verbose: bool = False,
    progress: Progress | None = None,
) -> Added:
    """Add what `pathspecs` (relative to `directory`) name to the index; with `update` only what is tracked.

    Raise `UserError`, with the index as it was, for a pathspec without files and for a file that cannot be read or
    keeps changing; `BusyError` if the index stays locked.
    """
    if repo.worktree is None:
        raise UserError("a bare repository has no files to add")
    places = _Places(repo, Places(repo.worktree))
    tracked, untracked = _candidates(repo, pathspecs, directory, update=update)
    index = _read_index(repo, places, tracked)
    changed = [path for path in tracked if path not in index or not index[path].unchanged]
    large = {path: found for path, found in places.files([*changed, *untracked]) if found.st_size >= SMALL}
    under_gitml = _under_gitml(repo, large)
    ours = {path: found for path, found in large.items() if path in under_gitml}
    others = [path for path in [*changed, *untracked] if path not in ours]
    if dry_run:
        said = _git_add(repo, others, "--dry-run")
        return Added({path: found.st_size for path, found in ours.items()}, (), tuple(others), said)
    if progress is not None:
        progress.expect(len(ours), sum(found.st_size for found in ours.values()))
    with GitOdb(repo.git, repo.format) as odb, Staging(repo, odb) as staging:
        reader = _Reader(repo, places, odb, staging, index, progress)
        read = list(reader.read_all(ours))
        oids = reader.write_pointers(read)
        # only now: what cannot be read leaves the index as it was
        said = _git_add(repo, others, *(["--verbose"] if verbose else []))
        _put_into_index(repo, read, oids, index)
        # a prune does not see what is about to enter the index
        reader.reassure()
    reader.cache.update({each.path: (each.found, each.pointer) for each in read})
    new = {each.path: each.pointer.size for each in read if _old_oid(index, each.path) != oids[each.path]}
    return Added(new, tuple(each.path for each in read if each.path not in new), tuple(others), said)


class _Places:
    """The files of the worktree."""

    def __init__(self, repo: Repository, places: Places) -> None:
        self._repo = repo
        self._places = places

    def of(self, path: bytes) -> Path:
        place = self._places.of(path)
        if place is None:
            raise UserError(f"'{_printable(path)}' is beyond a symbolic link")
        return place

    def look(self, path: bytes) -> os.stat_result | None:
        """What stands at `path`; None if nothing does, or something beyond a symbolic link."""
        place = self._places.of(path)
        try:
            return None if place is None else place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def files(self, paths: Iterable[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
        """Those of `paths` that are regular files."""
        for path in paths:
            found = self.look(path) if not path.endswith(b"/") else None
            if found is not None and stat.S_ISREG(found.st_mode):
                yield path, found


class _Reader:
    """Reads files and stores their content."""

    def __init__(
        self,
        repo: Repository,
        places: _Places,
        odb: GitOdb,
        staging: Staging,
        index: Mapping[bytes, _Entry],
        progress: Progress | None,
    ) -> None:
        self.cache = StatCache(repo)
        self._verified = VerifiedPointers(repo)
        self._repo = repo
        self._places = places
        self._odb = odb
        self._staging = staging
        self._index = index
        self._progress = progress
        self._pointers: dict[Oid, Pointer] = {}
        self._trusted: list[_Read] = []
        """What something else keeps, as far as we know."""

    def read_all(self, files: Mapping[bytes, os.stat_result]) -> Iterator[_Read]:
        """Store the content of every file; in order, but for those that are looked up first."""
        self._pointers = read_pointers(self._repo.git, (entry.oid for entry in self._index.values()))
        todo: list[bytes] = []
        for path, found in files.items():
            pointer = self.cache.get(path, found)
            if pointer is not None and self._is_here(pointer):
                self._advance(found.st_size)
                yield self._referenced(_Read(path, found, pointer))
            else:
                todo.append(path)
        if todo:
            keep_freed_memory()
            spare_threads()
        small = [path for path in todo if files[path].st_size <= _SIDE_BY_SIDE and not self._expected(path)]
        yield from self._read_side_by_side(deque(small))
        done = set(small)
        for path in todo:
            if path not in done:
                yield self._read_one(path, files[path].st_size)

    def write_pointers(self, read: Iterable[_Read]) -> dict[bytes, Oid]:
        """Store the blob of every pointer, give them by path; everything stored is visible and durable then."""
        oids = {}
        for each in read:
            pack = self._staging.pack()
            oids[each.path] = pack.write("blob", format_pointer(each.pointer))
        self._staging.flush()
        return oids

    def reassure(self) -> None:
        """Keep what was kept by others when we looked, and that another process has let go since."""
        trusted, self._trusted = self._trusted, []
        if trusted:
            self._staging.look_again()
            for each in trusted:
                self._referenced(each)

    def _read_side_by_side(self, small: "deque[bytes]") -> Iterator[_Read]:
        if not small:
            return
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - loads the logging package

        waiting: deque[Future[tuple[bytes, os.stat_result, Callable[[], Stored]]]] = deque()
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="files") as pool:
            try:
                while waiting or small:
                    # a full pack is finished once nothing is prepared for it any more
                    while small and len(waiting) < _AHEAD and not (waiting and self._staging.is_full):
                        waiting.append(pool.submit(self._prepare, small[0], self._staging.pack(small[0])))
                        small.popleft()
                    path, found, write = waiting.popleft().result()
                    stored = write()
                    self._staging.keep(path, stored.pointer.manifest, stored.data_tree, stored.pointer)
                    self._advance(found.st_size)
                    yield _Read(path, found, stored.pointer)
            finally:
                pool.shutdown(cancel_futures=True)

    def _prepare(self, path: bytes, pack: PackWriter) -> tuple[bytes, os.stat_result, Callable[[], Stored]]:
        found, write = self._steadily(path, lambda pieces: prepare_content(pieces, pack))
        return path, found, write

    def _read_one(self, path: bytes, size: int) -> _Read:
        unchanged = self._unchanged(path)
        if unchanged is not None:
            return unchanged
        with self._staging.storing(path) as pack:
            rereading = self._staging.rereading(path)
            found, stored = self._steadily(
                path, lambda pieces: store_content(self._counted(pieces), pack, rereading, size=size)
            )
            self._staging.keep(path, stored.pointer.manifest, stored.data_tree, stored.pointer)
        self._verified.add(stored.pointer)
        return _Read(path, found, stored.pointer)

    def _unchanged(self, path: bytes) -> _Read | None:
        """The file at `path` if it has the content that the index says, all of which is here."""
        expected = self._expected(path)
        manifest = None if expected is None else self._staging.whole_manifest(expected)
        if expected is None or manifest is None:
            return None
        is_verified = expected in self._verified
        found, different = self._steadily(
            path, lambda pieces: compare_content(pieces, expected, manifest, self._repo.format, is_verified=is_verified)
        )
        if different is not None:
            return None
        self._verified.add(expected)
        self._advance(found.st_size)
        return self._referenced(_Read(path, found, expected))

    def _steadily(self, path: bytes, take: Callable[[Iterator[bytes]], _T]) -> tuple[os.stat_result, _T]:
        """What `take` makes of the content of a file that did not change while it was read."""
        for _ in range(_TRIES):
            try:
                with self._places.of(path).open("rb", buffering=0) as file:
                    before = os.fstat(file.fileno())
                    taken = take(iter(lambda: file.read(_PIECE), b""))
                    after = os.fstat(file.fileno())
            except OSError as error:
                raise UserError(f"cannot read '{_printable(path)}': {error.strerror}") from None
            found = self._places.look(path)
            if found is not None and state_of(before) == state_of(after) == state_of(found):
                return found, taken
        raise UserError(f"'{_printable(path)}' changes while it is read", hint="add it when nothing writes to it")

    def _expected(self, path: bytes) -> Pointer | None:
        """What the index has at `path`."""
        entry = self._index.get(path)
        return None if entry is None else self._pointers.get(entry.oid)

    def _is_here(self, pointer: Pointer) -> bool:
        return self._staging.whole_manifest(pointer) is not None

    def _referenced(self, read: _Read) -> _Read:
        """Keep content that is stored already from being pruned."""
        manifest_id = read.pointer.manifest
        if self._staging.references(read.path, manifest_id):
            self._trusted.append(read)
        else:
            with self._staging.storing(read.path) as pack:
                tree = write_data_tree(manifest_id, read_manifest(manifest_id, self._odb), pack)
                self._staging.keep(read.path, manifest_id, tree, read.pointer)
        return read

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._advance(len(piece))
            yield piece

    def _advance(self, size: int) -> None:
        if self._progress is not None:
            self._progress.advance(size)


def _candidates(
    repo: Repository, pathspecs: Sequence[str], directory: Path, *, update: bool
) -> tuple[list[bytes], list[bytes]]:
    """Tracked and untracked paths that `pathspecs` name, by git's rules of ignoring."""
    where = ["-C", os.fspath(directory)]
    wanted = pathspecs or [":/"]
    tracked = _listed(repo, [*where, "ls-files", "-z", "--full-name", "-c", "--", *wanted])
    untracked = []
    if not update:
        untracked = _listed(repo, [*where, "ls-files", "-z", "--full-name", "-o", "--exclude-standard", "--", *wanted])
    if pathspecs and not (tracked or untracked):
        _complain_about(repo, pathspecs, directory)
    elif len(pathspecs) > 1:
        listed = ["-o", "--exclude-standard"] if not update else []
        done = repo.git.run(*where, "ls-files", "-z", "--error-unmatch", "-c", *listed, "--", *pathspecs, check=False)
        if done.returncode:
            _complain_about(repo, pathspecs, directory)
    return tracked, untracked


def _listed(repo: Repository, arguments: Sequence[str]) -> list[bytes]:
    try:
        paths = repo.git.output(*arguments).split(b"\0")
    except GitError as error:
        raise UserError(error.stderr.splitlines()[-1].removeprefix("fatal: ") if error.stderr else str(error)) from None
    return list(dict.fromkeys(path for path in paths if path))


def _complain_about(repo: Repository, pathspecs: Sequence[str], directory: Path) -> None:
    """Raise `UserError` for the first pathspec that names nothing; directories may be empty."""
    for pathspec in pathspecs:
        done = repo.git.run(
            "-C", os.fspath(directory), "ls-files", "--error-unmatch", "-c", "-o", "--exclude-standard", "--", pathspec,
            check=False,
        )  # fmt: skip
        if done.returncode and not (directory / pathspec).is_dir():
            ignored = repo.git.run("-C", os.fspath(directory), "check-ignore", "-q", "--", pathspec, check=False)
            if ignored.returncode == 0:
                raise UserError(f"'{pathspec}' is ignored by .gitignore", hint="git add --force adds it all the same")
            raise UserError(f"pathspec '{pathspec}' did not match any files")


def _read_index(repo: Repository, places: _Places, paths: Iterable[bytes]) -> dict[bytes, _Entry]:
    """The entries of `paths` that are in no conflict, and whether their files look as the index says."""
    file = Path(os.path.realpath(repo.git_dir / "index"))
    wanted = set(paths)
    if not wanted:
        return {}
    data = file.read_bytes()
    written = file.stat().st_mtime_ns // 10**9
    found = {}
    try:
        for entry in Index(data, repo.format):
            if entry.path in wanted and not entry.stage and not entry.intended:
                recorded = _STAT.unpack_from(data, entry.offset)
                look = places.look(entry.path)
                unchanged = entry.skipped or (look is not None and _is_recorded(recorded, look, written))
                found[entry.path] = _Entry(entry.mode, entry.oid, unchanged)
    except UnsupportedIndexError:  # split: git reads it, every file counts as changed
        for line in repo.git.output("ls-files", "-s", "-z", "--full-name").split(b"\0"):
            meta, _, path = line.partition(b"\t")
            if path in wanted and meta.endswith(b" 0"):
                mode, oid, _ = meta.split(b" ")
                found[path] = _Entry(int(mode, 8), Oid.parse(oid), unchanged=False)
    return found


def _is_recorded(recorded: Sequence[int], look: os.stat_result, written: int) -> bool:
    """Whether a file looks as its index entry says, and could not have changed in the moment the index was written."""
    values = (*divmod(look.st_mtime_ns, 10**9), *divmod(look.st_ctime_ns, 10**9))
    modified, modified_ns, changed, changed_ns = (value & 0xFFFFFFFF for value in values)
    executable = bool(recorded[6] & 0o100) == bool(look.st_mode & 0o100)
    return (
        recorded[:4] == (changed, changed_ns, modified, modified_ns)
        and recorded[5] == look.st_ino & 0xFFFFFFFF
        and recorded[9] == look.st_size & 0xFFFFFFFF != 0
        and stat.S_IFMT(recorded[6]) == stat.S_IFMT(look.st_mode)
        and executable
        and modified < written
    )


def _under_gitml(repo: Repository, paths: Iterable[bytes]) -> set[bytes]:
    listed = b"".join(path + b"\0" for path in paths)
    if not listed:
        return set()
    fields = repo.git.output("check-attr", "-z", "--stdin", "filter", input=listed).split(b"\0")
    return {path for path, value in zip(fields[0::3], fields[2::3], strict=False) if value == b"ml"}


def _git_add(repo: Repository, paths: Sequence[bytes], *options: str) -> bytes:
    """Have git add exactly these paths; give what it says."""
    if not paths:
        return b""
    listed = b"".join(path + b"\0" for path in paths)
    arguments = ["--literal-pathspecs", "add", *options, "--pathspec-from-file=-", "--pathspec-file-nul"]
    try:
        return repo.git.output(*arguments, input=listed, env=UNTRANSLATED)
    except GitError as error:
        if is_locked(error.stderr):
            raise locked_index() from None
        lines = [line for line in error.stderr.splitlines() if not line.startswith("hint:")]
        raise UserError("\n".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in lines)) from None


def _put_into_index(
    repo: Repository, read: Sequence[_Read], oids: Mapping[bytes, Oid], index: Mapping[bytes, _Entry]
) -> None:
    follows_mode = repo.config_bool("core.fileMode", True)
    lines = []
    for each in read:
        old = index.get(each.path)
        mode = _EXECUTABLE if each.found.st_mode & 0o100 else _REGULAR
        if not follows_mode:
            mode = old.mode if old is not None and stat.S_ISREG(old.mode) else _REGULAR
        if old is None or (old.mode, old.oid) != (mode, oids[each.path]):
            lines.append(b"%o %s\t%s" % (mode, oids[each.path].hex().encode(), each.path))
    if lines:
        patiently(lambda: write_index(repo, "update-index", "-z", "--index-info", listed=lines))
    clean = {each.path: Clean(oids[each.path], each.found) for each in read}
    try:
        patiently(lambda: record_clean(repo, clean))
    except UnsupportedIndexError:
        repo.git.run("update-index", "-q", "--refresh", check=False)


def _old_oid(index: Mapping[bytes, _Entry], path: bytes) -> Oid | None:
    entry = index.get(path)
    return None if entry is None else entry.oid


def _printable(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
