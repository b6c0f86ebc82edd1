"""Write the data of the templates and of the story from the data sets that scikit-learn carries.

Run once; the files are committed, so that `git ml init --template classification` needs no scikit-learn.
Rows keep the order of the data set: nothing is drawn at random.

Sources: "Optical recognition of handwritten digits" (Alpaydin and Kaynak, UCI, CC BY 4.0) and the diabetes
data of Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression" (2004).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sklearn.datasets import load_diabetes, load_digits

TOP = Path(__file__).resolve().parent.parent
TEMPLATES = TOP / "templates"
EXTRA = TOP / "demo" / "data"

DIGITS_TRAINING = {
    TEMPLATES / "classification/training/digits-1.csv": range(500),
    TEMPLATES / "classification/training/digits-2.csv": range(500, 1000),
    EXTRA / "training/digits-3.csv": range(1000, 1300),
    EXTRA / "training/digits-4.csv": range(1300, 1600),
}
DIGITS_INPUT = {
    TEMPLATES / "classification/input/batch-1.csv": range(1600, 1624),
    TEMPLATES / "classification/input/batch-2.csv": range(1624, 1648),
    TEMPLATES / "classification/input/batch-3.csv": range(1648, 1672),
    EXTRA / "input/batch-4.csv": range(1672, 1696),
    EXTRA / "input/batch-5.csv": range(1696, 1720),
    EXTRA / "input/batch-6.csv": range(1720, 1744),
}
DIABETES_TRAINING = {
    TEMPLATES / "regression/training/patients-1.csv": range(200),
    TEMPLATES / "regression/training/patients-2.csv": range(200, 400),
}
DIABETES_INPUT = {
    TEMPLATES / "regression/input/clinic-1.csv": range(400, 414),
    TEMPLATES / "regression/input/clinic-2.csv": range(414, 428),
    TEMPLATES / "regression/input/clinic-3.csv": range(428, 442),
}


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    """Write a CSV file with the shortest decimal text of each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(header), *(",".join(f"{value:g}" for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write every file."""
    digits = load_digits()
    pixels = [f"r{index // 8}c{index % 8}" for index in range(64)]
    for path, chosen in DIGITS_TRAINING.items():
        write(path, ["digit", *pixels], ([digits.target[row], *digits.data[row]] for row in chosen))
    for path, chosen in DIGITS_INPUT.items():
        write(path, pixels, (digits.data[row] for row in chosen))

    diabetes = load_diabetes(scaled=False)
    for path, chosen in DIABETES_TRAINING.items():
        write(
            path,
            ["progression", *diabetes.feature_names],
            ([diabetes.target[row], *diabetes.data[row]] for row in chosen),
        )
    for path, chosen in DIABETES_INPUT.items():
        write(path, diabetes.feature_names, (diabetes.data[row] for row in chosen))


if __name__ == "__main__":
    main()
