"""Filling in the worktree: content in the place of pointers, fetched first where it is not here."""

import os
from collections.abc import Iterable, Sequence

from gitml.git.promisor import fetch_contents
from gitml.git.repository import Repository
from gitml.git.worktree import Materialised, materialise
from gitml.oid import Oid
from gitml.store.pointer import MAX_POINTER_SIZE, PointerError, parse_pointer


def fill_in(
    repo: Repository,
    paths: Iterable[bytes] | None = None,
    *,
    remotes: Sequence[str] | None = None,
    progress: bool | None = None,
) -> Materialised:
    """Put the content behind pointers into the worktree, for `paths` or (None) everywhere; fetch what is not here.

    Where nothing can be fetched the pointers stay, with the reason.
    """
    chosen = None if paths is None else list(paths)
    first = materialise(repo, chosen)
    wanted = {path: manifest for path in first.missing if (manifest := _manifest_at(repo, path)) is not None}
    if not wanted:
        return first
    reasons = fetch_contents(repo, wanted, remotes=remotes, progress=progress)
    second = materialise(repo, sorted(wanted.keys() - reasons.keys()))
    left = {path: reason for path, reason in first.missing.items() if path in reasons or path not in wanted}
    return Materialised(
        done=first.done + second.done,
        size=first.size + second.size,
        missing={**left, **reasons, **second.missing},
        failed={**first.failed, **second.failed},
        kept=first.kept + second.kept,
    )


def _manifest_at(repo: Repository, path: bytes) -> Oid | None:
    """The manifest that the pointer in the worktree names."""
    assert repo.worktree is not None
    try:
        with (repo.worktree / os.fsdecode(path)).open("rb") as file:
            return parse_pointer(file.read(MAX_POINTER_SIZE + 1)).manifest
    except (OSError, PointerError):
        return None
