"""`git ml import` as users type it, and what it wrote run."""

import json
from pathlib import Path

import pytest

from gitml.cli.main import main
from tests.end_to_end.project import Project

EDGES = {
    "pipeline": {"name": "edges"},
    "transform": {"image": "edges:1", "cmd": ["sh", "/edges.sh"]},
    "input": {"pfs": {"repo": "images", "glob": "/*"}},
}
COUNT = {
    "pipeline": {"name": "count"},
    "transform": {"cmd": ["sh"], "stdin": ["ls /pfs/edges | wc -l > /pfs/out/n"]},
    "inputs": [{"repo": {"name": "edges"}, "method": "global"}],
    "parallelism": "1",
}


def test_specifications_of_pachyderm(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(repo)
    project.write("spec/edges.json", json.dumps(EDGES))
    project.write("spec/count.json", json.dumps(COUNT))
    project.write("spec/edges.sh", "for f in /pfs/images/*; do wc -c < $f > /pfs/out/${f##*/}; done\n")
    project.write("images/a", "abc")
    project.write("images/b", "abcd")
    own = '{"stages": [{"pipeline": {"name": "own"}, "transform": {"cmd": ["touch", "/pfs/out/x"]}}]}\n'
    project.write("pipeline.json", own)
    monkeypatch.chdir(repo / "spec")
    assert main(["import", "pachyderm", "edges.json", "count.json", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "edges  spec/edges.json, as it is",
        "count  spec/count.json, converted",
        """mapped: spec/count.json: inputs[0].method: glob "/" says it""",
        "mapped: spec/count.json: inputs: written as 'input.pfs'",
        "mapped: spec/count.json: parallelism: 'parallelism_spec.constant' 1",
        "todo: images: edges:1: guessed from the commands: 'spec/edges.sh' at '/edges.sh'; check it",
    ]
    assert said.err == "2 stages would be added to pipeline.json\n"
    assert project.read("pipeline.json") == own
    assert main(["import", "pachyderm", "edges.json", "count.json", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["written"]
    document = json.loads(project.read("pipeline.json"))
    assert document["stages"][1:] == shown["add"]["stages"]
    assert document["images"] == shown["add"]["images"]
    project.commit(wait=False)
    project.ml("run")
    assert (project.read("edges/a"), project.read("edges/b"), project.read("count/n")) == ("3\n", "4\n", "2\n")
    # once more: nothing to add, and nothing is written
    text = project.read("pipeline.json")
    assert main(["import", "pachyderm", "edges.json"]) == 0
    assert capsys.readouterr().err == "nothing to add to pipeline.json\n"
    assert main(["import", "pachyderm", "count.json"]) == 1
    assert "refused: spec/count.json: there is a stage called 'count' already" in capsys.readouterr().out
    (repo.parent / "elsewhere.json").write_text("{}")
    for name in ("../../elsewhere.json", "missing.json"):
        assert main(["import", "pachyderm", name]) == 128
    said = capsys.readouterr()
    assert "lies outside the repository" in said.err
    assert "there is no file 'spec/missing.json'" in said.err
    assert project.read("pipeline.json") == text
    assert project.is_clean()
