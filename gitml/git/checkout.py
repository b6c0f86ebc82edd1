"""Content brought into the worktree: what is here is filled in, what is not is fetched first.

Hooks fill in whatever a git command left as a pointer. `git ml checkout` does it on demand, for chosen paths, also for
what is skipped otherwise; like `git checkout PATH` it brings back files that were deleted, but what the user changed
is only replaced by force.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gitml.errors import UserError
from gitml.git.odb import GitOdb
from gitml.git.promisor import fetch_contents
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers
from gitml.git.worktree import (
    Materialised,
    Progress,
    hidden_by_sparse_checkout,
    materialise,
    modified_files,
    restore_files,
    standing_pointers,
)
from gitml.oid import Oid
from gitml.record import record, replace
from gitml.store.pointer import Pointer, PointerError, parse_pointer

_ASKED_FOR = 600
"""Seconds for which hooks do not ask the remotes again for content that none had."""


@record
class CheckedOut:
    """What `git ml checkout` did, or would do; `edited` are files that stay as the user left them."""

    sizes: Mapping[bytes, int]
    """Of every file that is or was a pointer: bytes of the content, 0 where the pointer is malformed."""
    restored: tuple[bytes, ...]
    edited: tuple[bytes, ...]
    materialised: Materialised


def fill_in(
    repo: Repository,
    paths: Sequence[bytes] | None = None,
    *,
    remotes: Sequence[str] | None = None,
    progress: Progress | None = None,
    insist: bool = True,
) -> Materialised:
    """Put content in place of pointers (all but skipped ones if `paths` is None); fetch what is not here.

    `remotes` are the names of those to ask, by default all. What cannot be had stays a pointer, with the reason.
    Without `insist` remotes are not asked for content that they did not have a few minutes ago: several hooks run for
    one git command. Raise `BusyError` if the index stays locked.
    """
    first = materialise(repo, paths, progress)
    if first.missing and _adopted(repo):
        first = _joined(first, materialise(repo, list(first.missing), progress))
    if not first.missing:
        return first
    pointers = {path: _pointer(text) for path, text in standing_pointers(repo, paths).items() if path in first.missing}
    wanted = {path: pointer.manifest for path, pointer in pointers.items() if pointer is not None}
    if not wanted or (not insist and _recently_asked(repo).issuperset(map(str, wanted.values()))):
        return first
    reasons = fetch_contents(repo, wanted, remotes=remotes)
    second = materialise(repo, list(first.missing), progress)
    _note_asked(repo, {wanted[path] for path in second.missing if path in wanted})
    joined = _joined(first, second)
    return replace(joined, missing={path: reasons.get(path, reason) for path, reason in joined.missing.items()})


def check_out(
    repo: Repository,
    pathspecs: Sequence[str],
    directory: Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CheckedOut:
    """Fill in the files that `pathspecs` (relative to `directory`; none: all but skipped ones) name.

    With pathspecs deleted files come back too; with `force` files that the user changed are replaced. Raise `UserError`
    for a pathspec that matches no file known to git, and for `force` without any.
    """
    if repo.worktree is None:
        raise UserError("a bare repository has no files to check out")
    if force and not pathspecs:
        raise UserError("--force needs the paths of the files to replace")
    paths = _matching(repo, pathspecs, directory) if pathspecs else None
    if paths is not None and hidden_by_sparse_checkout(repo, paths):
        raise UserError(
            "these files are outside the sparse checkout", hint="git sparse-checkout add DIRECTORY brings them in"
        )
    # without paths nobody asked for what is deleted, and to compare content would cost reading it
    deleted, edited = modified_files(repo, paths) if paths is not None else ((), ())
    replaced = edited if force else ()
    if not dry_run:
        restore_files(repo, [*deleted, *replaced])
    pointers = {path: _pointer(text) for path, text in standing_pointers(repo, paths).items()}
    sizes = {path: 0 if pointer is None else pointer.size for path, pointer in pointers.items()}
    done = Materialised() if dry_run else fill_in(repo, paths, progress=progress)
    kept = () if force else edited
    return CheckedOut(sizes, (*deleted, *replaced), kept, done)


def _adopted(repo: Repository) -> bool:
    """Whether content turned up that a killed `git add` had stored."""
    with GitOdb(repo.git, repo.format) as odb:
        return adopt_leftovers(repo, odb)


def _joined(first: Materialised, second: Materialised) -> Materialised:
    """Both, where the second tried again what the first was missing."""
    return Materialised(
        (*first.done, *second.done),
        first.size + second.size,
        second.missing,
        {**first.failed, **second.failed},
        (*first.kept, *second.kept),
    )


def _matching(repo: Repository, pathspecs: Sequence[str], directory: Path) -> list[bytes]:
    done = repo.git.run(
        "-C", os.fspath(directory), "ls-files", "-z", "--full-name", "--error-unmatch", "--", *pathspecs, check=False
    )
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        raise UserError(lines[0].removeprefix("error: ").removeprefix("fatal: ") if lines else "no such file")
    return [path for path in done.stdout.split(b"\0") if path]


def _pointer(text: bytes) -> Pointer | None:
    try:
        return parse_pointer(text)
    except PointerError:
        return None


def _recently_asked(repo: Repository) -> set[str]:
    """Manifests of content that was asked for a short while ago and that no remote had."""
    try:
        if time.time() - _note(repo).stat().st_mtime > _ASKED_FOR:
            return set()
        return set(_note(repo).read_text().split())
    except (OSError, UnicodeDecodeError):
        return set()


def _note_asked(repo: Repository, manifests: set[Oid]) -> None:
    note = _note(repo)
    with suppress(OSError):  # only a memory
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text("".join(f"{oid}\n" for oid in sorted(manifests)))


def _note(repo: Repository) -> Path:
    return repo.state_dir / "absent"
