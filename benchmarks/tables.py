"""How long it takes to compare two tables, and in how much memory, beside daff and csv-diff.

    python -m benchmarks.tables [--size MB] [--peers-size MB] [--limit SECONDS] [--where DIRECTORY]

Ours runs on two CSV files of `--size` in several shapes of change, as `gitml.tables.child` runs it. Peers (pip install
-e '.[bench]') and ours run on files of `--peers-size` in the first shape, each with `--limit` seconds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.lab import ENVIRONMENT, Peak
from gitml.tables.child import Limits

COLUMNS = ("id", "name", "price", "weight", "score", "count", "kind", "day", "note", "ratio")
SHAPES = ("few", "all", "shuffled", "nokey")
OURS = (
    "import sys\nfrom pathlib import Path\nfrom gitml.tables.child import Limits, compare_in_child\n"
    "limits = Limits(memory=int(sys.argv[3]), seconds=600)\n"
    "found = compare_in_child(Path(sys.argv[1]), Path(sys.argv[2]), limits=limits)\n"
    "assert not found.opaque, found.opaque\ntable = found.tables[0]\n"
    "print(table.rows, table.key, table.added, table.removed, table.changed)\n"
)
PEERS = {
    "daff": "import daff\nsys.argv = ['daff', 'diff', '--output', '/dev/null', *sys.argv[1:3]]\ndaff.main()\n",
    "csv-diff": (
        "from csv_diff import compare, load_csv\n"
        "compare(load_csv(open(sys.argv[1]), key='id'), load_csv(open(sys.argv[2]), key='id'))\n"
    ),
}


def write(where: Path, size: int, shape: str) -> tuple[Path, Path]:
    """Two versions of a table of `size` bytes: one row in a thousand changed, added or removed, or as `shape` says."""
    import numpy as np  # noqa: PLC0415 - only here
    import polars as pl  # noqa: PLC0415 - only here

    rows = size // 98
    rng = np.random.default_rng(1)
    names = np.array([f"customer number {number}" for number in range(5000)])
    table = pl.DataFrame(
        {
            "id": np.arange(rows) + 10_000_000,
            "name": names[rng.integers(0, len(names), rows)],
            "price": rng.gamma(2, 50, rows).round(2),
            "weight": rng.normal(70, 12, rows).round(6),
            "score": rng.normal(0, 1, rows),
            "count": rng.integers(0, 1000, rows),
            "kind": np.array(["north", "south", "east", "west"])[rng.integers(0, 4, rows)],
            "day": np.array([f"2026-{1 + n // 28:02}-{1 + n % 28:02}" for n in range(336)])[rng.integers(0, 336, rows)],
            "note": np.array(["", "checked", "to be checked again"])[rng.integers(0, 3, rows)],
            "ratio": rng.random(rows).round(4),
        }
    )
    number = pl.int_range(pl.len())
    other = table.with_columns(
        pl.when((number % 1000 == 7) | (shape == "all")).then(pl.col("price") + 1).otherwise("price").alias("price")
    ).filter(number % 1000 != 3)
    more = table.filter(number % 1000 == 5).with_columns(pl.col("id") + 100_000_000)
    other = pl.concat([other, more])
    if shape == "shuffled":
        other = other.sample(fraction=1, shuffle=True, seed=2)
    if shape == "nokey":
        table, other = table.drop("id"), other.drop("id")
    paths = where / f"old-{shape}.csv", where / f"new-{shape}.csv"
    for each, path in zip((table, other), paths, strict=True):
        each.write_csv(path)
    return paths


def run(code: str, arguments: list[str], limit: float) -> tuple[float | None, int, str]:
    """Seconds (None: more than `limit`, or it failed), the peak memory of its largest process, what it said."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys\n" + code, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak = Peak(process.pid)
    try:
        said = "\n".join(process.communicate(timeout=limit))
        seconds = time.perf_counter() - started if process.returncode == 0 else None
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        seconds, said = None, f"more than {limit:.0f} s"
    return seconds, max(peak.stop().values(), default=0), said.strip().splitlines()[-1] if said.strip() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--peers-size", type=int, default=100)
    parser.add_argument("--limit", type=float, default=120)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--where", type=Path)
    options = parser.parse_args()
    memory = str(Limits().memory)
    for shape in filter(None, options.shapes.split(",")):
        with tempfile.TemporaryDirectory(dir=options.where) as directory:
            old, new = write(Path(directory), options.size * 1_000_000, shape)
            size = (old.stat().st_size + new.stat().st_size) / 1e6
            seconds, peak, said = run(OURS, [str(old), str(new), memory], 600)
            shown = "failed" if seconds is None else f"{seconds:.1f} s ({size / seconds:.0f} MB/s)"
            print(f"{shape:9} {size:.0f} MB: {shown}, {peak / 2**20:.0f} MiB; {said}", flush=True)
    if not options.peers_size:
        return
    with tempfile.TemporaryDirectory(dir=options.where) as directory:
        old, new = write(Path(directory), options.peers_size * 1_000_000, SHAPES[0])
        ours, our_peak, _ = run(OURS, [str(old), str(new), memory], options.limit)
        assert ours is not None
        print(f"two tables of {old.stat().st_size / 1e6:.0f} MB\ngitml     {ours:.1f} s, {our_peak / 2**20:.0f} MiB")
        for name, code in PEERS.items():
            if find_spec(name.replace("-", "_")) is None:
                print(f"{name:9} not installed")
                continue
            seconds, peak, said = run(code, [str(old), str(new)], options.limit)
            ratio = f"{(seconds or options.limit) / ours:.1f} times as long, {peak / our_peak:.1f} times the memory"
            if seconds is None:
                print(f"{name:9} {said[:60]}: more than {ratio}")
            else:
                print(f"{name:9} {seconds:.1f} s, {peak / 2**20:.0f} MiB: {ratio}")


if __name__ == "__main__":
    main()
