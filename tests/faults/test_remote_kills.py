"""kill -9 at random moments of push, fetch and clone against stores: nothing is lost, and the command completes.

Each round starts a command, kills all of its processes, or the remote helper alone, after a random part of the time
that it takes undisturbed, looks at both sides, and runs the command again to its end. `GITML_FAULT_ROUNDS` sets the
rounds for each command; the seed is printed.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.faults.test_kills import alive, descendants, moments
from tests.stores import KEY, SECRET, address, make_bucket, serve_moto

ROUNDS = int(os.environ.get("GITML_FAULT_ROUNDS", "4"))
PIECE = 16 << 20
LARGE = 48 << 20


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serve_moto() as running:
        make_bucket(running, "bucket")
        yield running


@pytest.fixture(params=["file", "moto"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"ml::file://{tmp_path}/store"
    running = request.getfixturevalue("endpoint")
    return address(running, "bucket", f"kills/{random.randrange(1 << 40)}")


class World:
    """A store, who pushes to it, and who fetches from it."""

    def __init__(self, top: Path, url: str) -> None:
        self.top = top
        self.url = url
        self.work = Project(top / "work")
        self.work.path.mkdir()
        self.work.git("init", "-q")
        self.work.git("remote", "add", "origin", url)
        self.change("first")
        self.work.git("push", "-q", "-u", "origin", "main")
        Project(top).git("clone", "-q", url, str(top / "reader"))
        self.reader = Project(top / "reader")

    def change(self, seed: str, size: int = 100_000) -> None:
        chance = random.Random(seed)
        self.work.write("noise", chance.randbytes(size))
        self.work.write("table", "".join(f"{row},{chance.random()}\n" for row in range(2000)))
        self.work.git("add", "-A")
        self.work.git("commit", "-q", "-m", seed)

    def refs(self) -> dict[str, str]:
        lines = self.work.git("ls-remote", self.url, "refs/*").splitlines()
        return {line.split("\t")[1]: line.split("\t")[0] for line in lines}

    def check_store(self, *heads: str) -> None:
        """Everything in the store can be had, and its branch is one of `heads`."""
        place = self.top / "checked"
        shutil.rmtree(place, ignore_errors=True)
        self.work.git("clone", "-q", "--mirror", self.url, str(place))
        checked = Project(place)
        checked.git("fsck", "--strict", "--full")
        assert checked.head("refs/heads/main") in heads
        assert self.refs()["refs/heads/main"] in heads

    def check(self, project: Project) -> None:
        """A repository is sound, and its refs name what is there; after git's own locks are gone."""
        # what a killed helper started may still be removing directories, which `rglob` does not expect
        for directory, _, names in os.walk(project.path / ".git"):
            for name in names:
                if name.endswith(".lock"):
                    (Path(directory) / name).unlink()
        project.git("fsck", "--strict", "--full", "--no-dangling")


def kill(where: Path, command: list[str], after: float, *, helper_alone: bool) -> bool:
    """Start a command and kill it, or its remote helper, after some seconds; whether it was still running."""
    process = subprocess.Popen(
        command, cwd=where, env=Project(where).environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(after)
        return False
    except subprocess.TimeoutExpired:
        helpers = [pid for pid in descendants(process.pid) if _is_helper(pid)]
        with suppress(ProcessLookupError):
            if helper_alone and helpers:
                os.kill(helpers[-1], signal.SIGKILL)
            else:
                os.killpg(process.pid, signal.SIGKILL)
        return True
    finally:
        process.wait()
        while alive(process.pid):
            time.sleep(0.005)


def _is_helper(pid: int) -> bool:
    with suppress(OSError):
        return b"bin/git-remote-ml" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def timed(project: Project, *command: str) -> float:
    started = time.monotonic()
    project.run(*command)
    return time.monotonic() - started


def dice() -> random.Random:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    return random.Random(seed)


def test_killed_pushes(url: str, tmp_path: Path) -> None:
    chance = dice()
    world = World(tmp_path, url)
    world.change("undisturbed")
    command = ["git", "push", "-q", "origin", "main"]
    length = timed(world.work, *command)
    for number, moment in enumerate(moments(chance, ROUNDS)):
        before = world.work.head()
        world.change(f"{number}")
        kill(world.work.path, command, moment * length, helper_alone=number % 2 == 1)
        world.check(world.work)
        world.check_store(before, world.work.head())
        world.work.run(*command)
        world.check_store(world.work.head())
        assert world.work.head("origin/main") == world.work.head()


def test_killed_fetches(url: str, tmp_path: Path) -> None:
    chance = dice()
    world = World(tmp_path, url)
    command = ["git", "fetch", "-q", "origin"]
    length = 0.0
    for number, moment in enumerate([0.0, *moments(chance, ROUNDS)]):
        before = world.reader.head("origin/main")
        world.change(f"{number}", 2_000_000 if number % 2 else 100_000)
        world.work.git("push", "-q", "origin", "main")
        if number == 0:
            length = timed(world.reader, *command)
            continue
        kill(world.reader.path, command, moment * length, helper_alone=number % 4 > 1)
        world.check(world.reader)
        assert world.reader.head("origin/main") in (before, world.work.head())
        world.reader.run(*command)
        assert world.reader.head("origin/main") == world.work.head()
        world.check(world.reader)
        # as if time had passed: what is left behind is not needed
        world.reader.git("gc", "-q", "--prune=now")
        world.check(world.reader)
    # marks of packs that refs reach by now go with the next that comes: git itself asks for nothing that is there
    world.change("at last")
    world.work.git("push", "-q", "origin", "main")
    world.reader.run(*command)
    assert not list((world.reader.path / ".git/objects/pack").glob("*.keep"))
    assert not list((world.reader.path / ".git/objects").glob("tmp_objdir-*"))
    world.check_store(world.work.head())


def test_killed_clones(url: str, tmp_path: Path) -> None:
    chance = dice()
    world = World(tmp_path, url)
    place = tmp_path / "cloned"
    command = ["git", "clone", "-q", url, str(place)]
    length = timed(world.work, *command)
    for number, moment in enumerate(moments(chance, ROUNDS)):
        shutil.rmtree(place)
        kill(tmp_path, command, moment * length, helper_alone=number % 2 == 1)
        if (place / ".git/config").exists() and (place / ".git/HEAD").exists():
            heads = Project(place).run("git", "for-each-ref", "--format=%(objectname)", check=False).stdout.split()
            for head in heads:
                Project(place).git("rev-list", "--objects", head)
        shutil.rmtree(place, ignore_errors=True)
        world.work.run(*command)
        assert Project(place).head() == world.work.head()
        world.check(Project(place))
    world.check_store(world.work.head())


# a large pack goes on where it stood


def transferred(trace: Path, verb: str) -> int:
    """Bytes of packs that went over the line."""
    total = 0
    with suppress(FileNotFoundError):
        for line in trace.read_text().splitlines():
            fields = line.split()
            if fields[1] == verb and fields[2].startswith("packs/") and ".index" not in fields[2]:
                total += int(fields[fields.index("B") - 1])
    return total


def arrived(project: Project) -> int:
    """Bytes of packs that a fetch has written down as here."""
    total = 0
    for journal in project.path.glob(".git/ml/stores/*/partial/*.ranges"):
        with suppress(FileNotFoundError):
            lines = (line.split() for line in journal.read_text().splitlines())
            total += sum(int(line[1]) - int(line[0]) for line in lines if len(line) == 2)
    return total


@pytest.mark.parametrize("url", ["file"], indirect=True)
@pytest.mark.parametrize("kills", [1, 3])
def test_a_large_push_goes_on_where_it_stood(
    url: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, url)
    before = world.work.head()
    world.change("large", LARGE)
    trace = tmp_path / "trace"
    monkeypatch.setenv("GITML_TRACE_REMOTE", str(trace))
    command = ["git", "push", "-q", "origin", "main"]
    for _ in range(kills):
        # the first kill after a piece, the others after one more each
        sent = transferred(trace, "PUT")
        kill_when(world.work.path, command, lambda _, sent=sent: transferred(trace, "PUT") > sent)  # type: ignore[misc]
        world.check(world.work)
        assert world.refs()["refs/heads/main"] in (before, world.work.head())
    assert transferred(trace, "PUT") > 0
    world.work.run(*command)
    monkeypatch.delenv("GITML_TRACE_REMOTE")
    world.check_store(world.work.head())
    # no piece twice; one that was written when the process was killed may have left no trace
    assert transferred(trace, "PUT") < LARGE + PIECE // 2


@pytest.mark.parametrize("url", ["file"], indirect=True)
@pytest.mark.parametrize("moment", ["on the way", "when git indexes it"])
def test_a_large_fetch_goes_on_where_it_stood(
    url: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, url)
    world.change("large", LARGE)
    world.work.git("push", "-q", "origin", "main")
    trace = tmp_path / "trace"
    monkeypatch.setenv("GITML_TRACE_REMOTE", str(trace))
    command = ["git", "fetch", "-q", "origin"]
    if moment == "on the way":
        kill_when(world.reader.path, command, lambda _: arrived(world.reader) >= PIECE)
    else:
        kill_when(
            world.reader.path, command, lambda pid: transferred(trace, "GET") >= LARGE and runs(pid, b"index-pack")
        )
    before = transferred(trace, "GET")
    assert before >= (PIECE if moment == "on the way" else LARGE)
    here = arrived(world.reader)
    assert here >= PIECE
    assert world.reader.head("origin/main") != world.work.head()
    world.check(world.reader)
    world.reader.run(*command)
    assert world.reader.head("origin/main") == world.work.head()
    world.check(world.reader)
    # what was written down as here did not travel again
    assert transferred(trace, "GET") - before <= LARGE * 1.01 - here
    # nothing that arrives later can get into the pack of the repository
    assert not list(world.reader.path.glob(".git/ml/stores/*/partial/*"))
    (pack,) = [path for path in world.reader.path.glob(".git/objects/pack/*.pack") if path.stat().st_size >= LARGE]
    assert pack.stat().st_mode & 0o777 == 0o444


def kill_when(where: Path, command: list[str], condition: Callable[[int], bool]) -> None:
    """Start a command and kill it as soon as a condition holds, which is given its process."""
    process = subprocess.Popen(
        command, cwd=where, env=Project(where).environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not condition(process.pid):
        time.sleep(0.001)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while alive(process.pid):
        time.sleep(0.005)


def runs(pid: int, word: bytes) -> bool:
    """Whether a process below this one has a word in its command."""
    for child in descendants(pid):
        with suppress(OSError):
            if word in Path(f"/proc/{child}/cmdline").read_bytes():
                return True
    return False
