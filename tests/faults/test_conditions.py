"""Full disks, read-only repositories, several processes at once, odd names, files that change: nothing is lost."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.conftest import run_git
from tests.end_to_end.project import Project

# read before a test is sealed off from the environment
ROUNDS = int(os.environ.get("GITML_FAULT_ROUNDS", "4"))
MOST = ROUNDS + 30
"""Rounds after which two that add wait no longer for a `git gc` that comes through beside them."""


def noise(seed: int, size: int = 200_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def make(where: Path) -> Project:
    where.mkdir()
    project = Project(where)
    project.git("init", "-q")
    project.ml("install")
    project.write(".gitattributes", "data/** filter=ml -text\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "attributes")
    return project


def sound(project: Project) -> None:
    project.git("fsck", "--strict", "--full", "--no-dangling")
    project.ml("fsck", "--deep")


def sandboxed(*options: str) -> list[str]:
    """The start of a command line that runs in a view of the file system of its own; skips where there is none."""
    start = ["bwrap", "--dev-bind", "/", "/", *options]
    if shutil.which("bwrap") is None or subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
        pytest.skip("bubblewrap does not work here")
    return [*start, "--"]


FULL = """
set -e
cd "$1"
git init -q
git ml install > /dev/null
echo 'data/** filter=ml -text' > .gitattributes
mkdir data
cp "$2/one" data/one
git add -A && git commit -q -m one
cp "$2/large" data/large
echo "adding"
git COMMAND data/large 2> "$2/said" && { echo "it fitted"; exit 9; }
echo "failed $?"
git fsck --strict --full --no-dangling
git ml fsck --deep > /dev/null
test -z "$(git ls-files data/large)"
rm "$1/filler"
git COMMAND data/large
git commit -q -m large
rm data/large
git checkout -q -f HEAD -- data/large && git ml checkout > /dev/null
cmp data/large "$2/large"
git ml fsck --deep > /dev/null
echo "complete"
"""


@pytest.mark.parametrize("command", ["add", "ml add"])
def test_a_full_disk(tmp_path: Path, command: str) -> None:
    small = tmp_path / "small"
    source = tmp_path / "source"
    small.mkdir()
    source.mkdir()
    (source / "one").write_bytes(noise(1))
    (source / "large").write_bytes(noise(2, 6_000_000))
    script = FULL.replace("COMMAND", command).replace('cd "$1"\n', 'cd "$1"\nhead -c 8000000 /dev/zero > filler\n')
    script = script.replace("mkdir data\n", "mkdir data\necho filler > .gitignore\n")
    said = said_where_it_is_full(tmp_path, script, 20_000_000)
    assert "no space left on device" in said.lower()


def said_where_it_is_full(tmp_path: Path, script: str, size: int) -> str:
    """Run a script in a file system of `size` bytes, where a command has no room; give what that says."""
    small, source = tmp_path / "small", tmp_path / "source"
    start = sandboxed("--size", str(size), "--tmpfs", str(small))
    done = Project(tmp_path).run(*start, "sh", "-c", script, "sh", str(small), str(source), check=False)
    said = (source / "said").read_text()
    assert done.stdout.splitlines()[-1:] == ["complete"], (done.stdout, done.stderr, said)
    assert "Traceback" not in said + done.stderr
    return said


FULL_RECEIVING = """
set -e
git clone -q "file://$2/server.git" "$1/work"
cd "$1/work"
git ml install > /dev/null
cmp data/large "$2/one"
git -C "$2/server.git" update-ref refs/heads/main refs/heads/next
PREPARE > /dev/null
avail=$(df --output=avail -B1 "$1" | tail -n 1)
head -c $((avail - 3000000)) /dev/zero > "$1/filler"
COMMAND > /dev/null 2> "$2/said" || echo "failed $?"
git fsck --strict --full --no-dangling
git ml fsck > /dev/null || test $? = 5
test -z "$(git status --porcelain)"
rm "$1/filler"
AGAIN > /dev/null
cmp data/large "$2/large"
test -z "$(git status --porcelain)"
git ml fsck --deep > /dev/null
echo "complete"
"""
FETCH = "git fetch -q && git ml fetch --all"
RECEIVING = {
    # room neither for what is stored nor for the file
    "pull": (":", "git pull -q", "git ml checkout"),
    "ml fetch": ("git -c ml.autoFetch=false pull -q", "git ml fetch", "git ml fetch && git ml checkout"),
    # what is stored is here already
    "merge": (FETCH, "git merge -q origin/main", "git ml checkout"),
    "checkout": (FETCH, "git checkout -q --detach origin/main", "git ml checkout"),
}


@pytest.mark.parametrize("name", RECEIVING)
def test_a_disk_that_is_full_when_content_comes(tmp_path: Path, name: str) -> None:
    small, source = tmp_path / "small", tmp_path / "source"
    small.mkdir()
    source.mkdir()
    run_git(source, "init", "-q", "--bare", "-b", "main", "server.git")
    work = make(tmp_path / "work")
    work.git("remote", "add", "origin", f"file://{source}/server.git")
    for version, (branch, size) in enumerate({"one": 200_000, "large": 6_000_000}.items()):
        (source / branch).write_bytes(noise(version, size))
        work.write("data/large", noise(version, size))
        work.git("add", "-A")
        work.git("commit", "-q", "-m", branch)
        work.git("push", "-q", "origin", f"HEAD:refs/heads/{'next' if version else 'main'}")
    script = FULL_RECEIVING
    *_, again = RECEIVING[name]
    for word, command in zip(("PREPARE", "COMMAND", "AGAIN"), RECEIVING[name], strict=True):
        script = script.replace(word, f"{{ {command}; }}")
    said = said_where_it_is_full(tmp_path, script, 20_000_000)
    assert said.lower().count("no space left") == 1
    assert "is missing" not in said
    # git does not start a hook again that had no room, so what it says is what helps
    assert name == "ml fetch" or again in said


FULL_UPKEEP = """
set -e
cd "$1"
git init -q
git ml install > /dev/null
echo 'data/** filter=ml -text' > .gitattributes
mkdir data
echo filler > .gitignore
cp "$2/one" data/one
git add -A && git commit -q -m one
git switch -q -c side
cp "$2/gone" data/gone
git add -A && git commit -q -m gone
git switch -q -
git branch -q -D side
git reflog expire --expire=all --all
avail=$(df --output=avail -B1 "$1" | tail -n 1)
head -c $((avail - ROOM)) /dev/zero > filler
COMMAND > /dev/null 2> "$2/said" && { echo "it fitted"; exit 9; }
git fsck --strict --full --no-dangling
git ml fsck --deep > /dev/null
rm filler
COMMAND > /dev/null
rm data/one
git checkout -q -f HEAD -- data/one && git ml checkout > /dev/null
cmp data/one "$2/one"
git fsck --strict --full --no-dangling
git ml fsck --deep > /dev/null
echo "complete"
"""


@pytest.mark.parametrize(("command", "room"), [("git gc -q --prune=now", 1_500_000), ("git ml prune --expire=now", 0)])
def test_a_disk_that_is_full_when_it_is_tidied_up(tmp_path: Path, command: str, room: int) -> None:
    small, source = tmp_path / "small", tmp_path / "source"
    small.mkdir()
    source.mkdir()
    (source / "one").write_bytes(noise(1, 3_000_000))
    (source / "gone").write_bytes(noise(2, 1_000_000))
    script = FULL_UPKEEP.replace("COMMAND", command).replace("ROOM", str(room))
    said = said_where_it_is_full(tmp_path, script, 20_000_000)
    # the second is how git puts it
    assert "no space left on device" in said.lower() or "out of diskspace" in said.lower()


FULL_RUN = """
set -e
cd "$1"
git init -q
git ml install > /dev/null
git config ml.sandbox none
git config ml.auto false
git ml track 'made/**' > /dev/null
cp "$2/pipeline.json" .
mkdir data
for name in 1 2 3 4; do echo $name > data/$name; done
echo filler > .gitignore
git add -A && git commit -q -m one
head -c 30000000 /dev/zero > filler
git ml run 2> "$2/said" && { echo "it fitted"; exit 9; }
rm filler
git fsck --strict --full --no-dangling
git ml status --json > "$2/status"
git ml run --json > "$2/run"
git ml fsck --deep > /dev/null
test -z "$(git status --porcelain)"
for name in 1 2 3 4; do test "$(wc -c < made/$name)" = 3000000; done
echo "complete"
"""


def test_a_disk_that_is_full_during_a_run_keeps_the_datums_that_ended(tmp_path: Path) -> None:
    small, source = tmp_path / "small", tmp_path / "source"
    small.mkdir()
    source.mkdir()
    lines = ["head -c 3000000 /dev/urandom > pfs/out/$(ls pfs/data)", "sleep 0.2"]
    stage = {
        "pipeline": {"name": "made"},
        "transform": {"cmd": ["sh", "-e"], "stdin": lines},
        "input": {"pfs": {"repo": "data", "glob": "/*"}},
        "datum_tries": 1,
    }
    (source / "pipeline.json").write_text(json.dumps(stage))
    said = said_where_it_is_full(tmp_path, FULL_RUN, 43_000_000)
    assert "no space left on device" in said.lower()
    kept = json.loads((source / "status").read_text())["stages"][0]["datums"]["done"]
    again = json.loads((source / "run").read_text())["stages"][0]
    assert 1 <= kept < 4
    assert (again["cached"], again["ran"]) == (kept, 4 - kept)


def test_a_read_only_repository_can_be_read(tmp_path: Path) -> None:
    project = make(tmp_path / "r")
    project.write("data/a", noise(1, 1_000_000))
    project.write("stage.py", "print()\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "a")
    (project.path / "data/a").write_bytes(noise(2))
    start = sandboxed("--ro-bind", str(project.path), str(project.path))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        done = project.run(*start, "git", *command, check=False)
        assert "Traceback" not in done.stderr
        return done

    assert run("status", "--porcelain").stdout == " M data/a\n"
    assert "data/a" in run("ml", "ls").stdout
    assert run("ml", "fsck", "--deep").returncode == 0
    assert run("ml", "info").returncode == 0
    assert os.fsencode(run("ml", "cat", "data/a").stdout) == noise(1, 1_000_000)
    assert run("ml", "prune", "--dry-run").returncode == 0
    for command in (("add", "data/a"), ("ml", "add", "data/a"), ("ml", "checkout", "--force", "data/a"), ("ml", "gc")):
        done = run(*command)
        assert done.returncode != 0, command
        assert "read-only file system" in done.stderr.lower(), (command, done.stderr)
    project.git("add", "data/a")
    sound(project)


def test_two_adds_and_a_gc_at_once(tmp_path: Path) -> None:
    project = make(tmp_path / "r")
    project.git("worktree", "add", "-q", str(tmp_path / "linked"))
    linked = Project(tmp_path / "linked")
    collecting = threading.Event()
    collected = threading.Event()
    failures: list[str] = []
    last = [0, 0]

    def adding() -> bool:
        return all(each.is_alive() for each in adders)

    def collect() -> None:
        while not collecting.is_set():
            began = adding()
            done = project.run("git", "gc", "-q", "--prune=now", check=False)
            if done.returncode:
                failures.append(done.stderr)
            elif began and adding():
                collected.set()

    def add(place: Project, who: int) -> None:
        for number in range(MOST):
            if number >= ROUNDS and collected.is_set():
                break
            last[who] = number
            for file in range(3):
                place.write(f"data/{who}-{file}", noise(100 * number + 10 * who + file))
            # the second half of what is added is known by then, and only the chain of the other keeps it
            place.write("data/both", noise(number))
            place.git("add", "-A")

    collector = threading.Thread(target=collect)
    adders = [threading.Thread(target=add, args=(place, who)) for who, place in enumerate([project, linked])]
    for thread in (*adders, collector):
        thread.start()
    for thread in adders:
        thread.join()
    collecting.set()
    collector.join()
    # one that meets the index before the packs are finished may give up; it may not take anything away
    assert all("unable to read" in failure for failure in failures)
    assert collected.is_set(), "no gc came through while both were adding"
    project.git("gc", "-q", "--prune=now")
    for who, place in enumerate([project, linked]):
        sound(place)
        place.git("commit", "-q", "-m", "all")
        for file in range(3):
            (place.path / f"data/{who}-{file}").unlink()
        place.git("reset", "-q", "--hard")
        for file in range(3):
            assert (place.path / f"data/{who}-{file}").read_bytes() == noise(100 * last[who] + 10 * who + file)


def test_names_with_every_byte_travel(tmp_path: Path) -> None:
    project = make(tmp_path / "r")
    run_git(tmp_path, "init", "-q", "--bare", "server.git")
    every = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    names = [
        b"data/" + every[:128],
        b"data/d" + every[128:] + b"/x",
        b"data/ leading",
        b"data/trailing ",
        b"data/-r",
        b"data/*",
    ]
    names += [b"data/a\nb", b"data/\xff\xfe", b"data/\xc3\xa9", b"data/e\xcc\x81", b'data/"quoted"', b"data/:(glob)x"]
    for number, name in enumerate(names):
        project.write(os.fsdecode(name), noise(number))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "names")
    project.git("remote", "add", "origin", f"file://{tmp_path}/server.git")
    project.git("push", "-q", "-u", "origin", "HEAD")
    sound(project)
    run_git(tmp_path, "clone", "-q", f"file://{tmp_path}/server.git", "clone")
    clone = Project(tmp_path / "clone")
    clone.ml("install")
    for number, name in enumerate(names):
        assert (clone.path / os.fsdecode(name)).read_bytes() == noise(number), name
    assert clone.is_clean()
    sound(clone)


def test_a_file_that_changes_while_git_adds_it(tmp_path: Path) -> None:
    project = make(tmp_path / "r")
    place = project.path / "data/a"
    project.write("data/a", noise(1, 8_000_000))
    ended = threading.Event()

    def write() -> None:
        with place.open("r+b") as file:
            number = 0
            while not ended.is_set():
                number += 1
                file.seek(number * 7919 % 8_000_000)
                file.write(b"%d" % number)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            project.git("add", "-A", check=False)
    finally:
        ended.set()
        writer.join()
    sound(project)  # whatever was read, its pointer names it
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "a")
    expected = place.read_bytes()
    pointer = project.git("cat-file", "blob", "HEAD:data/a")
    assert hashlib.sha256(expected).hexdigest() in pointer
    place.unlink()
    project.git("reset", "-q", "--hard")
    assert place.read_bytes() == expected


def test_a_borrowing_clone_stores_nothing_twice(tmp_path: Path) -> None:
    project = make(tmp_path / "r")
    project.write("data/a", noise(1, 3_000_000))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "a")
    run_git(tmp_path, "clone", "-q", "--shared", str(project.path), "borrowing")
    borrowing = Project(tmp_path / "borrowing")
    borrowing.ml("install")
    assert (borrowing.path / "data/a").read_bytes() == noise(1, 3_000_000)
    borrowing.write("data/copy", noise(1, 3_000_000))
    borrowing.git("add", "-A")
    borrowing.git("commit", "-q", "-m", "copy")
    packs = (borrowing.path / ".git/objects/pack").glob("*.pack")
    assert sum(path.stat().st_size for path in packs) < 100_000
    sound(borrowing)
