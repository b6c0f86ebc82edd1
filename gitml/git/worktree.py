"""Worktree files: large content in the place of its pointer, and published paths brought up to date.

Nothing of the user's is overwritten: a file is replaced only if it still is exactly what git put there. Files are
written aside and renamed. Where the index is touched, only the entries in question change, and its stat data is
refreshed so that `git status` is clean and fast.
"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from gitml.errors import BusyError, GitmlError, MissingDataError
from gitml.git.filler import Filled, Filler, Filling, standing_pointer
from gitml.git.index import Clean, Index, UnsupportedIndexError, compare_again, record_clean
from gitml.git.indexlock import QUIET, is_locked, locked_index, patiently, remove_dead_lock, write_index
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex
from gitml.git.packreader import LocalOdb, PackReader
from gitml.git.places import Places, parent
from gitml.git.pointers import read_pointers
from gitml.git.repository import Repository
from gitml.git.skip import read_skip, wants_pointers
from gitml.git.sparse import outside_sparse_checkout
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.pointer import MAX_POINTER_SIZE, MIN_POINTER_SIZE
from gitml.store.tree import MODE_LINK

_UNDER_GITML = ":(top,attr:filter=ml)"
_NO_FILTER = ("-c", "filter.ml.process=", "-c", "filter.ml.clean=", "-c", "filter.ml.required=false")
_BATCH_FILES = 2000
_BATCH_SIZE = 1 << 30


@record
class Materialised:
    """What became of the pointers that were found.

    `done` hold their content now. Of `missing` something is not here, `failed` are damaged or could not be written,
    each with the reason; `kept` were changed by somebody meanwhile. Their pointers stand where they stood.
    """

    done: tuple[bytes, ...] = ()
    size: int = 0
    """Bytes of what is done."""
    missing: Mapping[bytes, str] = field(default_factory=dict)
    failed: Mapping[bytes, GitmlError] = field(default_factory=dict)
    kept: tuple[bytes, ...] = ()


class Progress(Protocol):
    """Follows the work."""

    def expect(self, files: int, size: int) -> None:
        """So much is going to be filled in, or where negative is not after all; `size` in bytes."""
        ...

    def advance(self, size: int) -> None:
        """So many bytes more are in place."""
        ...


class _Silence:
    def expect(self, files: int, size: int) -> None:
        pass

    def advance(self, size: int) -> None:
        pass


class _IndexEntry(NamedTuple):
    mode: int
    oid: Oid
    skipped: bool


def standing_pointers(repo: Repository, paths: Iterable[bytes] | None) -> dict[bytes, bytes]:
    """The pointers that stand in the worktree, as text by path, that `materialise` would fill in."""
    if repo.worktree is None:
        return {}
    index = _index_under_gitml(repo, conflicts=True)
    return {each.path: each.text for each in _fillings(repo, Places(repo.worktree), index, paths)}


def materialise(repo: Repository, paths: Iterable[bytes] | None, progress: Progress | None = None) -> Materialised:
    """Put the content behind pointers into the worktree, for `paths` or (None) wherever a pointer stands.

    Only tracked files under gitml are touched whose worktree content is a pointer: that of the index, or another that
    git put there (`git stash pop` restores the worktree and not the index, `git checkout --theirs` one side of a
    conflict). Without `paths` those that `ml.skip` names stay pointers, and with `GITML_SKIP_SMUDGE=1` in the
    environment all do. Content that is missing or damaged leaves its pointer in place and is reported. Raise
    `BusyError`, with nothing changed, if the index stays locked.
    """
    if repo.worktree is None or (paths is None and wants_pointers()):
        return Materialised()
    places = Places(repo.worktree)
    index = _index_under_gitml(repo, conflicts=True)
    fillings = _fillings(repo, places, index, paths)
    dirty = _filled_but_dirty(repo, places, index)
    if not fillings and not dirty:
        return Materialised()
    progress = progress or _Silence()
    progress.expect(len(fillings), sum(each.size for each in fillings))
    _forget_stat(repo, {path: index[path].oid for path in dirty})
    done: list[Filled] = []
    others: list[Filled] = []
    packs = ObjectIndex(repo.objects_dir, repo.format)
    with GitOdb(repo.git, repo.format) as odb, PackReader(packs, LocalOdb(packs, odb)) as reader:
        filler = Filler(repo, places, reader, progress.advance)
        for batch in _batches(fillings):
            blobs = {each.path: repo.format.oid_of("blob", each.text) for each in batch}
            _forget_stat(repo, blobs)
            ended = list(filler.fill(batch))
            done += (each for each in ended if each.state is not None)
            others += (each for each in ended if each.state is None)
            # a pointer that stays is compared no more than before: git's merges, which do not compare, would refuse
            states = {each.filling.path: each.state or _state_of_pointer(places, each.filling) for each in ended}
            _remember_stat(repo, {path: Clean(blobs[path], state) for path, state in states.items() if state})
    if dirty:
        _refresh(repo)
    if others:  # what stays is expected again by whoever tries again
        progress.expect(-len(others), -sum(each.filling.size for each in others))
    return _outcome(done, others)


def _state_of_pointer(places: Places, filling: Filling) -> os.stat_result | None:
    """The state of a pointer that still stands where it stood, None if something else does."""
    place = places.of(filling.path)
    if place is None or standing_pointer(places, filling.path) != filling:
        return None
    with suppress(FileNotFoundError):
        return place.lstat()
    return None


def modified_files(repo: Repository, paths: Iterable[bytes] | None) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Files under gitml that were deleted, and those that hold neither what the index says nor a sound pointer.

    Only those of `paths`, if given.
    """
    if repo.worktree is None:
        return (), ()
    places = Places(repo.worktree)
    index = _index_under_gitml(repo)
    chosen = set(index if paths is None else paths) & index.keys()
    differing = [path for path in _differing(repo) if path in chosen]
    if any(places.state(path) is not None for path in differing):
        _forget_stat(repo, {path: index[path].oid for path in _filled_but_dirty(repo, places, index)})
        _refresh(repo)
        differing = [path for path in _differing(repo) if path in chosen]
    deleted = tuple(path for path in differing if places.state(path) is None)
    edited = tuple(
        path
        for path in differing
        if path not in deleted and ((filling := standing_pointer(places, path)) is None or not filling.is_sound)
    )
    return deleted, edited


def restore_files(repo: Repository, paths: Iterable[bytes]) -> None:
    """Write what the index has over these files, whatever they are, as `git checkout PATH` does."""
    listed = list(paths)
    if listed:
        write_index(repo, "checkout-index", "-z", "--stdin", "-f", "-u", "-q", listed=listed)


def hidden_by_sparse_checkout(repo: Repository, paths: Iterable[bytes]) -> bool:
    """Whether all of `paths` that are under gitml, and there are some, have no place in a sparse worktree."""
    index = _index_under_gitml(repo)
    entries = [index[path] for path in paths if path in index]
    return bool(entries) and all(entry.skipped for entry in entries)


def _outcome(done: list[Filled], others: list[Filled]) -> Materialised:
    missing: dict[bytes, str] = {}
    failed: dict[bytes, GitmlError] = {}
    kept: list[bytes] = []
    for each in others:
        match each.error:
            case None:
                kept.append(each.filling.path)
            case MissingDataError():
                missing[each.filling.path] = each.error.message
            case GitmlError():
                failed[each.filling.path] = each.error
    size = sum(each.filling.size for each in done)
    return Materialised(tuple(each.filling.path for each in done), size, missing, failed, tuple(kept))


def sync_published(repo: Repository, old_tree: Oid, new_tree: Oid, paths: Iterable[bytes]) -> tuple[bytes, ...]:
    """Bring index and worktree from `old_tree` to `new_tree` at `paths` (files or directories); give what was kept.

    An index entry follows if it is what the old tree had; a worktree file follows if its entry did and it is
    unmodified. A path where the user's state stays in place is kept. Raise `BusyError`, with nothing changed, if the
    index is locked.
    """
    if repo.worktree is None:
        return ()
    lock = repo.git_dir / "index.lock"
    remove_dead_lock(lock)
    if lock.exists():
        raise locked_index()
    changes = _changes(repo, old_tree, new_tree, tuple(paths))
    if not changes:
        return ()
    places = Places(repo.worktree)
    before = {change.path: places.state(change.path) for change in changes}
    index = _read_index(repo)
    tracked_by_us = _index_under_gitml(repo)
    _forget_stat(repo, {path: index[path].oid for path in _filled_but_dirty(repo, places, tracked_by_us)})
    if not _refresh(repo):
        raise locked_index()
    moving = _movable(changes, index)
    kept = {change.path for change in changes} - {change.path for change in moving}
    hidden = {change.path for change in moving if change.path in index and index[change.path].skipped}
    added = {change.path: change.new for change in moving if change.path not in index and change.new is not None}
    # where a file stands nevertheless, it is the user's, and judged like any other
    hidden |= {path for path in outside_sparse_checkout(repo, added) if places.state(path) is None}
    visible = [change for change in moving if change.path not in hidden]
    tracked = [change for change in visible if change.old is not None]
    modified = _modified(repo, places, tracked, index)
    _update_index(repo, moving, hidden)
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
        restore_files(repo, writable)
        skip = read_skip(repo)
        materialise(repo, [path for path in writable if not skip.match(path)])
    return tuple(sorted(kept))


class _Change(NamedTuple):
    """One path that differs between two trees; mode and oid on each side, None where it is absent."""

    path: bytes
    old: tuple[int, Oid] | None
    new: tuple[int, Oid] | None


def _fillings(
    repo: Repository, places: Places, index: Mapping[bytes, _IndexEntry], paths: Iterable[bytes] | None
) -> list[Filling]:
    """The pointers that stand where they are not wanted."""
    chosen: Iterable[bytes]
    if paths is not None:
        chosen = (path for path in paths if path in index)
    else:
        skip = read_skip(repo) if index else None
        chosen = (path for path in index if skip is None or not skip.match(path))
    found = []
    for path in chosen:
        entry = index[path]
        if entry.mode & 0o170000 == 0o100000 and not entry.skipped:
            filling = standing_pointer(places, path)
            if filling is not None:
                found.append(filling)
    return found


def _batches(fillings: list[Filling]) -> Iterator[list[Filling]]:
    """Files after which the index is brought up to date: whoever is killed leaves few that git has to compare."""
    batch: list[Filling] = []
    size = 0
    for filling in fillings:
        batch.append(filling)
        size += filling.size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _index_under_gitml(repo: Repository, *, conflicts: bool = False) -> dict[bytes, _IndexEntry]:
    return _read_index(repo, "--", _UNDER_GITML, conflicts=conflicts)


def _read_index(repo: Repository, *pathspecs: str, conflicts: bool = False) -> dict[bytes, _IndexEntry]:
    """The entries of the index by path; of a path in conflict, only if `conflicts` are asked for, the last."""
    found: dict[bytes, _IndexEntry] = {}
    for line in repo.git.output("ls-files", "-s", "-t", "-z", "--full-name", *pathspecs).split(b"\0"):
        meta, tab, path = line.partition(b"\t")
        if tab:
            tag, mode, oid, stage = meta.split(b" ")
            if stage == b"0" or conflicts:
                found[path] = _IndexEntry(int(mode, 8), Oid.parse(oid), tag == b"S")
    return found


def _filled_but_dirty(repo: Repository, places: Places, index: Mapping[bytes, _IndexEntry]) -> list[bytes]:
    """Files that seem modified but may hold just what their pointer says.

    A git command that had read the index before the content was put in place may write it back with the size of the
    pointer. Git then never looks at the content again.
    """
    if not index:
        return []
    # racily clean files need not be compared as the filter would, which takes a process: where git asks it, the index
    # does not have the size of a pointer for the file, or the file itself is one
    differing = [path for path in _differing(repo, *_NO_FILTER) if path in index]
    pointers = read_pointers(repo.git, (index[path].oid for path in differing))
    found = []
    for path in differing:
        pointer = pointers.get(index[path].oid)
        state = places.state(path) if pointer is not None else None
        if pointer is not None and state and state[2] == pointer.size:
            found.append(path)
    return _with_size_of_pointer(repo, found)


def _differing(repo: Repository, *options: str) -> list[bytes]:
    """Files under gitml of which stat data or content is not what the index knows."""
    # git asks the filter about racily clean files, and gives up where that cannot run; then nothing is known
    arguments = (*options, "diff-files", "-z", "--name-only", "--", _UNDER_GITML)
    return repo.git.run(*arguments, check=False).stdout.split(b"\0")[:-1]


def _with_size_of_pointer(repo: Repository, paths: list[bytes]) -> list[bytes]:
    """Those of the paths of which the index knows the size of their pointer: others git has compared by itself."""
    if not paths:
        return []
    wanted = set(paths)
    try:
        index = Index((repo.git_dir / "index").read_bytes(), repo.format)
        return [
            entry.path
            for entry in index
            if entry.path in wanted and MIN_POINTER_SIZE <= index.size(entry) <= MAX_POINTER_SIZE
        ]
    except UnsupportedIndexError:
        return paths


def _forget_stat(repo: Repository, blobs: Mapping[bytes, Oid]) -> None:
    """Have git compare these files anew, whatever the index knows of them.

    It is done before files are replaced: whoever is killed in between leaves nothing that seems modified.
    """
    if not blobs:
        return
    try:
        patiently(lambda: compare_again(repo, blobs))
    except UnsupportedIndexError:
        lines = [
            b"%o %s\t%s" % (entry.mode, entry.oid.hex().encode(), path)
            for path, entry in _read_index(repo).items()
            if blobs.get(path) == entry.oid and not entry.skipped
        ]
        patiently(lambda: write_index(repo, "update-index", "-z", "--index-info", listed=lines))


def _remember_stat(repo: Repository, files: Mapping[bytes, Clean]) -> None:
    """Note that these files hold what the index says; where that fails git finds out by comparing."""
    try:
        patiently(lambda: record_clean(repo, files))
    except UnsupportedIndexError:
        _refresh(repo)
    except BusyError:
        pass  # whoever holds the lock writes an index in which these are to be compared


def _refresh(repo: Repository) -> bool:
    """Refresh the stat data of the index, where entries that differ stay as they are; False if it is locked."""
    done = repo.git.run("update-index", "-q", "--refresh", check=False, env=QUIET, apart=True)
    return not is_locked(done.stderr.decode("utf-8", "replace"))


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
        path = parent(path)
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
    directories = {above for path in left for above in _path_and_above(parent(path))}
    return [
        change
        for change in moving
        if change.new is None
        or (change.path not in directories and left.isdisjoint(_path_and_above(parent(change.path))))
    ]


def _modified(
    repo: Repository, places: Places, changes: list[_Change], index: Mapping[bytes, _IndexEntry]
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


def _is_clean(repo: Repository, places: Places, change: _Change) -> bool:
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


def _is_free(repo: Repository, places: Places, path: bytes, wanted: tuple[int, Oid]) -> bool:
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


def _update_index(repo: Repository, changes: list[_Change], hidden: Collection[bytes]) -> None:
    zero = b"0" * (2 * repo.format.size)
    # removals first: a file may become a directory
    lines = [b"0 %s\t%s" % (zero, change.path) for change in changes if change.new is None]
    lines += [
        b"%o %s\t%s" % (change.new[0], change.new[1].hex().encode(), change.path)
        for change in changes
        if change.new is not None
    ]
    if lines:
        write_index(repo, "update-index", "-z", "--index-info", listed=lines)
    skipped = [c.path for c in changes if c.new is not None and c.path in hidden]
    if skipped:
        write_index(repo, "update-index", "-z", "--skip-worktree", "--stdin", listed=skipped)
