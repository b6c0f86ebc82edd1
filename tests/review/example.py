"""A project with a history that is worth a page: seven stages, six results, one change that made things worse."""

import json
from pathlib import Path
from typing import Any

from tests.end_to_end.project import Project

DATE = 1_790_000_000
"""When its first commit was made."""


def _stage(name: str, command: str, inputs: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    leaves = [{"pfs": {"repo": repo, "glob": glob}} for repo, glob in inputs]
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": command.split() if command.endswith((".py", ".sh")) else ["sh", "-c", command]},
        "input": leaves[0] if len(leaves) == 1 else {"cross": leaves},
        "datum_tries": 1,
        **more,
    }


_EVALUATE = """
set -e
read -r accuracy loss f1 < pfs/model/scores
printf '{"accuracy": %s, "log_loss": %s, "f1": %s, "rows": %d}\\n' "$accuracy" "$loss" "$f1" \
    "$(wc -l < pfs/clean/customers.csv)" > pfs/out/metrics.json
"""
_PREDICT = """
for file in pfs/inbox/*; do
  echo "reading $file"
  grep -q , "$file" || { echo "$file: line 1: no comma in: $(head -n 1 "$file")"; exit 1; }
  cp "$file" pfs/out/
done
"""
_METRICS = [
    {"path": "metrics.json", "name": "accuracy", "goal": "max", "tolerance": 0.002, "gate": {"min": 0.9}},
    {"path": "metrics.json", "name": "f1", "goal": "max"},
    {"path": "metrics.json", "name": "log_loss", "goal": "min", "tolerance": 0.005},
    "metrics.json",
]
PIPELINE = {
    "stages": [
        _stage("clean", "cat pfs/customers/* > pfs/out/customers.csv", [("customers", "/")]),
        _stage("features", "cut -d, -f1,3 pfs/clean/customers.csv > pfs/out/features.csv", [("clean", "/")]),
        _stage("model", "python3 train.py", [("features", "/"), ("labels", "/")], params=["params.json:train"]),
        _stage("evaluate", "sh evaluate.sh", [("model", "/"), ("clean", "/")], metrics=_METRICS),
        _stage("predict", "sh predict.sh", [("inbox", "/*"), ("model", "/")]),
        _stage("calibration", "cp pfs/evaluate/metrics.json pfs/out/", [("evaluate", "/")]),
        _stage(
            "dashboard", "cat pfs/evaluate/* pfs/predict/* > pfs/out/dashboard.txt",
            [("evaluate", "/"), ("predict", "/")],
        ),
    ]
}  # fmt: skip
_TRAIN = """
import json
from pathlib import Path

import numpy

train = json.loads(Path("pfs/params.json" if Path("pfs/params.json").exists() else "params.json").read_text())["train"]
rng = numpy.random.default_rng(7)
weights = rng.normal(size=(64, 32)) * (1 + train["alpha"])
numpy.savez("pfs/out/model.npz", weights=weights, bias=numpy.full(32, train["alpha"]), classes=numpy.arange(2))
Path("pfs/out/scores").write_text(" ".join(map(str, train["scores"])) + "\\n")
"""
_RESULTS = [
    ("baseline", 0.001, [0.908, 0.312, 0.889]),
    ("twice as many trees", 0.001, [0.931, 0.274, 0.915]),
    ("features of the last month", 0.002, [0.937, 0.262, 0.921]),
    ("early stopping", 0.002, [0.934, 0.265, 0.919]),
    ("class weights", 0.004, [0.952, 0.221, 0.944]),
]
_LAST = ("stronger regularisation", 3.0, [0.896, 0.334, 0.9405])


def make_example(path: Path) -> Project:
    """Make the project; its last change breaks a gate and leaves a stage that failed."""
    path.mkdir(parents=True, exist_ok=True)
    project = Project(path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE, indent=2))
    project.write("train.py", _TRAIN)
    project.write("evaluate.sh", _EVALUATE)
    project.write("predict.sh", _PREDICT)
    project.write("labels/churned.csv", "".join(f"{number},{number % 2}\n" for number in range(40)))
    project.write("inbox/monday.csv", "1,red\n")
    project.write("inbox/tuesday.csv", "2,blue\n")
    for number, (subject, alpha, scores) in enumerate(_RESULTS):
        _write(project, number, alpha, scores)
        _commit(project, number, subject)
    _write(project, len(_RESULTS), _LAST[1], _LAST[2])
    project.write("inbox/wednesday.csv", "a word <script>alert('nobody')</script>\n")
    project.write("inbox/thursday.csv", "another\n")
    _commit(project, len(_RESULTS), _LAST[0])
    return project


def _write(project: Project, number: int, alpha: float, scores: list[float]) -> None:
    train = {"alpha": alpha, "trees": 100 if number == 0 else 200, "scores": scores}
    project.write("params.json", json.dumps({"train": train}, indent=2))
    rows = [f"{each},{30 + each % 9},{['red', 'green', 'blue'][each % 3]}\n" for each in range(40 + 5 * number)]
    project.write("customers/part.csv", "".join(["id,age,colour\n", *rows]))


def _commit(project: Project, number: int, subject: str) -> None:
    when = f"{DATE + 86_400 * 3 * number} +0000"
    project.git("add", "-A")
    project.git("commit", "-q", "-m", subject, GIT_AUTHOR_DATE=when, GIT_COMMITTER_DATE=when)
    project.ml("run", check=False, GIT_AUTHOR_DATE=when, GIT_COMMITTER_DATE=when)
