"""How fast files are read without a checkout, beside a plain `open` of the checked-out file and git's own ways.

    python -m benchmarks.reading [--size MIB] [--reads N] [--rounds N]

Makes a repository with one file of noise and reads it: in order from start to end in pieces of 1 MiB, whole into
memory, and N pieces of 4 KiB at random places. `open` reads the checked-out file, out of the page cache. `git cat-file
--filters`, with a smudge limit above the file, has to give the whole file, also for one random piece; so has `git show`
in a repository that has the file as one plain blob. Rounds alternate between all ways; the medians are printed, and
ratios to gitml.
"""

import argparse
import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gitml
from benchmarks.history import seal

PIECE = 1 << 20
SMALL = 4096
NAME = "data/file"


def write_noise(path: Path, mebibytes: int) -> None:
    path.parent.mkdir(parents=True)
    rng = random.Random(1)
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(rng.randbytes(PIECE))


def build(repo: Path, mebibytes: int) -> None:
    repo.mkdir()
    for command in (["init", "-q"], ["ml", "install"], ["ml", "track", "data/**"]):
        subprocess.run(["git", *command], cwd=repo, check=True, capture_output=True)
    write_noise(repo / NAME, mebibytes)
    for command in (["add", "-A"], ["commit", "-q", "-m", "file"]):
        subprocess.run(["git", *command], cwd=repo, check=True, capture_output=True)
    subprocess.run(["git", "config", "ml.smudgeLimit", "100g"], cwd=repo, check=True)
    bare = repo.with_name("plain")
    subprocess.run(["git", "init", "-q", bare], check=True)
    blob = ["git", "-c", "core.compression=0", "hash-object", "-w", "--no-filters", str(repo / NAME)]
    oid = subprocess.run(blob, cwd=bare, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "tag", "file", oid], cwd=bare, check=True)


def places(size: int, count: int) -> list[int]:
    rng = random.Random(2)
    return [rng.randrange(size - SMALL) for _ in range(count)]


def in_order(opened: Callable[[], object]) -> None:
    with opened() as file:  # type: ignore[attr-defined]
        while file.read(PIECE):
            pass


def at_random(opened: Callable[[], object], where: list[int]) -> None:
    with opened() as file:  # type: ignore[attr-defined]
        for place in where:
            file.seek(place)
            if len(file.read(SMALL)) != SMALL:
                sys.exit("a short read")


def output(repo: Path, *command: str) -> bytes:
    return subprocess.run(["git", *command], cwd=repo, check=True, capture_output=True).stdout


def child_memory(repo: Path, command: list[str]) -> int:
    """MB that a command has at most, with what it starts."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=repo, check=True, capture_output=True)
    return int(done.stdout) // 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB")
    parser.add_argument("--reads", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    size = options.size << 20
    with tempfile.TemporaryDirectory(prefix="reading-") as temporary:
        seal(Path(temporary) / "home")
        repo = Path(temporary) / "repo"
        build(repo, options.size)
        where = places(size, options.reads)

        def ours() -> object:
            return gitml.open(NAME, repo=repo)

        def plain() -> object:
            return (repo / NAME).open("rb")

        with gitml.open(NAME, repo=repo) as ourselves, (repo / NAME).open("rb") as theirs:
            if hashlib.file_digest(ourselves, "sha256").digest() != hashlib.file_digest(theirs, "sha256").digest():
                sys.exit("other bytes than the file has")
        ways: list[tuple[str, str, Callable[[], object]]] = [
            ("in order", "gitml.open", lambda: in_order(ours)),
            ("in order", "open", lambda: in_order(plain)),
            ("in order", "git ml cat", lambda: child_memory(repo, ["git", "ml", "cat", NAME])),
            ("in memory", "gitml.open", lambda: len(gitml.open(NAME, repo=repo).read())),
            ("in memory", "open", lambda: len((repo / NAME).read_bytes())),
            ("in memory", "git cat-file --filters", lambda: len(output(repo, "cat-file", "--filters", f"HEAD:{NAME}"))),
            ("in memory", "git show, plain blob", lambda: len(output(repo.with_name("plain"), "show", "file"))),
            (f"{options.reads} at random", "gitml.open", lambda: at_random(ours, where)),
            (f"{options.reads} at random", "open", lambda: at_random(plain, where)),
            ("one at random", "gitml.open", lambda: at_random(ours, where[:1])),
            ("one at random", "git cat-file --filters", lambda: output(repo, "cat-file", "--filters", f"HEAD:{NAME}")),
        ]  # fmt: skip
        taken: dict[tuple[str, str], list[float]] = {way[:2]: [] for way in ways}
        for _ in range(options.rounds):
            for task, name, run in ways:
                started = time.perf_counter()
                given = run()
                taken[task, name].append(time.perf_counter() - started)
                if task == "in memory" and given != size:
                    sys.exit(f"{name} gave {given} bytes, expected {size}")
        print(f"one file of {options.size} MiB of noise, {options.rounds} rounds, {os.cpu_count()} CPUs")
        print(f"{'':16}{'':26}{'s':>10}{'MB/s':>9}{'× gitml.open':>14}")
        for (task, name), times in taken.items():
            middle = statistics.median(times)
            speed = f"{size / 1e6 / middle:9.0f}" if task.startswith("in ") else " " * 9
            print(
                f"{task:16}{name:26}{middle:10.4f}{speed}{middle / statistics.median(taken[task, 'gitml.open']):14.2f}"
            )
        cat, smudge = ["git", "ml", "cat", NAME], ["git", "cat-file", "--filters", f"HEAD:{NAME}"]
        print(f"memory, MB: git ml cat {child_memory(repo, cat)}, git cat-file --filters {child_memory(repo, smudge)}")


if __name__ == "__main__":
    main()
