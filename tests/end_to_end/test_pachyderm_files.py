"""Specifications as they are written for Pachyderm run from their files, of every kind, unmodified."""

import json
from pathlib import Path

from tests.end_to_end.project import small_project
from tests.sandboxes import require_bubblewrap

STREAM = """{
  "pipeline": {"name": "edges", "project": {"name": "video"}},
  "transform": {"image": "acme/edges", "cmd": ["/opt/nowhere/sh", "/edges.sh"]},
  "parallelismSpec": {"constant": "2"},
  "input": {"pfs": {"repo": "images", "glob": "/*"}}
}
{
  "pipeline": {"name": "montage", "project": {"name": "video"}},
  "transform": {"image": "acme/tools:1", "cmd": ["sh"], "stdin": [
    "cat $(find -L /pfs/images /pfs/edges -type f | sort) > /pfs/out/all.txt"
  ]},
  "input": {"cross": [{"pfs": {"repo": "images", "glob": "/"}}, {"pfs": {"repo": "edges", "glob": "/"}}]}
}
"""
YAML = """---
pipeline:
  name: count
transform:
  image: acme/tools:1
  cmd: [sh, count.sh]
  acceptReturnCode: ["3"]
input:
  pfs:
    repo: edges
    project: video
    glob: /*/
datumTimeout: 60s
"""
LIST = """[{"pipeline": {"name": "named"}, "transform": {"image": "acme/tools:1", "cmd": ["sh"], "stdin": [
  "echo $PPS_PROJECT_NAME/$PPS_PIPELINE_NAME $all > /pfs/out/name"]},
  "input": {"pfs": {"name": "all", "repo": "video/montage", "glob": "/*.txt"}}, "update": false},]
"""


def test_files_written_for_pachyderm_run_as_they_are(tmp_path: Path) -> None:
    require_bubblewrap()
    project = small_project(
        tmp_path / "project",
        {
            "stages": ["specs/*"],
            "images": {
                "acme/edges": {"code": {"/": "image"}},
                "acme/tools:1": {"code": {"/app": "tools"}, "working_dir": "/app"},
            },
        },
    )
    project.write("specs/a.json", STREAM)
    project.write("specs/b.yaml", YAML)
    project.write("specs/c.json", LIST)
    project.write("image/edges.sh", "for f in /pfs/images/*; do tr a-z A-Z < $f > /pfs/out/$(basename $f); done\n")
    project.write("tools/count.sh", "wc -c < $edges > /pfs/out/$(basename $edges); exit 3\n")
    project.write("images/a.txt", "one\n")
    project.write("images/b.txt", "three\n")
    project.commit("first")
    assert project.states() == dict.fromkeys(("video/edges", "video/montage", "count", "named"), "fresh")
    assert project.read("video/montage/all.txt") == "ONE\nTHREE\none\nthree\n"
    assert project.read("count/a.txt").strip() == "4"
    assert project.read("named/name") == "default/named /pfs/all/all.txt\n"
    logs = project.ml("logs", "video/edges").stdout
    assert "'/opt/nowhere/sh' of image 'acme/edges' is not here: 'sh' stands for it" in logs

    changed = json.loads(project.read("pipeline.json"))
    changed["defaults"] = {"salt": "x", "datum_tries": 1}
    project.write("pipeline.json", json.dumps(changed))
    project.commit("defaults")
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == 12

    shown = json.loads(project.ml("show", "--effective", "video/edges").stdout)
    assert (shown["salt"], shown["datum_tries"], shown["parallelism_spec"]) == ("x", 1, {"constant": 2})
    assert json.loads(project.ml("show", "--effective", "HEAD~2:count").stdout)["datum_tries"] == 3
    done = project.ml("show", "--effective", "cuont", check=False)
    assert (done.returncode, "did you mean 'count'?" in done.stderr) == (128, True)


def test_results_on_a_branch_of_their_own_are_put_off(tmp_path: Path) -> None:
    require_bubblewrap()
    project = small_project(
        tmp_path / "project", {"stages": ["edges/*.json"], "images": {"x:1": {"code": {"/": "edges/bin"}}}}
    )
    project.write("edges/bin/run.sh", "#!/bin/sh\ncat /pfs/images/* > /pfs/out/all\n")
    transform = {"image": "x:1", "cmd": ["/run.sh"]}
    images = {"pfs": {"repo": "images", "glob": "/"}}
    edges = {"pipeline": {"name": "edges"}, "transform": transform, "input": images, "outputBranch": "dev"}
    project.write("edges/edges.json", json.dumps(edges))
    for name, branch in (("later", "master"), ("now", "dev")):
        reads = {"pfs": {"repo": "edges", "branch": branch, "glob": "/*"}}
        copy = {"cmd": ["sh"], "stdin": ["cp $edges /pfs/out/copy"]}
        project.write(f"edges/{name}.json", json.dumps({"pipeline": {"name": name}, "transform": copy, "input": reads}))
    project.write("images/a", "1\n")
    project.commit("first")
    assert project.states() == dict.fromkeys(("edges", "later", "now"), "fresh")
    assert project.read("edges-results/all") == project.read("later/copy") == "1\n"

    project.write("images/a", "2\n")
    project.commit("second")
    assert project.states() == dict.fromkeys(("edges", "later", "now"), "fresh")
    assert (project.read("now/copy"), project.read("later/copy")) == ("2\n", "1\n")
    notice = project.ml("status").stderr
    assert "'git ml run --force later' does" in notice
    assert "are in 'edges-results', since" in notice
    project.ml("run", "--force", "later")
    assert project.read("later/copy") == "2\n"


def test_a_repository_that_is_empty_holds_up_no_other_stage(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project", {"stages": ["specs.json"]})
    specs = [
        {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh"], "stdin": ["ls /pfs > /pfs/out/names"]},
            "input": {"pfs": {"repo": repo, "glob": "/"}},
        }
        for name, repo in (("early", "inbox"), ("ready", "images"), ("after", "early"))
    ]
    project.write("specs.json", json.dumps(specs))
    project.write("images/a", "1\n")
    said = "stage 'early' waits: no stage and no path 'inbox': commit a file there"
    done = project.ml("validate", check=False)
    assert (done.returncode, "no stage and no path 'inbox'" in done.stdout) == (128, True)
    project.commit("first")
    rows = {row["name"]: row for row in project.json("status")["stages"]}
    assert {name: row["state"] for name, row in rows.items()} == {"early": "stale", "ready": "fresh", "after": "stale"}
    assert rows["early"]["reason"] == "input 'inbox' is missing: there is no 'inbox'"
    assert said in project.ml("status").stderr

    project.write("inbox/1", "x\n")
    project.commit("the first file")
    assert set(project.states().values()) == {"fresh"}
    assert project.read("after/names").split() == ["early", "out"]
    project.git("rm", "-q", "inbox/1")
    project.write("images/a", "2\n")
    project.commit("empty again")
    assert project.states() == {"early": "stale", "ready": "fresh", "after": "stale"}
    assert project.read("early/names").split() == ["inbox", "out"]


def test_ids_of_datums_tell_inputs_of_one_name_apart(tmp_path: Path) -> None:
    """A name of results that holds for Pachyderm, whose ids hold the repository."""
    project = small_project(tmp_path / "project", {"stages": ["specs.yaml"]})
    project.write(
        "specs.yaml",
        """
pipeline: {name: all}
transform: {cmd: [sh], stdin: ["cp $in /pfs/out/$PACH_DATUM_ID"]}
input: {union: [{pfs: {repo: east, name: in, glob: "/*"}}, {pfs: {repo: west, name: in, glob: "/*"}}]}
""",
    )
    for side in ("east", "west"):
        project.write(f"{side}/same", "1\n")
        project.write(f"{side}/other", f"{side}\n")
    project.commit("first")
    assert project.states() == {"all": "fresh"}
    assert sorted(path.read_text() for path in (project.path / "all").iterdir()) == ["1\n", "1\n", "east\n", "west\n"]
