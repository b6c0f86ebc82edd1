"""Worktree files: large content in the place of its pointer, and published paths brought up to date.

Nothing of the user's is overwritten: a file is replaced only if it still is exactly what git put there. Files are
written aside and renamed. Where the index is touched, only the entries in question change, and its stat data is
refreshed so that `git status` is clean and fast.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gitml.errors import BusyError, GitmlError
from gitml.git.command import GitError
from gitml.git.odb import GitOdb
from gitml.git.pointers import read_pointers
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.content import read_content
from gitml.store.pointer import MAX_POINTER_SIZE, MIN_POINTER_SIZE, is_pointer, parse_pointer
from gitml.store.tree import MODE_LINK

_QUIET = {"GITML_ACTIVE": "1"}
"""For git children that write the index: our own hook has nothing to do then."""


@dataclass(frozen=True, slots=True)
class Materialised:
    """`done` are the paths that now hold their content, `missing` those that do not, with the reason."""

    done: tuple[bytes, ...] = ()
    missing: Mapping[bytes, str] = field(default_factory=dict)


class _IndexEntry(NamedTuple):
    mode: int
    oid: Oid
    skipped: bool


def materialise(repo: Repository, paths: Iterable[bytes] | None) -> Materialised:
    """Put the content behind pointers into the worktree, for `paths` or (None) wherever a pointer stands.

    Only tracked files under gitml are touched whose worktree content is a pointer: that of the index, or another that
    git put there (`git stash pop` restores the worktree and not the index). With `GITML_SKIP_SMUDGE=1` in the
    environment and no `paths` nothing is done. Content that is missing or damaged leaves its pointer in place and is
    reported. Raise `BusyError`, with nothing changed, if the index stays locked.
    """
    if repo.worktree is None or (paths is None and os.environ.get("GITML_SKIP_SMUDGE", "0") not in ("", "0")):
        return Materialised()
    wanted = None if paths is None else set(paths)
    places = _Places(repo.worktree)
    index = _read_index(repo)
    texts: dict[bytes, bytes] = {}
    for path, entry in index.items():
        if (wanted is None or path in wanted) and entry.mode & 0o170000 == 0o100000 and not entry.skipped:
            text = _pointer_text(places, path)
            if text is not None:
                texts[path] = text
    under_gitml = _under_gitml(repo, texts)
    filling = {path: text for path, text in texts.items() if path in under_gitml}
    forgetful = {path: index[path] for path in [*filling, *_filled_but_dirty(repo, places, index)]}
    if not forgetful:
        return Materialised()
    _forget_stat(repo, forgetful)
    done: list[bytes] = []
    missing: dict[bytes, str] = {}
    with GitOdb(repo.git, repo.format) as odb:
        for path, text in filling.items():
            try:
                if _fill(repo, odb, places, path, text):
                    done.append(path)
            except (GitmlError, OSError) as error:
                missing[path] = str(error)
    _refresh(repo)
    return Materialised(tuple(done), missing)


def sync_published(repo: Repository, old_tree: Oid, new_tree: Oid, paths: Iterable[bytes]) -> tuple[bytes, ...]:
    """Bring index and worktree from `old_tree` to `new_tree` at `paths` (files or directories); give what was kept.

    An index entry follows if it is what the old tree had; a worktree file follows if its entry did and it is
    unmodified. A path where the user's state stays in place is kept. Raise `BusyError`, with nothing changed, if the
    index is locked.
    """
    if repo.worktree is None:
        return ()
    if (repo.git_dir / "index.lock").exists():
        raise _locked()
    changes = _changes(repo, old_tree, new_tree, tuple(paths))
    if not changes:
        return ()
    places = _Places(repo.worktree)
    before = {change.path: places.state(change.path) for change in changes}
    index = _read_index(repo)
    _forget_stat(repo, {path: index[path] for path in _filled_but_dirty(repo, places, index)})
    if not _refresh(repo):
        raise _locked()
    moving = _movable(changes, index)
    kept = {change.path for change in changes} - {change.path for change in moving}
    visible = [change for change in moving if change.path not in index or not index[change.path].skipped]
    tracked = [change for change in visible if change.old is not None]
    modified = _modified(repo, places, tracked, index)
    _update_index(repo, moving, index)
    for change in tracked:
        # once more, because the user may have saved the file since it was compared
        if change.path in modified or places.state(change.path) != before[change.path]:
            kept.add(change.path)
        elif change.new is None:
            places.remove(change.path)
    writable = []
    for change in visible:
        if change.new is None or change.path in kept:
            continue
        if places.make_room(change.path) and (
            change.old is not None or _is_free(repo, places, change.path, change.new)
        ):
            writable.append(change.path)
        else:
            kept.add(change.path)
    if writable:
        _write(repo, "checkout-index", "-z", "--stdin", "-f", "-u", "-q", listed=writable)
        materialise(repo, writable)
    return tuple(sorted(kept))


class _Change(NamedTuple):
    """One path that differs between two trees; mode and oid on each side, None where it is absent."""

    path: bytes
    old: tuple[int, Oid] | None
    new: tuple[int, Oid] | None


class _Places:
    """Paths of the repository on disk, never through a symbolic link."""

    def __init__(self, worktree: Path) -> None:
        self._top = worktree.resolve()
        self._real: dict[bytes, bool] = {}

    def of(self, path: bytes) -> Path | None:
        """Where a path is, None if something other than directories leads to it."""
        return self._at(path) if self._is_real(_parent(path)) else None

    def state(self, path: bytes) -> tuple[int, ...] | None:
        """What tells one state of a file from another; None if nothing is there."""
        place = self.of(path)
        try:
            found = place.lstat() if place is not None else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        if found is None:
            return ()
        return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def remove(self, path: bytes) -> None:
        """Delete a file, and the directories above it that are empty then."""
        place = self.of(path)
        if place is None:
            return
        place.unlink(missing_ok=True)
        self._real.clear()
        above = _parent(path)
        with suppress(OSError):
            while above:
                self._at(above).rmdir()
                above = _parent(above)

    def make_room(self, path: bytes) -> bool:
        """Whether a file can be put at `path`: only directories above it, no directory in its place."""
        self._real.clear()
        place = self.of(path)
        try:
            return place is not None and not stat.S_ISDIR(place.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return True

    def _is_real(self, directory: bytes) -> bool:
        """Whether nothing but directories, or nothing at all, is on the way to `directory` and there."""
        if not directory:
            return True
        known = self._real.get(directory)
        if known is None:
            known = self._is_real(_parent(directory))
            with suppress(FileNotFoundError):
                known = known and stat.S_ISDIR(self._at(directory).lstat().st_mode)
            self._real[directory] = known
        return known

    def _at(self, path: bytes) -> Path:
        return self._top / os.fsdecode(path)


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _pointer_text(places: _Places, path: bytes) -> bytes | None:
    """The text of the pointer that stands in the worktree; None if something else does."""
    place = places.of(path)
    try:
        if place is None:
            return None
        found = place.lstat()
        if not stat.S_ISREG(found.st_mode) or not MIN_POINTER_SIZE <= found.st_size <= MAX_POINTER_SIZE:
            return None
        with place.open("rb") as file:
            text = file.read(MAX_POINTER_SIZE + 1)
    except OSError:
        return None
    return text if is_pointer(text) else None


def _fill(repo: Repository, odb: GitOdb, places: _Places, path: bytes, text: bytes) -> bool:
    """Replace one pointer by its content; False if the file changed meanwhile."""
    place = places.of(path)
    before = places.state(path)
    if place is None or not before:
        return False
    pointer = parse_pointer(text)
    temporary = _temporary(repo, place)
    try:
        with temporary.open("xb") as file:
            file.writelines(read_content(pointer, odb))
        temporary.chmod(stat.S_IMODE(before[0]))
        # Older than the index that is written next: else git takes the file for one that may have changed in the
        # same second, and reads it again at each status (git: Documentation/technical/racy-git).
        moment = time.time() - 2
        os.utime(temporary, (moment, moment))
        if places.state(path) != before or _pointer_text(places, path) != text:
            return False
        temporary.rename(place)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(repo: Repository, place: Path) -> Path:
    """A new name on the same file system as `place`, out of the user's sight where possible."""
    ours = repo.git_dir / "ml" / "tmp"
    ours.mkdir(parents=True, exist_ok=True)
    directory = ours if ours.stat().st_dev == place.parent.stat().st_dev else place.parent
    return directory / f".gitml-{os.urandom(8).hex()}"


def _under_gitml(repo: Repository, paths: Iterable[bytes]) -> set[bytes]:
    listed = b"".join(path + b"\0" for path in paths)
    if not listed:
        return set()
    fields = repo.git.output("check-attr", "-z", "--stdin", "filter", input=listed).split(b"\0")
    return {path for path, value in zip(fields[0::3], fields[2::3], strict=False) if value == b"ml"}


def _read_index(repo: Repository) -> dict[bytes, _IndexEntry]:
    """The entries of the index by path, without those of a conflict."""
    found: dict[bytes, _IndexEntry] = {}
    for line in repo.git.output("ls-files", "-s", "-t", "-z", "--full-name").split(b"\0"):
        meta, tab, path = line.partition(b"\t")
        if tab:
            tag, mode, oid, stage = meta.split(b" ")
            if stage == b"0":
                found[path] = _IndexEntry(int(mode, 8), Oid.parse(oid), tag == b"S")
    return found


def _filled_but_dirty(repo: Repository, places: _Places, index: Mapping[bytes, _IndexEntry]) -> list[bytes]:
    """Files that seem modified but may hold just what their pointer says.

    A git command that had read the index before the content was put in place may write it back with the size of the
    pointer. Git then never looks at the content again.
    """
    differing = [path for path in repo.git.output("diff-files", "-z", "--name-only").split(b"\0") if path in index]
    pointers = read_pointers(repo.git, (index[path].oid for path in differing))
    found = []
    for path in differing:
        pointer = pointers.get(index[path].oid)
        state = places.state(path) if pointer is not None else None
        if pointer is not None and state and state[2] == pointer.size:
            found.append(path)
    return found


def _forget_stat(repo: Repository, entries: Mapping[bytes, _IndexEntry]) -> None:
    """Let the index forget what it knows of these files, so that the next refresh compares their content.

    Without it, git takes a file of another size for modified without asking the filter (git: read-cache.c,
    ie_modified). It is done before the files are replaced: whoever is killed in between leaves nothing dirty.
    """
    lines = [b"%o %s\t%s" % (entry.mode, entry.oid.hex().encode(), path) for path, entry in entries.items()]
    for pause in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, None):
        try:
            if lines:
                _write(repo, "update-index", "-z", "--index-info", listed=lines)
            return
        except BusyError:
            if pause is None:
                raise
            time.sleep(pause)


def _refresh(repo: Repository) -> bool:
    """Refresh the stat data of the index, where entries that differ stay as they are; False if it is locked."""
    done = repo.git.run("update-index", "-q", "--refresh", check=False, env=_QUIET)
    return b"index.lock" not in done.stderr


def _changes(repo: Repository, old: Oid, new: Oid, paths: tuple[bytes, ...]) -> list[_Change]:
    fields = repo.git.output(
        "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", old.hex(), new.hex()
    ).split(b"\0")  # fmt: skip
    wanted = {path.rstrip(b"/") for path in paths}
    changes = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        if wanted.isdisjoint(_path_and_above(path)):
            continue
        old_mode, new_mode, old_oid, new_oid, _ = meta.removeprefix(b":").split(b" ")
        sides = [
            (int(mode, 8), Oid.parse(oid)) if int(mode, 8) else None
            for mode, oid in ((old_mode, old_oid), (new_mode, new_oid))
        ]
        changes.append(_Change(path, *sides))
    return changes


def _path_and_above(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = _parent(path)
    yield b""


def _movable(changes: list[_Change], index: Mapping[bytes, _IndexEntry]) -> list[_Change]:
    """The changes whose index entry is what one of the trees has, and that do not collide with other entries.

    What the new tree has is the sign of an earlier call that was interrupted.
    """
    moving = []
    for change in changes:
        entry = index.get(change.path)
        if (None if entry is None else (entry.mode, entry.oid)) in (change.old, change.new):
            moving.append(change)
    left = index.keys() - {change.path for change in moving}
    directories = {above for path in left for above in _path_and_above(_parent(path))}
    return [
        change
        for change in moving
        if change.new is None
        or (change.path not in directories and left.isdisjoint(_path_and_above(_parent(change.path))))
    ]


def _modified(
    repo: Repository, places: _Places, changes: list[_Change], index: Mapping[bytes, _IndexEntry]
) -> set[bytes]:
    """Those of the paths whose worktree file is not what the old tree has."""
    if not changes:
        return set()
    differing = set(repo.git.output("diff-files", "-z", "--name-only").split(b"\0"))
    modified = set()
    for change in changes:
        entry = index.get(change.path)
        if entry is not None and (entry.mode, entry.oid) == change.old:
            if change.path in differing:
                modified.add(change.path)
        elif not _is_clean(repo, places, change):
            modified.add(change.path)
    return modified


def _is_clean(repo: Repository, places: _Places, change: _Change) -> bool:
    """Whether a worktree file is one of the two versions, where the index cannot tell."""
    place = places.of(change.path)
    if place is None or places.state(change.path) is None:
        return change.new is None
    if place.is_symlink():
        found = repo.format.oid_of("blob", os.fsencode(place.readlink()))
    else:
        done = repo.git.run("hash-object", "--", os.fsdecode(change.path), check=False)
        if done.returncode != 0:
            return False
        found = Oid.parse(done.stdout.strip())
    return any(side is not None and side[1] == found for side in (change.old, change.new))


def _is_free(repo: Repository, places: _Places, path: bytes, wanted: tuple[int, Oid]) -> bool:
    """Whether nothing stands at the path of a new file, or just what is to be written."""
    place = places.of(path)
    return place is not None and (places.state(path) is None or _same_file(repo, place, wanted))


def _same_file(repo: Repository, place: Path, wanted: tuple[int, Oid]) -> bool:
    """Whether an untracked file has the very bytes that are to be written (small plain files only)."""
    try:
        found = place.lstat()
        if stat.S_ISLNK(found.st_mode):
            return wanted[0] == MODE_LINK and repo.format.oid_of("blob", os.fsencode(place.readlink())) == wanted[1]
        if not stat.S_ISREG(found.st_mode) or wanted[0] == MODE_LINK or found.st_size > 1 << 24:
            return False
        return repo.format.oid_of("blob", place.read_bytes()) == wanted[1]
    except OSError:
        return False


def _update_index(repo: Repository, changes: list[_Change], index: Mapping[bytes, _IndexEntry]) -> None:
    zero = b"0" * (2 * repo.format.size)
    # removals first: a file may become a directory
    lines = [b"0 %s\t%s" % (zero, change.path) for change in changes if change.new is None]
    lines += [
        b"%o %s\t%s" % (change.new[0], change.new[1].hex().encode(), change.path)
        for change in changes
        if change.new is not None
    ]
    if lines:
        _write(repo, "update-index", "-z", "--index-info", listed=lines)
    skipped = [c.path for c in changes if c.new is not None and c.path in index and index[c.path].skipped]
    if skipped:
        _write(repo, "update-index", "-z", "--skip-worktree", "--stdin", listed=skipped)


def _write(repo: Repository, *arguments: str, listed: Iterable[bytes]) -> None:
    """Run a git command that takes the index lock, with a NUL-terminated list as input; raise `BusyError`."""
    try:
        repo.git.run(*arguments, input=b"".join(item + b"\0" for item in listed), env=_QUIET)
    except GitError as error:
        if "index.lock" in error.stderr:
            raise _locked() from None
        raise


def _locked() -> BusyError:
    return BusyError("the index is locked by another git process", hint="try again when it has ended")
