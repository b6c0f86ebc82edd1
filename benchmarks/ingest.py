"""Adding content: `git add` and `git ml add` against git-lfs and plain git.

    python -m benchmarks.ingest [--size MIB] [--runs N] [--files N] [--no-plain] [CASE]...

CASE is `float` (float32 as of weights, one file), `csv` (rows of text, one file), `files` (many files of 100 KiB of
noise), `again` (the same file, touched), `change` (1 % of the file changed in ten places); all of them if none is
given. Every run adds to a fresh repository; ours and the peer's alternate. Prints the times, the ratios of runs next
to each other, the packs left behind, the new bytes in `.git` and the peak memory of every program that took part.
Plain git is run once per case: it takes minutes.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.lab import ENVIRONMENT, OURS, git, timed, told, write_files

ATTRIBUTES = {
    "gitml": "*.bin filter=ml -text\n",
    "gitml add": "*.bin filter=ml -text\n",
    "lfs": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    "git": "*.bin -text\n",
}
COMMANDS = {"gitml": "git add -A", "gitml add": f"{OURS} add -A", "lfs": "git add -A", "git": "git add -A"}


class Results:
    """Times in seconds and peak memory by contender."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.memory: dict[str, dict[str, int]] = {}

    def add(self, name: str, seconds: float, memory: dict[str, int]) -> None:
        self.seconds.setdefault(name, []).append(seconds)
        known = self.memory.setdefault(name, {})
        for program, peak in memory.items():
            known[program] = max(peak, known.get(program, 0))

    def show(self, title: str, bounds: dict[tuple[str, str], float]) -> None:
        print(title)
        for name, taken in self.seconds.items():
            print(
                f"  {name:10} best {min(taken):7.2f} s  median {statistics.median(taken):7.2f} s  of {len(taken)}"
                f"   peak: {told(self.memory[name])}"
            )
        for (ours, peer), bound in bounds.items():
            if ours in self.seconds and peer in self.seconds:
                pairs = list(zip(self.seconds[ours], self.seconds[peer], strict=False))
                ratio = statistics.median(a / b for a, b in pairs)
                print(f"  {ours} / {peer}: {ratio:.2f} x (median of {len(pairs)}; at most {bound} x)")
        sys.stdout.flush()


def fresh(where: Path, name: str, source: Path) -> Path:
    place = where / "place"
    shutil.rmtree(place, ignore_errors=True)
    git(where, "init", "-q", "-b", "main", "place")
    if name.startswith("gitml"):
        subprocess.run([*OURS.split(), "install"], cwd=place, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    elif name == "lfs":
        git(place, "lfs", "install", "--local")
    (place / ".gitattributes").write_text(ATTRIBUTES[name])
    for file in source.iterdir():
        os.link(file, place / file.name)
    return place


def size_of(place: Path) -> int:
    return sum(file.stat().st_size for file in (place / ".git").rglob("*") if file.is_file())


def against_peers(where: Path, source: Path, title: str, options: argparse.Namespace, bounds: dict[str, float]) -> None:
    results = Results()
    for number in range(options.runs):
        names = ["gitml", "lfs", "gitml add"]
        for name in names if number % 2 else reversed(names):
            place = fresh(where, name, source)
            os.sync()
            results.add(name, *timed(place, COMMANDS[name]))
            if number == 0 and name != "lfs":
                packs = len(list((place / ".git/objects/pack").glob("*.pack")))
                print(f"  {name}: {packs} packs, {size_of(place) / 1e6:.1f} MB in .git", flush=True)
    if not options.no_plain and "git" in bounds:
        place = fresh(where, "git", source)
        results.add("git", *timed(place, COMMANDS["git"]))
    results.show(title, {(ours, peer): bound for ours in ("gitml", "gitml add") for peer, bound in bounds.items()})


def one_file(where: Path, options: argparse.Namespace, kind: str, bounds: dict[str, float]) -> None:
    source = where / "source"
    source.mkdir()
    write_files(source, 1, options.size << 20, kind)
    against_peers(where, source, f"{options.size} MiB of {kind} in one file", options, bounds)


def many_files(where: Path, options: argparse.Namespace) -> None:
    source = where / "source"
    source.mkdir()
    write_files(source, options.files, 100 << 10, "random")
    against_peers(where, source, f"{options.files} files of 100 KiB of noise", options, {"lfs": 0.7})


def again(where: Path, options: argparse.Namespace) -> None:
    source = where / "source"
    source.mkdir()
    write_files(source, 1, options.size << 20, "float")
    results = Results()
    for _ in range(options.runs):
        for name in ("gitml", "gitml add"):
            place = fresh(where, name, source)
            os.sync()
            results.add(f"{name}, first", *timed(place, COMMANDS[name]))
            os.utime(place / "00000.bin")
            results.add(f"{name}, touched", *timed(place, COMMANDS[name]))
    bounds = {(f"{name}, touched", f"{name}, first"): 0.25 for name in ("gitml", "gitml add")}
    results.show(f"{options.size} MiB of float added, touched and added again", bounds)


def change(where: Path, options: argparse.Namespace) -> None:
    source = where / "source"
    source.mkdir()
    size = options.size << 20
    write_files(source, 1, size, "float")
    for name in ("gitml", "gitml add"):
        place = fresh(where, name, source)
        (place / "00000.bin").unlink()
        shutil.copyfile(source / "00000.bin", place / "00000.bin")
        timed(place, COMMANDS[name])
        before = size_of(place)
        rng = random.Random(2)
        with (place / "00000.bin").open("r+b") as file:
            for part in range(10):
                file.seek(part * size // 10 + rng.randrange(size // 20))
                file.write(rng.randbytes(size // 1000))
        seconds, memory = timed(place, COMMANDS[name])
        new = size_of(place) - before
        print(
            f"1 % of {options.size} MiB changed in ten places, {name}: {seconds:.2f} s, "
            f"{new / 1e6:.1f} MB new in .git, {100 * new / size:.2f} % (at most 3 %)   peak: {told(memory)}",
            flush=True,
        )


CASES: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "float": lambda where, options: one_file(where, options, "float", {"lfs": 0.5, "git": 0.12}),
    "csv": lambda where, options: one_file(where, options, "csv", {"lfs": 0.5, "git": 0.06}),
    "files": many_files,
    "again": again,
    "change": change,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, []], default=[])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the one file")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--no-plain", action="store_true", help="do without plain git")
    options = parser.parse_args()
    ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for case in options.cases or CASES:
        with tempfile.TemporaryDirectory() as temporary:
            CASES[case](Path(temporary), options)


if __name__ == "__main__":
    main()
