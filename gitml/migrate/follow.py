"""Index and worktree after their commit was replaced by one that holds the same contents in another form.

Index entries that were those of the old tree become those of the new one. Files keep what they hold; only control files
and files that are pointers are written. Nothing is overwritten that is not what git put there. A file that DVC keeps
from now on stays where it is, with its content.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.git.state import Worktree, commit_under_way, sequence_under_way, worktrees
from gitml.git.worktree import materialise
from gitml.migrate.dvc import is_dvc_file
from gitml.migrate.lfs import MAX_POINTER_SIZE, parse_lfs_pointer
from gitml.migrate.recipe import ATTRIBUTES, LFS_CONFIG
from gitml.oid import Oid
from gitml.provenance.codec import printable
from gitml.store.pointer import is_pointer

_CONTROL = frozenset({ATTRIBUTES, LFS_CONFIG, b".gitignore"})
_QUIET = {"GITML_ACTIVE": "1"}


class _Change(NamedTuple):
    path: bytes
    old: tuple[int, Oid] | None
    new: tuple[int, Oid] | None


def check_worktrees(repo: Repository, branches: Iterable[str], *, dirty_is_fine: bool) -> None:
    """Raise `UserError` if one of the worktrees that would follow has changes, or is in the middle of something."""
    for place, here in followers(repo, branches):
        under_way = sequence_under_way(place.git_dir)
        if under_way is not None or commit_under_way(place.git_dir):
            raise UserError(
                f"{under_way or 'a commit'} is under way in '{printable(str(place.path))}'", hint="finish it first"
            )
        if not dirty_is_fine:
            status = here.git.output("status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all")
            if status:
                path = status.split(b"\0")[0][3:]
                raise UserError(
                    f"'{printable(path)}' has changes that are not committed",
                    hint="commit or stash them; or keep them as they are: --yes",
                )


def followers(repo: Repository, branches: Iterable[str]) -> list[tuple[Worktree, Repository]]:
    """The worktrees in which one of `branches` is checked out (`HEAD`: this one, if it is detached)."""
    wanted = set(branches)
    found = []
    for place in worktrees(repo):
        detached_here = place.branch is None and "HEAD" in wanted and place.git_dir.resolve() == repo.git_dir.resolve()
        if place.branch in wanted or detached_here:
            here = Repository(
                git_dir=place.git_dir, common_dir=repo.common_dir, worktree=place.path, format=repo.format
            )
            found.append((place, here))
    return found


def follow(repo: Repository, old_tree: Oid, new_tree: Oid) -> None:
    """Bring index and worktree of `repo` from `old_tree` to `new_tree`. May be done again after it was interrupted."""
    assert repo.worktree is not None
    changes = _changes(repo, old_tree, new_tree)
    given = _given_to_dvc(changes)
    # while they are files of git: DVC would take a pointer for a change, and keep it as content
    materialise(repo, given)
    repo.git.run("update-index", "-q", "--refresh", check=False, env=_QUIET)
    index, skipped = _index(repo)
    moving = [change for change in changes if index.get(change.path) in (change.old, change.new)]
    untouched = _unmodified(repo, moving, index)
    _update_index(repo, moving, skipped)
    visible = [change for change in moving if change.path not in skipped]
    for change in visible:
        if change.new is None and change.path in untouched and change.path not in given:
            _remove(repo.worktree, change.path)
    control = [change.path for change in visible if change.new is not None and _is_control(change.path)]
    _checkout(repo, [path for path in control if path in untouched])
    data = [change for change in visible if change.new is not None and not _is_control(change.path)]
    for change in data:
        if change.old is None:
            _unlink_from_cache(_place(repo, change.path))
    _checkout(repo, [change.path for change in data if change.path in untouched and _is_empty_handed(repo, change)])
    repo.git.run("update-index", "-q", "--refresh", check=False, env=_QUIET)
    materialise(repo, [change.path for change in data])


def _changes(repo: Repository, old: Oid, new: Oid) -> list[_Change]:
    fields = repo.git.output(
        "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", old.hex(), new.hex()
    ).split(b"\0")  # fmt: skip
    found = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        old_mode, new_mode, old_oid, new_oid, _ = meta.removeprefix(b":").split(b" ")
        sides = [
            (int(mode, 8), Oid.parse(oid)) if int(mode, 8) else None
            for mode, oid in ((old_mode, old_oid), (new_mode, new_oid))
        ]
        found.append(_Change(path, *sides))
    return found


def _given_to_dvc(changes: list[_Change]) -> set[bytes]:
    """The files that are gone from git because a file of DVC now stands for them."""
    begun = {change.path for change in changes if change.old is None}
    return {change.path for change in changes if change.new is None and change.path + b".dvc" in begun}


def _index(repo: Repository) -> tuple[dict[bytes, tuple[int, Oid]], set[bytes]]:
    """Mode and oid of every entry, and the paths that are not to be in the worktree."""
    entries: dict[bytes, tuple[int, Oid]] = {}
    skipped: set[bytes] = set()
    for line in repo.git.output("ls-files", "-s", "-t", "-z", "--full-name").split(b"\0"):
        meta, tab, path = line.partition(b"\t")
        if tab:
            tag, mode, oid, _ = meta.split(b" ")
            entries[path] = (int(mode, 8), Oid.parse(oid))
            if tag == b"S":
                skipped.add(path)
    return entries, skipped


def _unmodified(repo: Repository, changes: list[_Change], index: Mapping[bytes, tuple[int, Oid]]) -> set[bytes]:
    """Those of the paths whose file is not the user's: as the old commit has it, or not there and never was."""
    differing = set(repo.git.output("diff-files", "-z", "--name-only").split(b"\0"))
    found = set()
    for change in changes:
        place = _place(repo, change.path)
        if change.old is None:
            if not os.path.lexists(place):
                found.add(change.path)
        elif index.get(change.path) == change.old and change.path not in differing:
            found.add(change.path)
        elif _holds(repo, place, change.old[1]):
            # the index has moved on already: an earlier call was interrupted
            found.add(change.path)
    return found


def _holds(repo: Repository, place: Path, oid: Oid) -> bool:
    """Whether a small file has just the bytes of a blob."""
    if place.is_symlink() or not place.is_file() or place.stat().st_size > 1 << 20:
        return False
    return repo.format.oid_of("blob", place.read_bytes()) == oid


def _update_index(repo: Repository, changes: list[_Change], skipped: set[bytes]) -> None:
    zero = b"0" * (2 * repo.format.size)
    lines = [b"0 %s\t%s\0" % (zero, change.path) for change in changes if change.new is None]
    lines += [
        b"%o %s\t%s\0" % (change.new[0], change.new[1].hex().encode(), change.path)
        for change in changes
        if change.new is not None
    ]
    repo.git.run("update-index", "-z", "--index-info", input=b"".join(lines), env=_QUIET)
    again = [change.path for change in changes if change.new is not None and change.path in skipped]
    if again:
        listed = b"".join(path + b"\0" for path in again)
        repo.git.run("update-index", "-z", "--skip-worktree", "--stdin", input=listed, env=_QUIET)


def _is_control(path: bytes) -> bool:
    name = path.rpartition(b"/")[2]
    return name in _CONTROL or is_dvc_file(name)


def _is_empty_handed(repo: Repository, change: _Change) -> bool:
    """Whether a pointer, or nothing, stands where content should."""
    place = _place(repo, change.path)
    if change.old is None and not os.path.lexists(place):
        return True
    try:
        found = place.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_POINTER_SIZE:
            return False
        data = place.read_bytes()
    except OSError:
        return False
    return is_pointer(data) or parse_lfs_pointer(data) is not None


def _unlink_from_cache(place: Path) -> None:
    """Make a file of its own of one that is a link into a cache of DVC; what it holds stays."""
    try:
        found = place.lstat()
        if not place.is_file() or not (stat.S_ISLNK(found.st_mode) or found.st_nlink > 1):
            return
    except OSError:
        return
    temporary = place.with_name(f".gitml-{os.urandom(8).hex()}")
    try:
        shutil.copyfile(place, temporary)
        temporary.chmod(0o644 | stat.S_IMODE(place.stat().st_mode) & 0o111)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _checkout(repo: Repository, paths: list[bytes]) -> None:
    if paths:
        listed = b"".join(path + b"\0" for path in paths)
        repo.git.run("checkout-index", "-z", "--stdin", "-f", "-u", "-q", input=listed, env=_QUIET)


def _remove(worktree: Path, path: bytes) -> None:
    place = worktree / os.fsdecode(path)
    place.unlink(missing_ok=True)
    for above in place.parents:
        if above == worktree:
            break
        try:
            above.rmdir()
        except OSError:
            break


def _place(repo: Repository, path: bytes) -> Path:
    assert repo.worktree is not None
    return repo.worktree / os.fsdecode(path)
