"""Which commits a rebase need not replay: results, as the end is put together from the run cache anyway.

A result commit is one by what it changes, outputs and records alone; its trailers are only a hint. One stays in the
list if a later commit that is replayed builds on it: a revert of the result, a hold, an output that was edited.
"""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress

from gitml.errors import GitmlError
from gitml.git.commits import parse_commit, parse_trailers
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.loading import load_pipeline
from gitml.provenance.record import RECORDS
from gitml.store.tree import Snapshot

_PICK = re.compile(rb"^(?:pick|p)(?= +([0-9a-f]+)\b)")


def without_results(repo: Repository, odb: GitOdb, todo: bytes) -> bytes:
    """The list of a rebase (git-rebase-todo) with `drop` for the results that need not be replayed."""
    lines = todo.split(b"\n")
    touched: set[bytes] = set()
    for number in reversed(range(len(lines))):
        commit = _commit_of(odb, lines[number])
        if commit is None:
            continue
        paths = _changed(repo, commit)
        picked = _PICK.match(lines[number])
        if picked is not None and touched.isdisjoint(paths) and is_result(odb, commit, paths):
            lines[number] = b"drop" + lines[number][picked.end() :]
        else:
            touched |= paths
    return b"\n".join(lines)


def is_result(odb: GitOdb, commit: Oid, paths: set[bytes]) -> bool:
    """Whether a commit that changes `paths` is nothing but the result of a run."""
    parsed = parse_commit(odb.read(commit)[1])
    if len(parsed.parents) != 1 or "Gitml-Run" not in parse_trailers(parsed.message):
        return False
    before = parse_commit(odb.read(parsed.parents[0])[1])
    places = (RECORDS, *_outputs(odb, parsed.tree), *_outputs(odb, before.tree))
    return all(any(path == place or path.startswith(place + b"/") for place in places) for path in paths)


def is_only_a_result(repo: Repository, odb: GitOdb, commit: Oid) -> bool:
    """Whether a commit is nothing but the result of a run."""
    return is_result(odb, commit, _changed(repo, commit))


def _outputs(odb: GitOdb, tree: Oid) -> Iterator[bytes]:
    with suppress(GitmlError):
        pipeline = load_pipeline(Snapshot(odb, tree))
        if pipeline is not None:
            yield from (stage.output for stage in pipeline.stages)


def _commit_of(odb: GitOdb, line: bytes) -> Oid | None:
    """The commit that a line of the list replays in any way; None for other lines."""
    words = line.split()
    # `fixup -C ID`, `merge -C ID`
    name = next((word for word in words[1:3] if re.fullmatch(rb"[0-9a-f]{4,64}", word)), None)
    if name is None or line.startswith(b"#") or words[0] in (b"drop", b"d", b"exec", b"x", b"label", b"l", b"reset"):
        return None
    found = odb.lookup(f"{os.fsdecode(name)}^{{commit}}")
    return None if found is None else found[0]


def _changed(repo: Repository, commit: Oid) -> set[bytes]:
    listed = repo.git.output(
        "diff-tree", "-r", "-z", "-m", "--root", "--no-renames", "--no-commit-id", "--name-only", commit.hex()
    )
    return {path for path in listed.split(b"\0") if path}


def user_editor(repo: Repository) -> str:
    """The command line with which git would have the user edit the list of a rebase."""
    configured = os.environ.get("GIT_SEQUENCE_EDITOR") or repo.config("sequence.editor")
    return configured or repo.git.line("var", "GIT_EDITOR")


def editor_for(command: str, then: str | None) -> str:
    """The command line for git that has `command` edit the list, and the user with `then` after it."""
    if then is None:
        return command
    return f'f() {{ {command} "$1" && sh -c {shlex.quote(then + " " + chr(34) + "$@" + chr(34))} editor "$1"; }}; f'
