"""The values of metrics over the commits of a real repository."""

import json
from pathlib import Path
from typing import Any

from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.spec import load_pipeline
from gitml.review.history import MetricHistory, metric_history
from gitml.review.revisions import sides
from gitml.store.tree import Snapshot
from tests.end_to_end.project import Project, prepared

PIPELINE: dict[str, Any] = {
    "stages": [
        {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-c", "cp pfs/data/value.json pfs/out/m.json"]},
            "input": {"pfs": {"name": "data", "repo": name + "-data", "glob": "/"}},
            "metrics": [{"path": "m.json", "name": "score", "goal": "max", "gate": {"min": 0.2}}, "m.json"],
        }
        for name in ("one", "two")
    ]
}


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE))
    change(project, "start", one="0.1", two="5")
    return project


def change(project: Project, message: str, **values: str) -> None:
    for name, value in values.items():
        project.write(f"{name}-data/value.json", f'{{"score": {value}}}\n')
    project.git("add", "-A")
    project.git("commit", "-q", "-m", message)
    project.ml("run")


def histories(project: Project, limit: int | None = None) -> dict[str, MetricHistory]:
    repo = Repository.discover(project.path)
    with GitOdb(repo.git, repo.format) as odb:
        _, new = sides(repo, odb, "HEAD..HEAD")
        tree = odb.lookup("HEAD^{tree}")
        assert tree is not None
        pipeline = load_pipeline(Snapshot(odb, tree[0]))
        assert pipeline is not None
        return {found.stage: found for found in metric_history(repo, odb, pipeline.stages, new.commit, limit)}


def values(found: MetricHistory) -> list[tuple[str, float]]:
    return [(point.cause, point.value) for point in found.points]


def test_a_point_where_a_stage_has_a_new_result(project: Project) -> None:
    change(project, "better", one="0.2")
    project.write("unrelated", "x\n")
    change(project, "other")
    change(project, "both", one="0.3", two="6")
    found = histories(project)
    assert values(found["one"]) == [("start", 0.1), ("better", 0.2), ("both", 0.3)]
    assert values(found["two"]) == [("start", 5.0), ("both", 6.0)]
    assert (found["one"].name, found["one"].goal, found["one"].gate) == ("score", "max", (0.2, None))
    assert [point.commit for point in found["two"].points][-1] == Oid.parse(project.head())
    assert values(histories(project, 2)["one"]) == [("better", 0.2), ("both", 0.3)]
    assert values(histories(project, 2)["two"]) == [("both", 6.0)]


def test_results_of_a_merged_branch_count(project: Project) -> None:
    project.git("switch", "-q", "-c", "side")
    change(project, "side", two="7")
    project.git("switch", "-q", "main")
    change(project, "main", one="0.5")
    project.git("merge", "-q", "--no-edit", "side")
    found = histories(project)
    assert sorted(values(found["one"])) == [("main", 0.5), ("start", 0.1)]
    assert sorted(values(found["two"])) == [("side", 7.0), ("start", 5.0)]


def test_values_that_are_no_numbers_and_gone_results(project: Project) -> None:
    change(project, "nan", one="NaN")
    change(project, "words", one='"much"')
    project.git("rm", "-q", "-r", "one", ".gitml/records/one.json")
    project.git("commit", "-q", "-m", "removed")
    change(project, "again", one="0.9")
    assert [(cause, str(value)) for cause, value in values(histories(project)["one"])] == [
        ("start", "0.1"), ("nan", "nan"), ("again", "0.9"),
    ]  # fmt: skip


def test_a_source_that_is_no_commit_is_not_asked_for(project: Project) -> None:
    change(project, "better", one="0.2")
    message = "mine\n\nGitml-Run: x\nGitml-Source: --all\n"
    project.git("commit", "-q", "--amend", "-m", message)
    assert values(histories(project)["one"]) == [("start", 0.1), ("mine", 0.2)]


def test_other_names_of_a_stage_and_of_its_metrics_are_followed(tmp_path: Path) -> None:
    pipeline = json.loads(json.dumps(PIPELINE))
    stage = pipeline["stages"][0]
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(pipeline))
    change(project, "start", one="0.95", two="5")
    stage["transform"]["cmd"] = ["sh", "-c", "cp pfs/data/value.json pfs/out/scores.json"]
    stage["metrics"] = [{"path": "scores.json", "name": "score", "goal": "max", "gate": {"min": 0.2}}]
    project.write("pipeline.json", json.dumps(pipeline))
    change(project, "another file, and worse", one="0.1")
    culprit = project.head("HEAD^")
    stage["pipeline"]["name"] = "best"
    project.write("pipeline.json", json.dumps(pipeline))
    change(project, "another name")
    assert values(histories(project)["best"]) == [
        ("start", 0.95), ("another file, and worse", 0.1), ("another name", 0.1)
    ]  # fmt: skip
    assert values(histories(project)["two"]) == [("start", 5)]
    [logged] = project.json("log", "best")["stages"]
    assert [each["metrics"] for each in logged["results"]] == [{"score": 0.1}, {"score": 0.1}, {"score": 0.95}]
    runs = project.executions()
    found = project.json("bisect", "--metric", "score", "--stage", "best")
    assert (found["first_bad"], found["good"]["value"], found["bad"]["value"]) == (culprit, 0.95, 0.1)
    plan = project.json("rollback", "best:score", "--dry-run")
    assert [each["why"] for each in plan["reverts"]] == ["result", "result"]
    assert {"stage": "best", "name": "score", "now": 0.1, "after": 0.95} in plan["metrics"]
    assert project.executions() == runs
