"""kill -9 at random moments of every command that writes: nothing referenced is missing, and the command completes.

Each round changes something, starts a command, kills it (all of its processes, or one of them) after a random part of
the time that it takes undisturbed, removes the lock files that git leaves and says how to remove, checks both
repositories, and runs the command again to its end. The rounds of a command share its time out among them, so that few
rounds too meet its beginning, its middle and its end. `GITML_FAULT_ROUNDS` sets the rounds for each command; the three
that take longest get half of them.
"""

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gitml.care.roots import read_needs
from gitml.care.verify import examine
from gitml.git.repository import Repository
from tests.conftest import run_git
from tests.end_to_end.project import Project, prepared

ROUNDS = int(os.environ.get("GITML_FAULT_ROUNDS", "8"))
FILES = ("data/a.bin", "data/b.bin", "data/deep/table.csv")


def noise(seed: str, size: int = 150_000) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


def table(seed: str) -> bytes:
    chance = random.Random(seed)
    return b"".join(b"%d,%d\n" % (row, chance.randrange(9)) for row in range(15_000))


class World:
    """A clone with hooks, the remote it pushes to, and somebody else who pushes there too."""

    def __init__(self, top: Path) -> None:
        self.bare = top / "server.git"
        self.work = Project(top / "work")
        self.other = Project(top / "other")

    def build(self) -> None:
        top = self.bare.parent
        run_git(top, "init", "-q", "--bare", "-b", "main", str(self.bare))
        run_git(top, "init", "-q", "-b", "main", str(self.work.path))
        self.work.ml("install")
        self.work.git("remote", "add", "origin", f"file://{self.bare}")
        self.work.write(".gitattributes", "data/** filter=ml -text\n")
        self.change("first")
        self.commit()
        self.work.git("push", "-q", "-u", "origin", "main")
        self.work.ml("install")
        self.work.git("config", "gc.pruneExpire", "now")
        # a git gc that is killed leaves a commit-graph that names what it pruned, and git fsck complains until the next
        self.work.git("config", "gc.writeCommitGraph", "false")
        run_git(top, "clone", "-q", f"file://{self.bare}", str(self.other.path))
        self.other.ml("install")

    def change(self, seed: str, place: Project | None = None) -> None:
        place = place or self.work
        place.write("data/a.bin", noise(seed + "a"))
        place.write("data/b.bin", noise(seed + "b", 700_000)[: 600_000 + len(seed)])
        place.write("data/deep/table.csv", table(seed))

    def commit(self, place: Project | None = None) -> None:
        place = place or self.work
        place.git("add", "-A")
        place.git("commit", "-q", "--allow-empty", "-m", "c")

    def contents(self) -> dict[str, bytes]:
        return {name: (self.work.path / name).read_bytes() for name in FILES}


@prepared
def built(tmp_path: Path) -> Project:
    world = World(tmp_path)
    world.build()
    return world.work


@pytest.fixture
def world(built: Project, tmp_path: Path) -> World:
    world = World(tmp_path)
    for project in (world.work, world.other):
        project.git("remote", "set-url", "origin", f"file://{world.bare}")
    return world


# what each command needs, the command, and what must hold after it has completed


def _changed(world: World, seed: str) -> None:
    world.change(seed)


def _added(world: World, seed: str) -> None:
    world.change(seed)
    world.work.git("add", "-A")


def _two_branches(world: World, seed: str) -> None:
    world.work.git("switch", "-q", "-C", "side")
    world.change(seed)
    world.commit()
    world.work.git("switch", "-q", "main")


def _ahead(world: World, seed: str) -> None:
    world.change(seed)
    world.commit()


def _behind(world: World, seed: str) -> None:
    world.change(seed, world.other)  # nobody else pushes, so it is up to date
    world.commit(world.other)
    world.other.git("push", "-q")


def _without_content(world: World, seed: str) -> None:
    _behind(world, seed)
    world.work.git("-c", "ml.autoFetch=false", "pull", "-q", "--no-rebase", GITML_SKIP_SMUDGE="1")


def _garbage(world: World, seed: str) -> None:
    world.work.git("switch", "-q", "-C", "side")
    world.change(seed + "garbage")
    world.commit()
    world.work.git("switch", "-q", "main")
    world.work.git("branch", "-q", "-D", "side")
    world.work.git("reflog", "expire", "--expire=all", "--all")
    world.change(seed)
    world.work.git("add", "-A")


def _index_has(world: World, seed: str) -> None:
    expected = {"data/a.bin": noise(seed + "a"), "data/deep/table.csv": table(seed)}
    for name, content in expected.items():
        pointer = world.work.git("cat-file", "blob", f":{name}")
        assert hashlib.sha256(content).hexdigest() in pointer, name


def _head_has(world: World, seed: str) -> None:
    _index_has(world, seed)
    assert world.work.git("diff", "--cached", "--name-only") == ""


def _files_are(world: World, seed: str) -> None:
    assert world.contents()["data/a.bin"] == noise(seed + "a")
    assert world.contents()["data/deep/table.csv"] == table(seed)
    assert world.work.is_clean()
    world.work.git("switch", "-q", "-f", "main")


def _remote_has(world: World, seed: str) -> None:
    assert run_git(world.bare, "rev-parse", "main") == world.work.head("main")
    sound(world.bare)


def _pulled(world: World, seed: str) -> None:
    assert world.work.head() == world.other.head()
    _files_are(world, seed)


def _fetched(world: World, seed: str) -> None:
    world.work.ml("ls")  # ends with 5 if content is missing
    world.work.ml("checkout")
    _files_are(world, seed)


def _nothing_lost(world: World, seed: str) -> None:
    assert world.work.git("for-each-ref", "refs/heads") != ""
    _index_has(world, seed)


COMMANDS: dict[str, tuple[Callable[[World, str], None], list[str], Callable[[World, str], None]]] = {
    "add": (_changed, ["git", "add", "-A"], _index_has),
    "ml add": (_changed, ["git", "ml", "add", "-A"], _index_has),
    "commit": (_changed, ["git", "commit", "-q", "-a", "--allow-empty", "-m", "c"], _head_has),
    "checkout": (_two_branches, ["git", "checkout", "-q", "-f", "side"], _files_are),
    "push": (_ahead, ["git", "push", "-q", "origin", "main"], _remote_has),
    "pull": (_behind, ["git", "pull", "-q", "--no-rebase"], _pulled),
    "fetch": (_without_content, ["git", "ml", "fetch"], _fetched),
    "gc": (_garbage, ["git", "gc", "-q", "--prune=now"], _nothing_lost),
    "prune": (_garbage, ["git", "ml", "prune", "--expire=now"], _nothing_lost),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_loses_nothing_and_the_command_completes(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    prepare, command, holds = COMMANDS[name]
    monkeypatch.chdir(world.work.path)
    prepare(world, "undisturbed")
    started = time.monotonic()
    world.work.run(*command)
    length = time.monotonic() - started
    holds(world, "undisturbed")
    hits = 0
    rounds = (ROUNDS + 1) // 2 if name in ("checkout", "pull", "fetch") else ROUNDS
    for number, moment in enumerate(moments(chance, rounds)):
        text = f"{seed} {number}"
        prepare(world, text)
        killed = kill(world, command, moment * length, one=number % 3 == 1, chance=chance)
        hits += killed
        unlock(world)
        sound(world.work.path)
        if name == "push":
            sound(world.bare)
        if name == "commit" and not killed:
            world.change(text)
        if name in ("checkout", "pull"):
            # as whoever was killed there does: git refuses to go on over files that it has half written
            world.work.git("reset", "-q", "--hard")
            world.work.ml("checkout")
        world.work.run(*command)
        holds(world, text)
        capfd.readouterr()
    sound(world.work.path)
    assert hits, "every kill came too late, so nothing was tried"


def moments(chance: random.Random, rounds: int) -> list[float]:
    """A moment in each of as many equal parts of a command's time, in any order; the last may be after its end."""
    found = [(part + chance.random()) / rounds * 1.05 for part in range(rounds)]
    chance.shuffle(found)
    return found


def kill(world: World, command: list[str], after: float, *, one: bool, chance: random.Random) -> bool:
    """Start a command and kill it, or `one` of its processes, after some seconds; whether that made it fail."""
    process = subprocess.Popen(
        command, cwd=world.work.path, env=world.work.environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(after)
        return False
    except subprocess.TimeoutExpired:
        family = descendants(process.pid)
        if one and family:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(family), signal.SIGKILL)
        else:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.wait() != 0
    finally:
        process.wait()
        # children that outlive a killed parent end by themselves: what they read from has gone
        while alive(process.pid):
            time.sleep(0.005)


def descendants(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with suppress(OSError):
                children = list(map(int, task.read_text().split()))
                found += children
                waiting += children
    return found


def alive(group: int) -> bool:
    """Whether a process of the group can still run: those that ended may wait for long until somebody notes it."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, process_group = place.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state not in "ZX":
                return True
    return False


def unlock(world: World) -> None:
    for place in (world.work.path / ".git", world.bare):
        for lock in place.rglob("*.lock"):
            lock.unlink()
        (place / "gc.pid").unlink(missing_ok=True)


def sound(where: Path) -> None:
    """Both checks find nothing wrong: git's, and ours with every content read.

    Every content is kept too, by a data commit or a staged chain. A pack may be incomplete, as whoever was killed
    left it.
    """
    run_git(where, "fsck", "--strict", "--full", "--no-dangling")
    report = examine(Repository.discover(where), read_needs, deep=True)
    assert report.faults == []
    assert all(pack.incomplete for pack in report.packs), report.packs
