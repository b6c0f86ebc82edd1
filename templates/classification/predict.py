"""Read the digits of every file in INPUT: predict.py INPUT MODEL OUT

A stage with the glob /* sees one file of input/ at a time; this script does not care how many there are.
"""

import sys
from pathlib import Path

import numpy as np

import table


def probabilities(model, pixels):
    """One row per image, one column per digit."""
    hidden = np.maximum(pixels / table.WHITE @ model["inner"] + model["inner_bias"], 0)
    scores = hidden @ model["outer"] + model["outer_bias"]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def main(inputs, models, out):
    model = np.load(Path(models, "model.npz"))
    for path in table.files(inputs):
        _, pixels = table.read(path)
        chances = probabilities(model, pixels)
        predictions = [(row, chance.argmax(), f"{chance.max():.3f}") for row, chance in enumerate(chances, start=1)]
        table.write(Path(out, path.name), ["row", "digit", "confidence"], predictions)
        print(f"{path.name}: {len(predictions)} digits, least confidence {chances.max(axis=1).min():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
