"""How long it takes to compare predictions example by example, and in how much memory, beside polars and scikit-learn.

    python -m benchmarks.predictions [--examples N] [--runs N] [--where DIRECTORY]

Ours is `git ml diff`'s comparison as `gitml.tables.child` runs it: examples aligned by id, flips, the largest
regressions, five groups, McNemar's test and bootstrap intervals. Beside it a script that joins both tables with polars
and has the accuracy of both and the number of flips from scikit-learn and polars, without groups and intervals.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.tables import Measured, run

OURS = (
    "from pathlib import Path\nfrom gitml.tables.child import Limits, predictions_in_child\n"
    "from gitml.tables.outcome import Version\n"
    "sides = [Version(path=Path(each), name='p.csv', id='id', prediction='prediction', label='label', score='score',\n"
    "    slices=('site',)) for each in sys.argv[1:3]]\n"
    "found = predictions_in_child(*sides, limits=Limits(seconds=600))\n"
    "assert not found.opaque, found.opaque\nprint(found.common, found.measures[0].old, found.measures[0].new)\n"
)
SCRIPT = (
    "import polars as pl\nfrom sklearn.metrics import accuracy_score\n"
    "old, new = map(pl.read_csv, sys.argv[1:3])\nboth = old.join(new, on='id', suffix=' new')\n"
    "right, still = (both['label'] == both[name] for name in ('prediction', 'prediction new'))\n"
    "print(both.height, accuracy_score(both['label'], both['prediction']),\n"
    "    accuracy_score(both['label'], both['prediction new']), (right != still).sum())\n"
)


def write(where: Path, examples: int) -> tuple[Path, Path]:
    """Predictions of two models: one in twenty examples flips, the rows of the second stand in another order."""
    import numpy as np  # noqa: PLC0415 - only here
    import polars as pl  # noqa: PLC0415 - only here

    rng = np.random.default_rng(1)
    classes = np.array(["cat", "dog", "bird", "fish"])
    label = rng.integers(0, 4, examples)
    paths = where / "old.csv", where / "new.csv"
    given = np.where(rng.random(examples) < 0.1, rng.integers(0, 4, examples), label)
    again = np.where(rng.random(examples) < 0.05, rng.integers(0, 4, examples), given)
    order = rng.permutation(examples)
    sites = np.array(["north", "south", "east", "west", "sea"])[rng.integers(0, 5, examples)]
    for path, prediction, rows in ((paths[0], given, np.arange(examples)), (paths[1], again, order)):
        table = pl.DataFrame(
            {
                "id": [f"image-{number:08}" for number in rows],
                "label": classes[label[rows]],
                "prediction": classes[prediction[rows]],
                "score": rng.random(examples).round(4),
                "site": sites[rows],
            }
        )
        table.write_csv(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--where", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.where) as directory:
        paths = [str(each) for each in write(Path(directory), options.examples)]
        found: dict[str, list[Measured]] = {"gitml": [], "script": []}
        for _ in range(options.runs):
            for name, code in (("gitml", OURS), ("script", SCRIPT)):
                found[name].append(run(code, paths, 600))
        for name, runs in found.items():
            if any(each.seconds is None for each in runs):
                print(f"{name:7} {runs[-1]}")
                continue
            median = statistics.median(each.seconds or 0 for each in runs)
            print(f"{name:7} median {median:.1f} s; best: {min(runs, key=lambda each: each.seconds or 0)}; "
                  f"{runs[0].said}")  # fmt: skip


if __name__ == "__main__":
    main()
