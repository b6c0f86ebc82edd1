"""`git ml why`: from an output up to what people committed, and from a commit down to what it reached."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import TWO_STAGES, Project, prepared, small_project


@prepared
def project(tmp_path: Path) -> Project:
    """Five changes of a person, each with its results: the start, a parameter, another, new input, more training."""
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"][0]["params"] = ["params.json:alpha"]
    project = small_project(tmp_path / "project", pipeline)
    project.write("params.json", '{"alpha": 1, "other": 2}\n')
    project.commit("start")
    project.write("params.json", '{"alpha": 3, "other": 2}\n')
    project.commit("alpha")
    project.write("params.json", '{"alpha": 3, "other": 5}\n')
    project.commit("other")
    project.write("input/z.csv", "z\n")
    project.commit("new input")
    project.write("training/b.csv", "5\n")
    project.commit("more training")
    return project


def why(project: Project, *arguments: str) -> Any:
    return json.loads(project.ml("why", "--json", *arguments).stdout)


def causes(made: Any) -> dict[tuple[str, str], str | None]:
    """Kind and name to the subject of the commit that was the cause."""
    return {
        (cause["kind"], cause["name"]): cause["changed_by"] and cause["changed_by"]["subject"]
        for cause in made["causes"]
    }


def find(project: Project, subject: str) -> str:
    return project.git("log", "-1", "--format=%H", f"--grep=^{subject}$")


def test_which_data_made_this_prediction(project: Project) -> None:
    made = why(project, "inference/z.csv")["made"]
    assert made["datum"] == "input/z.csv × model"
    assert causes(made) == {
        ("input", "input/z.csv"): "new input",
        ("input", "model"): None,
        ("code", "predict.sh"): "start",
        ("specification", "pipeline.json"): "start",
    }
    [model] = [cause["made"] for cause in made["causes"] if cause["made"]]
    assert (model["stage"], model["path"]) == ("model", "model")
    assert causes(model) == {
        ("input", "training"): "more training",
        ("code", "train.sh"): "start",
        ("parameter", "params.json:alpha"): "alpha",
        ("specification", "pipeline.json"): "start",
    }


def test_of_an_older_commit_it_is_what_was_so_then(project: Project) -> None:
    made = why(project, f"{find(project, 'other')}:inference/x.csv")["made"]
    [model] = [cause["made"] for cause in made["causes"] if cause["made"]]
    assert causes(model)["input", "training"] == "start"
    # the other parameter gave the same model, so the prediction stayed as it had been made before
    assert causes(model)["parameter", "params.json:alpha"] == "start"


def test_a_stage_that_is_not_fresh_says_why(project: Project) -> None:
    assert why(project, "model")["state"] == {"state": "fresh", "reason": ""}
    project.write("params.json", '{"alpha": 4, "other": 5}\n')
    project.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-a", "-m", "not run")
    report = why(project, "model")
    assert report["state"]["state"] == "stale"
    assert "alpha' 3 → 4" in report["state"]["reason"]
    assert causes(report["made"])["parameter", "params.json:alpha"] == "alpha"
    assert "model is stale: parameter" in project.ml("why", "model").stdout
    [reached] = [each for each in why(project, "--reaches", "HEAD")["reached"] if each["stage"] == "model"]
    assert (reached["state"], reached["partly"]) == ("stale", True)


def test_where_the_search_ends_is_said(project: Project) -> None:
    def searched(*arguments: str) -> tuple[Any, Any]:
        [found] = [each for each in why(project, "model", *arguments)["made"]["causes"] if each["kind"] == "parameter"]
        return found["changed_by"] and found["changed_by"]["subject"], found["searched"]

    assert searched() == ("alpha", None)
    # the last change of the file was of the other parameter
    assert searched("--max-commits", "1") == (None, 1)
    assert searched("--max-commits", "2") == ("alpha", None)
    said = project.ml("why", "model", "--max-commits", "1").stdout
    assert "before the last change of its file; further back: --max-commits 10" in said
    project.git("clone", "-q", "--depth=1", f"file://{project.path}", str(project.path.parent / "shallow"))
    assert "nothing here says who changed it" in Project(project.path.parent / "shallow").ml("why", "model").stdout

    # where a parameter is not there yet, the others can be read all the same
    specification = json.loads(project.read("pipeline.json"))
    specification["stages"][0]["params"].append("params.json:late")
    project.write("pipeline.json", json.dumps(specification))
    project.write("params.json", '{"alpha": 3, "other": 5, "late": 1}\n')
    project.commit("late")
    found = causes(why(project, "model")["made"])
    assert found["parameter", "params.json:late"] == "late"
    assert found["parameter", "params.json:alpha"] == "alpha"


def test_a_specification_in_a_file_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("_jsonnet")
    templated = {"file": "p/b.jsonnet", "args": {"name": "b"}}
    project = small_project(tmp_path / "project", {"stages": ["p/a.yaml", templated]})
    fields = "transform: {{cmd: [sh, -c, 'echo {0} > pfs/out/x']}}\ninput: {{pfs: {{repo: input, glob: /}}}}\n"
    library = "{{ transform: {{ cmd: ['sh', '-c', 'echo {0} > pfs/out/x'] }} }}\n"
    rest = "pipeline: { name: name }, input: { pfs: { repo: 'input', glob: '/' } }"
    project.write("p/b.jsonnet", f"local l = import 'l.libsonnet'; function(name) l {{ {rest} }}\n")
    for number in (1, 2):
        project.write("p/a.yaml", "pipeline: {name: a}\n" + fields.format(number))
        project.write("p/l.libsonnet", library.format(number))
        project.commit(f"number {number}")
    project.write("p/a.yaml", "description: words\npipeline: {name: a}\n" + fields.format(2))
    project.commit("words")
    assert causes(why(project, "a/x")["made"])["specification", "p/a.yaml"] == "number 2"
    assert causes(why(project, "b/x")["made"])["specification", "p/b.jsonnet"] == "number 2"

    project.write("p/a.yaml", "pipeline: {name: a}\n" + fields.format(3))
    project.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-a", "-m", "number 3")
    [changed] = [each for each in why(project, "a")["differences"]["a"] if each["kind"] == "specification"]
    assert (changed["file"], changed["changed_by"]["subject"]) == ("p/a.yaml", "number 3")


def test_many_files_take_one_walk(tmp_path: Path) -> None:
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"] = pipeline["stages"][:1]
    files = [f"code/{number}.sh" for number in range(12)]
    pipeline["stages"][0]["code"] = ["train.sh", *files]
    project = small_project(tmp_path / "project", pipeline)
    for file in files:
        project.write(file, "")
    project.commit("start")
    trace = tmp_path / "trace"
    project.git("config", "--global", "trace2.eventTarget", str(trace))
    made = why(project, "model")["made"]
    assert {causes(made)["code", file] for file in files} == {"start"}
    started = [json.loads(line) for line in trace.read_text().splitlines()]
    walks = [each["argv"] for each in started if each["event"] == "start" and {"log", "rev-list"} & {*each["argv"]}]
    # for the record, inputs, code, and the specification
    assert 0 < len(walks) <= 4


def test_data_and_code_name_who_changed_them(project: Project) -> None:
    assert why(project, "input/z.csv")["changed_by"]["subject"] == "new input"
    assert "--reaches" in project.ml("why", "train.sh").stdout


def test_a_diamond_is_told_once(tmp_path: Path) -> None:
    def stage(name: str, *inputs: str) -> dict[str, Any]:
        sides = [{"pfs": {"repo": each, "glob": "/"}} for each in inputs]
        return {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-c", "cat pfs/*/* > pfs/out/all"]},
            "input": sides[0] if len(sides) == 1 else {"cross": sides},
        }

    stages = [stage("one", "training"), stage("left", "one"), stage("right", "one"), stage("last", "left", "right")]
    project = small_project(tmp_path / "project", {"stages": stages})
    project.commit("start")
    left, right = (cause["made"] for cause in why(project, "last")["made"]["causes"] if cause["made"])
    assert [cause["made"]["told"] for cause in left["causes"] if cause["made"]] == [False]
    assert [cause["made"]["told"] for cause in right["causes"] if cause["made"]] == [True]
    assert project.ml("why", "last").stdout.count("as above") == 1
    assert [each["stage"] for each in why(project, "--reaches", "training/a.csv")["reached"]] == [
        "one", "left", "right", "last"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "outputs"),
    [
        ("new input", {"inference": ["inference/z.csv"]}),
        ("more training", {"model": ["model/metrics.json", "model/model.txt"],
                           "inference": ["inference/x.csv", "inference/y.csv", "inference/z.csv"]}),
    ],
)  # fmt: skip
def test_what_a_commit_reached(project: Project, subject: str, outputs: dict[str, list[str]]) -> None:
    report = why(project, "--reaches", find(project, subject))
    assert {each["stage"]: each["outputs"] for each in report["reached"]} == outputs
    assert report["replaced"] == {}


def test_what_was_changed_again_reaches_no_more(project: Project) -> None:
    # the file was changed again, but the parameter that a stage reads has its value from this commit
    assert why(project, "--reaches", find(project, "alpha"))["paths"] == ["params.json"]
    project.write("params.json", '{"alpha": 9, "other": 5}\n')
    project.commit("alpha again")
    report = why(project, "--reaches", find(project, "alpha"))
    assert report["paths"] == []
    assert report["replaced"]["params.json"]["subject"] == "alpha again"
    assert report["reached"] == []
    assert "it went into no result" in project.ml("why", "--reaches", find(project, "alpha")).stdout


def test_a_file_that_no_glob_picks_reaches_nothing(project: Project) -> None:
    project.write("notes.txt", "x\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "notes")
    assert why(project, "--reaches", "notes.txt")["reached"] == []


def test_a_clone_without_runs_says_that_it_does_not_know(project: Project, tmp_path: Path) -> None:
    project.git("clone", "-q", str(project.path), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    [reached] = why(clone, "--reaches", "input/z.csv")["reached"]
    assert reached["partly"]
    assert reached["outputs"] == []
    assert why(clone, "inference")["made"]["run"] is None
    assert "not known here" in clone.ml("why", "--reaches", "input/z.csv").stdout


def test_what_is_not_there_and_a_commit_upwards(project: Project) -> None:
    done = project.ml("why", "nothing", check=False)
    assert done.returncode == 128
    assert "'nothing' is no stage, path or commit" in done.stderr
    assert "stages: model, inference" in done.stderr
    done = project.ml("why", "HEAD", check=False)
    assert done.returncode == 128
    assert "git ml why --reaches HEAD" in done.stderr


def test_hostile_names_do_not_reach_the_terminal(project: Project) -> None:
    project.write("input/\x1b[31mred", "r\n")
    project.commit("\x1b[32mgreen")
    said = project.ml("why", "--reaches", "input").stdout + project.ml("why", "input/\x1b[31mred").stdout
    assert "red" in said
    assert "\x1b" not in said


def test_history_is_walked_once_for_all_files_of_a_stage(project: Project, tmp_path: Path) -> None:
    project.git("config", "ml.auto", "false")
    for number in range(30):
        project.write(f"training/more-{number:02}.csv", f"{number}\n")
        if number == 14:
            project.commit("the first half", wait=False)
    project.write("train.sh", project.read("train.sh") + "# the end\n")
    project.commit("the second half", wait=False)
    trace = tmp_path / "trace"
    told = json.loads(project.ml("why", "--json", "model", GIT_TRACE=str(trace)).stdout)["differences"]["model"]
    by = [(each["name"], each["changed_by"]["subject"]) for each in told if each["kind"] in ("input", "code")]
    halves = ["the first half"] * 15 + ["the second half"] * 15
    assert by == [
        *((f"training/more-{number:02}.csv", half) for number, half in enumerate(halves)),
        ("train.sh", "the second half"),
    ]
    walks = [line for line in trace.read_text().splitlines() if "rev-list --full-history --parents" in line]
    # what its result was made from has walks of its own; it was 31 for what differs
    assert 1 <= len(walks) <= 4


def test_which_lines_and_files_made_a_stage_stale(project: Project) -> None:
    project.git("config", "ml.auto", "false")
    project.write("training/c.csv", "7\n")
    project.write("params.json", '{\n  "other": 5,\n  "alpha": 9\n}\n')
    project.commit("numbers", wait=False)
    project.write("train.sh", project.read("train.sh").replace("| sort", "| sort -n"))
    pipeline = json.loads(project.read("pipeline.json"))
    pipeline["stages"][0]["transform"]["env"] = {"A": "1"}
    project.write("pipeline.json", json.dumps(pipeline, indent=1))
    project.commit("code and field", wait=False)
    said = why(project, "model")
    found = {(each["kind"], each["name"]): each for each in said["differences"]["model"]}
    assert list(found) == [
        ("input", "training/c.csv"), ("code", "train.sh"), ("parameter", "alpha"), ("specification", "env"),
    ]  # fmt: skip
    assert found["input", "training/c.csv"]["what"] == "added"
    assert found["input", "training/c.csv"]["changed_by"]["subject"] == "numbers"
    code = found["code", "train.sh"]
    assert (code["line"], code["lines"]) == (2, {"new": 1, "gone": 1})
    assert code["text"] == "cat pfs/training/* | sort -n > pfs/out/model.txt"
    alpha = found["parameter", "alpha"]
    assert (alpha["file"], alpha["line"], alpha["what"]) == ("params.json", 3, "3 → 9")
    assert alpha["changed_by"]["subject"] == "numbers"
    env = found["specification", "env"]
    line = next(n for n, text in enumerate(project.read("pipeline.json").splitlines(), 1) if '"env"' in text)
    assert (env["file"], env["line"], env["what"]) == ("pipeline.json", line, '{"A":"1"} is new')
    assert env["changed_by"]["subject"] == "code and field"
    # the stage after it waits, and says what for
    shown = project.ml("why", "inference").stdout
    assert "inference is stale: waits for 'model'" in shown
    assert "model is stale, as this is not what its result was made from:" in shown
    words = " ".join(shown.split())
    assert "code train.sh:2 changed (+1 -1): cat pfs/training/* | sort -n" in words
    assert "parameter params.json:3 alpha 3 → 9" in words
    project.ml("run")
    said = why(project, "model")
    assert said["differences"] == {}
    (alpha,) = [cause for cause in said["made"]["causes"] if cause["kind"] == "parameter"]
    assert (alpha["name"], alpha["value"], alpha["line"]) == ("params.json:alpha", "9", 3)
    assert "params.json:alpha = 9 (line 3)" in project.ml("why", "model").stdout


def test_a_result_that_was_brought_back_is_told_of_its_own_inputs(project: Project) -> None:
    pipeline = json.loads(project.read("pipeline.json"))
    pipeline["stages"][0]["params"] = ["params.json"]
    project.write("pipeline.json", json.dumps(pipeline))
    project.write("params.json", '{"fit": {"alpha": 3,\n "beta": 1}}\n')
    project.commit("tables")
    project.write("params.json", '{"fit": {"alpha": 3,\n "beta": 2}}\n')
    project.write("training/b.csv", "6\n")
    project.commit("beta")
    project.git("revert", "--no-edit", "HEAD")
    said = why(project, "model")
    assert said["state"]["state"] == "held"
    # what differs is of the newer commit, what the result was made from of those before
    assert {each["name"]: each["changed_by"]["subject"] for each in said["differences"]["model"]} == {
        "training/b.csv": "beta",
        "fit.beta": "beta",
    }
    assert said["made"]["datum"] == "training"
    assert said["made"]["result"]["subject"].startswith("Revert")
    found = causes(said["made"])
    assert found["input", "training"] == "more training"
    assert found["parameter", "params.json"] == "tables"
    shown = json.loads(project.ml("show", "--json", "model").stdout)
    assert shown["source"] == find(project, "tables")
    assert shown["inputs"][0]["changed_by"] == find(project, "more training")


def test_a_member_of_a_table_has_the_commit_that_changed_it(project: Project) -> None:
    pipeline = json.loads(project.read("pipeline.json"))
    pipeline["stages"][0]["params"] = ["params.json:fit"]
    project.write("pipeline.json", json.dumps(pipeline))
    project.write("params.json", '{"fit": {"alpha": 3, "beta": 1, "c": {"d.e": 1}}}\n')
    project.commit("tables")
    project.git("config", "ml.auto", "false")
    for subject, alpha, beta, inner in [("alpha again", 4, 1, 1), ("beta", 4, 2, 1), ("inner", 4, 2, 3)]:
        values = {"alpha": alpha, "beta": beta, "c": {"d.e": inner}}
        project.write("params.json", json.dumps({"fit": values}))
        project.commit(subject, wait=False)
    found = why(project, "model")["differences"]["model"]
    assert {each["name"]: each["changed_by"]["subject"] for each in found} == {
        "fit.alpha": "alpha again",
        "fit.beta": "beta",
        "fit.c.d.e": "inner",
    }
