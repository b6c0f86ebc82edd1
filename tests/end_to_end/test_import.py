"""`git ml import` as users type it, and what it wrote runs."""

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
    project.write("spec/edges.sh", "for f in pfs/images/*; do wc -c < $f > pfs/out/${f##*/}; done\n")
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
    pytest.importorskip("_jsonnet")
    project.write(
        "spec/copy.jsonnet",
        """local t = import 'lib.libsonnet';
function(suffix) { pipeline: { name: 'copy-' + suffix }, transform: t, input: { pfs: { repo: 'count', glob: '/' } } }
""",
    )
    project.write("spec/lib.libsonnet", "{ cmd: ['cp', '/pfs/count/n', '/pfs/out/n'] }")
    for suffix in ("a", "b"):
        assert main(["import", "pachyderm", "copy.jsonnet", "--arg", f"suffix={suffix}"]) == 0
    assert main(["import", "pachyderm", "copy.jsonnet", "--arg", "suffix=b"]) == 1
    assert json.loads(project.read("pipeline.json"))["stages"][-1] == {
        "file": "spec/copy.jsonnet",
        "args": {"suffix": "b"},
    }
    for wrong in (["--arg", "suffix"], []):
        assert main(["import", "pachyderm", "copy.jsonnet", *wrong]) == 128
    said = capsys.readouterr()
    assert "refused: spec/copy.jsonnet: there is a stage called 'copy-b' already" in said.out
    assert "hint: write --arg NAME=VALUE" in said.err
    assert "spec/copy.jsonnet: function parameter suffix not bound in call" in said.err
    project.write("spec/odd.json", json.dumps({**COUNT, "pipeline": {"name": "odd"}, "datum_timeout": "soon"}))
    assert main(["import", "pachyderm", "odd.json", "--dry-run"]) == 0
    assert "todo: git ml validate: pipeline.json:" in (odd := capsys.readouterr().out)
    assert "datum_timeout: expected a duration" in odd
    text = project.read("pipeline.json")
    project.commit(wait=False)
    project.ml("run")
    assert (project.read("copy-a/n"), project.read("copy-b/n")) == ("2\n", "2\n")
    (repo.parent / "elsewhere.json").write_text("{}")
    for name in ("../../elsewhere.json", "missing.json"):
        assert main(["import", "pachyderm", name]) == 128
    said = capsys.readouterr()
    assert "lies outside the repository" in said.err
    assert "there is no file 'spec/missing.json'" in said.err
    assert project.read("pipeline.json") == text
    assert project.is_clean()


DVC_YAML = """
stages:
  prepare:
    cmd: cat && sh src/split.sh data/raw.csv work/parts
    deps: [src/split.sh, data/raw.csv]
    outs: [work/parts]
  count:
    foreach: [head, tail]
    do:
      cmd: ["wc -l < work/parts/${item} > n", "grep -h . n ${file} | grep -v other > counts/${item}.txt"]
      deps: ["work/parts/${item}"]
      params: [scale]
      outs: ["counts/${item}.txt"]
  sum:
    wdir: src
    cmd: cat ../counts/*.txt > sum.txt
    deps: [../counts]
    outs: [sum.txt]
vars: [{file: params.yaml}]
"""


def test_stages_of_dvc_give_what_dvc_repro_gives(repo: Path) -> None:
    """What the outputs hold was made by DVC 3.67 from these files, with `mkdir counts` first."""
    project = Project(repo)
    project.write("dvc.yaml", DVC_YAML)
    project.write("params.yaml", "scale: 2\nother: 3\n")
    project.write("src/split.sh", '. src/lib.sh\nmkdir "$2"\nfirst "$1" > "$2/head"\ntail -n 1 "$1" > "$2/tail"\n')
    project.write("src/lib.sh", 'first() { head -n 2 "$1"; }\n')
    project.write("data/raw.csv", "a\nb\nc\n")
    project.write("data/raw.csv.dvc", "outs: [{path: raw.csv, md5: 1}]\n")
    project.write("work/.gitignore", "/parts\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "start")
    said = project.json("import", "dvc")
    assert [stage["name"] for stage in said["stages"]] == ["prepare", "count/head", "count/tail", "sum"]
    assert {finding["kind"] for finding in said["findings"]} == {"mapped"}
    document = json.loads(project.read("pipeline.json"))
    assert document["stages"][0]["output"] == "work/parts"
    assert document["stages"][0]["code"] == ["src/split.sh"]
    # a shell script that another one reads is what nobody can see: DVC was not told of it either
    document["stages"][0]["code"].append("src/lib.sh")
    project.write("pipeline.json", json.dumps(document))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "pipeline")
    project.ml("run")
    assert project.read("work/parts/head") == "a\nb\n"
    assert project.read("count/tail/tail.txt") == "1\nscale: 2\n"
    assert project.read("sum/sum.txt") == "2\nscale: 2\n1\nscale: 2\n"
    assert project.is_clean()
    assert "there is no dvc.yaml in 'src'" in project.ml("import", "dvc", "src", check=False).stderr
    assert project.ml("import", "dvc", check=False).returncode == 1
