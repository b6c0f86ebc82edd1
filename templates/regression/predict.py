"""Predict disease progression for every file in INPUT: predict.py INPUT MODEL OUT

A stage with the glob /* sees one file of input/ at a time; this script does not care how many there are.
"""

import json
import sys
from pathlib import Path

import table


def main(inputs, models, out):
    model = json.loads(Path(models, "model.json").read_text())
    for path in table.files(inputs):
        columns, measurements = table.read(path)
        progression = model["intercept"] + measurements @ [model["weights"][name] for name in columns]
        predictions = [(row, f"{value:.1f}") for row, value in enumerate(progression, start=1)]
        table.write(Path(out, path.name), ["row", "progression"], predictions)
        print(f"{path.name}: {len(predictions)} patients")


if __name__ == "__main__":
    main(*sys.argv[1:])
