"""The git situations of daily work: nothing of the user's is lost, no result lands on the wrong base."""

import os
import signal
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.end_to_end.project import Project


class Gate:
    """Training that has begun and does not end before the gate is opened."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._file = project.path.parent / "gate"
        project.git("config", "ml.sandbox", "none")  # the gate is a file outside the workspace
        project.write("train.sh", f"while [ ! -e '{self._file}' ]; do sleep 0.05; done\n" + project.read("train.sh"))

    def until_running(self) -> None:
        self._project.until(lambda: self._project.states()["model"] == "running")

    def open(self) -> None:
        self._file.touch()


def test_first_commit_gives_a_result_commit_with_trailers(project: Project) -> None:
    assert project.subjects() == ["gitml: update model, inference", "first"]
    trailers = project.git("log", "-1", "--format=%(trailers:only,unfold)").splitlines()
    assert f"Gitml-Source: {project.head('HEAD^')}" in trailers
    assert "Gitml-Stages: model, inference" in trailers
    assert project.read("model/model.txt") == "1\n2\n"
    assert project.read("inference/x.csv") == "x\n2\n"
    assert project.is_clean()
    assert project.git("log", "-1", "--format=%an <%ae> %cn") == "Ada <ada@example.org> gitml"
    project.git("fsck", "--strict", "--no-dangling")


def test_row_03_amend_of_a_data_commit(project: Project) -> None:
    project.write("training/b.csv", "3\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "more", GITML="0")
    project.write("training/b.csv", "4\n")
    project.git("add", "-A")
    project.git("commit", "-q", "--amend", "--no-edit")
    project.wait()
    assert project.read("model/model.txt") == "1\n2\n4\n"
    assert project.subjects() == ["gitml: update model, inference", "more", "gitml: update model, inference", "first"]
    assert project.is_clean()


def test_row_03_amend_of_a_result_commit_keeps_everything_fresh(project: Project) -> None:
    before = project.executions()
    project.write("notes.txt", "n\n")
    project.git("add", "-A")
    project.git("commit", "-q", "--amend", "-m", "results and notes")
    project.wait()
    assert project.subjects() == ["results and notes", "first"]
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == before


def test_row_04_interactive_rebase_that_reorders_and_drops(project: Project) -> None:
    project.write("a.txt", "a\n")
    project.commit("a")
    project.write("training/b.csv", "3\n")
    project.commit("data b")
    project.write("c.txt", "c\n")
    project.commit("c")
    before = project.executions()
    # drop the commit with new data and its results; what remains is the first model again
    project.git("rebase", "-q", "-i", "HEAD~4", GIT_SEQUENCE_EDITOR="sed -i -e '/data b/d' -e '/gitml: update/d'")
    project.wait()
    assert project.subjects()[:2] == ["c", "a"]
    assert set(project.states().values()) == {"fresh"}
    assert project.read("model/model.txt") == "1\n2\n"
    assert project.executions() == before
    assert project.is_clean()


def test_row_04_rebase_that_drops_results(project: Project) -> None:
    project.git("switch", "-q", "-c", "topic")
    project.write("input/x.csv", "other x\n")
    project.commit("data x")
    project.git("revert", "--no-edit", "HEAD")  # that result is not wanted
    project.wait()
    assert project.states()["inference"] == "held"
    project.write("training/t.csv", "7\n")
    project.commit("data t")
    project.git("switch", "-q", "main")
    project.write("training/a.csv", "1\n4\n")
    project.commit("data a")
    project.git("switch", "-q", "topic")
    project.ml("rebase", "main", "--interactive", GIT_SEQUENCE_EDITOR="cp -t ..")
    todo = (project.path.parent / "git-rebase-todo").read_text().splitlines()
    # the user sees the list without results; the first stays, as its revert builds on it
    assert [line.split()[0] for line in todo if line and line[0] != "#"] == ["pick", "pick", "pick", "pick", "drop"]
    assert set(project.states().values()) == {"fresh"}
    assert project.read("model/model.txt") == "1\n4\n7\n"
    assert project.subjects()[1] == "data t"
    assert project.is_clean()


def test_row_04_rebase_with_a_conflict_is_ended_by_git(project: Project) -> None:
    project.git("switch", "-q", "-c", "topic")
    project.write("training/a.csv", "1\n5\n")
    project.commit("topic data")
    project.git("switch", "-q", "main")
    project.write("training/a.csv", "1\n4\n")
    project.commit("main data")
    project.git("switch", "-q", "topic")
    at = project.head()
    assert project.ml("rebase", "main", check=False).returncode == 1
    assert "stands alone" in project.ml("rebase", "--abort", "main", check=False).stderr
    project.ml("rebase", "--abort")
    assert project.head() == at
    assert project.ml("rebase", "main", check=False).returncode == 1
    assert project.subjects()[0] == "gitml: update model, inference"
    project.git("checkout", "-q", "--theirs", "training/a.csv")
    project.git("add", "training/a.csv")
    before = project.executions()
    project.git("config", "ml.auto", "false")  # no hook runs anything: what is known comes back all the same
    project.ml("rebase", "--continue", GIT_EDITOR="true")
    assert project.subjects()[:2] == ["gitml: restore model, inference", "topic data"]
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == before


def test_row_04_rebase_onto_other_data_recomputes_once_at_the_end(project: Project) -> None:
    project.git("switch", "-q", "-c", "topic")
    project.write("training/t.csv", "7\n")
    project.commit("topic data")
    project.git("switch", "-q", "main")
    project.write("training/m.csv", "5\n")
    project.commit("main data")
    project.git("switch", "-q", "topic")
    done = project.run("git", "rebase", "main", check=False)
    assert "detached" not in done.stderr, "commits that are replayed are not looked at one by one"
    if done.returncode:  # the two results conflict where no merge driver is asked (git am); ours stays
        project.git("checkout", "--ours", "--", "model", "inference", ".gitml", check=False)
        project.git("add", "-A")
        project.git("rebase", "--continue", GIT_EDITOR="true")
    project.wait()
    assert project.read("model/model.txt") == "1\n2\n5\n7\n"
    assert set(project.states().values()) == {"fresh"}
    assert project.is_clean()
    assert not (project.path / ".git" / "rebase-merge").exists()


def test_row_05_cherry_pick_of_a_result_commit_does_not_pass_for_this_branch(project: Project) -> None:
    project.git("switch", "-q", "-c", "other")
    project.write("training/o.csv", "9\n")
    project.commit("other data")
    result = project.head()
    project.git("switch", "-q", "main")
    project.git("cherry-pick", result)
    project.wait()
    # main's own inputs have a known result, and it is not the one that was picked: that was put there on purpose
    assert project.states() == {"model": "held", "inference": "fresh"}
    assert project.read("model/model.txt") == "1\n2\n9\n"
    assert project.read("inference/x.csv") == "x\n9\n"
    assert project.read("training/a.csv") == "1\n2\n"
    assert project.is_clean()


def test_row_09_11_merge_where_both_sides_changed_data(project: Project) -> None:
    project.git("switch", "-q", "-c", "topic")
    project.write("training/t.csv", "7\n")
    project.commit("topic data")
    project.git("switch", "-q", "main")
    project.write("training/m.csv", "5\n")
    project.commit("main data")
    project.git("merge", "-q", "--no-edit", "topic")
    project.wait()
    assert project.read("model/model.txt") == "1\n2\n5\n7\n"
    assert project.subjects()[0] == "gitml: update model, inference"
    assert len(project.git("log", "-1", "--format=%P", "HEAD^").split()) == 2
    assert set(project.states().values()) == {"fresh"}
    assert project.is_clean()


def test_fast_forward_merge_brings_results_along(project: Project) -> None:
    project.git("switch", "-q", "-c", "topic")
    project.write("training/t.csv", "7\n")
    project.commit("topic data")
    project.git("switch", "-q", "main")
    before = project.executions()
    project.git("merge", "-q", "--ff-only", "topic")
    project.wait()
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == before


def test_row_12_squash_merge_is_fresh_by_content(project: Project) -> None:
    project.git("switch", "-q", "-c", "topic")
    project.write("training/t.csv", "7\n")
    project.commit("topic data")
    project.git("switch", "-q", "main")
    before = project.executions()
    project.git("merge", "-q", "--squash", "topic")
    project.git("commit", "-q", "-m", "squashed")
    project.wait()
    assert project.subjects()[0] == "squashed"
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == before


def test_stash_and_pop_while_results_arrive(project: Project) -> None:
    gate = Gate(project)
    project.write("training/b.csv", "3\n")
    project.commit("slower", wait=False)
    project.write("notes.txt", "draft\n")
    project.write("input/x.csv", "X changed\n")
    project.git("add", "notes.txt")
    project.git("stash", "-q")
    gate.open()
    project.wait()
    project.git("stash", "pop", "-q")
    assert project.read("notes.txt") == "draft\n"
    assert project.read("input/x.csv") == "X changed\n"
    assert project.git("status", "--porcelain").splitlines() in (
        ["A  notes.txt", " M input/x.csv"],
        [" M input/x.csv", "A  notes.txt"],
    )
    assert project.read("model/model.txt") == "1\n2\n3\n"
    assert set(project.states().values()) == {"fresh"}


def test_row_31_users_changes_survive_publishing(project: Project) -> None:
    gate = Gate(project)
    project.write("training/b.csv", "3\n")
    project.commit("slower", wait=False)
    project.write("staged.txt", "staged\n")
    project.git("add", "staged.txt")
    project.write("input/y.csv", "dirty\n")
    project.write("model/model.txt", "edited by hand\n")
    gate.open()
    project.wait()
    assert project.git("diff", "--cached", "--name-only") == "staged.txt"
    assert project.read("input/y.csv") == "dirty\n"
    assert project.read("model/model.txt") == "edited by hand\n"
    assert project.git("show", "HEAD:model/model.txt") == "1\n2\n3"
    assert sorted(project.git("diff", "--name-only").splitlines()) == ["input/y.csv", "model/model.txt"]


def test_row_13_detached_head_computes_nothing_by_itself(project: Project) -> None:
    tip = project.head("main")
    project.git("checkout", "-q", "--detach")
    project.write("training/b.csv", "3\n")
    said = project.commit("on no branch")
    assert "detached" in said
    assert project.subjects()[0] == "on no branch"
    assert project.states()["model"] == "stale"
    assert project.head("main") == tip
    report = project.json("run")
    assert report["published"] is None
    assert [stage["ran"] for stage in report["stages"]] == [1, 2]
    assert "HEAD is detached; 'git ml publish --to NAME' does it, on a new branch" in project.ml("run").stderr
    assert "no name for a branch" in project.ml("publish", "--to", "a..b", check=False).stderr
    assert "not at the commit checked out" in project.ml("publish", "--to", "main", check=False).stderr
    before = project.executions()
    assert "on branch rescued" in project.ml("publish", "--to", "rescued").stdout
    assert project.git("symbolic-ref", "-q", "HEAD", check=False) == "", "the files checked out stay"
    project.git("checkout", "-q", "--detach", "main")
    assert "nothing to commit" in project.ml("publish", "--to", "needless").stdout
    assert project.git("branch", "--list", "needless") == ""
    project.git("switch", "-q", "rescued")
    assert project.executions() == before
    assert project.subjects()[:2] == ["gitml: restore model, inference", "on no branch"]
    assert set(project.states().values()) == {"fresh"}
    assert project.head("main") == tip


def test_row_15_linked_worktree_gets_its_own_results(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "-q", "-b", "topic", str(tmp_path / "linked"))
    linked = Project(tmp_path / "linked")
    tip = project.head("main")
    linked.write("training/t.csv", "7\n")
    linked.commit("topic data")
    assert linked.subjects()[:2] == ["gitml: update model, inference", "topic data"]
    assert linked.read("model/model.txt") == "1\n2\n7\n"
    assert linked.is_clean()
    assert project.is_clean()
    assert project.head("main") == tip
    assert project.read("model/model.txt") == "1\n2\n"


def test_row_01_second_commit_while_the_first_one_runs(project: Project) -> None:
    gate = Gate(project)
    project.commit("slower", wait=False)
    gate.until_running()
    project.write("input/z.csv", "z\n")
    project.commit("new input", wait=False)
    gate.open()
    project.wait()
    assert project.subjects()[:3] == ["gitml: update model, inference", "new input", "slower"]
    assert project.read("inference/z.csv") == "z\n2\n"
    assert set(project.states().values()) == {"fresh"}
    assert project.is_clean()


def test_row_01_second_commit_changes_what_the_first_one_computes(project: Project) -> None:
    gate = Gate(project)
    project.commit("slower", wait=False)
    gate.until_running()
    project.write("training/b.csv", "3\n")
    project.commit("new data", wait=False)
    gate.open()
    project.wait()
    assert project.subjects()[:3] == ["gitml: update model, inference", "new data", "slower"]
    assert project.read("model/model.txt") == "1\n2\n3\n"
    assert set(project.states().values()) == {"fresh"}


def test_row_02_results_wait_for_an_open_commit_editor(project: Project, tmp_path: Path) -> None:
    project.git("config", "ml.publishWait", "1")
    gate = Gate(project)
    project.commit("slower", wait=False)
    gate.until_running()
    editor = tmp_path / "editor"
    editor.write_text(
        f'#!/bin/sh\ntouch "{tmp_path}/open"\nwhile [ ! -e "{tmp_path}/close" ]; do sleep 0.05; done\n'
        'echo edited > "$1"\n'
    )
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    project.write("note.txt", "n\n")
    project.git("add", "note.txt")
    committing = subprocess.Popen(
        ["git", "commit"], cwd=project.path, env=project.environment(GIT_EDITOR=str(editor)),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    project.until((tmp_path / "open").exists)
    tip, before = project.head(), project.executions()
    gate.open()
    project.wait()  # until the runner has given up waiting for the editor
    assert project.executions() == before + 1
    assert project.head() == tip, "nothing may move the branch below an open editor"
    (tmp_path / "close").touch()
    _, stderr = committing.communicate(timeout=60)
    assert committing.returncode == 0, os.fsdecode(stderr)
    project.wait()
    assert project.subjects()[:3] == ["gitml: restore model", "edited", "slower"]
    assert set(project.states().values()) == {"fresh"}
    assert project.is_clean()


def test_row_02_results_wait_for_a_merge_under_way(project: Project) -> None:
    project.git("config", "ml.publishWait", "1")
    project.git("switch", "-q", "-c", "topic")
    project.write("notes.txt", "theirs\n")
    project.commit("theirs")
    project.git("switch", "-q", "main")
    gate = Gate(project)
    project.write("notes.txt", "ours\n")
    project.commit("slower", wait=False)
    gate.until_running()
    project.git("merge", "-q", "topic", check=False)
    assert (project.path / ".git" / "MERGE_HEAD").exists()
    gate.open()
    tip = project.head()
    project.wait()
    assert project.head() == tip
    project.write("notes.txt", "both\n")
    project.git("add", "notes.txt")
    project.git("commit", "-q", "-m", "merged")
    project.wait()
    assert project.subjects()[0] == "gitml: restore model"
    assert set(project.states().values()) == {"fresh"}
    assert project.is_clean()


def test_row_14_bisect_is_left_alone(project: Project) -> None:
    project.git("config", "ml.publishWait", "0")
    first = project.head()
    for number in range(4):
        project.write("training/b.csv", f"{number}\n")
        project.git("add", "-A")
        project.git("commit", "-q", "-m", f"change {number}", GITML="0")
    (project.path / ".git" / "index.lock").touch()
    project.ml("run")
    (project.path / ".git" / "index.lock").unlink()  # results of main are known now, and wait
    tip, before = project.head(), project.executions()
    project.git("bisect", "start", "HEAD", first)
    steps = 0
    while project.git("symbolic-ref", "-q", "HEAD", check=False) == "" and steps < 2:
        steps += 1
        assert project.states()["model"] == "stale", "a commit whose results nobody knows"
        refused = project.ml("publish", "--wait", "0", check=False)
        assert (refused.returncode, "a bisect is under way" in refused.stderr) == (4, True)
        project.git("bisect", "bad")
    assert steps == 2
    project.wait()
    assert (project.executions(), project.head("main")) == (before, tip)
    project.git("config", "--unset", "ml.publishWait")  # git checks out first, and ends the bisect then
    project.git("bisect", "reset")
    project.wait()
    assert project.subjects()[:2] == ["gitml: restore model, inference", "change 3"]
    assert project.executions() == before
    assert project.is_clean()


def test_row_08_revert_of_a_revert_is_fresh_again(project: Project) -> None:
    project.write("training/b.csv", "3\n")
    project.commit("data b")
    result = project.head()
    project.git("revert", "--no-edit", result)
    project.wait()
    assert project.states()["model"] == "held"
    before = project.executions()
    project.git("revert", "--no-edit", "HEAD")
    project.wait()
    assert set(project.states().values()) == {"fresh"}
    assert project.executions() == before


def test_row_06_07_revert_of_data_restores_and_revert_of_that_result_holds(project: Project) -> None:
    project.write("training/b.csv", "3\n")
    project.commit("data b")
    project.git("revert", "--no-edit", "HEAD~1")
    project.wait()
    assert project.subjects()[0] == "gitml: restore model, inference"
    assert project.read("model/model.txt") == "1\n2\n"
    project.git("revert", "--no-edit", "HEAD")
    project.wait()
    assert project.states()["model"] == "held"
    assert project.read("model/model.txt") == "1\n2\n3\n"


def test_row_23_hook_without_a_terminal_returns_at_once_and_lets_go_of_pipes(project: Project) -> None:
    gate = Gate(project)
    project.git("add", "-A")
    client = subprocess.Popen(
        "git commit -q -m slower 2>&1 | cat", shell=True, cwd=project.path, env=project.environment(),
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    said, _ = client.communicate(timeout=120)
    assert project.states()["model"] in {"running", "stale"}, "the commit must not have waited for the run"
    assert said.decode().startswith("gitml: 2 stages queued (model, inference)")
    assert len(said.splitlines()) == 1
    gate.until_running()
    with suppress(ProcessLookupError):  # the client ends, with all that it has started
        os.killpg(client.pid, signal.SIGKILL)
    gate.open()
    project.wait()
    assert set(project.states().values()) == {"fresh"}


def test_row_26_gitml_0_and_ci_keep_hooks_from_running_anything(project: Project) -> None:
    project.write("training/b.csv", "3\n")
    project.commit("quiet", GITML="0")
    assert project.states()["model"] == "stale"
    project.write("training/c.csv", "4\n")
    project.commit("in ci", CI="true")
    assert project.states()["model"] == "stale"
    project.ml("run")
    assert set(project.states().values()) == {"fresh"}


def test_commands_that_come_by_merge_wait_for_a_person(project: Project, tmp_path: Path) -> None:
    project.git("clone", "-q", str(project.path), str(tmp_path / "clone"))
    colleague = Project(tmp_path / "clone")
    colleague.ml("install")
    colleague.write("train.sh", "touch /tmp/never-run-me-$$\n" + colleague.read("train.sh"))
    colleague.git("config", "ml.auto", "false")
    colleague.commit("new command")
    before = project.executions()
    said = project.run("git", "pull", "-q", str(colleague.path), "main").stderr
    project.wait()
    assert "came from elsewhere" in said
    assert project.states()["model"] == "stale"
    assert project.executions() == before
    project.write("unrelated.txt", "u\n")
    assert "came from elsewhere" in project.commit("unrelated")
    assert project.executions() == before
    project.ml("run")
    assert set(project.states().values()) == {"fresh"}
