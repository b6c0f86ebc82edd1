"""How long it takes to compare two tables, and in how much memory, beside polars, daff and csv-diff.

    python -m benchmarks.tables [--size MB] [--shapes SHAPE,…] [--formats csv,parquet] [--runs N]
                                [--peers-size MB] [--limit SECONDS] [--where DIRECTORY]

Ours runs on two files of `--size` (as CSV; the same rows as Parquet take a quarter of that) in several shapes of
change, as `gitml.tables.child` runs it, and beside it polars: a full join of both files in its lazy engine that counts
the rows that were added, removed and changed, and in which columns. For each the best of `--runs` that take turns:
seconds by the clock, of processor time, and the peak of the memory of all its processes together. Then csv-diff and
daff (pip install -e '.[bench]') and ours run on files of `--peers-size` in the first shape, each with `--limit`
seconds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.lab import ENVIRONMENT, Together

COLUMNS = ("id", "name", "price", "weight", "score", "count", "kind", "day", "note", "ratio")
SHAPES = ("few", "all", "shuffled", "both", "nokey")
"""One row in a thousand changed, added, removed; then nearly every row changed; rows in another order; both of these,
in six columns; without the column that is the key, so that rows are compared by content."""
OURS = (
    "from pathlib import Path\nfrom gitml.tables.child import Limits, compare_in_child\n"
    "found = compare_in_child(Path(sys.argv[1]), Path(sys.argv[2]), limits=Limits(seconds=600))\n"
    "assert not found.opaque, found.opaque\ntable = found.tables[0]\n"
    "print(table.rows, table.added, table.removed, table.changed, max(each.changed for each in table.columns))\n"
)
POLARS = (
    "import polars as pl\n"
    "text = lambda path: pl.scan_csv(path, infer_schema=False)\n"
    "read = pl.scan_parquet if sys.argv[1].endswith('parquet') else text\n"
    "old, new = read(sys.argv[1]), read(sys.argv[2])\n"
    "names = old.collect_schema().names()\n"
    "key = ['id'] if 'id' in names else names\n"
    "old, new = (each.with_columns(pl.lit(True).alias(mark)) for each, mark in ((old, 'in old'), (new, 'in new')))\n"
    "both = old.join(new, on=key, how='full', suffix=' new', nulls_equal=True)\n"
    "pair = pl.col('in old') & pl.col('in new')\n"
    "differ = {n: pair & pl.col(n).ne_missing(pl.col(f'{n} new')) for n in names if n not in key}\n"
    "counts = both.select(pl.col('in old').is_null().sum().alias('added'),\n"
    "    pl.col('in new').is_null().sum().alias('removed'),\n"
    "    (pl.any_horizontal(differ.values()) if differ else pl.lit(0)).sum().alias('changed'),\n"
    "    *(each.sum().alias(name) for name, each in differ.items())).collect(engine='streaming')\n"
    "print(counts.row(0))\n"
)
PEERS = {
    "daff": "import daff\nsys.argv = ['daff', 'diff', '--output', '/dev/null', *sys.argv[1:3]]\ndaff.main()\n",
    "csv-diff": (
        "from csv_diff import compare, load_csv\n"
        "compare(load_csv(open(sys.argv[1]), key='id'), load_csv(open(sys.argv[2]), key='id'))\n"
    ),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a program."""

    seconds: float | None
    """None: it took more than it may, or failed."""
    processor: float
    """Seconds, of all its processes."""
    memory: int
    """Bytes that all its processes held together at most."""
    said: str

    def __str__(self) -> str:
        memory = f"{self.memory / 2**20:,.0f} MiB"
        if self.seconds is None:
            return f"failed or stopped, {memory}: {self.said[:60]}"
        return f"{self.seconds:.1f} s, {self.processor:.1f} s of processor time, {memory}"


def write(where: Path, size: int, shape: str, formats: list[str]) -> tuple[Path, Path]:
    """Two versions of a table that as CSV has `size` bytes, changed as `shape` says."""
    import numpy as np  # noqa: PLC0415 - only here
    import polars as pl  # noqa: PLC0415 - only here

    rows = size // 98
    rng = np.random.default_rng(1)
    names = pl.Series([f"customer number {number}" for number in range(5000)])
    days = pl.Series([f"2026-{1 + n // 28:02}-{1 + n % 28:02}" for n in range(336)])
    kinds, notes = pl.Series(["north", "south", "east", "west"]), pl.Series(["", "checked", "to be checked again"])
    table = pl.DataFrame(
        {
            "id": np.arange(rows) + 10_000_000,
            "name": names.gather(rng.integers(0, len(names), rows)),
            "price": rng.gamma(2, 50, rows).round(2),
            "weight": rng.normal(70, 12, rows).round(6),
            "score": rng.normal(0, 1, rows),
            "count": rng.integers(0, 1000, rows),
            "kind": kinds.gather(rng.integers(0, 4, rows)),
            "day": days.gather(rng.integers(0, 336, rows)),
            "note": notes.gather(rng.integers(0, 3, rows)),
            "ratio": rng.random(rows).round(4),
        }
    )
    number = pl.int_range(pl.len())
    most = shape in ("all", "both")
    other = table.with_columns(
        pl.when((number % 1000 == 7) | most).then(pl.col("price") + 1).otherwise("price").alias("price")
    ).filter(number % 1000 != 3)
    if shape == "both":
        other = other.with_columns(
            pl.col("weight", "ratio", "count") + 1, (pl.col("day", "kind") + "."),
        )  # fmt: skip
    more = table.filter(number % 1000 == 5).with_columns(pl.col("id") + 100_000_000)
    other = pl.concat([other, more])
    if shape in ("shuffled", "both"):
        other = other.sample(fraction=1, shuffle=True, seed=2)
    if shape == "nokey":
        table, other = table.drop("id"), other.drop("id")
    paths = where / f"old-{shape}.csv", where / f"new-{shape}.csv"
    for each, path in zip((table, other), paths, strict=True):
        if "csv" in formats:
            each.write_csv(path)
        if "parquet" in formats:
            each.write_parquet(path.with_suffix(".parquet"))
    return paths


def run(code: str, arguments: list[str], limit: float) -> Measured:
    """Run a program of Python for at most so many seconds."""
    before = os.times()
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys\n" + code, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    together = Together(process.pid)
    try:
        said = "\n".join(process.communicate(timeout=limit))
        seconds = time.perf_counter() - started if process.returncode == 0 else None
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        seconds, said = None, f"more than {limit:.0f} s"
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    last = said.strip().splitlines()[-1] if said.strip() else ""
    return Measured(seconds, processor, together.stop(), last)


def at_size(where: Path, size: int, shape: str, formats: list[str], runs: int) -> None:
    """Ours and polars on two large files."""
    old, new = write(where, size, shape, formats)
    for suffix in formats:
        paths = [str(each.with_suffix(f".{suffix}")) for each in (old, new)]
        found: dict[str, list[Measured]] = {"gitml": [], "polars": []}
        for _ in range(runs):
            for name, code in (("gitml", OURS), ("polars", POLARS)):
                found[name].append(run(code, paths, 600))
        held = [Path(each).stat().st_size / 1e6 for each in paths]
        print(f"{shape}, {suffix}, {held[0]:.0f} and {held[1]:.0f} MB", flush=True)
        best = {name: min(each, key=lambda one: one.seconds or 1e9) for name, each in found.items()}
        for name, measured in best.items():
            print(f"  {name:9} {measured}; {measured.said}", flush=True)
        ours, other = best["gitml"], best["polars"]
        if ours.seconds and other.seconds:
            print(f"  polars takes {other.seconds / ours.seconds:.2f} times as long, "
                  f"{other.memory / ours.memory:.1f} times the memory", flush=True)  # fmt: skip


def beside_peers(where: Path, size: int, limit: float) -> None:
    """Ours and programs that are made for it on two files that they can read."""
    old, new = write(where, size, SHAPES[0], ["csv"])
    ours = run(OURS, [str(old), str(new)], limit)
    assert ours.seconds is not None, ours.said
    print(f"two tables of {old.stat().st_size / 1e6:.0f} MB\n  gitml     {ours}")
    for name, code in PEERS.items():
        if find_spec(name.replace("-", "_")) is None:
            print(f"  {name:9} not installed")
            continue
        measured = run(code, [str(old), str(new)], limit)
        more = "" if measured.seconds else "more than "
        print(f"  {name:9} {measured}: {more}{(measured.seconds or limit) / ours.seconds:.1f} times as long, "
              f"{measured.memory / ours.memory:.1f} times the memory")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--peers-size", type=int, default=100)
    parser.add_argument("--limit", type=float, default=120)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--formats", default="csv,parquet")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--where", type=Path)
    options = parser.parse_args()
    for shape in filter(None, options.shapes.split(",")):
        with tempfile.TemporaryDirectory(dir=options.where) as directory:
            at_size(Path(directory), options.size * 1_000_000, shape, options.formats.split(","), options.runs)
    if options.peers_size:
        with tempfile.TemporaryDirectory(dir=options.where) as directory:
            beside_peers(Path(directory), options.peers_size * 1_000_000, options.limit)


if __name__ == "__main__":
    main()
