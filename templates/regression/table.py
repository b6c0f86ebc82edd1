"""Read and write the CSV files of this pipeline."""

import csv
from pathlib import Path

import numpy as np


def read(path):
    """Give the columns' names and the rows as numbers."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, np.array([[float(cell) for cell in row] for row in rows])


def write(path, header, rows):
    """Write one line per row, the same bytes for the same rows on every machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def files(folder):
    """The CSV files of a folder, in the order of their names."""
    return sorted(Path(folder).glob("*.csv"))


def examples(folder):
    """For each row of a folder its name, which stays when files are added (`a.csv:5` is the fifth row), and its file."""
    counts = {path.name: len(read(path)[1]) for path in files(folder)}
    return [(f"{name}:{row}", name) for name, count in counts.items() for row in range(1, count + 1)]
