"""Cron inputs in a real repository: ticks are committed, run their stages, and leave the user's work alone."""

from pathlib import Path
from typing import Any

from tests.end_to_end.project import small_project


def stage(name: str, **cron: Any) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-e"], "stdin": ["ls pfs/tick > pfs/out/$PACH_DATUM_ID"]},
        "input": {"cron": {"name": "tick", **cron}},
    }


def test_ticks_are_caught_up_and_forced(tmp_path: Path) -> None:
    once_a_century = "0 0 1 1 *"
    project = small_project(
        tmp_path / "project",
        {
            "stages": [
                stage("all", spec=once_a_century, start="2024-06-01T00:00:00Z"),
                stage("last", spec=once_a_century, start="2024-06-01T00:00:00Z", overwrite=True, repo="ticks/last"),
                stage("never", spec="@never"),
                stage("later", spec="@every 100h"),
            ]
        },
    )
    project.commit("a pipeline")
    listed = {line["stage"]: line for line in project.json("cron", "--list")["inputs"]}
    assert listed["all"]["due"] >= 1
    assert listed["all"]["last"] is None
    assert (listed["never"]["due"], listed["never"]["next"]) == (0, None)
    assert listed["later"]["due"] == 0
    assert listed["later"]["next"] is not None
    assert "last never, next never" in project.ml("cron", "--list").stdout

    project.write("staged", "mine")
    project.git("add", "staged")
    project.write("all_tick/mine", "not added")
    said = project.json("cron")
    project.wait()
    missed = [tick["time"] for tick in said["ticks"] if tick["stage"] == "all"]
    assert missed[0] == "2025-01-01T00:00:00Z"
    assert len(missed) == listed["all"]["due"]
    assert project.git("ls-tree", "--name-only", "HEAD:all_tick").splitlines() == missed
    assert project.git("ls-tree", "--name-only", "HEAD:ticks/last") == missed[-1]
    assert project.git("diff", "--cached", "--name-only") == "staged"
    assert (project.path / "all_tick/mine").read_text() == "not added"
    outputs = sorted(path.read_text().strip() for path in (project.path / "all").iterdir())
    assert outputs == missed  # a datum each
    assert [path.read_text().strip() for path in (project.path / "last").iterdir()] == missed[-1:]

    head = project.head()
    again = project.ml("cron")
    assert "no tick is due" in again.stderr
    assert project.head() == head
    forced = project.json("cron", "tick", "never", "last")
    project.wait()
    assert [tick["stage"] for tick in forced["ticks"]] == ["last", "never"]
    now = forced["ticks"][0]["time"]
    assert project.git("ls-tree", "--name-only", "HEAD:ticks/last") == now
    assert [path.read_text().strip() for path in (project.path / "never").iterdir()] == [now]
    wrong = project.ml("cron", "tick", "model", check=False)
    assert wrong.returncode == 128
    assert "no stage 'model' with a cron input" in wrong.stderr
