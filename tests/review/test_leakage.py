"""Rows that are trained and tested on, in `git ml diff`."""

import json
from pathlib import Path
from typing import Any

from tests.end_to_end.project import Project, prepared


def pipeline(*pairs: dict[str, Any]) -> str:
    return json.dumps(
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "-c", "cp pfs/data/test.csv pfs/out/held.csv"]},
            "input": {"pfs": {"repo": "data", "glob": "/"}},
            "leakage": pairs,
        }
    )


DATA = {"train": "data/train.csv", "test": "data/test.csv"}
MADE = {"train": "data/train.csv", "test": "model/held.csv", "columns": ["text"]}


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", pipeline(DATA, MADE))
    project.write("data/train.csv", "text,label\na,1\nb,2\nc,3\n")
    project.write("data/test.csv", "text,label\nx,1\ny,2\nc,9\n")
    commit(project, "one")
    project.write("data/test.csv", "text,label\nx,1\nb,2\nc,9\n")
    commit(project, "two")
    return project


def commit(project: Project, tag: str) -> None:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", tag)
    project.ml("run")
    project.git("tag", tag)


def test_both_sides(project: Project) -> None:
    one, two = project.json("diff", "one..two")["leakage"]
    assert (one["train"], one["test"]) == ("data/train.csv", "data/test.csv")
    assert (one["old"]["shared"], one["new"]["shared"], one["new"]["rows"]) == (0, 1, [3, 3])
    assert one["new"]["sample"] == [{"text": "b", "label": "2"}]
    assert (two["old"]["shared"], two["new"]["shared"], two["new"]["columns"]) == (1, 2, ["text"])
    assert project.json("diff", "one..two", "--only", "metrics")["leakage"] == []
    assert project.json("diff", "two..two")["leakage"] == []


def test_in_words(project: Project) -> None:
    said = project.ml("diff", "one..two", "--only", "tables").stdout.split("\n", 3)[3]
    assert said.startswith("""\
Leakage: rows to test on that are trained on
  train           test            before           now
  data/train.csv  data/test.csv   0 of 3 (0 %)     1 of 3 (33.3 %)
  data/train.csv  model/held.csv  1 of 3 (33.3 %)  2 of 3 (66.7 %)

Leakage: data/test.csv, some rows that are in data/train.csv
  = text=b, label=2
""")
    text = project.ml("diff", "one..two", "--only", "tables", "--md").stdout
    assert "| `data/train.csv` | `data/test.csv` | 0 of 3 (0 %) | ❌ 1 of 3 (33.3 %) |" in text
    assert "✅ 0 of 3 (0 %)" in project.ml("diff", "two..one", "--only", "tables", "--md").stdout
    masked = project.ml("diff", "one..two", "--only", "tables", "--mask", "text").stdout
    assert "= text=***, label=2" in masked


def test_a_pair_that_is_declared_newly(project: Project) -> None:
    project.write("pipeline.json", pipeline(DATA))
    project.git("commit", "-q", "-am", "less")
    assert project.json("diff", "two..HEAD")["leakage"] == []
    assert project.json("diff", "two..HEAD")["fresh"] is True
    (again,) = project.json("diff", "HEAD..two")["leakage"]
    assert again["test"] == "model/held.csv"


def test_what_cannot_be_compared_is_said(project: Project) -> None:
    project.write("data/test.csv", b"\0\1" * 30)
    commit(project, "three")
    said = project.ml("diff", "two..three", "--only", "tables").stdout
    assert "1 of 3 (33.3 %)  opaque: it is binary" in said
    assert "2 of 3 (66.7 %)  opaque: it is binary" in said
