"""`git ml verify`: outputs against their records, and stages that run again, in real repositories."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import TWO_STAGES, Project, prepared

TRAIN = """
cat pfs/training/* > pfs/out/model
printf '{"accuracy": %s}\\n' "$(cat pfs/training/accuracy)" > pfs/out/metrics.json
"""
PREDICT = """
for file in pfs/input/*; do
  { echo name,score; echo "$(basename "$file"),$(head -n 1 pfs/model/model)"; } > "pfs/out/$(basename "$file").csv"
done
"""
CHANCE = "sleep 0.01; date +%N > pfs/out/model; echo '{\"accuracy\": 0.9'$(date +%N)'}' > pfs/out/metrics.json\n"


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(TWO_STAGES))
    project.write("train.sh", TRAIN)
    project.write("predict.sh", PREDICT)
    project.write("training/accuracy", "0.95\n")
    for name in "abcd":
        project.write(f"input/{name}", f"{name}\n")
    save(project, "first")
    project.ml("run")
    return project


def save(project: Project, message: str) -> str:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", message)
    return project.head()


def stages(project: Project, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = project.ml("verify", *arguments, "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return {each["name"]: each for each in json.loads(done.stdout)["stages"]}


def test_what_a_run_made_is_as_recorded(project: Project) -> None:
    found = stages(project)
    assert [(each["outcome"], each["files"], each["flaws"]) for each in found.values()] == [
        ("as recorded", 2, []),
        ("as recorded", 4, []),
    ]
    assert "as recorded  4 files" in project.ml("verify", "HEAD", "inference").stdout
    assert list(stages(project, "HEAD~1")) == ["model", "inference"]
    assert stages(project, "HEAD~1", "model")["model"]["outcome"] == "no result"


def test_an_edited_output_is_told_from_a_missing_file(project: Project) -> None:
    project.write("inference/a.csv", "mine\n")
    (project.path / "inference" / "b.csv").unlink()
    save(project, "edited")
    found = stages(project, code=6)["inference"]
    assert found["outcome"] == "edited"
    assert found["strays"] == [
        {"path": "a.csv", "removed": False, "result": None},
        {"path": "b.csv", "removed": True, "result": None},
    ]
    assert stages(project, "model")["model"]["outcome"] == "as recorded"


def test_files_of_two_results_side_by_side(project: Project) -> None:
    base = project.head()
    project.write("input/a", "new a\n")
    project.write("predict.sh", PREDICT + "# one\n")
    save(project, "one side")
    project.ml("run")
    one = project.head()
    project.git("switch", "-q", "-c", "side", base)
    project.write("training/accuracy", "0.5\n")
    save(project, "other side")
    project.ml("run")
    side = project.head()
    project.git("switch", "-q", "main")
    # what a forge does that knows no merge drivers, and a person who takes one side of the record
    project.git("merge", "-q", "--no-commit", "-s", "ours", "side")
    project.git("checkout", "side", "--", "inference/b.csv", "inference/c.csv")
    project.git("commit", "-q", "-m", "merged by a forge")
    found = stages(project, "inference", code=6)["inference"]
    assert found["outcome"] == "blended"
    strays = {each["path"]: each["result"]["commit"] for each in found["strays"]}
    assert strays == {"b.csv": side, "c.csv": side}
    said = project.ml("verify", "inference", check=False).stdout
    assert f"b.csv: of the result that {side[:10]} brought" in said
    assert one != side
    # after a squash nothing in history has the other result, but the run cache does
    project.git("branch", "-q", "-D", "side")
    project.git("reset", "-q", "--soft", one)
    project.git("commit", "-q", "-m", "squashed by a forge")
    found = stages(project, "inference", code=6)["inference"]
    assert found["outcome"] == "blended"
    results = [(each["path"], each["result"]["commit"]) for each in found["strays"]]
    assert results == [("b.csv", None), ("c.csv", None)]
    assert "which only the run cache knows" in project.ml("verify", "inference", check=False).stdout


def test_an_output_that_is_another_result_as_a_whole(project: Project) -> None:
    first = project.head()
    project.write("training/accuracy", "0.5\n")
    save(project, "second")
    project.ml("run")
    project.git("checkout", "-q", first, "--", "inference", "input")
    project.write("input/a", "changed so that nothing is rolled back\n")
    save(project, "mixed up")
    assert stages(project, "inference", code=6)["inference"]["outcome"] == "other result"


def large(project: Project) -> None:
    project.ml("install", "--no-fetch")
    project.write(".gitattributes", "model/model filter=ml -text\n")
    project.write("training/big", os.urandom(300_000))
    save(project, "large")
    project.ml("run")


def unpack(project: Project) -> None:
    """All objects as files, so that one can be taken away."""
    directory = project.path / ".git" / "objects" / "pack"
    packs = [pack.read_bytes() for pack in directory.glob("*.pack")]
    for file in directory.iterdir():
        file.unlink()
    for pack in packs:
        project.run("git", "unpack-objects", "-q", stdin=pack)


def test_content_that_is_missing_is_told_from_content_that_is_wrong(project: Project) -> None:
    large(project)
    found = stages(project, "model")["model"]
    assert found["bytes"] == 300_005
    pointer = project.git("cat-file", "-p", "HEAD:model/model")
    manifest = pointer.split()[-1]
    unpack(project)
    loose = project.path / ".git" / "objects" / manifest[:2] / manifest[2:]
    kept = loose.read_bytes()
    loose.chmod(0o600)
    loose.unlink()
    flaws = stages(project, "model", code=5)["model"]["flaws"]
    assert [(each["path"], each["kind"]) for each in flaws] == [("model/model", "missing")]
    loose.write_bytes(kept)
    assert stages(project, "model")["model"]["flaws"] == []
    # another object under the name of a small file of the output
    metrics = project.head("HEAD:model/metrics.json")
    other = project.head("HEAD:train.sh")
    objects = project.path / ".git" / "objects"
    target = objects / metrics[:2] / metrics[2:]
    target.chmod(0o600)
    target.write_bytes((objects / other[:2] / other[2:]).read_bytes())
    flaws = stages(project, "model", code=6)["model"]["flaws"]
    assert [(each["path"], each["kind"]) for each in flaws] == [("model/metrics.json", "corrupt")]


def test_the_same_comes_out_again_and_nothing_is_left(project: Project) -> None:
    large(project)
    before = project.git("for-each-ref"), project.executions(), project.git("count-objects", "-v")
    found = stages(project, "--recompute")
    for name, total in (("model", 1), ("inference", 4)):
        again = found[name]["recomputed"]
        assert (again["outcome"], again["total"], len(again["tasks"])) == ("same", total, total)
    assert (project.git("for-each-ref"), project.executions(), project.git("count-objects", "-v")) == before
    assert not list((project.path / ".git" / "ml").glob("verify-*"))
    assert project.is_clean()
    assert "run again: 4 of 4 datums: 4 same" in project.ml("verify", "--recompute").stdout


def test_a_sample_is_the_same_each_time(project: Project) -> None:
    def chosen(share: str) -> list[str]:
        found = stages(project, "--recompute", share, "inference")["inference"]["recomputed"]
        return sorted(task["datum"] for task in found["tasks"])

    half = chosen("50%")
    assert len(half) == 2
    assert chosen("50%") == half
    assert len(chosen("0.1%")) == 1
    assert set(chosen("0.1%")) < set(half) < set(chosen("75%"))


def test_what_does_not_come_out_again(project: Project) -> None:
    project.write("train.sh", CHANCE)
    save(project, "chance")
    project.ml("run")
    again = stages(project, "--recompute", "model", code=6)["model"]["recomputed"]
    differences = {each["path"]: each["what"] for each in again["tasks"][0]["differences"]}
    assert set(differences) == {"metrics.json", "model"}
    assert differences["metrics.json"].startswith("accuracy 0.9")
    # the metric is within the tolerance; the model has no numbers that could be
    again = stages(project, "--recompute", "--tolerance", "0.1", "model", code=6)["model"]["recomputed"]
    assert [each["path"] for each in again["tasks"][0]["differences"]] == ["model"]


def test_a_table_within_a_tolerance(project: Project) -> None:
    project.write("predict.sh", '{ echo name,score,other; echo "x,0.5$(date +%N),1"; } > pfs/out/$(ls pfs/input).csv\n')
    save(project, "chance")
    project.ml("run")
    assert stages(project, "--recompute", "--tolerance", "score=0.1", "inference")["inference"]["outcome"]
    found = stages(project, "--recompute", "--tolerance", "other=0.1", "inference", code=6)["inference"]["recomputed"]
    assert found["tasks"][0]["differences"][0]["what"].startswith("score 0.5")


def test_files_that_come_and_go(project: Project) -> None:
    project.write("train.sh", TRAIN + 'test "$(cat /tmp/never 2>/dev/null)" || touch pfs/out/file-$(date +%N)\n')
    save(project, "names by chance")
    project.ml("run")
    again = stages(project, "--recompute", "model", code=6)["model"]["recomputed"]
    whats = sorted(each["what"] for each in again["tasks"][0]["differences"])
    assert whats == ["is new", "not written any more"]


def test_a_stage_that_fails_now(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    switch = tmp_path_factory.mktemp("switch") / "fail"
    project.git("config", "ml.sandbox", "none")
    project.write("train.sh", f"if test -e {switch}; then echo gone wrong; exit 3; fi\n{TRAIN}")
    save(project, "depends on the machine")
    project.ml("run")
    switch.touch()
    again = stages(project, "--recompute", "model", code=2)["model"]["recomputed"]
    task = again["tasks"][0]
    assert (again["outcome"], task["outcome"]) == ("failed", "failed")
    assert "exit status 3" in task["message"]
    assert "gone wrong" in task["last_lines"]


def test_an_input_whose_content_is_not_here_is_skipped(project: Project) -> None:
    project.ml("install", "--no-fetch")
    project.write(".gitattributes", "training/** filter=ml -text\n")
    project.write("training/big", os.urandom(300_000))
    save(project, "large")
    project.ml("run")
    pointer = project.git("cat-file", "-p", "HEAD:training/big")
    manifest = pointer.split()[-1]
    unpack(project)
    (project.path / ".git" / "objects" / manifest[:2] / manifest[2:]).unlink()
    again = stages(project, "--recompute", "model", code=5)["model"]["recomputed"]
    assert (again["outcome"], again["tasks"][0]["outcome"]) == ("skipped", "skipped")


def test_a_stale_result_is_not_run_again(project: Project) -> None:
    project.write("training/accuracy", "0.5\n")
    save(project, "not run")
    found = stages(project, "--recompute", "model")["model"]
    assert found["outcome"] == "as recorded"
    assert found["recomputed"]["reason"] == "its result is of other inputs than this commit has (stale)"


def test_ctrl_c(project: Project) -> None:
    project.write("train.sh", TRAIN + "sleep 3\n")
    save(project, "slow")
    project.ml("run")
    process = subprocess.Popen(
        ["git-ml", "verify", "--recompute", "model"], cwd=project.path, env=project.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    project.until(lambda: list((project.path / ".git" / "ml").glob("verify-*/*/log/*.log")))
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert "then stopped" in out
    assert not list((project.path / ".git" / "ml").glob("verify-*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no stage or commit 'nothing'"),
        (["50%"], "a share of the datums is for running them again"),
        (["--recompute", "0%"], "'0%' is no share"),
        (["--tolerance", "1"], "recorded bytes are compared exactly"),
        (["--recompute", "--tolerance", "x=-1"], "'x=-1' is no tolerance"),
    ],
)
def test_what_is_typed_wrong(project: Project, arguments: list[str], message: str) -> None:
    done = project.ml("verify", *arguments, check=False)
    assert done.returncode == 128
    assert message in done.stderr
