"""What is going on in a repository's worktrees: branches checked out, operations under way, commits being written."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from gitml.git.indexlock import remove_dead_lock
from gitml.git.repository import Repository
from gitml.liveness import is_alive
from gitml.record import record

COMMIT_MARKER = "ml/committing"
"""Below a worktree's git directory: the process ids of every `git commit` that is being written (left by our hooks)."""

PUBLISHING = "publishing.json"
"""Among our own files: what is left to do of a publication, should it be killed (gitml.git.publish)."""

_SEQUENCES = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or 'git am'",
    "sequencer": "a cherry-pick or revert of several commits",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisect",
}


@record
class Worktree:
    """One worktree: its top level, its git directory, the ref it has checked out (None: detached)."""

    path: Path
    git_dir: Path
    branch: str | None


def worktrees(repo: Repository) -> list[Worktree]:
    """All worktrees of the repository that are there; bare ones are left out.

    A worktree in a rebase or bisect counts for the branch that it will come back to.
    """
    found: list[Worktree] = []
    listed = repo.git.run("worktree", "list", "--porcelain", "-z", check=False)
    text = os.fsdecode(listed.stdout)
    if listed.returncode:  # git before 2.36
        text = os.fsdecode(repo.git.output("worktree", "list", "--porcelain")).replace("\n", "\0")
    for block in text.split("\0\0"):
        fields = dict(line.partition(" ")[::2] for line in block.split("\0") if line)
        if "worktree" not in fields or "bare" in fields or "prunable" in fields:
            continue
        path = Path(fields["worktree"])
        if not path.is_dir():
            continue
        git_dir = _git_dir_of(path)
        if git_dir is not None:
            found.append(Worktree(path, git_dir, fields.get("branch") or _returning_branch(git_dir)))
    if repo.worktree is not None and all(tree.git_dir != repo.git_dir for tree in found):
        # `core.worktree`, or GIT_DIR away from the worktree: git lists it by its git directory only
        head = (repo.git_dir / "HEAD").read_text().strip()
        branch = head.removeprefix("ref: ") if head.startswith("ref: ") else _returning_branch(repo.git_dir)
        found.append(Worktree(repo.worktree, repo.git_dir, branch))
    return found


def _git_dir_of(worktree: Path) -> Path | None:
    dot_git = worktree / ".git"
    if dot_git.is_dir():
        return dot_git
    try:
        text = dot_git.read_text().strip()
    except OSError:
        return None
    return (worktree / text.removeprefix("gitdir: ")).resolve() if text.startswith("gitdir: ") else None


def _returning_branch(git_dir: Path) -> str | None:
    for name in ("rebase-merge/head-name", "rebase-apply/head-name"):
        head = _read(git_dir / name)
        if head is not None and head.startswith("refs/"):
            return head
    bisect = _read(git_dir / "BISECT_START")
    return f"refs/heads/{bisect}" if bisect else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def sequence_under_way(git_dir: Path) -> str | None:
    """The operation that a worktree is in the middle of, in words; None if none."""
    return next((words for name, words in _SEQUENCES.items() if (git_dir / name).exists()), None)


def rebase_under_way(git_dir: Path) -> bool:
    """Whether commits are being replayed: hooks fire for each, and only the end counts."""
    return (git_dir / "rebase-merge").exists() or (git_dir / "rebase-apply").exists()


def rebase_is_starting(git_dir: Path) -> bool:
    """Whether a rebase has checked out where it goes, and is about to replay commits.

    Git may then write the index once more as it has it in memory, without what hooks recorded there (git: sequencer.c,
    complete_action); files that hooks replaced would seem modified to the first commit that is replayed.
    """
    state = git_dir / "rebase-merge"
    if not state.is_dir() or (state / "end").exists():
        return False
    return (_read(state / "git-rebase-todo") or "").split("\n")[0] != "noop"


def note_commit(git_dir: Path) -> None:
    """Leave the marker for the `git commit` that started us."""
    found = next(_gits_above(), None)
    if found is not None:
        marker = git_dir / COMMIT_MARKER
        marker.parent.mkdir(parents=True, exist_ok=True)
        with marker.open("a") as file:  # another one may have its editor open
            file.write(f"{found[0]}\n")


def was_told_to_be_quiet() -> bool:
    """Whether the git that the user started is to show no progress: hooks and filters are not told."""
    # `git bisect` and `git submodule` tell others that they start, and mean their words, not how far they are
    words = [words for _, words in _gits_above()]
    return bool(words) and any(map(_SILENT.fullmatch, words[-1]))


_SILENT = re.compile(rb"--quiet|--no-progress|-[a-zA-Z]{0,4}q[a-zA-Z]{0,4}")
"""As git's commands have it, also among a few letters together."""


def starting_git() -> str:
    """Tells the git that started us from any other: process id and start, as `/proc` has it where there is one."""
    pid = next((pid for pid, _ in _gits_above()), os.getppid())
    return " ".join([str(pid), *_stat(pid)[19:20]])


def _gits_above() -> Iterator[tuple[int, list[bytes]]]:
    """Process id and words of each git that we descend from, the nearest first, whatever scripts lie between."""
    pid = os.getppid()
    while pid > 0:
        words = (_command_line(pid) or b"").split(b"\0")
        if words[0].rpartition(b"/")[2] == b"git" and b"ml" not in words[1:2]:
            yield pid, words[1:]
        pid = int((_stat(pid)[1:2] or ["0"])[0])


def _stat(pid: int) -> list[str]:
    """The fields of a process in `/proc` from its state on; none where that cannot be read."""
    # the name of the program stands in brackets before them and may hold any characters
    return (_read(Path(f"/proc/{pid}/stat")) or "").rpartition(")")[2].split()


def forget_commit(git_dir: Path) -> None:
    """A commit is written; others that were being written on this branch cannot succeed any more."""
    (git_dir / COMMIT_MARKER).unlink(missing_ok=True)


def commit_under_way(git_dir: Path) -> bool:
    """Whether a live `git commit` holds the marker: moving the branch now would make the user's commit fail."""
    text = _read(git_dir / COMMIT_MARKER) or ""
    return any(_is_live_git(int(line)) for line in text.split() if line.isdigit())


_UNMARKED = 0.4
"""Seconds that a git which moves the branch takes at most from its start to our hook, which leaves the marker."""
_SETTLING = 2.0
_MOVING = frozenset({b"commit", b"merge", b"pull", b"cherry-pick", b"revert", b"am", b"rebase"})
_LEAVING = frozenset({b"reset", b"switch", b"checkout", b"stash", b"rebase"})


def commit_is_starting(top: Path) -> bool:
    """Whether a git was started in this worktree a moment ago that may have read where the branch is."""
    return is_at_work(top, _MOVING | _LEAVING, _UNMARKED)


def head_is_moving(top: Path) -> bool:
    """Whether a git goes elsewhere in this worktree: it writes index and files first, and HEAD when hooks have run."""
    return is_at_work(top, _LEAVING, _SETTLING)


def is_at_work(top: Path, commands: frozenset[bytes], seconds: float) -> bool:
    """Whether a git with one of these commands runs in a worktree that was started at most so long ago."""
    try:
        now = float(Path("/proc/uptime").read_text().split()[0])
        here = os.path.realpath(top)
        found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except (OSError, ValueError):
        return False  # not Linux: the marker alone must do
    return any(_runs(pid, commands) and now - _started(pid) < seconds and _works_in(pid, here) for pid in found)


def _runs(pid: int, commands: frozenset[bytes]) -> bool:
    words = (_command_line(pid) or b"").split(b"\0")
    return words[0].rpartition(b"/")[2] == b"git" and not commands.isdisjoint(words[1:])


def _started(pid: int) -> float:
    """When a process was started, seconds after the machine; 0 if that cannot be read."""
    fields = _stat(pid)
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if len(fields) > 19 else 0.0


def _works_in(pid: int, directory: str) -> bool:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink()) == directory
    except OSError:
        return False  # it has ended, or is another user's


def _is_live_git(pid: int) -> bool:
    if not is_alive(pid):
        return False
    command = _command_line(pid)
    return command is None or b"git" in command


def _command_line(pid: int) -> bytes | None:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None  # not Linux: the process id alone must do


def reasons_to_wait(repo: Repository, branch: str) -> Iterator[str]:
    """Why results must not be published on `branch` (a full ref name) at this moment, in words."""
    for worktree in worktrees(repo):
        if worktree.branch != branch:
            continue
        if commit_under_way(worktree.git_dir) or commit_is_starting(worktree.path):
            yield "a commit is being written"
        under_way = sequence_under_way(worktree.git_dir)
        if under_way is not None:
            yield f"{under_way} is under way"
        lock = worktree.git_dir / "index.lock"
        remove_dead_lock(lock)
        if lock.exists():
            yield "the index is locked"
