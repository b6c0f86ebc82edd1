"""Models in `git ml diff` and in plain `git diff`: parsed, never loaded."""

import os
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from gitml.formats.compare import ModelDiff, TensorChange
from gitml.formats.summary import Summary
from gitml.review.words.models import _rows
from tests.end_to_end.project import Project, prepared
from tests.formats.test_hostile import Reduced

X = np.random.default_rng(0).normal(size=(2000, 30))
Y = (X[:, 0] > 0).astype(int)


def model(strength: float) -> Any:
    found = LogisticRegression(C=strength).fit(X, Y)
    found.seen_ = X  # so that it is large enough for a pointer
    return found


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.ml("install")
    project.ml("track", "models")
    (tmp_path / "models").mkdir()
    joblib.dump(model(1.0), tmp_path / "models/large.joblib")
    np.save(tmp_path / "models/small.npy", X[:10])
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    joblib.dump(model(3.0), tmp_path / "models/large.joblib")
    np.save(tmp_path / "models/small.npy", X[:10] + 0.5)
    return project


def commit(project: Project, message: str = "two") -> None:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", message)


def test_what_changed_in_a_model(project: Project) -> None:
    commit(project)
    found = project.json("diff", "HEAD~1..HEAD")
    models = {each["path"]: each["diff"] for each in found["models"]}
    assert set(models) == {"models/large.joblib", "models/small.npy"}
    assert models["models/large.joblib"]["parameters"] == {"C": [1.0, 3.0]}
    assert {each["name"] for each in models["models/large.joblib"]["tensors"]} >= {"coef_", "intercept_"}
    assert models["models/large.joblib"]["same"] >= 2
    (change,) = models["models/small.npy"]["tensors"]
    assert change["largest"] == pytest.approx(0.5)
    said = project.ml("diff", "HEAD~1..HEAD").stdout
    assert "Model: models/large.joblib" in said
    assert "sklearn.linear_model._logistic.LogisticRegression" in said
    assert [line.split() for line in said.splitlines() if line.lstrip().startswith("parameter")] == [
        ["parameter", "C", "1.0", "3.0"]
    ]
    assert project.json("diff", "HEAD~1..HEAD", "--only", "metrics")["models"] == []


def test_numbers_that_are_none(project: Project) -> None:
    np.save(project.path / "models/small.npy", np.where(X[:10] > 2, np.nan, X[:10]))
    commit(project)
    count = np.count_nonzero(X[:10] > 2)
    assert f"changed: {count} numbers NaN or infinite" in project.ml("diff", "HEAD~1..HEAD").stdout


def test_new_and_opaque_models(project: Project) -> None:
    commit(project)
    joblib.dump(model(1.0), project.path / "models/new.joblib")
    project.write("models/broken.onnx", b"\x3a\xff\xff\xff\xff\x0f" + os.urandom(200))
    commit(project, "three")
    found = {each["path"]: each["diff"] for each in project.json("diff", "HEAD~1..HEAD")["models"]}
    assert found["models/new.joblib"]["old"]["opaque"] == "not there"
    assert found["models/new.joblib"]["new"]["parameters"]["C"] == 1.0
    assert found["models/broken.onnx"]["new"]["opaque"] != ""
    assert "opaque: " in project.ml("diff", "HEAD~1..HEAD").stdout


def test_a_model_that_would_run_code(project: Project) -> None:
    marker = project.path / "marker"
    commit(project)
    attack = model(3.0)
    attack.note_ = Reduced(os.system, f"touch {marker}")
    (project.path / "models/large.joblib").write_bytes(pickle.dumps(attack))
    commit(project, "innocent")
    done = project.ml("diff", "HEAD~1..HEAD", "--md")
    assert "❌ `loading it uses posix.system`" in done.stdout
    project.git("show", "HEAD")
    assert not marker.exists()


def test_a_broken_pickle_that_would_run_code(project: Project) -> None:
    commit(project)
    broken = pickle.dumps([Reduced(os.system, "true"), bytes(5000)])[:-1] + b"\xff"
    (project.path / "models/large.joblib").write_bytes(broken)
    commit(project, "broken")
    done = project.ml("diff", "HEAD~1..HEAD", "--md")
    assert "opaque: " in done.stdout
    assert "❌ `loading it uses posix.system`" in done.stdout
    assert "+warning: loading it uses posix.system" in project.git("show", "HEAD")


def test_warnings_are_counted_where_not_all_are_shown(project: Project) -> None:
    commit(project)
    names = b"".join(b"codd\nn%02d\n0" % number for number in range(13))
    data = pickle.dumps(bytes(5000))
    (project.path / "models/large.joblib").write_bytes(data[:2] + names + data[2:])
    commit(project, "odd")
    said = project.ml("diff", "HEAD~1..HEAD").stdout
    assert said.count("loading it uses odd.n") == 10
    assert "and 3 more warnings" in said


@pytest.mark.parametrize("where", ["worktree", "index", "commits"])
def test_plain_git_shows_what_is_in_models(project: Project, where: str) -> None:
    if where != "worktree":
        project.git("add", "-A")
    if where == "commits":
        commit(project)
    said = project.git("diff", *{"worktree": [], "index": ["--cached"], "commits": ["HEAD~1", "HEAD"]}[where])
    assert "-parameter C = 1.0\n+parameter C = 3.0\n" in said
    # both versions say of what they are, wherever they come from
    assert said.count("bytes, sha256 ") == 4
    assert " tensor" in said
    assert project.is_clean() is (where == "commits")


def test_what_git_shows_is_the_same_for_pointers_and_files(project: Project) -> None:
    project.git("restore", ".")
    content = project.ml("textconv", "models/large.joblib").stdout
    project.git("show", "HEAD:models/large.joblib")
    pointer = project.path / "pointer"
    pointer.write_text(project.git("cat-file", "blob", "HEAD:models/large.joblib") + "\n")
    assert project.ml("textconv", "pointer").stdout == content


def test_content_that_is_not_here(project: Project, tmp_path: Path) -> None:
    commit(project)
    project.git("init", "-q", "--bare", "-b", "main", "server")
    project.git("remote", "add", "origin", f"file://{project.path}/server")
    project.git("push", "-q", "origin", "main")
    project.git("clone", "-q", f"file://{project.path}/server", "clone")
    clone = Project(project.path / "clone")
    clone.ml("install", "--no-fetch", check=False)
    said = clone.git("show", "HEAD", "--", "models/large.joblib")
    assert said.count("+content: ") + said.count(" content: ") == 1
    assert said.count("bytes, sha256 ") == 2


def test_plain_git_shows_the_columns_of_tables(project: Project) -> None:
    polars = pytest.importorskip("polars")
    project.write(".gitattributes", project.read(".gitattributes") + "*.csv diff=ml filter=ml -text\n")
    for rows, regions in ((3, "abc"), (4, "abcd")):
        polars.DataFrame({"id": range(rows), "region": list(regions)}).write_parquet(project.path / "t.parquet")
        lines = "".join(f"{number},{number % 7}\n" for number in range(20_000 * rows))
        project.write("large.csv", f"id,day\n{lines}")
        project.write("small.csv", f"id\n{rows}\n")
        with sqlite3.connect(project.path / "t.sqlite") as database:
            database.execute("create table if not exists people (name text, age integer)")
            database.execute("insert into people values (?, ?)", ("x" * rows, rows))
        database.close()
        commit(project)
    said = project.git("show", "--format=", "HEAD", "--", "t.parquet")
    shown = set(said.splitlines())
    assert {"-3 rows", "+4 rows"} <= shown
    assert {"-column region string, a to c, 3 distinct", "+column region string, a to d, 4 distinct"} <= shown
    assert "+column id int64, 0 to 3, mean 1.5, 4 distinct" in said
    said = project.git("show", "--format=", "HEAD", "--", "large.csv")
    assert {"-60000 rows", "+80000 rows"} <= set(said.splitlines()), said
    assert "+column id integer, 0 to 79999, " in said
    assert "sha256" in said
    assert "-3\n+4" in project.git("show", "--format=", "HEAD", "--", "small.csv")
    said = project.git("show", "--format=", "HEAD", "--", "t.sqlite")
    assert "-table people: 1 rows" in said
    assert "+table people: 2 rows" in said
    # a table that is none, and one that would take for ever, are said and fail nothing
    project.write("t.parquet", b"PAR1 and then noise \0 PAR1")
    assert "+not readable as a table: " in project.git("diff", "--", "t.parquet")


def test_uninstall_takes_the_driver_back(project: Project) -> None:
    assert project.git("config", "diff.ml.textconv")
    project.ml("uninstall")
    assert project.git("config", "--get", "diff.ml.textconv", check=False) == ""
    assert "Binary files" in project.git("diff", "--", "models/small.npy")


def test_other_files_are_shown_as_they_are(project: Project) -> None:
    project.write(".gitattributes", project.read(".gitattributes") + "*.csv diff=ml\n*.raw diff=ml\n")
    project.write("t.csv", "a,b\n1,2\n")
    project.write("t.raw", b"\0\1\2")
    commit(project, "table")
    project.write("t.csv", "a,b\n1,3\n")
    project.write("t.raw", b"\0\1\3")
    assert "-1,2\n+1,3" in project.git("diff", "--", "t.csv")
    assert project.git("diff", "--", "t.raw").count("3 bytes, sha256 ") == 2


def test_many_tensors_of_one_pattern_are_told_together() -> None:
    def told(trees: int) -> list[list[str]]:
        tensors = [TensorChange(name=f"trees.{n}.nodes", old=f"|V64 [{n + 10}]", new="|V64 [9]") for n in range(trees)]
        tensors += [TensorChange(name=f"trees.{trees + n}.nodes", old=None, new="|V64 [9]") for n in range(4)]
        tensors.append(TensorChange(name="weight.1", old="F32 [2]", new="F32 [2]", norm=1.0, relative=0.5, largest=1.0))
        diff = ModelDiff(old=Summary(format="joblib"), new=Summary(format="joblib"), tensors=tuple(tensors))
        return [[cell.text for cell in row] for row in _rows(diff)]

    assert told(100) == [
        ["tensor", "weight.1", "F32 [2]", "changed by 1 (50 %), at most 1"],
        ["tensors", "trees.*.nodes", "", "100 of another shape or type"],
        ["tensors", "trees.*.nodes", "", "4 added"],
    ]
    # as few as can be named are named
    assert len(told(10)) == 15
