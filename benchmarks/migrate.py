"""How long a history takes to migrate: `git ml migrate import` and `git lfs migrate import` on the same repository.

    python benchmarks/migrate.py [--commits N] [--blobs N] [--size BYTES] [--rounds N]

A repository of N commits is made, in which some change one of several large files (half of them random bytes, half a
table) and the others change small files. Each round copies it twice and migrates `main` with `--include '*.bin'` and
`'*.csv'`, in changing order. Prints wall seconds, the ratio, and what the data take before and after a plain `git gc`.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.history import seal, size_below

PATTERNS = ("*.bin", "*.csv")
SYSTEMS = {
    "gitml": ["git", "ml", "migrate", "import", "main", "-I", PATTERNS[0], "-I", PATTERNS[1]],
    "git-lfs": ["git", "lfs", "migrate", "import", f"--include={','.join(PATTERNS)}", "--yes", "main"],
}


def make(path: Path, commits: int, blobs: int, size: int) -> int:
    """Write the repository; give the bytes of all versions of large files."""
    subprocess.run(["git", "init", "-q", path], check=True)
    chance = random.Random(1)
    tables = [[b"%d,%d,%f\n" % (row, row % 7, chance.random()) for row in range(size // 20)] for _ in range(4)]
    large = set(chance.sample(range(commits), blobs))
    written = 0
    with subprocess.Popen(["git", "fast-import", "--quiet"], cwd=path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for number in range(commits):
            name, data = f"src/{number % 50}/{number % 13}.txt", b"%d\n" % number
            if number in large and chance.random() < 0.5:
                name, data = f"data/{chance.randrange(8)}.bin", chance.randbytes(size)
                written += len(data)
            elif number in large:
                table = chance.randrange(4)
                for _ in range(20):
                    tables[table][chance.randrange(len(tables[table]))] = b"%d,changed\n" % number
                name, data = f"data/{table}.csv", b"".join(tables[table])
                written += len(data)
            process.stdin.write(
                b"commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata 1\nx\n" % (1_700_000_000 + number)
                + b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data)
            )
    subprocess.run(["git", "reset", "-q", "--hard"], cwd=path, check=True)
    return written


def migrate(system: str, source: Path, place: Path) -> float:
    """Seconds that the migration of a copy takes."""
    shutil.copytree(source, place, symlinks=True)
    subprocess.run(["git", "update-index", "-q", "--refresh"], cwd=place, check=True)
    # both set a clone up before; what is measured is the migration
    setting_up = ["ml", "install"] if system == "gitml" else ["lfs", "install", "--local"]
    subprocess.run(["git", *setting_up], cwd=place, check=True, capture_output=True)
    os.sync()
    started = time.perf_counter()
    done = subprocess.run(SYSTEMS[system], cwd=place, capture_output=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{system}: {done.stderr.decode(errors='replace')}")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=place, capture_output=True, check=True)
    if status.stdout:
        sys.exit(f"{system}: the worktree is not clean afterwards: {status.stdout.decode(errors='replace')}")
    return seconds


def data_size(place: Path) -> int:
    """Bytes of new history alone: a mirror without backups and reflogs, with what git-lfs keeps."""
    backups = subprocess.run(
        ["git", "for-each-ref", "--format=delete %(refname)", "refs/ml/migrate-backup"],
        cwd=place, check=True, capture_output=True,
    ).stdout  # fmt: skip
    subprocess.run(["git", "update-ref", "--stdin"], cwd=place, check=True, input=backups)
    subprocess.run(["git", "reflog", "expire", "--expire=now", "--all"], cwd=place, check=True)
    subprocess.run(["git", "gc", "-q", "--prune=now"], cwd=place, check=True)
    return size_below(place / ".git/objects") + size_below(place / ".git/lfs")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=2000)
    parser.add_argument("--blobs", type=int, default=300, help="versions of large files")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of each")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="migrate-") as temporary:
        root = Path(temporary)
        seal(root / "home")
        written = make(root / "source", options.commits, options.blobs, options.size)
        print(f"{options.commits} commits, {options.blobs} versions of large files, {written / 1e6:.0f} MB")
        names = [name for name in SYSTEMS if name == "gitml" or shutil.which(name) is not None]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        sizes = {}
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                place = root / name
                seconds[name].append(migrate(name, root / "source", place))
                print(f"  {name:8}{seconds[name][-1]:7.1f} s", flush=True)
                if number + 1 == options.rounds:
                    sizes[name] = data_size(place)
                shutil.rmtree(place)
        print(f"{'':10}{'median, s':>10}{'MB/s':>8}{'after gc, MB':>14}")
        for name in names:
            middle = median(seconds[name])
            print(f"{name:10}{middle:10.1f}{written / 1e6 / middle:8.0f}{sizes[name] / 1e6:14.1f}")
        if "git-lfs" in names:
            ratios = [a / b for a, b in zip(seconds["gitml"], seconds["git-lfs"], strict=True)]
            print(f"gitml / git-lfs: {median(ratios):.2f} in time, {sizes['gitml'] / sizes['git-lfs']:.2f} in size")


if __name__ == "__main__":
    main()
