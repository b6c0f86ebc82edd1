"""Predictions in `git ml diff`."""

import json
import re
from pathlib import Path
from typing import Any

from tests.end_to_end.project import Project, prepared

HEADER = "id,digit,sure,writer\n"
OLD = HEADER + "".join(
    f"{number},{number % 10 if number % 8 else 0},0.{90 - number % 7},{'ann' if number < 20 else 'bob'}\n"
    for number in range(40)
)
NEW = HEADER + "".join(
    f"{number},{number % 10 if number not in (5, 17, 30, 31) else 9},0.{80 + number % 9},"
    f"{'ann' if number < 20 else 'bob'}\n"
    for number in range(1, 41)
)
TRUTH = "id,truth\n" + "".join(f"{number},{number % 10}\n" for number in range(41))
SAID: dict[str, Any] = {
    "path": "out.csv", "id": "id", "prediction": "digit", "label": "truth", "labels": {"path": "truth.csv"},
    "score": "sure", "slices": ["writer"],
}  # fmt: skip


MARKDOWN = """\
### Predictions: guess/out.csv

39 examples in both: 8 predicted differently; 1 added; 1 removed · `examples by id` · 4 right → wrong, 4 wrong → right \
· accuracy 0.897436 → 0.897436, 95 % interval -0.154 to +0.154, McNemar p = 1: may be chance \
· mean score 0.870513 → 0.838462 (-0.03205)

| slice | examples | before | now | change |
| --- | --- | --- | --- | --- |
| `writer=***` | 20 | 0.9 | 0.9 |  |
| `writer=***` | 19 | 0.894737 | 0.894737 |  |

<details><summary>Predictions: guess/out.csv, largest regressions</summary>

| example | true | before | now | score before | now |
| --- | --- | --- | --- | --- | --- |
| `***` | `7` | `7` | `9` | 0.87 | 0.88 |
| `***` | `0` | `0` | `9` | 0.88 | 0.83 |
| `***` | `1` | `1` | `9` | 0.87 | 0.84 |
| `***` | `5` | `5` | `9` | 0.85 | 0.85 |

</details>
"""


def pipeline(**more: Any) -> str:
    return json.dumps(
        {
            "pipeline": {"name": "guess"},
            "transform": {"cmd": ["sh", "-c", "cp pfs/made/* pfs/out/"]},
            "input": {"pfs": {"repo": "made", "glob": "/"}},
            "predictions": [{**SAID, **more}],
        }
    )


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", pipeline())
    project.write("truth.csv", TRUTH)
    project.write("made/out.csv", OLD)
    commit(project, "one")
    project.write("made/out.csv", NEW)
    commit(project, "two")
    return project


def commit(project: Project, tag: str) -> None:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", tag)
    project.ml("run")
    project.git("tag", tag)


def test_in_the_terminal(project: Project) -> None:
    assert project.ml("diff", "one..two", "--only", "predictions").stdout.split("\n", 2)[2] == (
        """
Predictions: guess/out.csv
  39 examples in both: 8 predicted differently; 1 added; 1 removed
  examples by id
  4 right → wrong, 4 wrong → right
  accuracy 0.897436 → 0.897436, 95 % interval -0.154 to +0.154, McNemar p = 1: may be chance
  mean score 0.870513 → 0.838462 (-0.03205)
  slice       examples  before    now       change
  writer=bob  20        0.9       0.9
  writer=ann  19        0.894737  0.894737

Predictions: guess/out.csv, largest regressions
  example  true  before  now  score before  now
  17       7     7       9    0.87          0.88
  30       0     0       9    0.88          0.83
  31       1     1       9    0.87          0.84
  5        5     5       9    0.85          0.85
"""
    )


def test_as_markdown(project: Project) -> None:
    text = project.ml("diff", "one..two", "--only", "predictions", "--md", "--mask", "writer", "--mask", "id").stdout
    assert text.split("\n\n", 2)[2] == MARKDOWN
    assert "ann" not in text


def test_as_json(project: Project) -> None:
    (found,) = project.json("diff", "one..two")["predictions"]
    assert (found["stage"], found["path"], found["fresh"], found["problem"]) == ("guess", "guess/out.csv", True, None)
    diff = found["diff"]
    assert diff["schema"] == "gitml/prediction-diff/1"
    assert (diff["common"], diff["changed"], diff["broken"], diff["fixed"]) == (39, 8, 4, 4)
    assert project.json("diff", "one..two", "--only", "metrics")["predictions"] == []
    assert project.json("diff", "two..two")["predictions"] == []


def test_they_are_not_shown_row_by_row_as_well(project: Project) -> None:
    def tables(*arguments: str) -> list[str]:
        return [each["path"] for each in project.json("diff", *arguments)["tables"]]

    assert tables("one..two") == ["made/out.csv"]
    assert tables("one..two", "--only", "tables") == ["guess/out.csv", "made/out.csv"]
    # what could not be compared by example is still a table
    project.write("made/out.csv", "x,y\n1,2\n")
    commit(project, "three")
    assert tables("two..three") == ["guess/out.csv", "made/out.csv"]


def test_declaring_them_computes_nothing(project: Project) -> None:
    project.write("pipeline.json", pipeline(score=None, slices=[]))
    project.git("commit", "-q", "-am", "declare less")
    assert project.json("diff", "two..HEAD")["stages"] == []
    assert project.json("diff", "two..HEAD")["fresh"] is True


def test_each_side_is_as_it_declares_it(project: Project) -> None:
    project.write("made/out.csv", NEW.replace("digit", "guess"))
    project.write("pipeline.json", pipeline(prediction="guess"))
    commit(project, "three")
    (found,) = project.json("diff", "one..three")["predictions"]
    assert (found["diff"]["opaque"], found["diff"]["changed"]) == ("", 8)


def test_labels_that_changed(project: Project) -> None:
    project.write("truth.csv", TRUTH.replace("\n5,5\n", "\n5,9\n"))
    commit(project, "three")
    (found,) = project.json("diff", "two..three")["predictions"]
    assert (found["diff"]["changed"], found["diff"]["relabelled"]) == (0, 1)
    assert "labels of 1 example changed: the new ones judge both" in project.ml("diff", "two..three").stdout


def test_labels_that_came_later(project: Project) -> None:
    project.write("pipeline.json", pipeline(label=None, labels=None, slices=[], path="other.csv"))
    project.write("made/other.csv", OLD)
    (project.path / "truth.csv").unlink()
    commit(project, "three")
    project.write("pipeline.json", pipeline())
    project.write("truth.csv", TRUTH)
    project.write("made/out.csv", OLD)
    commit(project, "four")
    (found,) = project.json("diff", "three..four")["predictions"]
    assert (found["problem"], found["diff"]["opaque"], found["diff"]["warnings"]) == (None, "", [])
    assert (found["diff"]["kind"], found["diff"]["broken"], found["diff"]["fixed"]) == ("classes", 4, 4)
    assert {each["value"] for each in found["diff"]["slices"]} == {"ann", "bob"}


def test_stale_ones_are_marked(project: Project) -> None:
    project.write("made/extra.csv", "x\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "not computed")
    assert "stale: not those" in project.ml("diff", "one..HEAD", "--only", "predictions").stdout


def test_what_cannot_be_compared_is_said(project: Project) -> None:
    for content, why in (
        ("x,y\n1,2\n", "opaque: there is no column 'id' in the new version of guess/out.csv"),
        (b"\0\1" * 20, "opaque: new version of guess/out.csv: it is binary"),
        (None, "it is not among the results"),
    ):
        if content is None:
            project.git("mv", "made/out.csv", "made/other.csv")
        else:
            project.write("made/out.csv", content)
        project.git("add", "-A")
        project.git("commit", "-q", "-m", "change")
        project.ml("run")
        assert f"Predictions: guess/out.csv\n  {why}\n" in project.ml("diff", "one..HEAD").stdout
    (project.path / "made" / "other.csv").rename(project.path / "made" / "out.csv")
    project.write("made/out.csv", NEW)
    commit(project, "again")
    assert "nothing to compare with" in project.ml("diff", "HEAD~1^..again", "--only", "predictions").stdout


def test_hostile_names_and_cells(project: Project) -> None:
    evil = "\x1b[31m@everyone <script>"
    for tag, guess in (("four", "1"), ("five", evil)):
        project.write("made/out.csv", f"id,digit,sure,writer\n\x1b]0;x\x07,{guess},0.5,{evil}\n1,1,0.5,`|x\n")
        project.write("truth.csv", "id,truth\n\x1b]0;x\x07,1\n1,1\n")
        commit(project, tag)
    for more in ([], ["--md"]):
        said = project.ml("diff", "four..five", "--only", "predictions", *more).stdout
        assert "1 right → wrong" in said
        assert "\x1b" not in said
        assert "\x07" not in said
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", said.split("###")[1])
    assert "script" in said
    assert "script" not in outside
    assert "@" not in outside
