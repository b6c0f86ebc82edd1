"""`git ml log`: a metric over the commits, with what changed each time."""

import csv
import io
import json
import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gitml.review.terminalplot import plot
from tests.end_to_end.project import TWO_STAGES, Project, prepared, small_project


@prepared
def project(tmp_path: Path) -> Project:
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"][0]["params"] = ["params.json:alpha"]
    pipeline["stages"][0]["metrics"] = [
        "metrics.json", {"path": "metrics.json", "name": "rows", "goal": "max", "gate": {"min": 2}}
    ]  # fmt: skip
    project = small_project(tmp_path / "project", pipeline)
    project.write("params.json", '{"alpha": 1}\n')
    project.commit("=start")
    project.write("training/b.csv", "5\n6\n")
    project.commit("more training")
    project.write("params.json", '{"alpha": 2}\n')
    project.write("training/b.csv", "5\n")
    project.commit("alpha and less")
    return project


def test_what_changed_with_each_result(project: Project) -> None:
    lines = project.ml("log", "model").stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[2:]] == [
        "alpha and less: input 'training' changed; parameter 'params.json:alpha' 1 → 2",
        "more training: input 'training' changed",
        "=start",
    ]
    assert "3 ▼ worse" in lines[2]
    assert "4 ▲ better" in lines[3]
    [stage] = json.loads(project.ml("log", "model", "--json").stdout)["stages"]
    assert [result["changed"] for result in stage["results"]] == [
        ["input 'training' changed", "parameter 'params.json:alpha' 1 → 2"],
        ["input 'training' changed"],
        [],
    ]


def test_the_oldest_of_a_few_is_compared_too(project: Project) -> None:
    whole = json.loads(project.ml("log", "model", "--json").stdout)["stages"][0]["results"]
    for number in (1, 2, 3):
        [stage] = json.loads(project.ml("log", "model", "-n", str(number), "--json").stdout)["stages"]
        assert stage["results"] == whole[:number]
    assert "3 ▼ worse" in project.ml("log", "model", "-n", "1").stdout.splitlines()[2]
    lines = project.ml("log", "model", "-n", "1", "--graph").stdout.splitlines()
    assert "3 ▼ worse" in lines[2]
    assert len(lines) == 3


def test_a_result_that_was_reverted(project: Project) -> None:
    [result] = project.git("log", "-1", "--format=%h", "--abbrev=7").split()
    project.ml("undo")
    said = f"reverts {result}, the result of 'alpha and less'"
    [stage] = json.loads(project.ml("log", "model", "-n", "1", "--json").stdout)["stages"]
    assert [entry["changed"] for entry in stage["results"]] == [[said]]
    first = project.ml("log", "model").stdout.splitlines()[2]
    assert first.endswith(f'Revert "gitml: update model, inference": {said}')
    assert "4 ▲ better" in first


def test_a_run_for_several_commits_names_those_that_did_it(project: Project) -> None:
    project.git("config", "ml.auto", "false")
    for subject, file, text in [
        ("less alpha", "params.json", '{"alpha": 1}\n'),
        ("a note", "NOTES", "nothing that a stage reads\n"),
        ("other rows", "training/b.csv", "8\n"),
    ]:
        project.write(file, text)
        project.commit(subject, wait=False)
    project.ml("run")

    def because(stage: str) -> str:
        return project.ml("log", stage, "-n", "1").stdout.splitlines()[2].split("  ")[-1].strip()

    assert because("model").startswith("other rows, less alpha: input 'training' changed; parameter")
    # the model is what a stage made, so any of these may have changed it
    assert because("inference") == "other rows, a note, less alpha: input 'model' changed"
    [stage] = json.loads(project.ml("log", "inference", "--json").stdout)["stages"]
    assert stage["results"][0]["source"] == "other rows, a note, less alpha"
    project.write("params.json", '{"alpha": 5}\n')
    project.commit("five", wait=False)
    project.write("training/b.csv", "9\n9\n")
    project.commit("nines", wait=False)
    project.ml("run")
    assert because("model").startswith("nines, five: input 'training' changed; parameter")
    project.git("revert", "--no-edit", "HEAD")
    assert because("model").endswith("the result of 'nines, five'")


def test_a_metric_instead_of_a_stage(project: Project) -> None:
    said = project.ml("log", "rows").stdout
    assert said.splitlines()[0] == "model"
    assert "inference" not in said
    assert said == project.ml("log", "--metric", "rows").stdout
    done = project.ml("log", "nothing", check=False)
    assert done.returncode == 128
    assert "no stage or metric 'nothing'" in done.stderr


def test_a_table_for_spreadsheets(project: Project) -> None:
    rows = list(csv.reader(io.StringIO(project.ml("log", "--csv").stdout)))
    assert rows[0] == ["stage", "commit", "time", "because of", "changed", "rows"]
    assert [(row[0], row[5]) for row in rows[1:] if row[0] == "model"] == [
        ("model", "3.0"), ("model", "4.0"), ("model", "2.0")
    ]  # fmt: skip
    assert rows[3][3] == "'=start"
    assert all(row[5] == "" for row in rows if row[0] == "inference")


def test_a_plot(project: Project) -> None:
    lines = project.ml("log", "rows", "--plot").stdout.splitlines()
    assert lines[0] == "model: rows ▲"
    assert lines[1].startswith("4 ")
    assert lines[8].startswith("2 ")
    assert lines[9].startswith("3 results, ")
    assert lines[9].endswith("now 3")
    plain = project.ml("log", "rows", "--plot", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii").stdout
    assert plain.isascii()
    assert plain.count("*") == 3
    done = project.ml("log", "inference", "--plot", check=False)
    assert done.returncode == 128
    assert "no result has a metric" in done.stderr


def test_branches_and_merges(project: Project) -> None:
    project.git("checkout", "-q", "-b", "side", "HEAD~2")
    project.write("params.json", '{"alpha": 7}\n')
    project.commit("on the side")
    project.git("checkout", "-q", "main")
    project.git("merge", "-q", "-X", "ours", "-m", "merged", "side")
    project.ml("run")
    lines = project.ml("log", "model", "--graph").stdout.splitlines()
    real = project.git(
        "log", "--graph", "--simplify-merges", "--format=%h", "--", ".gitml/records/model.json"
    ).splitlines()
    # the lines and marks are those of git
    shown = [line[2:] for line in lines[2:]]
    assert len(shown) == len(real)
    for ours, theirs in zip(shown, real, strict=True):
        marks = theirs[: len(theirs) - 7] if theirs[-7:].isalnum() else theirs
        assert ours.startswith(marks.rstrip())
    assert any("|" in line for line in shown)
    assert "on the side: parameter" in "\n".join(shown)


def test_a_shallow_clone_says_so(project: Project, tmp_path: Path) -> None:
    project.git("clone", "-q", "--depth", "1", f"file://{project.path}", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    done = clone.ml("log", "model")
    assert "this clone is shallow" in done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert "shallow" not in project.ml("log").stderr


def test_one_form_at_a_time(project: Project) -> None:
    done = project.ml("log", "--plot", "--csv", check=False)
    assert done.returncode == 128
    assert "one or the other" in done.stderr


def test_a_plot_is_pinned() -> None:
    assert plot([1, 2, 3, 2, 1], width=12, height=2) == "3 ⠀⠀⠀⡠⠔⠑⢄\n1 ⡠⠔⠊⠀⠀⠀⠀⠑⠢⢄"
    assert plot([0.0, 1.0], width=12, height=3, plain=True) == "1          *\n\n0 *"
    assert plot([5.0], width=12, height=1, plain=True) == "5 *"
    assert plot([math.nan], width=12, height=3) == "no finite value"
    assert plot([0.0, 4.0], width=12, height=3, gate=2.0, plain=True) == "4          *\n  -  -  -  -\n0 *"


@given(
    st.lists(st.floats(), min_size=1, max_size=300), st.integers(1, 200), st.integers(1, 20), st.booleans(),
    st.none() | st.floats(),
)  # fmt: skip
def test_a_plot_stays_in_its_box(values: list[float], width: int, height: int, plain: bool, gate: float | None) -> None:
    lines = plot(values, width=width, height=height, plain=plain, gate=gate).split("\n")
    if lines == ["no finite value"]:
        assert not any(map(math.isfinite, values))
        return
    assert len(lines) == height
    # the labels and a little to draw in may be wider than what is asked for
    assert max(map(len, lines)) <= max(width, 24) + 1
    assert any(line.strip(" 0123456789.e+-") for line in lines)


def test_a_stage_that_got_another_name_is_followed(tmp_path: Path) -> None:
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"] = pipeline["stages"][:1]
    [stage] = pipeline["stages"]
    project = small_project(tmp_path / "project", pipeline)
    project.commit("start")
    # another one with an empty output: what is empty tells nothing
    empty = {**stage, "pipeline": {"name": "empty"}, "transform": {"cmd": ["true"]}, "metrics": []}
    project.write("training/b.csv", "5\n6\n")
    project.write("pipeline.json", json.dumps({"stages": [stage, empty]}))
    project.commit("more")
    stage["pipeline"]["name"] = "classifier"
    empty["pipeline"]["name"] = "void"
    project.write("pipeline.json", json.dumps({"stages": [stage, {**empty, "transform": {"cmd": ["true", "x"]}}]}))
    project.commit("rename")
    stage["output"] = "models/best"
    project.write("training/b.csv", "5\n")
    project.write("pipeline.json", json.dumps({"stages": [stage]}))
    project.commit("output")
    # a copy has the same output, but what it was copied from is still there
    copy = {**stage, "pipeline": {"name": "copy"}, "output": "copy"}
    project.write("pipeline.json", json.dumps({"stages": [stage, copy]}))
    project.commit("copy")

    lines = project.ml("log", "classifier").stdout.splitlines()
    told = [line.split("  ")[-1].strip() for line in lines[2:]]
    assert told == [
        "output: input 'training' changed",
        "rename: 'model' is called 'classifier' now",
        "more: input 'training' changed",
        "start",
    ]
    [found] = json.loads(project.ml("log", "classifier", "--json").stdout)["stages"]
    assert [each["stage"] for each in found["results"]] == ["classifier", "classifier", "model", "model"]
    assert [each["metrics"]["rows"] for each in found["results"]] == [3, 4, 4, 2]
    assert len(project.ml("log", "classifier", "-n", "3").stdout.splitlines()) == 5
    assert project.ml("log", "classifier", "--graph").stdout.count("* ") == 4
    assert len(project.ml("log", "copy").stdout.splitlines()) == 3
    gone = project.head("HEAD~4")
    assert len(project.ml("log", "void", "--rev", gone).stdout.splitlines()) == 3
