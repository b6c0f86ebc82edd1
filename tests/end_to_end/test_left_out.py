"""A project of Pachyderm with a spout and a service: all else of it runs."""

import json
from pathlib import Path

from tests.end_to_end.project import small_project

SPECS = """
pipeline: {name: events}
transform:
  image: acme/reader:1
  cmd: [python, /consume.py]
  env: {TOPIC: clicks}
spout: {}
---
pipeline: {name: count}
transform:
  cmd: [sh]
  stdin: ["cat /pfs/events/* | wc -l | tr -d ' ' > /pfs/out/n"]
input: {pfs: {repo: events, glob: /}}
---
pipeline: {name: page}
transform: {cmd: [python3, -m, http.server]}
input: {pfs: {repo: count, glob: /}}
service: {internalPort: 80, externalPort: 30080}
---
pipeline: {name: copy}
transform: {cmd: [sh], stdin: ["cp /pfs/images/* /pfs/out"]}
input: {pfs: {repo: images, glob: /}}
"""
SPOUT = "stage 'events' is left out: 'spout' is not supported: a run ends, a producer does not"
SERVICE = "stage 'page' is left out: 'service' is not supported: a run ends, a server does not"


def test_all_else_runs_and_reads_what_is_committed_in_their_place(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project", {"stages": ["specs/all.yaml"]})
    project.write("specs/all.yaml", SPECS)
    project.write("images/a", "1\n")
    done = project.ml("validate")
    assert "pipeline.json: 2 stages, no problem" in done.stderr
    assert f"warning: specs/all.yaml:7:1: documents[0].spout: {SPOUT}" in done.stderr
    assert f"warning: specs/all.yaml:18:1: documents[2].service: {SERVICE}" in done.stderr
    assert project.json("validate")["valid"]

    project.commit("first")
    rows = {row["name"]: row for row in project.json("status")["stages"]}
    assert {name: row["state"] for name, row in rows.items()} == {"copy": "fresh", "count": "stale"}
    assert rows["count"]["reason"] == "input 'events' is missing: there is no 'events'"
    assert project.read("copy/a") == "1\n"

    project.write("events/0001", "a\nb\n")
    project.commit("what the producer brought")
    assert project.states() == {"count": "fresh", "copy": "fresh"}
    assert project.read("count/n") == "2\n"
    project.write("events/0002", "c\n")
    project.commit("more of it")
    assert (project.read("count/n"), project.read("events/0001")) == ("3\n", "a\nb\n")

    for command in (["status"], ["run"], ["run", "--dry-run"]):
        said = project.ml(*command).stderr
        assert said.count(SPOUT) == said.count(SERVICE) == 1
    for command in (["run"], ["ls", "datums"], ["show", "--effective"], ["logs"]):
        done = project.ml(*command, "events", check=False)
        assert (done.returncode, f"error: {SPOUT}" in done.stderr) == (128, True)
    assert {row["name"] for row in json.loads(project.ml("status", "--json").stdout)["stages"]} == {"count", "copy"}
