"""Kills, other processes, and random histories: whatever happens, every pointer of every root can be read."""

import contextlib
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from gitml.care.prune import prune
from gitml.errors import BusyError
from gitml.git.refs import list_refs
from gitml.git.repository import Repository

from .conftest import NEVER, NOW, Place, noise

ROUNDS = int(os.environ.get("GITML_FAULT_ROUNDS", "2"))
"""How often commands are killed, and how many random histories are made; hundreds by hand."""


def command(place: Place, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "gitml", *arguments]


def ml(place: Place, *arguments: str) -> str:
    done = subprocess.run(command(place, *arguments), cwd=place.path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def litter(place: Place, number: int) -> None:
    """A branch that comes and goes, staging that is given up, and something that stays."""
    place.git("switch", "-q", "-c", f"side{number}")
    place.commit({"s": noise(f"side {number}"), "t": noise(f"tee {number}", 300_000)})
    place.git("switch", "-q", "main", check=False)
    place.git("read-tree", "main")
    place.git("symbolic-ref", "HEAD", "refs/heads/main")
    place.git("branch", "-q", "-D", f"side{number}")
    place.store(noise(f"given up {number}"), session=f"4194304-{number}")
    place.commit({"a": noise(f"stays {number}")})
    place.forget()


@pytest.mark.parametrize("name", ["prune", "gc"])
def test_a_kill_at_any_moment_loses_nothing(place: Place, name: str) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    arguments = {"prune": ["prune", "--expire=now"], "gc": ["gc", "--", "--prune=now", "--quiet"]}[name]
    place.git("config", "gc.pruneExpire", "now")
    # a git gc that is killed leaves a commit-graph that names what it pruned, and git fsck complains until the next
    place.git("config", "gc.writeCommitGraph", "false")
    place.commit({"a": noise(0)})
    litter(place, -1)
    start = time.monotonic()
    ml(place, *arguments)
    length = time.monotonic() - start
    for number in range(ROUNDS):
        litter(place, number)
        process = subprocess.Popen(
            command(place, *arguments), cwd=place.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.2, 1.1) * length)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        for lock in (place.path / ".git").rglob("*.lock"):
            lock.unlink()  # what git itself leaves when it is killed, and says how to remove
        (place.path / ".git/gc.pid").unlink(missing_ok=True)
        place.sound(after_kill=True)
    ml(place, *arguments)
    place.sound(after_kill=True)
    assert place.dropped() == set()
    assert place.refs("refs/ml/staged") == {}
    place.gc()
    place.sound(after_kill=True)
    assert len(place.manifests()) == ROUNDS + 2


def prune_here(where: str, until: str) -> int:
    number = 0
    while not Path(until).exists():
        with contextlib.suppress(BusyError):
            prune(Repository.discover(Path(where)), expiry=NOW)
            number += 1
    return number


def work_here(where: str, who: int, until: str) -> int:
    place = Place(Path(where))
    for number in range(4 * ROUNDS):
        place.commit({f"w{who}": noise(f"{who} {number}")})
        if number % 3 == 2:
            place.git("reset", "-q", "--soft", "HEAD~1")
            place.add(f"w{who}", noise(f"{who} {number} again"), session=f"{os.getpid()}-w")
            place.git("commit", "-q", "-m", "again")  # covered by nobody: the chain keeps it
    Path(until).touch()
    return 0


def test_two_prunes_at_once_beside_commits(place: Place, tmp_path: Path) -> None:
    place.commit({"a": noise(0)})
    for number in range(3):
        litter(place, number)
    done = str(tmp_path / "done")
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        pruning = [pool.submit(prune_here, str(place.path), done) for _ in range(2)]
        working = pool.submit(work_here, str(place.path), 1, done)
        assert working.result(300) == 0
        assert sum(each.result(300) for each in pruning) > 0
    place.sound()
    place.prune()
    place.gc()
    place.sound()


def test_prune_beside_a_real_git_add_and_gc(make: Callable[..., Place]) -> None:
    place = make()
    place.git("config", "filter.ml.process", f"'{sys.executable}' -P -m gitml filter-process")
    place.git("config", "filter.ml.required", "true")
    (place.path / ".gitattributes").write_text("*.bin filter=ml -text\n")
    # content that a head holds and no root needs any more: an add may rely on it at the wrong moment
    for number in range(ROUNDS):
        (place.path / f"{number}.bin").write_bytes(noise(number, 200_000))
        place.git("add", "-A")
        place.git("commit", "-q", "-m", "c")
        place.cover()
    for number in range(ROUNDS):
        place.git("rm", "-q", "--cached", f"{number}.bin")
    place.git("commit", "-q", "--amend", "-m", "c")
    place.git("update-ref", "HEAD", place.git("commit-tree", place.git("write-tree"), "-m", "c"))
    place.forget()
    adding = subprocess.Popen(["git", "add", "-A"], cwd=place.path)
    for _ in range(ROUNDS):
        place.prune()
    assert adding.wait() == 0
    place.sound()
    place.prune()
    place.gc()
    assert place.verify().contents == ROUNDS
    place.sound()


STEPS = (
    "commit", "commit", "add", "branch", "switch", "delete", "reset", "prune", "later", "gc", "forget", "push",
)  # fmt: skip


@pytest.mark.parametrize("number", range(ROUNDS))
def test_random_histories(make: Callable[..., Place], number: int) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    place, server = make("here"), make("server.git", "--bare")
    place.git("remote", "add", "origin", str(server.path))
    place.commit({"a": noise(0)})
    branches = ["main"]

    def switch(name: str) -> None:
        place.git("symbolic-ref", "HEAD", f"refs/heads/{name}")
        place.git("read-tree", name)

    for step in range(20):
        match choice := chance.choice(STEPS):
            case "commit":
                place.commit({chance.choice("abcd"): noise(chance.randrange(12))}, cover=chance.random() < 0.8)
                place.repair()
            case "add":
                place.add(chance.choice("abcd"), noise(chance.randrange(12)), session=f"4194304-{step}")
            case "branch":
                branches.append(f"b{step}")
                place.git("branch", branches[-1])
            case "switch":
                switch(chance.choice(branches))
            case "delete":
                name = chance.choice(branches)
                if len(branches) > 1 and place.git("symbolic-ref", "--short", "HEAD") != name:
                    place.git("branch", "-q", "-D", name)
                    branches.remove(name)
            case "reset":
                place.git("reset", "-q", "--soft", "HEAD~1", check=False)
                place.git("read-tree", "HEAD")
            case "prune":
                place.prune()
            case "later":
                place.prune(expiry=NEVER)
            case "gc":
                place.gc()
            case "forget":
                place.forget()
            case "push":
                place.push()
                server.sound()
        if choice in ("prune", "later", "gc"):
            place.sound()
    place.prune()
    place.forget()
    place.prune()
    place.gc()
    place.sound()
    assert list_refs(place.repo.git, "refs/ml/dropped") == {}
