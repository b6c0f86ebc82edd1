"""`git ml validate`: what is wrong with specifications that are not committed yet."""

import json
from pathlib import Path

from tests.end_to_end.project import Project, small_project


def problems(project: Project, *arguments: str, stdin: str | None = None) -> list[tuple[str, int, int, str]]:
    data = stdin.encode() if stdin is not None else None
    done = project.run("git", "ml", "validate", "--json", *arguments, check=False, stdin=data)
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"]) == ((128, False) if found["problems"] else (0, True))
    return [(each["file"], each["line"], each["column"], each["path"]) for each in found["problems"]]


def test_the_worktree_files_and_standard_input_are_checked(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    done = project.ml("validate")
    assert (done.stdout, done.stderr) == ("", "pipeline.json: 2 stages, no problem\n")
    assert project.json("validate")["stages"] == ["model", "inference"]
    project.commit("first")

    objects = project.git("count-objects", "-v")
    pipeline = project.read("pipeline.json").replace('"training"', '"trainin"').replace('"cross"', '"crosss"')
    project.write("pipeline.json", pipeline)
    done = project.ml("validate", check=False)
    assert done.returncode == 128
    assert done.stdout.splitlines() == [
        "pipeline.json:15:11: stages[0].input.pfs.repo: no stage and no path 'trainin'",
        "    did you mean 'training'?",
        "pipeline.json:34:9: stages[1].input.crosss: unknown field",
        "    did you mean 'cross'?",
    ]
    assert done.stderr == "pipeline.json: 2 problems\n"
    assert project.git("count-objects", "-v") == objects

    more = "pipeline: {name: more}\ntransform: {cmd: [a], image: python}\ninput: {pfs: {repo: new, glob: /}}\n"
    project.write("specs/more.yaml", more)
    assert problems(project, "specs/more.yaml") == [("specs/more.yaml", 3, 15, "input.pfs.repo")]
    project.write("new/untracked.csv", "1")
    project.write("other.json", json.dumps({"stages": ["specs/more.yaml"], "images": {"python": {}}}))
    done = project.ml("validate", "other.json")
    assert done.stderr.splitlines() == [
        "warning: image 'python' has no tag, which means 'latest', and may change: name a version (specs/more.yaml)",
        "other.json: 1 stage, no problem",
    ]
    assert problems(project, "-", stdin='{"pipeline": {"name": "x"},\n "transfrom": 1}') == [
        ("<stdin>", 2, 2, "transfrom")
    ]
    assert problems(project, "-", stdin='{"stages": [{}]}') == [("<stdin>", 1, 13, "stages[0]")]

    for arguments, message in (
        (["none.json"], "'none.json' is not here"),
        (["specs"], "'specs' is not a file"),
        (["../x.json"], "'../x.json' is outside the repository"),
        (["pipeline.json", "other.json"], "'pipeline.json' and 'other.json' both surround stages"),
    ):
        done = project.ml("validate", *arguments, check=False)
        assert (done.returncode, message in done.stderr) == (128, True), done.stderr
    (project.path / "pipeline.json").unlink()
    done = project.ml("validate", check=False)
    assert (done.returncode, "there is no pipeline.json here" in done.stderr) == (128, True)
