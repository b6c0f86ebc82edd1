"""What a run on a Dask cluster costs beside the same run on one machine.

    python -m benchmarks.dask [--datums N] [--workers N] [--seconds S] [--size KIB] [--kill]

A cluster of worker processes on this machine, which share only a bare repository; each datum reads a small file and a
model, sleeps `--seconds` and writes a file of `--size` KiB (in chunks from 64 KiB on). Shown: wall time of the first
run on the cluster and here with as many tasks at once, what the ideal would be, how many refs and bytes the remote has
in the end, and time of a run that finds everything known. With `--kill` a worker is killed in the middle.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.lab import ENVIRONMENT
from benchmarks.pipelines import commit, project, row, run
from tests.cluster import Cluster, cluster

SCRIPT = (
    'name=$(ls /pfs/in); sleep {seconds}; cat "/pfs/in/$name" /pfs/model/weights > "/pfs/out/$name"; '
    'head -c {size} /dev/urandom >> "/pfs/out/$name"'
)


def prepared(top: Path, name: str, options: argparse.Namespace) -> Path:
    """A project that has not run."""
    where = top / name
    script = SCRIPT.format(seconds=options.seconds, size=options.size * 1024)
    both = [{"pfs": {"repo": "in", "glob": "/*"}}, {"pfs": {"repo": "model", "glob": "/"}}]
    stage = {
        "pipeline": {"name": "out"},
        "transform": {"cmd": ["sh", "-c", script]},
        "input": {"cross": both},
    }
    project(where, [stage])
    run(top, "git", "init", "-q", "--bare", f"{name}.git")
    for command in (
        ["remote", "add", "store", str(top / f"{name}.git")],
        ["config", "ml.dataRemote", "store"],
        ["config", "ml.auto", "off"],
        ["ml", "track", "out/**"],
    ):
        run(where, "git", *command)
    (where / "in").mkdir()
    (where / "model").mkdir()
    (where / "model" / "weights").write_bytes(os.urandom(40_000))
    for number in range(options.datums):
        (where / "in" / f"{number:06}").write_text(f"{number}\n")
    commit(where, "one")
    return where


def kill_one(made: Cluster) -> None:
    """Kill the last worker once it is at a datum."""
    place = made.directory / f"worker-{len(made.workers) - 1}"
    while not any(place.glob("scratch/*/*/gitml/*/*/*/*/tasks/*")):
        time.sleep(0.05)
    made.kill(len(made.workers) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datums", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--size", type=int, default=1, help="KiB of each output")
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="gitml-dask-"))
    os.environ.update(ENVIRONMENT)
    try:
        there, here = prepared(top, "there", options), prepared(top, "here", options)
        with cluster(top / "cluster", options.workers + options.kill) as made:
            made.wait()
            run(there, "git", "config", "ml.daskScheduler", made.address)
            if options.kill:
                threading.Thread(target=kill_one, args=[made], daemon=True).start()
            first = run(there, "git", "ml", "run", "--executor", "dask")
            again = run(there, "git", "ml", "run", "--executor", "dask")
        local = run(here, "git", "ml", "run", "-j", str(options.workers))
        what = f"{options.datums} datums, {options.workers} workers"
        row(what, "dask s", "local s", None)
        row("first run", f"{first:.1f}", f"{local:.1f}", first / local)
        row("  of it in tasks' sleep", f"{options.datums * options.seconds / options.workers:.1f}")
        row("  a datum, over the sleep, ms of a worker", f"{_each(first, options):.1f}", f"{_each(local, options):.1f}")
        row("everything known", f"{again:.2f}")
        refs = subprocess.run(
            ["git", "--git-dir", str(top / "there.git"), "for-each-ref"], capture_output=True, check=True
        ).stdout.count(b"\n")
        row("refs at the remote in the end", str(refs))
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _each(seconds: float, options: argparse.Namespace) -> float:
    return float(1000 * (seconds * options.workers / options.datums - options.seconds))


if __name__ == "__main__":
    main()
