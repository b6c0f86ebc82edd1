"""Bad input: one clear message, the user's commit stands, nothing is published, nothing is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import Project, prepared, small_project


def one_stage(**fields: Any) -> dict[str, Any]:
    transform = fields.pop("transform", {"cmd": ["sh", "stage.sh"]})
    stage: dict[str, Any] = {
        "pipeline": {"name": "stage"},
        "transform": transform,
        "input": {"pfs": {"repo": "input", "glob": "/*"}},
        "datum_tries": 1,
    }
    return {"stages": [{**stage, **fields}]}


@prepared
def project(tmp_path: Path) -> Project:
    return small_project(tmp_path / "project", {"stages": []})


def stage(name: str, **fields: Any) -> dict[str, Any]:
    return {"pipeline": {"name": name}, "transform": {"cmd": ["true"]}, **fields}


PIPELINES: dict[str, tuple[str, str]] = {
    "not JSON": ('{"stages": [}', "pipeline.json"),
    "unknown field": (json.dumps(one_stage(transfrom={})), "transfrom"),
    "wrong type": (json.dumps(one_stage(datum_tries="many")), "datum_tries"),
    "cycle": (
        json.dumps(
            {
                "stages": [
                    stage("a", input={"pfs": {"repo": "b", "glob": "/"}}),
                    stage("b", input={"pfs": {"repo": "a", "glob": "/"}}),
                ]
            }
        ),
        "cycle",
    ),
    "two stages with one output": (
        json.dumps({"stages": [stage("a", output="same"), stage("b", output="same")]}),
        "same",
    ),
    "output inside an input": (json.dumps(one_stage(output="input/out")), "input/out"),
    "missing input": (json.dumps(one_stage(input={"pfs": {"repo": "inptu", "glob": "/"}})), "inptu"),
    "path out of the repository": (json.dumps(one_stage(output="../elsewhere")), "../elsewhere"),
    "path into .git": (json.dumps(one_stage(output=".git/hooks")), ".git"),
    "a field that is refused": (json.dumps(one_stage(s3_out=True)), "s3_out"),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_bad_pipelines(project: Project, name: str) -> None:
    text, subject = PIPELINES[name]
    project.write("pipeline.json", text)
    said = project.commit("bad pipeline")
    assert said.startswith("gitml: "), said
    assert subject in said
    assert project.subjects() == ["bad pipeline"]
    assert project.is_clean()
    for command in (("status",), ("run",), ("dag",)):
        done = project.ml(*command, check=False)
        assert done.returncode == 128
        assert done.stderr.startswith("error: ")
        assert subject in done.stderr


def test_a_good_pipeline_after_a_bad_one(project: Project) -> None:
    project.write("pipeline.json", "{")
    project.commit("bad pipeline")
    project.write("pipeline.json", json.dumps(one_stage()))
    project.write("stage.sh", "cp pfs/input/* pfs/out/\n")
    project.commit("good pipeline")
    assert project.states() == {"stage": "fresh"}


FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "command not found": ({"transform": {"cmd": ["no-such-command"]}}, "", "no-such-command"),
    "not executable": ({"transform": {"cmd": ["./stage.sh"]}}, "true\n", "stage.sh"),
    "exit status": ({}, "echo the last words\nexit 7\n", "exit status 7"),
    "fifo": ({}, "mkfifo pfs/out/pipe\n", "pipe"),
    "socket": (
        {},
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('pfs/out/sock')\"\n",
        "sock",
    ),
    "link out of the workspace": ({}, "ln -s /etc/passwd pfs/out/link\n", "link"),
    "dangling link": ({}, "ln -s nowhere pfs/out/link\n", "link"),
    "a name of git's": ({}, "mkdir pfs/out/.git; echo x > pfs/out/.git/config\n", ".git"),
    "attributes among outputs": ({}, "echo '* filter=evil' > pfs/out/.gitattributes\n", ".gitattributes"),
    "two datums, one path": ({}, "echo x > pfs/out/same\n", "same"),
    "time limit": ({"datum_timeout": "0.5s"}, "sleep 30\n", "0.5"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_stages_that_fail(project: Project, name: str) -> None:
    fields, script, subject = FAILURES[name]
    project.write("pipeline.json", json.dumps(one_stage(**fields)))
    project.write("stage.sh", script)
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "failing stage")
    assert project.wait().returncode == 2
    assert project.subjects() == ["failing stage"]
    assert project.is_clean()
    failed = project.stage("stage")
    assert failed["state"] == "failed"
    assert subject in failed["reason"]
    assert failed["datums"]["failed"] >= 1


def test_a_failure_is_explained_and_not_repeated_until_it_is_mended(project: Project) -> None:
    project.write("pipeline.json", json.dumps(one_stage()))
    project.write("stage.sh", "echo the last words\nexit 7\n")
    project.commit("failing stage")
    logs = project.ml("logs", "stage", "--failed").stdout
    assert "the last words" in logs
    assert "input/x.csv" in logs
    runs = project.executions()
    project.write("unrelated.txt", "u\n")
    said = project.commit("unrelated")
    assert "git ml logs" in said
    assert project.executions() == runs, "what failed is not tried again by itself"
    project.write("stage.sh", "cp pfs/input/* pfs/out/\n")
    project.commit("fixed")
    assert project.states() == {"stage": "fresh"}
    project.git("fsck", "--strict", "--no-dangling")


def test_output_names_with_any_bytes(project: Project) -> None:
    project.write("pipeline.json", json.dumps(one_stage(input={"pfs": {"repo": "input", "glob": "/"}})))
    project.write(
        "stage.sh",
        "printf a > \"pfs/out/$(printf 'new\\nline')\"; printf b > \"pfs/out/$(printf 'raw\\377')\"\n"
        ": > pfs/out/empty\n"
        "printf x > pfs/out/run; chmod +x pfs/out/run\n",
    )
    project.commit("odd names")
    assert project.states() == {"stage": "fresh"}
    listed = project.git("ls-tree", "-r", "-z", "HEAD", "stage/").split("\0")
    assert [line.partition("\t")[2] for line in listed if line] == [
        "stage/empty",
        "stage/new\nline",
        "stage/raw\udcff",
        "stage/run",
    ]
    assert listed[-2].startswith("100755 ")
    assert project.is_clean()
    assert (project.path / "stage" / "new\nline").read_text() == "a"


def test_a_malformed_pointer_among_the_inputs(project: Project) -> None:
    project.write("pipeline.json", json.dumps(one_stage()))
    project.write("stage.sh", "cp pfs/input/* pfs/out/\n")
    project.write(".gitattributes", "input/** filter=ml -text\n")
    project.write("input/x.csv", "gitml pointer 1\nsha256 zz\nsize many\nmanifest none\n")
    project.commit("bad pointer")
    assert project.subjects() == ["bad pointer"]
    assert project.stage("stage")["state"] == "failed"
    assert "x.csv" in project.stage("stage")["reason"]
    listed = project.json("ls", check=False)
    assert [file["path"] for file in listed["files"] if file["malformed"]] == ["input/x.csv"]


def test_a_pointer_to_the_wrong_object(project: Project) -> None:
    wrong = project.run("git", "hash-object", "-w", "--stdin", stdin=b"not a manifest").stdout.strip()
    project.write("pipeline.json", json.dumps(one_stage()))
    project.write("stage.sh", "cp pfs/input/* pfs/out/\n")
    project.write(".gitattributes", "input/** filter=ml -text\n")
    project.write("input/x.csv", f"gitml pointer 1\nsha256 {'0' * 64}\nsize 100000\nmanifest {wrong}\n")
    project.commit("wrong object")
    failed = project.stage("stage")
    assert failed["state"] == "failed"
    assert failed["datums"] == {"total": 2, "done": 1, "failed": 1}
    project.git("checkout", "-q", "--", "input")
    assert project.read("input/x.csv").startswith("gitml pointer 1\n")
    project.git("rm", "-q", "input/x.csv")
    project.commit("without it")
    assert project.states() == {"stage": "fresh"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves a project with results; the others only look at it."""
    return tmp_path_factory.mktemp("built") / "project"


@pytest.fixture
def built(place: Path) -> Project:
    if place.exists():
        return Project(place)
    project = small_project(place, one_stage())
    project.write("stage.sh", "cp pfs/input/* pfs/out/\n")
    project.commit("first")
    return project


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("status", "--nonsense"), 129, "nonsense"),
        (("no-such-command",), 129, "no-such-command"),
        (("run", "nobody"), 128, "nobody"),
        (("show", "input/x.csv"), 128, "input/x.csv"),
        (("show", "nothing/here"), 128, "nothing/here"),
        (("log", "nobody"), 128, "nobody"),
        (("status", "--rev", "no-such-rev"), 128, "no-such-rev"),
        (("init", "--template", "nonsense", "elsewhere"), 128, "nonsense"),
        (("logs", "--run", "ffffff"), 128, "ffffff"),
    ],
)
def test_bad_commands(built: Project, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = built.ml(*arguments, check=False)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert words in done.stderr


def test_outside_a_repository(tmp_path: Path) -> None:
    outside = Project(tmp_path)
    for command in ("status", "run", "install", "track", "ls", "doctor", "log"):
        done = outside.ml(command, check=False)
        assert done.returncode == 128, command
        assert "not a git repository" in done.stderr
