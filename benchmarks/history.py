"""What the history of one data file costs in gitml and elsewhere.

    python benchmarks/history.py REPO PATH [--limit N] [--only TOOL,...]

Takes every version of PATH in the git repository REPO (or the newest N), oldest first, and puts one after the other
into a fresh store of each kind: gitml (through the real filter and hooks), plain git, git-lfs; borg, restic and bup
where they are installed. Git stores are repacked plainly with `git gc` at the end. Prints bytes and seconds, and the
bytes as a multiple of plain git's.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "table.data"


def run(where: Path, *command: str, env: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def size_of(*places: Path) -> int:
    return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


def versions(repo: Path, path: str, limit: int | None) -> list[str]:
    """The blobs of every version of the file, oldest first; equal neighbours once."""
    commits = run(repo, "git", "rev-list", "--reverse", "HEAD", "--", path).decode().split()
    blobs: list[str] = []
    for commit in commits:
        found = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", f"{commit}:{path}"], cwd=repo, capture_output=True, check=False
        )
        blob = found.stdout.decode().strip()
        # a partial clone may lack the content of some versions
        here = (
            found.returncode == 0
            and not subprocess.run(["git", "cat-file", "-e", blob], cwd=repo, check=False).returncode
        )
        if here and blobs[-1:] != [blob]:
            blobs.append(blob)
    return blobs[-limit:] if limit else blobs


@dataclass(frozen=True, slots=True)
class Store:
    """One way of keeping versions: set up, take one version, finish; `places` are what it occupies."""

    name: str
    needs: str
    set_up: Callable[[Path], None]
    take: Callable[[Path], None]
    finish: Callable[[Path], None]
    places: tuple[str, ...]


def _git_init(where: Path) -> None:
    run(where, "git", "init", "-q")
    for name, value in {"user.name": "b", "user.email": "b@example.org", "gc.auto": "0"}.items():
        run(where, "git", "config", name, value)


def _gitml_init(where: Path) -> None:
    _git_init(where)
    run(where, "git", "ml", "install")
    run(where, "git", "ml", "track", NAME)


def _lfs_init(where: Path) -> None:
    _git_init(where)
    run(where, "git", "lfs", "install", "--local")
    run(where, "git", "lfs", "track", NAME)


def _commit(where: Path) -> None:
    run(where, "git", "add", ".")
    run(where, "git", "commit", "-q", "--allow-empty", "-m", "version")


def _gc(where: Path) -> None:
    run(where, "git", "gc", "-q", "--prune=now")


def _nothing(_: Path) -> None:
    pass


_KEYLESS = {**os.environ, "RESTIC_PASSWORD": "benchmark", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

STORES = (
    Store("gitml", "git-ml", _gitml_init, _commit, _gc, (".git/objects",)),
    Store("plain git", "git", _git_init, _commit, _gc, (".git/objects",)),
    Store("git-lfs", "git-lfs", _lfs_init, _commit, _gc, (".git/objects", ".git/lfs")),
    Store(
        "borg",
        "borg",
        lambda where: void(run(where, "borg", "init", "-e", "none", "store", env=_KEYLESS)),
        lambda where: void(run(where, "borg", "create", f"store::{time.time_ns()}", NAME, env=_KEYLESS)),
        _nothing,
        ("store",),
    ),
    Store(
        "restic",
        "restic",
        lambda where: void(run(where, "restic", "init", "-q", "-r", "store", env=_KEYLESS)),
        lambda where: void(run(where, "restic", "backup", "-q", "-r", "store", NAME, env=_KEYLESS)),
        _nothing,
        ("store",),
    ),
    Store(
        "bup",
        "bup",
        lambda where: void(run(where, "bup", "-d", "store", "init")),
        lambda where: void(run(where, "sh", "-c", f"bup -d store split -q -n version < {NAME}")),
        _nothing,
        ("store",),
    ),
)


def void(_: bytes) -> None:
    """Drop what a command said."""


def replay(store: Store, contents: Iterator[bytes]) -> tuple[int, float, float]:
    """Put all versions into a fresh store; bytes, seconds for the versions, seconds to finish."""
    with tempfile.TemporaryDirectory() as temporary:
        where = Path(temporary)
        store.set_up(where)
        taking = 0.0
        for content in contents:
            (where / NAME).write_bytes(content)
            started = time.perf_counter()
            store.take(where)
            taking += time.perf_counter() - started
        started = time.perf_counter()
        store.finish(where)
        finishing = time.perf_counter() - started
        return size_of(*(where / place for place in store.places)), taking, finishing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("path")
    parser.add_argument("--limit", type=int, help="only the newest N versions")
    parser.add_argument("--only", default="", help="names of stores, separated by commas")
    options = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    blobs = versions(options.repo, options.path, options.limit)
    if not blobs:
        raise SystemExit(f"{options.repo} has no version of {options.path}")
    sizes = [int(run(options.repo, "git", "cat-file", "-s", blob)) for blob in blobs]
    print(
        f"{options.path}: {len(blobs)} versions, {sum(sizes) / 1e6:.1f} MB in all, {sizes[-1] / 1e6:.2f} MB the newest"
    )
    print(f"{'':12}{'bytes':>14}{'s add+commit':>14}{'s gc':>8}{'x plain git':>13}")
    wanted = {name for name in options.only.split(",") if name}
    rows: dict[str, tuple[int, float, float]] = {}
    chosen = [store for store in STORES if not wanted or store.name in wanted]
    for store in sorted(chosen, key=lambda store: store.name != "plain git"):
        if shutil.which(store.needs) is None:
            print(f"{store.name:12}{'not installed':>14}")
            continue
        contents = (run(options.repo, "git", "cat-file", "blob", blob) for blob in blobs)
        rows[store.name] = replay(store, contents)
        total, taking, finishing = rows[store.name]
        ratio = f"{total / rows['plain git'][0]:13.2f}" if "plain git" in rows else ""
        print(f"{store.name:12}{total:14,}{taking:14.1f}{finishing:8.1f}{ratio}", flush=True)


if __name__ == "__main__":
    main()
