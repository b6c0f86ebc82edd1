"""Putting a result commit on a branch without touching anything of the user's.

Objects first, then a compare-and-swap of the branch, then only the published paths of index and worktree.
No hook runs, no index but the published entries changes, nothing has to be rolled back.
"""

import json
import os
import time
from collections.abc import Callable, Iterable

from gitml.errors import BusyError
from gitml.git.commits import Commit, Signature, format_commit, parse_commit
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, update_refs
from gitml.git.repository import Repository
from gitml.git.signing import COMMITTER, SigningError, committer_of, signed
from gitml.git.state import PUBLISHING, head_is_moving, reasons_to_wait, worktrees
from gitml.git.worktree import sync_published
from gitml.liveness import is_alive
from gitml.oid import Oid
from gitml.record import record

_SETTLED = 5.0
"""Seconds that a `git reset` or `git switch` of the same moment may take."""


@record
class Published:
    """The result commit is on the branch. `kept` are paths that the user had changed and that stayed so."""

    commit: Oid
    kept: tuple[bytes, ...] = ()


@record
class Parked:
    """Not published now: `reason` says what is in the way. The results are in the run cache."""

    reason: str


@record
class Moved:
    """The branch has another tip now; nothing was done."""


Outcome = Published | Parked | Moved


def result_commit(
    odb: GitOdb,
    tip: Oid,
    tree: Oid,
    message: bytes,
    who: tuple[Signature, Signature] | None = None,
    committer: tuple[bytes, bytes] = COMMITTER,
) -> Commit:
    """The commit that puts `tree` on `tip`: deterministic, so equal results of two machines are one commit.

    The author is the tip's author, the committer is `committer` (name, address); both dates are the tip's committer
    date. With `who` they are this author and committer: what a person decided is a commit of that person's.
    """
    if who is not None:
        return Commit(tree=tree, parents=(tip,), author=who[0], committer=who[1], message=message)
    source = parse_commit(odb.read(tip)[1])
    when, offset = source.committer.time, source.committer.offset
    author = Signature(source.author.name, source.author.email, when, offset)
    return Commit(
        tree=tree, parents=(tip,), author=author, committer=Signature(*committer, when, offset), message=message
    )


def wait_until_free(repo: Repository, branch: str, seconds: float, stopped: Callable[[], bool]) -> str | None:
    """Wait up to `seconds` for a moment to publish; None when it has come, else what is in the way."""
    end = time.monotonic() + seconds
    pause = 0.02
    while True:
        reason = next(reasons_to_wait(repo, branch), None)
        if reason is None or time.monotonic() >= end or stopped():
            return reason
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def publish(
    repo: Repository,
    odb: GitOdb,
    branch: str,
    tip: Oid,
    tree: Oid,
    message: bytes,
    paths: Iterable[bytes],
    *,
    wait: float,
    stopped: Callable[[], bool] = lambda: False,
    who: tuple[Signature, Signature] | None = None,
    sign: bool = False,
) -> Outcome:
    """Commit `tree` on `branch` if its tip still is `tip`, and bring `paths` up to date where it is checked out.

    Waits up to `wait` seconds while a commit is written, the index is locked or a merge, rebase or the like is
    under way. `who` is as for `result_commit`. With `sign` the commit is signed in any case, by whoever sits there.
    """
    try:
        commit = signed(repo, result_commit(odb, tip, tree, message, who, committer_of(repo)), asking=sign)
    except SigningError as error:
        return Parked(error.message if sign else f"{error.message} (git ml publish --sign can ask for a passphrase)")
    with PackWriter(repo.objects_dir, odb.format, reader=odb) as pack:
        commit_id = pack.write("commit", format_commit(commit))
        pack.finish()
    reason = wait_until_free(repo, branch, wait, stopped)
    if reason is not None:
        return Parked(reason)
    published = tuple(paths)
    _note_intent(repo, branch, tip, commit_id, published)
    try:
        update_refs(repo.git, [RefUpdate(branch, commit_id, tip)], message="gitml: results")
    except RefMovedError:
        _forget_intent(repo)
        return Moved()
    except RefLockedError as error:
        _forget_intent(repo)
        return Parked(error.message)
    kept = _bring_up_to_date(repo, odb, branch, tip, commit_id, published)
    _forget_intent(repo)
    return Published(commit_id, kept)


def publish_beside(repo: Repository, odb: GitOdb, ref: str, tip: Oid, tree: Oid, message: bytes) -> Oid:
    """Commit `tree` on `tip` and have `ref`, which nobody works on, name that; give the commit.

    What the ref had before was of an older tip. Raise `SigningError`, `RefLockedError`.
    """
    commit = signed(repo, result_commit(odb, tip, tree, message, None, committer_of(repo)))
    with PackWriter(repo.objects_dir, odb.format, reader=odb) as pack:
        commit_id = pack.write("commit", format_commit(commit))
        pack.finish()
    update_refs(repo.git, [RefUpdate(ref, commit_id)], message="gitml: results")
    return commit_id


def sign_tip(repo: Repository, odb: GitOdb, branch: str, tip: Oid) -> Outcome | None:
    """Have `branch` end in a signed commit in the place of `tip`, which is on top of it; a passphrase may be asked for.

    None if `tip` is signed, or a remote has it, where it would only come back.
    """
    commit = parse_commit(odb.read(tip)[1])
    pushed = not repo.git.output("rev-list", "-1", tip.hex(), "--not", "--remotes").strip()
    if pushed or any(name.startswith(b"gpgsig") for name, _ in commit.extra):
        return None
    try:
        made = signed(repo, commit, asking=True)
    except SigningError as error:
        return Parked(error.message)
    with PackWriter(repo.objects_dir, odb.format, reader=odb) as pack:
        commit_id = pack.write("commit", format_commit(made))
        pack.finish()
    reason = next(reasons_to_wait(repo, branch), None)
    if reason is not None:
        return Parked(reason)
    try:
        # the tree is the same, so nothing changes in any worktree
        update_refs(repo.git, [RefUpdate(branch, commit_id, tip)], message="gitml: signed")
    except RefMovedError:
        return Moved()
    except RefLockedError as error:
        return Parked(error.message)
    return Published(commit_id)


def publication_under_way(repo: Repository) -> bool:
    """Whether the branch of somebody's has moved, or is about to, and index and worktree do not follow yet."""
    return (repo.state_dir / PUBLISHING).exists()


def publisher_lives(repo: Repository) -> bool:
    """Whether the process that publishes is there to finish it."""
    try:
        return is_alive(int(json.loads((repo.state_dir / PUBLISHING).read_bytes())["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def finish_interrupted(repo: Repository, odb: GitOdb) -> None:
    """Do what a publisher that was killed after moving the branch left undone in index and worktree."""
    try:
        intent = json.loads((repo.state_dir / PUBLISHING).read_bytes())
        branch, tip, commit_id = str(intent["branch"]), Oid.parse(intent["tip"]), Oid.parse(intent["commit"])
        paths = tuple(os.fsencode(path) for path in intent["paths"])
    except (OSError, ValueError, KeyError, TypeError):
        _forget_intent(repo)
        return
    if repo.try_resolve(branch) == commit_id:
        _bring_up_to_date(repo, odb, branch, tip, commit_id, paths)
    _forget_intent(repo)


def _note_intent(repo: Repository, branch: str, tip: Oid, commit_id: Oid, paths: tuple[bytes, ...]) -> None:
    repo.state_dir.mkdir(parents=True, exist_ok=True)
    intent = {
        "pid": os.getpid(),
        "branch": branch,
        "tip": tip.hex(),
        "commit": commit_id.hex(),
        "paths": [os.fsdecode(path) for path in paths],
    }
    temporary = repo.state_dir / f"{PUBLISHING}.tmp"
    temporary.write_text(json.dumps(intent))
    temporary.replace(repo.state_dir / PUBLISHING)


def _forget_intent(repo: Repository) -> None:
    (repo.state_dir / PUBLISHING).unlink(missing_ok=True)


def _bring_up_to_date(
    repo: Repository, odb: GitOdb, branch: str, tip: Oid, commit_id: Oid, paths: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    old_tree, new_tree = (parse_commit(odb.read(commit)[1]).tree for commit in (tip, commit_id))
    kept: list[bytes] = []
    for place in worktrees(repo):
        if place.branch == branch:
            here = Repository(
                git_dir=place.git_dir, common_dir=repo.common_dir, worktree=place.path, format=repo.format
            )
            kept += _sync_patiently(here, old_tree, new_tree, paths)
            _follow_user(here, odb, branch, commit_id, new_tree, paths)
    return tuple(kept)


def _follow_user(
    here: Repository, odb: GitOdb, branch: str, commit_id: Oid, tree: Oid, paths: tuple[bytes, ...]
) -> None:
    """Take published paths back where `git reset` or `git switch` went elsewhere at the same moment.

    They had brought index and worktree where they were going, to which we then added what was published.
    """
    assert here.worktree is not None
    end = time.monotonic() + _SETTLED
    while head_is_moving(here.worktree) and time.monotonic() < end:
        time.sleep(0.02)
    head = here.try_resolve("HEAD")
    if head is None or head == commit_id:
        return
    place = here.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip()
    if place == branch and here.git.succeeds("merge-base", "--is-ancestor", commit_id.hex(), head.hex()):
        return  # a commit on top, which has what was published or took it back knowingly
    _sync_patiently(here, tree, parse_commit(odb.read(head)[1]).tree, paths)


def _sync_patiently(here: Repository, old_tree: Oid, new_tree: Oid, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
    # another git may take the index for an instant (an editor's `git status`); the branch has moved already
    for pause in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        try:
            return tuple(sync_published(here, old_tree, new_tree, paths))
        except BusyError:
            time.sleep(pause)
    return tuple(sync_published(here, old_tree, new_tree, paths))
