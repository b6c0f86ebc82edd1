"""What `git ml init --template` writes is complete, works, and gives the same bytes for the same data."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demo import make_data
from gitml.errors import UserError
from gitml.resources import template_files, template_names
from tests.conftest import run_git

TRAINED = ["classification", "regression"]


def write_template(name: str, directory: Path) -> Path:
    for path, content in template_files(name).items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return directory


def run_stage(directory: Path, name: str, out: Path, *, inputs: dict[str, Path], seed: str = "0") -> dict[str, bytes]:
    """Run the command of a stage as a task would, but in `directory`; give the bytes of its outputs."""
    (stage,) = (
        each
        for each in json.loads((directory / "pipeline.json").read_text())["stages"]
        if each["pipeline"]["name"] == name
    )
    places = {f"/pfs/{key}": str(value) for key, value in inputs.items()} | {"/pfs/out": str(out)}
    command = [places.get(word, word) for word in stage["transform"]["cmd"]]
    assert command[0] == "python3"
    out.mkdir()
    environment = {**os.environ, **stage["transform"].get("env", {}), "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-W", "error", *command[1:]], cwd=directory, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.fixture(params=TRAINED)
def template(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(template: str, tmp_path: Path) -> Path:
    return write_template(template, tmp_path / "project")


def test_there_are_three_templates() -> None:
    assert template_names() == ["blank", "classification", "regression"]


def test_an_unknown_template_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match="no template 'clasification'") as raised:
        template_files("clasification")
    assert raised.value.hint == "templates: blank, classification, regression"


@pytest.mark.parametrize("name", ["blank", *TRAINED])
def test_a_template_brings_its_pipeline_its_attributes_and_its_next_steps(name: str) -> None:
    files = template_files(name)
    assert {"pipeline.json", "README.md", ".gitattributes", ".gitignore"} <= files.keys()
    assert not [path for path in files if Path(path).name.startswith("dot-")]
    assert b"git ml wait" in files["README.md"]


def test_files_of_the_template_do_not_act_on_the_repository_of_gitml() -> None:
    top = make_data.TEMPLATES
    assert not list(top.rglob(".gitattributes"))
    assert not list(top.rglob(".gitignore"))


def test_training_is_reproducible_and_good(project: Path, template: str) -> None:
    first = run_stage(project, "model", project / "out-1", inputs={"training": project / "training"}, seed="1")
    again = run_stage(project, "model", project / "out-2", inputs={"training": project / "training"}, seed="2")
    assert first == again
    metrics = json.loads(first["metrics.json"])
    if template == "classification":
        assert metrics["accuracy"] > 0.95
        assert len(first["model.npz"]) >= 64 << 10  # large enough to be stored in chunks
    else:
        assert metrics["r2"] > 0.4
    assert any(name.endswith(".svg") and content.startswith(b"<svg ") for name, content in first.items())


def test_what_the_specification_declares_for_reviews_is_in_the_outputs(project: Path, template: str) -> None:
    out = run_stage(project, "model", project / "out", inputs={"training": project / "training"})
    (stage, _) = json.loads((project / "pipeline.json").read_text())["stages"]
    metrics = json.loads(out["metrics.json"])
    assert metrics[stage["metrics"][0]["name"]] >= stage["metrics"][0]["gate"]["min"]

    (declared,) = stage["predictions"]
    rows = list(csv.DictReader(out[declared["path"]].decode().splitlines()))
    given = [declared[each] for each in ("id", "prediction", "label", "score") if each in declared]
    assert {*given, *declared["slices"]} == rows[0].keys()
    # the file of each example is the one that its row was read from
    training = {
        path.name: list(csv.reader(path.read_text().splitlines()))[1:] for path in (project / "training").iterdir()
    }
    for row in rows:
        name, _, number = row[declared["id"]].rpartition(":")
        assert (row["file"], row[declared["label"]]) == (name, training[name][int(number) - 1][0])
    *lines, image = stage["plots"]
    assert out[image].startswith(b"<svg ")
    if template == "classification":
        right = [row[declared["prediction"]] == row[declared["label"]] for row in rows]
        assert round(sum(right) / len(right), 4) == metrics["accuracy"]
        (plot,) = lines
        losses = list(csv.DictReader(out[plot["path"]].decode().splitlines()))
        assert list(losses[0]) == [plot["x"], *plot["y"]]
        assert float(losses[0]["loss"]) > float(losses[-1]["loss"])


def test_files_that_come_later_do_not_rename_examples(project: Path) -> None:
    def examples(name: str) -> set[str]:
        out = run_stage(project, "model", project / name, inputs={"training": project / "training"})
        return {line.partition(b",")[0].decode() for line in out["held_out.csv"].splitlines()[1:]}

    before = examples("before")
    (last,) = [path for path in (project / "training").iterdir() if "2" in path.name]
    (project / "training" / "z-later.csv").write_bytes(last.read_bytes())
    assert before < examples("after")


def test_a_prediction_does_not_depend_on_the_other_files(project: Path) -> None:
    run_stage(project, "model", project / "model", inputs={"training": project / "training"})
    together = run_stage(
        project, "inference", project / "all", inputs={"input": project / "input", "model": project / "model"}
    )
    assert together.keys() == {path.name for path in (project / "input").iterdir()}
    for name, content in together.items():
        alone = project / f"only-{name}"
        alone.mkdir()
        (alone / name).write_bytes((project / "input" / name).read_bytes())
        single = run_stage(
            project, "inference", project / f"out-{name}", inputs={"input": alone, "model": project / "model"}
        )
        assert single == {name: content}
        rows = (project / "input" / name).read_text().count("\n")
        assert content.count(b"\n") == rows


def test_large_files_are_under_gitml_and_scripts_are_not(project: Path, repo: Path) -> None:
    (repo / ".gitattributes").write_bytes((project / ".gitattributes").read_bytes())

    def attribute(path: str, name: str) -> str:
        return run_git(repo, "check-attr", name, "--", path).rpartition(": ")[2]

    for path in ("training/a.csv", "input/b.csv", "model/model.npz", "inference/deep/c.csv"):
        assert (attribute(path, "filter"), attribute(path, "text")) == ("ml", "unset")
    assert attribute("train.py", "filter") == "unspecified"
    assert attribute(".gitml/records/model.json", "text") == "unset"
    assert [attribute(path, "linguist-generated") for path in ("model/x", "training/x")] == ["true", "unspecified"]


def test_the_data_are_what_scikit_learn_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(path: Path, header: Any, rows: Any) -> None:
        shipped = path.read_bytes()
        copy = tmp_path / path.name
        write(copy, header, rows)
        assert copy.read_bytes() == shipped, path
        compared.append(path)

    write, compared = make_data.write, list[Path]()
    monkeypatch.setattr(make_data, "write", compare)
    make_data.main()
    csv_files = [*make_data.TEMPLATES.rglob("*.csv"), *make_data.EXTRA.rglob("*.csv")]
    assert sorted(compared) == sorted(csv_files)


@pytest.mark.parametrize("name", ["blank", *TRAINED])
def test_init_writes_the_template_and_never_over_a_file(name: str, tmp_path: Path) -> None:
    def init(directory: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gitml", "init", "--template", name, directory],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = init("new")
    assert done.returncode == 0, done.stderr
    written = {
        path: (tmp_path / "new" / path).read_bytes()
        for path in template_files(name)
        if (tmp_path / "new" / path).exists()
    }
    assert written == template_files(name)
    run_git(tmp_path / "new", "add", ".")
    staged = run_git(tmp_path / "new", "ls-files").splitlines()
    assert staged == sorted(template_files(name))

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "README.md").write_text("mine\n")
    went_on = init("taken")
    assert went_on.returncode == 0
    assert "README.md is there and stays as it is" in went_on.stdout
    assert (tmp_path / "taken" / "README.md").read_text() == "mine\n"
    for path in template_files(name).keys() - {"README.md"}:
        assert (tmp_path / "taken" / path).read_bytes() == template_files(name)[path]


def test_init_does_not_mix_a_template_with_other_code(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("mine\n")
    refused = subprocess.run(
        [sys.executable, "-m", "gitml", "init", "--template", "classification"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 128
    assert "train.py" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


def test_init_in_a_project_that_has_a_pipeline(tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text('{"stages": []}')
    done = subprocess.run(
        [sys.executable, "-m", "gitml", "init"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "GIT_AUTHOR_NAME": "", "GIT_AUTHOR_EMAIL": ""},
    )  # fmt: skip
    assert done.returncode == 0
    assert "git config user.name" in done.stderr
    assert (tmp_path / "pipeline.json").read_text() == '{"stages": []}'
    assert (tmp_path / ".git" / "hooks" / "post-commit").is_file()
