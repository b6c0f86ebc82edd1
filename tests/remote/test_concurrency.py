"""Many who push at once: nobody's commit is lost, and who is too late is told so.

`GITML_PUSH_ROUNDS` sets how often sixteen pushers meet; the seed is printed.
"""

import os
import random
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest

from gitml.git.commits import Commit, Signature, format_commit
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.protocol.remote_helper import Update
from gitml.remote.address import parse_address
from gitml.remote.judge import FETCH_FIRST, NON_FAST_FORWARD
from gitml.remote.push import push as push_refs
from gitml.remote.store import Store
from gitml.remote.terms import Terms
from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit
from tests.stores import KINDS

ROUNDS = int(os.environ.get("GITML_PUSH_ROUNDS", "2"))
PUSHERS = 16
MAIN = b"refs/heads/main"
CONDITIONAL = [kind for kind in KINDS if kind != "rclone"]
"""Stores that mind conditions."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Outcome:
    """What a push came to."""

    landed: bool
    said: str


def push(project: Project, *arguments: str) -> Outcome:
    """One push; it lands, or is refused for a reason that git knows how to explain."""
    done = project.run("git", "push", "--porcelain", "origin", *arguments, check=False)
    return Outcome(done.returncode == 0, done.stdout + done.stderr)


def too_late(outcome: Outcome) -> bool:
    """Whether a push was refused because somebody else was quicker."""
    return "(fetch first)" in outcome.said or "(non-fast-forward)" in outcome.said


def at_once(work: Callable[[_Item], Outcome], items: Sequence[_Item]) -> list[Outcome]:
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(work, items))


def copies(url: str, work: Project, tmp_path: Path, number: int) -> list[Project]:
    """Clones of a store to which `work` has pushed."""
    work.git("push", "-q", url, "main")
    first = clone(url, tmp_path / "clone-0")
    found = [first]
    for each in range(1, number):
        shutil.copytree(first.path, tmp_path / f"clone-{each}", symlinks=True)
        found.append(Project(tmp_path / f"clone-{each}"))
    return found


def branches(project: Project, url: str) -> dict[str, str]:
    """The branches of a store and their commits."""
    lines = project.git("ls-remote", url, "refs/heads/*").splitlines()
    return {line.split("\t")[1]: line.split("\t")[0] for line in lines}


@pytest.mark.parametrize("kind", ["file", "moto"])
def test_pushers_of_one_branch(kind: str, new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store(kind)
    pushers = copies(url, work, tmp_path, PUSHERS)
    landed: list[str] = []

    def meet(number: int, who: int) -> Outcome:
        pusher = pushers[who]
        pusher.write(f"of {who}", f"{number}\n")
        pusher.git("add", "-A")
        pusher.git("commit", "-q", "-m", f"{number} of {who}")
        outcome = push(pusher, "main")
        if not outcome.landed:
            assert too_late(outcome), outcome.said
            pusher.git("pull", "-q", "--rebase")
            again = push(pusher, "main")
            assert again.landed or too_late(again), again.said
            if not again.landed:
                # it may go with the next one
                return outcome
        landed.append(pusher.head())
        return Outcome(True, outcome.said)

    rounds = ROUNDS if kind == "file" else (ROUNDS + 1) // 2
    for number in range(rounds):
        outcomes = at_once(partial(meet, number), range(PUSHERS))
        assert any(outcome.landed for outcome in outcomes)
        for pusher in pushers:
            if rounds > 20 and number % 10:
                break
            pusher.git("pull", "-q", "--rebase")
    print(f"{kind}: {rounds} rounds of {PUSHERS}, {len(landed)} pushes landed")
    whole = clone(url, tmp_path / "whole")
    whole.git("fsck", "--strict", "--full")
    history = whole.git("rev-list", "HEAD").split()
    assert set(landed) <= set(history)
    assert len(set(landed)) == len(landed)
    # nothing came but by a push: one line of commits, each by one of the pushers
    assert whole.git("rev-list", "--min-parents=2", "HEAD") == ""


def write_commit(repo: Repository, tree: Oid, parent: Oid, message: str) -> tuple[str, Path]:
    """As `git commit-tree`, without a process; give the file of the object too."""
    who = Signature(b"Ada", b"ada@example.org", 1_700_000_000)
    data = format_commit(Commit(tree, (parent,), who, who, message.encode() + b"\n"))
    name = repo.format.oid_of("commit", data).hex()
    place = repo.objects_dir / name[:2] / name[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(zlib.compress(b"commit %d\0%b" % (len(data), data), 1))
    return name, place


@pytest.mark.parametrize(("kind", "rounds"), [("file", 200), ("moto", 6), ("azure", 6), ("google", 6)])
def test_rounds_of_pushers_of_one_branch(
    kind: str, rounds: int, new_store: NewStore, work: Project, tmp_path: Path
) -> None:
    """What the helper does for a push, without the processes of git around it: sixteen at a time, all with one base."""
    url = new_store(kind)
    work.git("push", "-q", url, "main")
    repo = Repository.discover(work.path)
    tree = repo.resolve("HEAD^{tree}")
    stores = [Store(parse_address(url), tmp_path / f"pusher-{who}") for who in range(PUSHERS)]
    together = Barrier(PUSHERS)
    landed: list[str] = []

    def meet(number: int, who: int) -> Outcome:
        state = stores[who].read()
        assert state is not None
        tip, place = write_commit(repo, tree, state.refs[MAIN].oid, f"{number} of {who}")
        together.wait(60)
        [(name, reason)] = push_refs(repo, stores[who], state, [Update(tip, MAIN, force=False)], Terms(leases={}))
        assert name == MAIN
        assert reason in (None, FETCH_FIRST, NON_FAST_FORWARD)
        if reason is None:
            landed.append(tip)
        else:
            place.unlink()  # thousands of loose objects would be looked through
        return Outcome(reason is None, tip)

    for number in range(rounds):
        outcomes = at_once(partial(meet, number), range(PUSHERS))
        # all had the same base, and no push is a merge: one can land, and it is the one that all see afterwards
        [tip] = [outcome.said for outcome in outcomes if outcome.landed]
        now = stores[0].read()
        assert now is not None
        assert now.refs[MAIN].oid.hex() == tip
    whole = clone(url, tmp_path / "whole")
    whole.git("fsck", "--strict", "--full")
    assert whole.git("rev-list", f"--max-count={rounds}", "HEAD").split() == landed[::-1]


@pytest.mark.parametrize("kind", ["file", "moto"])
def test_pushers_of_branches_of_their_own(kind: str, new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store(kind)
    pushers = copies(url, work, tmp_path, 8)
    for number in range(2):
        for who, pusher in enumerate(pushers):
            commit(pusher, f"{number}\n", f"of {who}")
        outcomes = at_once(lambda who: push(pushers[who], f"HEAD:refs/heads/branch-{who}"), range(8))
        assert all(outcome.landed for outcome in outcomes), "\n".join(outcome.said for outcome in outcomes)
    listed = branches(work, url)
    for who, pusher in enumerate(pushers):
        assert listed[f"refs/heads/branch-{who}"] == pusher.head()
    mirror = Project(tmp_path / "mirror")
    work.git("clone", "-q", "--mirror", url, str(mirror.path))
    mirror.git("fsck", "--strict", "--full")


@pytest.mark.parametrize("kind", CONDITIONAL)
def test_first_pushers(kind: str, new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store(kind)
    work.git("remote", "add", "origin", url)
    others = []
    for who in range(6):
        shutil.copytree(work.path, tmp_path / f"copy-{who}")
        others.append(Project(tmp_path / f"copy-{who}"))
        commit(others[-1], f"{who}\n")
    outcomes = at_once(lambda who: push(others[who], "main"), range(6))
    assert sum(outcome.landed for outcome in outcomes) == 1, [outcome.said for outcome in outcomes]
    assert all(outcome.landed or too_late(outcome) for outcome in outcomes)
    winner = next(other for other, outcome in zip(others, outcomes, strict=True) if outcome.landed)
    assert clone(url, tmp_path / "whole").head() == winner.head()


def test_pushes_from_one_repository_at_once(new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store("file")
    work.git("remote", "add", "origin", url)
    work.git("push", "-q", "origin", "main")
    for number in range(2):
        chance = random.Random(number)
        for who in range(8):
            work.git("switch", "-q", "-C", f"side-{who}", "main")
            commit(work, f"{chance.random()}\n" * 5000)
        # some push the same, some do not
        refspecs = [f"side-{who // 2}:refs/heads/pushed-{who}" for who in range(8)]
        outcomes = at_once(lambda refspec: push(work, "--force", refspec), refspecs)
        assert all(outcome.landed for outcome in outcomes), "\n".join(outcome.said for outcome in outcomes)
    listed = branches(work, url)
    for who in range(8):
        assert listed[f"refs/heads/pushed-{who}"] == work.head(f"side-{who // 2}")
    mirror = Project(tmp_path / "mirror")
    work.git("clone", "-q", "--mirror", url, str(mirror.path))
    mirror.git("fsck", "--strict", "--full")


@pytest.mark.parametrize("kind", ["file", "moto"])
def test_of_two_leases_one_holds(kind: str, new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store(kind)
    pushers = copies(url, work, tmp_path, 2)
    for number in range(4):
        for who, pusher in enumerate(pushers):
            pusher.git("fetch", "-q")
            pusher.git("reset", "-q", "--hard", "origin/main")
            pusher.git("commit", "-q", "--amend", "-m", f"{number} by {who}")
        lease = f"--force-with-lease=main:{pushers[0].head('origin/main')}"
        outcomes = at_once(lambda who, lease=lease: push(pushers[who], lease, "main"), range(2))  # type: ignore[misc]
        assert [outcome.landed for outcome in outcomes].count(True) == 1, [outcome.said for outcome in outcomes]
        winner, loser = (0, 1) if outcomes[0].landed else (1, 0)
        assert "stale info" in outcomes[loser].said, outcomes[loser].said
        assert work.git("ls-remote", url, "refs/heads/main").split()[0] == pushers[winner].head()
    clone(url, tmp_path / "whole").git("fsck", "--strict")


@pytest.mark.parametrize("kind", ["file"])
def test_readers_beside_pushers_that_fold(kind: str, new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store(kind)
    pusher, *readers = copies(url, work, tmp_path, 4)
    done: list[str] = []

    def write(_: int) -> Outcome:
        for number in range(12):
            commit(pusher, f"{number}\n" * 100, f"file {number}")
            outcome = push(pusher, "main")
            assert outcome.landed, outcome.said
        done.append(pusher.head())
        return outcome

    def read(who: int) -> Outcome:
        while not done:
            readers[who].git("fetch", "-q")
            readers[who].git("rev-list", "--objects", "origin/main")
        readers[who].git("pull", "-q")
        return Outcome(True, readers[who].head())

    outcomes = at_once(lambda who: write(who) if who < 0 else read(who), [-1, 0, 1, 2])
    for reader, outcome in zip(readers, outcomes[1:], strict=True):
        assert outcome.said == pusher.head()
        reader.git("fsck", "--strict", "--full")
