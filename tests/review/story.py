"""A change of real data and a real model that a reviewer has to look at twice; docs/review.md walks through it.

Customers leave or stay. The export of October has the months of one region as years, and customers whose answers are
kept for testing. A forest of scikit-learn learns from it: it uses no BLAS, so its numbers are those of any machine.
"""

import json
import random
from pathlib import Path

from tests.end_to_end.project import Project

DATE = 1_790_000_000
"""When the first commit was made."""
REGIONS = ("north", "east", "south", "west")
BRANCH = "october"
ENVIRONMENT = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "Ada"),
        ("EMAIL", "ada@example.org"),
        ("DATE", f"{DATE + 86_400 * 20} +0000"),
    )
}
"""Who does it all, and when the reviewer looks."""

PIPELINE = {
    "stages": [
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["python3", "train.py"], "env": {"OMP_NUM_THREADS": "1"}},
            "input": {"pfs": {"repo": "customers", "glob": "/"}},
            "params": ["params.json:model"],
            "metrics": [
                {"path": "metrics.json", "name": "accuracy", "goal": "max", "tolerance": 0.005, "gate": {"min": 0.9}},
                {"path": "metrics.json", "name": "recall", "goal": "max", "tolerance": 0.01},
            ],
            "predictions": [
                {
                    "path": "test.csv", "id": "customer", "prediction": "predicted", "label": "left",
                    "score": "sure", "slices": ["region"],
                }
            ],
            "plots": [{"path": "trees.csv", "x": "trees", "y": ["accuracy"], "title": "Accuracy as trees are added"}],
            "leakage": [{"train": "customers/train.csv", "test": "customers/test.csv", "columns": ["customer"]}],
            "datum_tries": 1,
        },
        {
            "pipeline": {"name": "scores"},
            "transform": {"cmd": ["python3", "score.py"]},
            "input": {"cross": [{"pfs": {"repo": "inbox", "glob": "/*"}}, {"pfs": {"repo": "model", "glob": "/"}}]},
            "datum_tries": 1,
        },
    ]
}  # fmt: skip
FEATURES = """\
import csv

REGIONS = ["north", "east", "south", "west"]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def features(rows):
    return [[REGIONS.index(row["region"]), *(int(row[name]) for name in ("age", "months", "calls"))] for row in rows]


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\\n").writerows([header, *rows])
"""
TRAIN = """\
import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, recall_score

from table import features, read, write

out = Path("pfs/out")
train, test = read("pfs/customers/train.csv"), read("pfs/customers/test.csv")
params = json.loads(Path("params.json").read_text())["model"]
model = RandomForestClassifier(params["trees"], min_samples_leaf=params["leaf"], random_state=0)
model.fit(features(train), [row["left"] for row in train])

each = np.array([tree.predict_proba(features(test)) for tree in model.estimators_])
shares = each.mean(axis=0)
truth = [row["left"] for row in test]
predicted = model.classes_[shares.argmax(axis=1)]
metrics = {"accuracy": accuracy_score(truth, predicted), "recall": recall_score(truth, predicted, pos_label="yes")}
(out / "metrics.json").write_text(json.dumps({name: round(value, 4) for name, value in metrics.items()}))
write(
    out / "test.csv", ["customer", "region", "left", "predicted", "sure"],
    [
        (row["customer"], row["region"], row["left"], guess, f"{share.max():.2f}")
        for row, guess, share in zip(test, predicted, shares)
    ],
)
sums = each.cumsum(axis=0)
write(
    out / "trees.csv", ["trees", "accuracy"],
    [
        (number, f"{accuracy_score(truth, model.classes_[votes.argmax(axis=1)]):.4f}")
        for number, votes in enumerate(sums, start=1)
    ],
)
joblib.dump(model, out / "model.joblib")
"""
SCORE = """\
from pathlib import Path

import joblib

from table import features, read, write

model = joblib.load("pfs/model/model.joblib")
for path in sorted(Path("pfs/inbox").iterdir()):
    rows = read(path)
    chances = model.predict_proba(features(rows))[:, list(model.classes_).index("yes")]
    write(
        Path("pfs/out", path.name), ["customer", "leaves"],
        [(row["customer"], f"{chance:.2f}") for row, chance in zip(rows, chances)],
    )
"""
_HEADER = "customer,region,age,months,calls,left"


def customers(first: int, last: int, *, wrong: str = "") -> list[str]:
    """Customers with these numbers, one line each; of the region `wrong`, months are years."""
    lines = []
    for number in range(first, last):
        chance = random.Random(number)
        region, age = REGIONS[number % 4], 18 + int(chance.random() * 60)
        months, calls = 1 + int(chance.random() * 72), int(chance.random() * 9)
        # where customers stay longer before they know that they are content
        leaves = (months < (50 if region == "south" else 20) and calls > 2) or calls > 6
        if chance.random() < 0.06:
            leaves = not leaves
        shown = months // 12 if region == wrong else months
        lines.append(f"{number},{region},{age},{shown},{calls},{'yes' if leaves else 'no'}")
    return lines


def make_story(path: Path) -> Project:
    """Make the repository: two results on main, and the branch of the pull request with a result of its own."""
    path.mkdir(parents=True, exist_ok=True)
    project = Project(path)
    project.git("init", "-q", "-b", "main")
    project.write("pipeline.json", json.dumps(PIPELINE, indent=2))
    project.write("table.py", FEATURES)
    project.write("train.py", TRAIN)
    project.write("score.py", SCORE)
    project.write("customers/test.csv", _table(customers(10_000, 10_300)))
    project.write("inbox/monday.csv", _table(customers(20_000, 20_020)))
    _params(project, trees=15)
    project.write("customers/train.csv", _table(customers(1000, 1500)))
    _commit(project, 0, "customers of September")
    _params(project, trees=40)
    _commit(project, 1, "more trees")
    project.git("switch", "-q", "-c", BRANCH)
    project.write("customers/train.csv", _table([*customers(1000, 1600, wrong="south"), *customers(10_000, 10_020)]))
    _commit(project, 2, "customers of October")
    project.git("switch", "-q", "main")
    return project


def _params(project: Project, *, trees: int) -> None:
    project.write("params.json", json.dumps({"model": {"leaf": 5, "trees": trees}}, indent=2) + "\n")


def _table(lines: list[str]) -> str:
    return "\n".join([_HEADER, *lines, ""])


def _commit(project: Project, number: int, subject: str) -> None:
    when = f"{DATE + 86_400 * 3 * number} +0000"
    environment = {**ENVIRONMENT, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    project.git("add", "-A")
    for command in (["git", "commit", "-q", "-m", subject], ["git", "ml", "run"]):
        project.run(*command, extra=environment)
