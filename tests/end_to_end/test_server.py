"""A bare repository that runs what is pushed to it."""

from pathlib import Path

import pytest

from tests.end_to_end.project import Project, small_project


@pytest.fixture
def server(tmp_path: Path) -> Project:
    project = Project(tmp_path / "server.git")
    project.path.mkdir()
    project.git("init", "-q", "--bare", "-b", "main")
    return project


@pytest.fixture
def clone(tmp_path: Path, server: Project) -> Project:
    project = small_project(tmp_path / "clone")
    project.git("config", "ml.auto", "false")
    project.git("remote", "add", "origin", str(server.path))
    project.commit("first", wait=False)
    return project


def test_row_18_server_queues_pushes_and_has_results_beside_the_branch(server: Project, clone: Project) -> None:
    assert "only reviewed commands run" in server.ml("install", "--server").stdout
    assert "hint: push one to it" in server.ml("status", check=False).stderr
    said = clone.run("git", "push", "-q", "origin", "main").stderr
    assert "remote: gitml: main is queued; results go to refs/ml/results/main" in said
    assert f"git -C {server.path} ml logs --follow" in said
    server.wait()
    assert server.git("for-each-ref", "refs/ml/results") == "", "nobody reviewed these commands"

    server.ml("trust", "--level", "repo")
    clone.write("training/b.csv", "3\n")
    clone.commit("more", wait=False)
    clone.run("git", "push", "-q", "origin", "main")
    clone.write("training/c.csv", "4\n")
    clone.commit("still more", wait=False)
    clone.run("git", "push", "-q", "origin", "main", "main:topic")
    server.wait()
    tip = clone.head()
    assert server.head("main") == tip, "the branch belongs to those who push"
    assert server.head("refs/ml/results/main^") == tip
    assert server.git("show", "refs/ml/results/main:model/model.txt") == "1\n2\n3\n4"
    assert server.git("show", "refs/ml/results/topic:model/model.txt") == "1\n2\n3\n4"
    assert server.executions() <= 6, "one run for both branches"
    clone.git("pull", "-q", "origin", "refs/ml/results/main")
    assert clone.states() == {"model": "fresh", "inference": "fresh"}
    clone.run("git", "push", "-q", "origin", ":topic")
    assert server.git("for-each-ref", "--format=%(refname)", "refs/ml/results") == "refs/ml/results/main"

    server.git("config", "ml.serverPublish", "branch")
    clone.write("training/d.csv", "5\n")
    clone.commit("on top", wait=False)
    assert "on top: git pull" in clone.run("git", "push", "-q", "origin", "main").stderr
    server.wait()
    assert server.head("main^") == clone.head()
    clone.git("pull", "-q", "--ff-only", "origin", "main")
    assert clone.read("model/model.txt") == "1\n2\n3\n4\n5\n"

    server.git("config", "ml.serverPublish", "nowhere")
    clone.git("commit", "-q", "--allow-empty", "-m", "empty")
    done = clone.run("git", "push", "-q", "origin", "main")
    assert "ml.serverPublish is 'nowhere'" in done.stderr
    assert server.ml("install", "--server", check=False).returncode == 128


def test_server_hooks_chain_and_go_away(server: Project, clone: Project) -> None:
    hooks = server.path / "hooks"
    hooks.mkdir(exist_ok=True)
    own = hooks / "post-receive"
    own.write_text("#!/bin/sh\ncat > seen\n")
    own.chmod(0o755)
    before = {path.name: path.read_bytes() for path in hooks.iterdir()}
    assert "post-receive: your own hook stays" in server.ml("install", "--server").stdout
    clone.run("git", "push", "-q", "origin", "main")
    server.wait()
    assert "refs/heads/main" in server.read("seen")
    server.ml("uninstall")
    assert {path.name: path.read_bytes() for path in hooks.iterdir()} == before
    assert "bare" in clone.ml("install", "--server", check=False).stderr
