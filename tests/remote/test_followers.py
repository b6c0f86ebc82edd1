"""Data and runs follow the push that git is doing: one step, few requests, and nothing of it without the branch."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from gitml.git.followers import Followers, Waiting, find_leader
from gitml.oid import Oid
from tests.end_to_end.project import Project, small_project
from tests.remote.conftest import NewStore

OID = Oid(bytes(range(20)))


def noise(seed: str, size: int = 200_000) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


@pytest.fixture
def project(tmp_path: Path, new_store: NewStore) -> Project:
    """A project with results and data, pushed once to its origin, a store."""
    project = small_project(tmp_path / "project")
    project.write(".gitattributes", "data/** filter=ml -text\n")
    project.write("data/a.bin", noise("a"))
    project.commit("first")
    project.git("remote", "add", "origin", new_store("moto"))
    project.git("push", "-q", "-u", "origin", "main")
    return project


def change(project: Project, text: str) -> None:
    project.write("input/z.csv", f"{text}\n")
    project.write("data/a.bin", noise(text))
    project.commit(text)


def refs(project: Project) -> dict[str, str]:
    lines = (line.split("\t") for line in project.git("ls-remote", "origin").splitlines())
    return {name: oid for oid, name in lines}


def here(project: Project, pattern: str) -> list[str]:
    return project.git("for-each-ref", "--format=%(objectname)", pattern).split()


def test_a_push_with_data_and_runs_takes_six_requests(project: Project, tmp_path: Path) -> None:
    change(project, "second")
    trace = tmp_path / "trace"
    project.git("push", "-q", GITML_TRACE_REMOTE=str(trace))
    verbs = [line.split()[1] for line in trace.read_text().splitlines()]
    assert sorted(verbs) == ["GET", "PUT", "PUT", "PUT", "PUT", "PUT"], trace.read_text()
    stored = refs(project)
    assert stored["refs/heads/main"] == project.head()
    assert [stored["refs/ml/runs"]] == here(project, "refs/ml/runs")
    heads = [name for name in stored if name.startswith("refs/ml/data/")]
    assert len(heads) == 1, "the head before is superseded in the same write"
    assert sorted(here(project, "refs/ml/remotes/origin")) == sorted([stored[heads[0]], stored["refs/ml/runs"]])
    assert list((project.path / ".git/ml/pushes").iterdir()) == []

    project.git("clone", "-q", project.git("remote", "get-url", "origin").strip(), str(tmp_path / "other"))
    other = Project(tmp_path / "other")
    other.ml("install")
    assert (other.path / "data/a.bin").read_bytes() == noise("second")
    assert set(other.states().values()) == {"fresh"}
    assert "all good" in project.ml("remote", "fsck", "--deep", "origin").stderr


def test_a_push_that_is_only_tried_sends_nothing(project: Project) -> None:
    before = refs(project)
    remembered = here(project, "refs/ml/remotes/origin")
    change(project, "second")
    project.git("push", "-q", "--dry-run")
    assert refs(project) == before
    assert here(project, "refs/ml/remotes/origin") == remembered
    project.git("push", "-q")
    assert refs(project)["refs/heads/main"] == project.head()
    assert len(refs(project)) == len(before)


def test_where_the_branch_may_not_move_nothing_follows(project: Project, tmp_path: Path) -> None:
    url = project.git("remote", "get-url", "origin").strip()
    project.git("clone", "-q", url, str(tmp_path / "other"))
    other = Project(tmp_path / "other")
    other.ml("install")
    change(other, "of the other")
    other.git("push", "-q")
    before = refs(project)
    change(project, "second")
    assert project.run("git", "push", "-q", check=False).returncode != 0
    assert refs(project) == before
    project.git("pull", "-q", "--rebase", "-X", "theirs")
    project.ml("run")
    project.git("push", "-q")
    assert refs(project)["refs/heads/main"] == project.head()
    assert "all good" in project.ml("remote", "fsck", "--deep", "origin").stderr
    other.git("pull", "-q")
    assert (other.path / "data/a.bin").read_bytes() == noise("second")


def test_runs_that_others_push_meanwhile_stay_and_ours_go_with_the_next(project: Project, tmp_path: Path) -> None:
    url = project.git("remote", "get-url", "origin").strip()
    project.git("clone", "-q", url, str(tmp_path / "other"))
    other = Project(tmp_path / "other")
    other.ml("install")
    other.git("checkout", "-q", "-b", "side")
    change(other, "of the other")
    change(project, "second")
    # between the listing and the write of our push comes all of theirs
    hook = project.path / ".git/hooks/pre-push"
    ours = hook.read_text()
    hook.rename(hook.with_name("pre-push.ours"))
    hook.write_text(
        "#!/bin/sh\n"
        f'"{hook}.ours" "$@" || exit\n'
        "unset $(git rev-parse --local-env-vars)\n"
        f'git -C "{other.path}" push -q origin side\n'
    )
    hook.chmod(0o755)
    done = project.run("git", "push", "-q")
    assert "those of this push go with the next" in done.stderr
    stored = refs(project)
    assert stored["refs/heads/main"] == project.head()
    assert stored["refs/heads/side"] == other.head()
    assert [stored["refs/ml/runs"]] == here(other, "refs/ml/runs")
    assert len([name for name in stored if name.startswith("refs/ml/data/")]) == 2
    assert "all good" in project.ml("remote", "fsck", "--deep", "origin").stderr

    hook.write_text(ours)
    project.git("commit", "-q", "--allow-empty", "-m", "next")
    project.git("push", "-q")
    assert [refs(project)["refs/ml/runs"]] == here(project, "refs/ml/runs")
    project.git("merge-base", "--is-ancestor", stored["refs/ml/runs"], "refs/ml/runs")


def test_without_the_hook_nothing_follows(project: Project) -> None:
    before = refs(project)
    change(project, "second")
    project.git("push", "-q", "--no-verify")
    after = refs(project)
    assert after["refs/heads/main"] == project.head()
    assert {n: o for n, o in after.items() if n.startswith("refs/ml/")} == {
        n: o for n, o in before.items() if n.startswith("refs/ml/")
    }
    project.ml("push")
    assert [refs(project)["refs/ml/runs"]] == here(project, "refs/ml/runs")


def test_a_hook_pushes_by_itself_where_two_pushes_wait(project: Project, tmp_path: Path) -> None:
    change(project, "second")
    url = project.git("remote", "get-url", "origin").strip()
    waiting = Waiting(project.path / ".git/ml", url, {})
    try:
        project.git("push", "-q")
    finally:
        waiting.close()
    stored = refs(project)
    assert stored["refs/heads/main"] == project.head()
    assert [stored["refs/ml/runs"]] == here(project, "refs/ml/runs")
    assert "all good" in project.ml("remote", "fsck", "--deep", "origin").stderr


def test_who_waits_is_found_and_told(tmp_path: Path) -> None:
    url = "ml::s3://bucket/path"
    assert find_leader(tmp_path, url) is None
    waiting = Waiting(tmp_path, "s3://bucket/path", {"refs/ml/runs": OID, "refs/heads/main": OID})
    assert find_leader(tmp_path, "ml::s3://bucket/other") is None
    leader = find_leader(tmp_path, url)
    assert leader is not None
    assert leader.refs == {"refs/ml/runs": OID}
    assert waiting.followers() == Followers()
    told = Followers({"refs/ml/runs": OID}, {"refs/ml/data/x"}, {"refs/ml/remotes/o/runs": OID, "refs/ml/x": None})
    leader.follow(told)
    assert waiting.followers() == told
    waiting.close()
    assert find_leader(tmp_path, url) is None


def test_who_was_killed_waits_no_more(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from gitml.git.followers import Waiting;"
        "Waiting(Path(sys.argv[1]), 'ml::/x', {}); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list((tmp_path / "pushes").iterdir())) == 1
    assert find_leader(tmp_path, "ml::/x") is None
    waiting = Waiting(tmp_path, "ml::/x", {})
    assert len(list((tmp_path / "pushes").iterdir())) == 1, "what it left is removed"
    assert find_leader(tmp_path, "ml::/x") is not None
    waiting.close()
