"""Checking out 1 GiB, in one file and in a thousand, with gitml and with git-lfs; and a hook that has nothing to do.

    python -m benchmarks.checkout [--runs N] [--size MIB] [--files N] [--kind random|float|csv] [--tracked N]

Both stores live in one temporary directory. `checkout` removes the files and runs `git reset --hard`, which takes the
content from the local store; `clone` clones over `file://`, for gitml with `git ml install`. Runs alternate. Prints the
best and the median time of each, the ratios (gitml over git-lfs, of runs next to each other), the peak memory of git
and of the program that fills in, and whether `git status` afterwards starts a filter. Then the time that
`git reset --hard` takes in a worktree of many small files, with our hooks and with none.
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


def set_up(where: Path, count: int, size: int, kind: str) -> None:
    (where / "source").mkdir()
    write_files(where / "source", count, size, kind)
    for name in ("gitml", "lfs"):
        place = where / name
        git(where, "init", "-q", "-b", "main", name)
        if name == "gitml":
            subprocess.run(
                [*OURS.split(), "install"], cwd=place, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL
            )
            (place / ".gitattributes").write_text("*.bin filter=ml -text\n")
        else:
            git(place, "lfs", "install", "--local")
            (place / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
        for file in (where / "source").iterdir():
            shutil.copyfile(file, place / file.name)
        git(place, "add", "-A", CI="1")
        git(place, "commit", "-q", "-m", "data", CI="1")
    shutil.rmtree(where / "source")


def checkout(where: Path, name: str) -> tuple[float, dict[str, int]]:
    for file in (where / name).glob("*.bin"):
        file.unlink()
    return timed(where / name, "git reset -q --hard")


def clone(where: Path, name: str) -> tuple[float, dict[str, int]]:
    target = where / "clone"
    shutil.rmtree(target, ignore_errors=True)
    source = f"file://{where / name}"
    if name == "gitml":
        return timed(where, f"git clone -q {source} clone && cd clone && {OURS} install")
    lfs = "-c filter.lfs.process='git-lfs filter-process' -c filter.lfs.required=true"
    return timed(where, f"git clone -q {lfs} {source} clone")


def verify(place: Path, count: int, size: int) -> None:
    files = list(place.glob("*.bin"))
    if len(files) != count or any(file.stat().st_size != size for file in files):
        raise SystemExit(f"{place}: not all files are there")
    trace = place.parent / "trace"
    trace.unlink(missing_ok=True)
    answer = subprocess.run(
        ["git", "status", "--porcelain"], cwd=place, env=ENVIRONMENT | {"GIT_TRACE2_EVENT": str(trace)},
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    if answer:
        raise SystemExit(f"{place}: git status is not clean: {answer.decode()}")
    started = trace.read_text().count('"event":"child_start"')
    print(f"    {place.name}: git status is clean; it starts {started} processes")


def compare(
    title: str, run: Callable[[str], tuple[float, dict[str, int]]], runs: int, check: Callable[[str], None]
) -> None:
    times: dict[str, list[float]] = {"gitml": [], "lfs": []}
    memory: dict[str, dict[str, int]] = {"gitml": {}, "lfs": {}}
    for number in range(runs):
        for name in ("gitml", "lfs") if number % 2 else ("lfs", "gitml"):
            seconds, peaks = run(name)
            times[name].append(seconds)
            for program, peak in peaks.items():
                memory[name][program] = max(peak, memory[name].get(program, 0))
            if number == 0:
                check(name)
    ratios = [ours / theirs for ours, theirs in zip(times["gitml"], times["lfs"], strict=True)]
    print(f"  {title}")
    for name, taken in times.items():
        print(
            f"    {name:6} best {min(taken):6.2f} s  median {statistics.median(taken):6.2f} s"
            f"   peak: {told(memory[name])}"
        )
    print(
        f"    ratio  median {statistics.median(ratios):.2f}, best to best {min(times['gitml']) / min(times['lfs']):.2f}"
    )


def content(where: Path, options: argparse.Namespace, count: int) -> None:
    size = (options.size << 20) // count
    print(f"{count} file{'s' if count > 1 else ''} of {size / 2**20:.1f} MiB, {options.kind}")
    set_up(where, count, size, options.kind)
    compare(
        "checkout", lambda name: checkout(where, name), options.runs, lambda name: verify(where / name, count, size)
    )
    compare("clone", lambda name: clone(where, name), options.runs, lambda _: verify(where / "clone", count, size))


def idle_hook(where: Path, count: int, runs: int) -> None:
    place = where / "many"
    git(where, "init", "-q", "-b", "main", "many")
    subprocess.run([*OURS.split(), "install"], cwd=place, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    (place / ".gitattributes").write_text("*.bin filter=ml -text\n")
    (place / "large.bin").write_bytes(random.Random(1).randbytes(1 << 20))
    for number in range(count):
        file = place / f"d{number % 100}" / f"{number}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{number}\n")
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", "many", CI="1")
    times: dict[str, list[float]] = {"with hooks": [], "without": []}
    for _ in range(runs):
        for name, setting in (("with hooks", ""), ("without", "-c core.hooksPath=/dev/null")):
            (place / "d0" / "0.txt").write_text("changed\n")
            times[name].append(timed(place, f"git {setting} reset -q --hard")[0])
    middle = {name: statistics.median(seconds) * 1000 for name, seconds in times.items()}
    print(f"git reset --hard of one small file among {count} tracked files")
    for name, value in middle.items():
        print(f"    {name:10} median {value:6.0f} ms")
    print(f"    our hook adds {middle['with hooks'] - middle['without']:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB in all")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--kind", choices=("random", "float", "csv"), default="float")
    parser.add_argument("--tracked", type=int, default=100_000, help="tracked files where the hook has nothing to do")
    options = parser.parse_args()
    ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for count in (1, options.files):
        with tempfile.TemporaryDirectory() as temporary:
            content(Path(temporary), options, count)
    if options.tracked:
        with tempfile.TemporaryDirectory() as temporary:
            idle_hook(Path(temporary), options.tracked, options.runs)


if __name__ == "__main__":
    main()
