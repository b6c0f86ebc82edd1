"""What the versions of one file cost: replays its history into gitml, plain git, git-lfs and what else is installed.

    python -m benchmarks.history REPO PATH [--last N] [--only NAME,...]
    python -m benchmarks.history --table MB [--last N] [--only NAME,...]

Each version of PATH on the first-parent history of REPO, or of a table of so many MB in which each version (20, or N)
changes one row of a thousand and appends as many, is written to a file and taken in, oldest first: by `git add`
and `git commit` (gitml with its filter and hooks), `restic backup`, `borg create`, `bup save`. Then git repositories
are repacked plainly (`git gc`), with no option that favours any. Prints bytes and seconds, and how many times what the
others store gitml stores: of everything, indexes too, and beside plain git of the packs alone. What git gives back for
the newest version must be that version.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """Bytes stored and wall seconds, before and after repacking."""

    ingest_seconds: float
    ingest_bytes: int
    repack_seconds: float
    bytes: int
    packs: int


def versions(repo: Path, path: str, last: int | None = None) -> list[str]:
    """The blobs that `path` has been on the first-parent history, oldest first, without what is not there."""
    log = ["git", "-C", str(repo), "log", "--first-parent", "--reverse", "--format=%H", "--", path]
    commits = subprocess.run(log, check=True, capture_output=True, text=True).stdout.split()
    asked = "".join(f"{commit}:{path}\n" for commit in commits)
    check = ["git", "-C", str(repo), "cat-file", "--batch-check=%(objectname) %(objecttype)"]
    answer = subprocess.run(check, input=asked, check=True, capture_output=True, text=True).stdout
    found = [line.split() for line in answer.splitlines()]
    blobs = [words[0] for words in found if len(words) == 2 and words[1] == "blob"]
    return [blob for number, blob in enumerate(blobs) if number == 0 or blob != blobs[number - 1]][-(last or 0) :]


def contents(repo: Path, blobs: list[str]) -> Iterator[bytes]:
    """The content of each blob."""
    for blob in blobs:
        yield subprocess.run(["git", "-C", repo, "cat-file", "blob", blob], check=True, capture_output=True).stdout


def table(size: int, count: int) -> Iterator[bytes]:
    """`count` versions of a table that has `size` bytes at first."""
    rng = random.Random(1)
    rows: list[bytes] = []

    def row(number: int) -> bytes:
        price, amount, shop = rng.randrange(100, 10_000) / 100, rng.randrange(1, 50), rng.randrange(400)
        return b"%d,2024-%02d-%02d,shop-%03d,%.2f,%d\n" % (
            10_000_000 + number, number // 30_000 % 12 + 1, number // 1_000 % 28 + 1, shop, price, amount,
        )  # fmt: skip

    while size > 0:
        rows.append(row(len(rows)))
        size -= len(rows[-1])
    share = len(rows) // 1000
    for version in range(count):
        if version:
            for number in rng.sample(range(len(rows)), share):
                rows[number] = row(number)
            rows += [row(len(rows) + more) for more in range(share)]
        yield b"".join(rows)


def size_below(directory: Path) -> int:
    """Bytes of all files below `directory`."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


@dataclass(frozen=True)
class Place:
    """Where one system works: an empty directory with the file to store in it, and its store."""

    root: Path
    name: str

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def file(self) -> Path:
        return self.work / self.name

    def run(self, *command: str | Path) -> None:
        done = subprocess.run(command, cwd=self.work, capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit(
                f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr.decode(errors='replace')}"
            )


class GitSystem:
    """Plain git; also what gitml and git-lfs are on top of."""

    name = "git"

    def set_up(self, place: Place) -> None:
        place.run("git", "init", "-q")

    def take(self, place: Place, number: int) -> None:
        place.run("git", "add", "-A")
        place.run("git", "commit", "-q", "-m", f"version {number}")

    def repack(self, place: Place) -> None:
        place.run("git", "gc", "--quiet", "--prune=now")

    def size(self, place: Place) -> int:
        return size_below(place.work / ".git/objects") + size_below(place.work / ".git/lfs")

    def packs(self, place: Place) -> int:
        return sum(pack.stat().st_size for pack in (place.work / ".git/objects/pack").glob("*.pack"))

    def check(self, place: Place, newest: bytes) -> None:
        place.file.unlink()
        place.run("git", "checkout", "-q", "--", place.name)
        if place.file.read_bytes() != newest:
            sys.exit(f"{self.name}: the newest version came back with other bytes")


class Gitml(GitSystem):
    """The filter and hooks of gitml, as `git ml install` sets them up."""

    name = "gitml"

    def set_up(self, place: Place) -> None:
        place.run("git", "init", "-q")
        place.run("git", "ml", "install")
        place.run("git", "ml", "track", place.name)


class GitLfs(GitSystem):
    """git-lfs with its own filter."""

    name = "git-lfs"

    def set_up(self, place: Place) -> None:
        place.run("git", "init", "-q")
        place.run("git", "lfs", "install", "--local")
        place.run("git", "lfs", "track", place.name)


class Backup:
    """A program that keeps snapshots in a directory of its own."""

    def __init__(self, name: str, set_up: list[str], take: list[list[str]]) -> None:
        self.name = name
        self._set_up = set_up
        self._take = take

    def set_up(self, place: Place) -> None:
        self._run(place, self._set_up, 0)

    def take(self, place: Place, number: int) -> None:
        for command in self._take:
            self._run(place, command, number)

    def repack(self, place: Place) -> None:
        """Nothing: such programs store what they store at once."""

    def size(self, place: Place) -> int:
        return size_below(place.store)

    def packs(self, place: Place) -> int:
        """All it stores."""
        return self.size(place)

    def check(self, place: Place, newest: bytes) -> None:
        """Nothing: only sizes and times are compared."""

    def _run(self, place: Place, command: list[str], number: int) -> None:
        place.run(*(word.format(store=place.store, work=place.work, number=number) for word in command))


System = GitSystem | Backup

SYSTEMS: list[System] = [
    Gitml(),
    GitSystem(),
    GitLfs(),
    Backup(
        "restic",
        ["restic", "init", "-q", "-r", "{store}"],
        [["restic", "backup", "-q", "-r", "{store}", "{work}"]],
    ),
    Backup(
        "borg",
        ["borg", "init", "-e", "none", "{store}"],
        [["borg", "create", "{store}::v{number}", "{work}"]],
    ),
    Backup(
        "bup",
        ["bup", "-d", "{store}", "init"],
        [["bup", "-d", "{store}", "index", "{work}"], ["bup", "-d", "{store}", "save", "-n", "v", "{work}"]],
    ),
]


def installed(system: System) -> bool:
    return shutil.which("git-ml" if system.name == "gitml" else system.name) is not None


def replay(system: System, root: Path, name: str, pieces: Callable[[], Iterator[bytes]]) -> Result:
    """Take every version in, in a fresh directory below `root`. Writing the file itself is not timed."""
    place = Place(root / system.name, name)
    place.work.mkdir(parents=True)
    system.set_up(place)
    seconds, data = 0.0, b""
    for number, data in enumerate(pieces()):
        place.file.write_bytes(data)
        started = time.perf_counter()
        system.take(place, number)
        seconds += time.perf_counter() - started
    before = system.size(place)
    started = time.perf_counter()
    system.repack(place)
    repacking = time.perf_counter() - started
    system.check(place, data)
    return Result(seconds, before, repacking, system.size(place), system.packs(place))


def seal(home: Path) -> None:
    """Nobody's own configuration takes part."""
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    config = home / ".gitconfig"
    config.write_text(
        "[user]\n\tname = Bench\n\temail = bench@example.org\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"
    )
    os.environ.update(
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / "config"),
        XDG_STATE_HOME=str(home / "state"),
        XDG_CACHE_HOME=str(home / "cache"),
        GIT_CONFIG_NOSYSTEM="1",
        GIT_CONFIG_GLOBAL=str(config),
        RESTIC_PASSWORD="benchmark",
        BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes",
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )


def chosen(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> tuple[Callable[[], Iterator[bytes]], str, int]:
    """What gives the versions, the name of their file, and how many there are."""
    if (options.table is None) == (options.path is None):
        parser.error("give either REPO and PATH, or --table")
    if options.table is not None:
        count = options.last or 20
        return lambda: table(options.table * 1_000_000, count), "table.csv", count
    repo = options.repo.resolve()
    blobs = versions(repo, options.path, options.last)
    if not blobs:
        parser.error(f"no version of '{options.path}' in '{repo}'")
    return lambda: contents(repo, blobs), options.path, len(blobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path, metavar="REPO", nargs="?")
    parser.add_argument("path", metavar="PATH", nargs="?", help="from the top of REPO")
    parser.add_argument("--table", type=int, metavar="MB", help="versions of a generated table instead")
    parser.add_argument("--last", type=int, help="only the newest N versions")
    parser.add_argument("--only", help="systems, separated by commas")
    options = parser.parse_args()
    pieces, name, count = chosen(parser, options)
    logical = sum(map(len, pieces()))
    print(f"{name}: {count} versions, {logical / 1e6:.1f} MB")
    heads = f"{'':10}{'in, s':>9}{'MB/s':>8}{'stored, MB':>12}{'repack, s':>11}{'repacked, MB':>14}"
    print(f"{heads}{'packs, MB':>11}{'ratio':>8}")
    wanted = options.only.split(",") if options.only else [system.name for system in SYSTEMS]
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="history-") as temporary:
        seal(Path(temporary) / "home")
        for system in SYSTEMS:
            if system.name not in wanted or not installed(system):
                continue
            result = replay(system, Path(temporary), Path(name).name, pieces)
            print(
                f"{system.name:10}{result.ingest_seconds:9.1f}{logical / 1e6 / result.ingest_seconds:8.1f}"
                f"{result.ingest_bytes / 1e6:12.2f}{result.repack_seconds:11.1f}{result.bytes / 1e6:14.2f}"
                f"{result.packs / 1e6:11.2f}{logical / result.bytes:8.0f}",
                flush=True,
            )
            results[system.name] = result
    ours = results.pop("gitml", None)
    if ours is None:
        return
    for name, result in results.items():
        packs = f", {ours.packs / result.packs:.3f} of the packs" if name == "git" else ""
        print(f"gitml / {name}: {ours.bytes / result.bytes:.4f}{packs}")


if __name__ == "__main__":
    main()
