"""Fit disease progression after one year: train.py TRAINING OUT

The same rows and parameters give the same bytes, so a run that was done before is never done again.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score

import plot
import table


def main(training, out):
    params = json.loads(Path("params.json").read_text())["model"]
    tables = [table.read(path) for path in table.files(training)]
    columns, rows = tables[0][0], np.concatenate([rows for _, rows in tables])
    progression, measurements = rows[:, 0], rows[:, 1:]

    # by position, not by chance: rows that are added later leave the split of the others as it is
    held_out = np.arange(len(rows)) % 5 == 4
    mean, scale = measurements[~held_out].mean(axis=0), measurements[~held_out].std(axis=0)
    model = Ridge(alpha=params["alpha"], solver="cholesky")
    model.fit((measurements[~held_out] - mean) / scale, progression[~held_out])

    truth, guess = progression[held_out], model.predict((measurements[held_out] - mean) / scale)
    metrics = {
        "r2": round(float(r2_score(truth, guess)), 4),
        "mean_absolute_error": round(float(mean_absolute_error(truth, guess)), 2),
        "rows": len(rows),
    }
    weights = model.coef_ / scale
    # a linear model is a few numbers: as text, `git diff` shows what training changed
    linear = {
        "intercept": round(float(model.intercept_ - mean @ weights), 6),
        "weights": {name: round(float(weight), 6) for name, weight in zip(columns[1:], weights, strict=True)},
    }
    Path(out, "model.json").write_text(json.dumps(linear, indent=2) + "\n")
    Path(out, "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    # what `git ml diff` compares example by example
    named = [example for example, held in zip(table.examples(training), held_out, strict=True) if held]
    rows_out = [
        (name, file, f"{true:g}", f"{found:.1f}")
        for (name, file), true, found in zip(named, truth, guess, strict=True)
    ]
    table.write(Path(out, "held_out.csv"), ["patient", "file", "truth", "progression"], rows_out)
    Path(out, "predicted.svg").write_text(plot.scatter(truth, guess))
    print(f"trained on {sum(~held_out)} rows, r2 {metrics['r2']} on {sum(held_out)} others")


if __name__ == "__main__":
    main(*sys.argv[1:])
