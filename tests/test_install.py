"""Setting a clone up and taking it back."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gitml import install as library
from gitml.errors import UserError
from gitml.git.repository import Repository
from tests.conftest import run_git


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(directory).as_posix(): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "objects" not in path.parts
    }


def test_uninstall_leaves_what_was_there_before_byte_for_byte(repo: Path) -> None:
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-commit").write_bytes(b"#!/bin/sh\necho mine \xff\n")
    (hooks / "post-commit").chmod(0o700)
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "attributes").write_text("*.x -text\n")
    run_git(repo, "remote", "add", "origin", str(repo))
    before = snapshot(repo / ".git")
    here = Repository.discover(repo)
    report = library.install(here, fetch=False)
    library.remember_path(here)
    assert report.chained == ["post-commit"]
    assert library.is_installed(here)
    assert library.installed_hooks(here) == list(library.HOOKS)
    once = snapshot(repo / ".git")
    library.install(here, fetch=False)
    assert snapshot(repo / ".git") == once, "installing again changes nothing"
    assert library.uninstall(here) == ["post-commit"]
    assert snapshot(repo / ".git") == before
    assert not library.is_installed(here)


def test_a_hook_of_the_users_own_runs_first_and_can_refuse(repo: Path) -> None:
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name, text in {"pre-commit": "exit 1", "pre-push": "cat > pushed; exit 3"}.items():
        (hooks / name).write_text(f"#!/bin/sh\n{text}\n")
        (hooks / name).chmod(0o755)
    library.install(Repository.discover(repo), fetch=False)
    (repo / "a").write_text("a")
    run_git(repo, "add", "a")
    refused = subprocess.run(["git", "commit", "-m", "no"], cwd=repo, capture_output=True, check=False)
    assert refused.returncode == 1
    (hooks / "pre-commit.gitml-orig").write_text("#!/bin/sh\nexit 0\n")
    run_git(repo, "commit", "-q", "-m", "yes")
    run_git(repo, "init", "-q", "--bare", "../there.git")
    pushed = subprocess.run(
        ["git", "push", "../there.git", "main"], cwd=repo, capture_output=True, check=False, env=dict(os.environ)
    )
    assert pushed.returncode != 0
    head = run_git(repo, "rev-parse", "HEAD")
    assert (repo / "pushed").read_text() == f"refs/heads/main {head} refs/heads/main {'0' * 40}\n"


def test_hooks_of_a_manager_are_not_touched_without_force(repo: Path) -> None:
    (repo / ".husky").mkdir()
    run_git(repo, "config", "core.hooksPath", ".husky")
    here = Repository.discover(repo)
    before = snapshot(repo / ".git")
    with pytest.raises(UserError, match=r"\.husky"):
        library.install(here, fetch=False)
    assert snapshot(repo / ".git") == before
    library.install(here, force=True, fetch=False)
    assert (repo / ".husky" / "post-commit").exists()


def test_a_manager_whose_scripts_call_the_hooks_keeps_them(repo: Path) -> None:
    (repo / ".husky" / "_").mkdir(parents=True)
    run_git(repo, "config", "core.hooksPath", ".husky/_")
    here = Repository.discover(repo)
    with pytest.raises(UserError) as refused:
        library.install(here, fetch=False)
    lines = [line.partition(": ") for line in (refused.value.hint or "").splitlines()[1:]]
    assert len(lines) == len(library.HOOKS)
    for place, _, line in lines:
        script = Path(place)
        assert script.parent == repo / ".husky"
        script.write_text(f"# {line}\n")
        stub = script.parent / "_" / script.name
        stub.write_text(f'#!/bin/sh\nsh -e "{script}" "$@"\n')
        stub.chmod(0o755)
    with pytest.raises(UserError):
        library.install(here, fetch=False)  # a comment is no call
    for place, _, line in lines:
        Path(place).write_text(f'PATH="{Path(sys.executable).parent}:$PATH" {line}\n')
    before = {path: path.read_bytes() for path in (repo / ".husky").rglob("*") if path.is_file()}
    library.install(here, fetch=False)
    assert library.installed_hooks(here) == list(library.HOOKS)
    marker = repo / ".git" / "ml" / "committing"
    (repo / "a").write_text("a")
    run_git(repo, "add", "a")
    editor = {**os.environ, "GIT_EDITOR": f"cp '{marker}' seen; echo m >"}
    subprocess.run(["git", "commit", "-q"], cwd=repo, env=editor, check=True, capture_output=True)
    assert (repo / "seen").read_text().strip().isdigit(), "an open editor is known under a manager, too"
    assert not marker.exists()
    library.uninstall(here)
    assert all(path.read_bytes() == text for path, text in before.items()), "scripts of the manager stay"


def test_a_missing_interpreter_stops_no_commit_but_a_push(repo: Path) -> None:
    library.install(Repository.discover(repo), fetch=False)
    for name in library.HOOKS:
        hook = repo / ".git" / "hooks" / name
        hook.write_text(hook.read_text().replace(sys.executable, "/nowhere/python"))
    (repo / "a").write_text("a")
    path = "/usr/bin:/bin"
    for command in (["git", "add", "a"], ["git", "commit", "-q", "-m", "a"]):
        done = subprocess.run(command, cwd=repo, env={**os.environ, "PATH": path}, capture_output=True, check=False)
        assert done.returncode == 0
    assert b"gitml: not found" in done.stderr
    run_git(repo, "init", "-q", "--bare", "../there.git")
    pushed = subprocess.run(
        ["git", "push", "../there.git", "main"],
        cwd=repo,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=False,
    )
    assert pushed.returncode != 0
    assert b"would leave the data behind" in pushed.stderr
