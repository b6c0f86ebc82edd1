"""Train a small neural network to read digits: train.py TRAINING OUT

The same rows and parameters give the same bytes, so a run that was done before is never done again.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from sklearn.neural_network import MLPClassifier

import plot
import table


def main(training, out):
    params = json.loads(Path("params.json").read_text())["model"]
    rows = np.concatenate([table.read(path)[1] for path in table.files(training)])
    digits, pixels = rows[:, 0].astype(int), rows[:, 1:]

    # by position, not by chance: rows that are added later leave the split of the others as it is
    held_out = np.arange(len(rows)) % 5 == 4
    model = MLPClassifier(
        hidden_layer_sizes=[params["hidden"]],
        alpha=params["alpha"],
        learning_rate_init=params["learning_rate"],
        max_iter=params["epochs"],
        tol=0,
        random_state=0,
    )
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # the number of epochs is meant
        model.fit(pixels[~held_out] / table.WHITE, digits[~held_out])

    truth, guess = digits[held_out], model.predict(pixels[held_out] / table.WHITE)
    metrics = {
        "accuracy": round(float(accuracy_score(truth, guess)), 4),
        "f1": round(float(f1_score(truth, guess, average="macro")), 4),
        "rows": len(rows),
    }
    # arrays only: whoever loads this file runs no code of it, and prediction needs no scikit-learn
    (inner, outer), (inner_bias, outer_bias) = model.coefs_, model.intercepts_
    np.savez(Path(out, "model.npz"), inner=inner, inner_bias=inner_bias, outer=outer, outer_bias=outer_bias)
    Path(out, "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    # what `git ml diff` compares example by example, and draws
    named = [example for example, held in zip(table.examples(training), held_out, strict=True) if held]
    sure = model.predict_proba(pixels[held_out] / table.WHITE).max(axis=1)
    rows_out = [
        (name, file, digit, found, f"{chance:.3f}")
        for (name, file), digit, found, chance in zip(named, truth, guess, sure, strict=True)
    ]
    table.write(Path(out, "held_out.csv"), ["example", "file", "truth", "digit", "confidence"], rows_out)
    losses = [(epoch, f"{loss:.4f}") for epoch, loss in enumerate(model.loss_curve_, start=1)]
    table.write(Path(out, "loss.csv"), ["epoch", "loss"], losses)
    Path(out, "confusion.svg").write_text(plot.confusion(confusion_matrix(truth, guess, labels=range(10))))
    print(f"trained on {sum(~held_out)} rows, accuracy {metrics['accuracy']} on {sum(held_out)} others")


if __name__ == "__main__":
    main(*sys.argv[1:])
