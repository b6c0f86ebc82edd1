"""The merge driver `ml`: what becomes of a file that both sides of a merge changed.

Results take our side, as the pipeline brings them up to date after the merge. Large files are a conflict in words,
where git would write its markers into pointers. Everything else is merged line by line, as git does it.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.git.state import rebase_under_way
from gitml.hooks.words import say
from gitml.meter import format_size
from gitml.pipeline.cache import RunCache
from gitml.pipeline.loading import load_pipeline
from gitml.pipeline.survey import Surveyor
from gitml.provenance.record import RECORDS
from gitml.store.pointer import MAX_POINTER_SIZE, Pointer, PointerError, parse_pointer
from gitml.store.tree import Snapshot

_CONFLICT = 1
_ANCESTORS = 4
"""Processes between git and us: a shell, and where it is started by name, git again."""
_FAILED = 255
"""Git takes a driver that ends above 128 for broken and stops the merge."""


def merge_file(arguments: Sequence[str]) -> int:
    """`merge-file BASE OURS THEIRS PATH`: leave the merged content in the file OURS; 0 if it is merged, 1 if not."""
    if len(arguments) != 4:
        say("merge-file BASE OURS THEIRS PATH is started by git; git ml install sets it up")
        return _FAILED
    base, ours, theirs, path = arguments
    try:
        repo = Repository.discover()
        if _is_result(repo, os.fsencode(path)):
            return 0
        mine, other = _pointer(Path(ours)), _pointer(Path(theirs))
        if mine is not None or other is not None:
            favoured = favoured_side(repo.git_dir)
            if favoured == "theirs":
                shutil.copyfile(theirs, ours)
            return 0 if favoured else _conflict(path, mine, other, in_rebase=rebase_under_way(repo.git_dir))
        done = repo.git.run(
            "merge-file", *_favour(repo.git_dir), "-L", "ours", "-L", "base", "-L", "theirs",
            *(os.fspath(Path(name).absolute()) for name in (ours, base, theirs)), check=False,
        )  # fmt: skip
        # above 127 it could not: binary content, of which ours stays
        return 0 if done.returncode == 0 else _CONFLICT
    except GitmlError as error:
        say(f"'{path}' was not merged: {error.message}")
        return _CONFLICT


def favoured_side(git_dir: Path) -> str:
    """Which side the user gave conflicts to, with `-X ours` or `-X theirs`; empty: none.

    Git does not tell drivers (ll-merge.c): a rebase leaves it in a file, any other command in its arguments, which only
    Linux shows.
    """
    with suppress(OSError):
        return _side_in((git_dir / "rebase-merge" / "strategy_opts").read_text().split())
    pid = os.getppid()
    with suppress(OSError, ValueError):
        for _ in range(_ANCESTORS):
            words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
            if Path(words[0]).name == "git" and {"merge", "pull", "cherry-pick", "revert", "stash"} & set(words):
                return _side_in(words)
            # the name of the program is in parentheses, and may hold anything
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return ""


def _side_in(words: Sequence[str]) -> str:
    """The last of `--theirs`, `-Xtheirs`, `-X theirs`, `--strategy-option=theirs`, and so for ours."""
    side = ""
    for before, word in zip(("", *words), words, strict=False):
        value = word.removeprefix("--strategy-option=").removeprefix("-X").removeprefix("--")
        if value in ("ours", "theirs") and (value != word or before in ("-X", "--strategy-option")):
            side = value
    return side


def _favour(git_dir: Path) -> list[str]:
    side = favoured_side(git_dir)
    return [f"--{side}"] if side else []


def _is_result(repo: Repository, path: bytes) -> bool:
    if path.startswith(RECORDS + b"/"):
        return True
    head = repo.try_resolve("HEAD")
    if head is None:
        return False
    with GitOdb(repo.git, repo.format) as odb, suppress(GitmlError):
        pipeline = load_pipeline(Snapshot(odb, Surveyor(repo, odb, RunCache(repo, odb)).tree_of(head)))
        return pipeline is not None and any(path.startswith(stage.output + b"/") for stage in pipeline.stages)
    return False


def _pointer(file: Path) -> Pointer | None:
    if file.stat().st_size > MAX_POINTER_SIZE:
        return None
    try:
        return parse_pointer(file.read_bytes())
    except PointerError:
        return None


def _conflict(path: str, ours: Pointer | None, theirs: Pointer | None, *, in_rebase: bool) -> int:
    if ours is not None and theirs is not None and ours.sha256 == theirs.sha256:
        return 0  # the same content in other chunks
    sizes = (format_size(each.size) if each is not None else "a small file" for each in (ours, theirs))
    say(f"both sides changed '{path}': ours {next(sizes)}, theirs {next(sizes)}; large files are not merged by lines")
    say(f"hint: git checkout --ours -- '{path}', or --theirs, then git add it")
    if in_rebase:
        say("hint: in a rebase, ours is what you rebase onto, and theirs your commit")
    return _CONFLICT
