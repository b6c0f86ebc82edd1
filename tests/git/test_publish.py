"""Result commits: determinism, what waits, what is kept, and a publisher that was killed half way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gitml.git.odb import GitOdb
from gitml.git.publish import Moved, Parked, Published, finish_interrupted, publish
from gitml.git.repository import Repository
from gitml.git.state import COMMIT_MARKER, is_at_work, reasons_to_wait, worktrees
from gitml.oid import Oid
from tests.conftest import run_git

MAIN = "refs/heads/main"


@pytest.fixture
def here(repo: Path) -> Repository:
    """A commit on main, and a tree that has one output more."""
    (repo / "data").write_text("d\n")
    run_git(repo, "add", ".")
    run_git(repo, "commit", "-q", "-m", "data")
    return Repository.discover(repo)


def result_tree(repo: Repository, content: str = "m\n") -> Oid:
    assert repo.worktree is not None
    blob = run_git(repo.worktree, "hash-object", "-w", "--stdin", stdin=content.encode())
    model = run_git(repo.worktree, "mktree", stdin=f"100644 blob {blob}\tmodel.txt\n".encode())
    data = run_git(repo.worktree, "rev-parse", "HEAD:data")
    listing = f"100644 blob {data}\tdata\n040000 tree {model}\tmodel\n"
    return Oid.parse(run_git(repo.worktree, "mktree", stdin=listing.encode()))


def put(repo: Repository, tree: Oid, tip: Oid | None = None, wait: float = 0) -> Published | Parked | Moved:
    with GitOdb(repo.git, repo.format) as odb:
        return publish(repo, odb, MAIN, tip or repo.resolve("HEAD"), tree, b"results\n", [b"model"], wait=wait)


def test_a_result_is_on_the_branch_and_in_the_worktree(here: Repository) -> None:
    outcome = put(here, result_tree(here))
    assert isinstance(outcome, Published)
    assert outcome.kept == ()
    assert here.resolve(MAIN) == outcome.commit
    assert here.worktree is not None
    assert (here.worktree / "model" / "model.txt").read_text() == "m\n"
    assert run_git(here.worktree, "status", "--porcelain") == ""
    assert run_git(here.worktree, "log", "-g", "-1", "--format=%gs") == "gitml: results"
    dates = run_git(here.worktree, "log", "-2", "--format=%ad %cd").splitlines()
    assert set(dates[0].split()) == set(dates[1].split())


def test_equal_results_of_two_machines_are_one_commit(here: Repository, tmp_path: Path) -> None:
    run_git(tmp_path, "clone", "-q", str(here.worktree), "there")
    there = Repository.discover(tmp_path / "there")
    commits = [put(repo, result_tree(repo)) for repo in (here, there)]
    assert commits[0] == commits[1]


def test_a_branch_that_went_on_is_left_alone(here: Repository) -> None:
    tip, tree = here.resolve("HEAD"), result_tree(here)
    assert here.worktree is not None
    run_git(here.worktree, "commit", "-q", "--allow-empty", "-m", "meanwhile")
    newer = here.resolve("HEAD")
    assert put(here, tree, tip) == Moved()
    assert here.resolve(MAIN) == newer
    assert not (here.worktree / "model").exists()


def test_a_live_commit_is_waited_for_and_a_dead_one_is_not(here: Repository) -> None:
    marker = here.git_dir / COMMIT_MARKER
    marker.parent.mkdir(parents=True, exist_ok=True)
    living = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "git"], stdin=subprocess.PIPE)
    assert living.stdin is not None
    ended = subprocess.Popen([sys.executable, "-c", "", "git"])
    ended.wait()
    # one whose editor is open, and one that a hook refused meanwhile
    marker.write_text(f"{living.pid}\n{ended.pid}\n")
    assert put(here, result_tree(here)) == Parked("a commit is being written")
    living.stdin.close()
    living.wait()
    assert isinstance(put(here, result_tree(here)), Published)


@pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="there is no /proc here")
def test_a_git_that_has_just_started_is_seen_before_any_hook_tells_of_it(here: Repository, tmp_path: Path) -> None:
    assert here.worktree is not None
    at, go = tmp_path / "at", tmp_path / "go"
    hook = here.git_dir / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n: > '{at}'\nuntil [ -e '{go}' ]; do sleep 0.02; done\n")
    hook.chmod(0o755)
    commit = subprocess.Popen(["git", "commit", "-q", "--allow-empty", "-m", "x"], cwd=here.worktree)
    while not at.exists():
        assert commit.poll() is None
    assert is_at_work(here.worktree, frozenset({b"commit"}), 600)
    assert not is_at_work(here.worktree, frozenset({b"commit"}), 0), "it has been at work for longer"
    assert not is_at_work(here.worktree, frozenset({b"reset"}), 600)
    assert not is_at_work(tmp_path, frozenset({b"commit"}), 600), "it works elsewhere"
    go.touch()
    assert commit.wait() == 0
    assert not is_at_work(here.worktree, frozenset({b"commit"}), 600)


@pytest.mark.parametrize("name", ["index.lock", "MERGE_HEAD", "rebase-merge", "CHERRY_PICK_HEAD", "BISECT_LOG"])
def test_what_is_under_way_is_waited_for(here: Repository, name: str) -> None:
    tip = here.resolve("HEAD")
    (here.git_dir / name).write_text(tip.hex())
    assert isinstance(put(here, result_tree(here)), Parked)
    assert here.resolve(MAIN) == tip
    assert len(list(reasons_to_wait(here, MAIN))) == 1
    assert list(reasons_to_wait(here, "refs/heads/other")) == []


def test_a_rebase_belongs_to_the_branch_it_returns_to(here: Repository) -> None:
    assert here.worktree is not None
    run_git(here.worktree, "checkout", "-q", "--detach")
    assert [tree.branch for tree in worktrees(here)] == [None]
    (here.git_dir / "rebase-merge").mkdir()
    (here.git_dir / "rebase-merge" / "head-name").write_text(f"{MAIN}\n")
    assert [tree.branch for tree in worktrees(here)] == [MAIN]
    assert list(reasons_to_wait(here, MAIN)) == ["a rebase is under way"]


def test_what_the_user_edited_is_kept_and_named(here: Repository) -> None:
    put(here, result_tree(here))
    assert here.worktree is not None
    (here.worktree / "model" / "model.txt").write_text("mine\n")
    outcome = put(here, result_tree(here, "newer\n"))
    assert isinstance(outcome, Published)
    assert outcome.kept == (b"model/model.txt",)
    assert (here.worktree / "model" / "model.txt").read_text() == "mine\n"


def test_a_publisher_killed_after_moving_the_branch_is_finished_by_the_next(here: Repository) -> None:
    tip = here.resolve("HEAD")
    assert here.worktree is not None
    commit = run_git(here.worktree, "commit-tree", "-p", tip.hex(), "-m", "r", result_tree(here).hex())
    run_git(here.worktree, "update-ref", MAIN, commit)
    assert run_git(here.worktree, "status", "--porcelain") != ""
    here.state_dir.mkdir(exist_ok=True)
    intent = here.state_dir / "publishing.json"
    intent.write_text(json.dumps({"branch": MAIN, "tip": tip.hex(), "commit": commit, "paths": ["model"]}))
    with GitOdb(here.git, here.format) as odb:
        finish_interrupted(here, odb)
        assert run_git(here.worktree, "status", "--porcelain") == ""
        assert (here.worktree / "model" / "model.txt").read_text() == "m\n"
        assert not intent.exists()
        intent.write_text("{half a")
        finish_interrupted(here, odb)
    assert not intent.exists()
    assert os.listdir(here.worktree / "model") == ["model.txt"]
