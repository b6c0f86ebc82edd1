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
    assert here.has_filter
    assert library.installed_hooks(here) == list(library.HOOKS)
    # chunks of noise, which git would search for deltas in vain
    assert run_git(repo, "check-attr", "delta", "ab/cd.mlx") == "ab/cd.mlx: delta: unset"
    assert run_git(repo, "check-attr", "delta", "ab/cd") == "ab/cd: delta: unspecified"
    once = snapshot(repo / ".git")
    library.install(here, fetch=False)
    assert snapshot(repo / ".git") == once, "installing again changes nothing"
    assert library.uninstall(here) == ["post-commit"]
    assert snapshot(repo / ".git") == before
    assert not here.has_filter


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


def lay_out_husky(repo: Path) -> None:
    """What `npx husky` (9.1) leaves: a stub for most events, which runs the file of its name one directory above."""
    stubs = repo / ".husky" / "_"
    stubs.mkdir(parents=True)
    (stubs / ".gitignore").write_text("*")
    (stubs / "h").write_text(
        '#!/usr/bin/env sh\nn=$(basename "$0")\ns=$(dirname "$(dirname "$0")")/$n\n\n[ ! -f "$s" ] && exit 0\n'
        'sh -e "$s" "$@"\nc=$?\nexit $c\n'
    )
    for name in ({*library.HOOKS} - {"post-index-change"}) | {"commit-msg"}:
        (stubs / name).write_text('#!/usr/bin/env sh\n. "$(dirname "$0")/h"')
        (stubs / name).chmod(0o755)
    run_git(repo, "config", "core.hooksPath", ".husky/_")


def commit(repo: Path, **environment: str) -> None:
    with (repo / "a").open("a") as file:
        file.write("a\n")
    run_git(repo, "add", "a")
    subprocess.run(
        ["git", "commit", "-q", "-m", "m"], cwd=repo, env={**os.environ, **environment}, check=True, capture_output=True
    )


def test_husky_keeps_its_scripts_and_calls_ours(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "can_configure_hooks", lambda _: False)
    lay_out_husky(repo)
    here = Repository.discover(repo)
    before = snapshot(repo)
    for force in (False, True):  # with force, husky would look for the user's script under the wrong name
        with pytest.raises(UserError, match="husky") as refused:
            library.install(here, fetch=False, force=force)
    assert snapshot(repo) == before
    lines = [line.partition(": ") for line in (refused.value.hint or "").splitlines()[1:]]
    assert [Path(place).name for place, _, _ in lines] == [
        each for each in library.HOOKS if each != "post-index-change"
    ]
    for place, _, line in lines:
        script = Path(place)
        assert script.parent == repo / ".husky"
        script.write_text(f"# {line}\n")
    with pytest.raises(UserError):
        library.install(here, fetch=False)  # a comment is no call
    for place, _, line in lines:
        Path(place).write_text(f"{line}\n")
    theirs = snapshot(repo / ".husky")
    report = library.install(here, fetch=False)
    assert report.called == [name for name in library.HOOKS if name != "post-index-change"]
    assert (repo / ".husky" / "_" / "post-index-change").exists(), "husky has none and leaves it alone"
    assert library.installed_hooks(here) == list(library.HOOKS)
    assert library.chains(here)["post-commit"] == ["husky", "gitml (called there)"]
    marker = repo / ".git" / "ml" / "committing"
    (repo / "a").write_text("a")
    run_git(repo, "add", "a")
    editor = {
        **os.environ, "GIT_EDITOR": f"cp '{marker}' seen; echo m >",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    subprocess.run(["git", "commit", "-q"], cwd=repo, env=editor, check=True, capture_output=True)
    assert (repo / "seen").read_text().split()[-1].isdigit(), "an open editor is known under a manager, too"
    assert not marker.exists()
    library.uninstall(here)
    assert snapshot(repo / ".husky") == theirs, "scripts of the manager stay, and only they"
    (repo / "a").write_text("b")
    commit(repo, PATH="/usr/bin:/bin")  # and hurt nobody who lacks gitml


PRE_COMMIT = """#!/usr/bin/env bash
# File generated by pre-commit: https://pre-commit.com
# ID: 138fd403232d2ddd5efb44317e38bf03
HERE="$(cd "$(dirname "$0")" && pwd)"
[ -z "$PRE_COMMIT_RUNNING_LEGACY" ] || { echo "bug: pre-commit's script is installed in migration mode" >&2; exit 1; }
if [ -x "$HERE/%(name)s.legacy" ]; then PRE_COMMIT_RUNNING_LEGACY=1 "$HERE/%(name)s.legacy" "$@"; r=$?; fi
echo pre-commit >> ran
exit $r
"""


def install_pre_commit(hooks: Path, name: str) -> None:
    """What `pre-commit install --hook-type NAME` (4.7) does with a script that is there."""
    script = hooks / name
    if script.exists() and b"generated by pre-commit" not in script.read_bytes():
        script.replace(hooks / f"{name}.legacy")
    script.write_text(PRE_COMMIT % {"name": name})
    script.chmod(0o755)


def test_pre_commit_calls_ours_however_often_it_is_installed(repo: Path) -> None:
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    ran = repo / "ran"
    for name in ("pre-commit", "post-commit"):
        install_pre_commit(hooks, name)
    before = snapshot(hooks)
    here = Repository.discover(repo)
    library.install(here, fetch=False)
    install_pre_commit(hooks, "post-commit")
    assert library.installed_hooks(here) == list(library.HOOKS)
    assert library.chains(here)["pre-commit"] == ["gitml", "pre-commit"]
    once = snapshot(hooks)
    library.install(here, fetch=False)
    assert snapshot(hooks) == once, "installing again changes nothing"
    marker = repo / ".git" / "ml" / "committing"
    commit(repo)
    assert ran.read_text() == "pre-commit\n" * 2
    assert not marker.exists(), "ours ran too"
    library.uninstall(here)
    assert snapshot(hooks) == before


def test_pre_commit_that_comes_later_leaves_the_users_hook_in_the_chain(repo: Path) -> None:
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    ran = repo / "ran"
    mine = "#!/bin/sh\necho mine >> ran\n"
    (hooks / "post-commit").write_text(mine)
    (hooks / "post-commit").chmod(0o755)
    here = Repository.discover(repo)
    library.install(here, fetch=False)
    install_pre_commit(hooks, "post-commit")
    for _ in range(2):
        ran.unlink(missing_ok=True)
        commit(repo)
        assert ran.read_text() == "mine\npre-commit\n"
        assert not (repo / ".git" / "ml" / "committing").exists()
        assert library.chains(here)["post-commit"] == ["your own hook", "gitml", "pre-commit"]
        library.install(here, fetch=False)
    library.uninstall(here)
    assert (hooks / "post-commit.legacy").read_text() == mine
    assert {path.name for path in hooks.iterdir()} == {"post-commit", "post-commit.legacy"}


def test_what_an_older_gitml_put_before_pre_commit_is_put_behind_it(repo: Path) -> None:
    hooks = repo / ".git" / "hooks"
    here = Repository.discover(repo)
    library.install(here, fetch=False)
    (hooks / "post-commit.gitml-orig").write_text(PRE_COMMIT % {"name": "post-commit"})
    (hooks / "post-commit.gitml-orig").chmod(0o755)
    library.install(here, fetch=False)
    assert library.chains(here)["post-commit"] == ["gitml", "pre-commit"]
    assert not (hooks / "post-commit.gitml-orig").exists()
    commit(repo)
    assert (repo / "ran").read_text() == "pre-commit\n"


LEFTHOOK = """#!/bin/sh

if [ "$LEFTHOOK" = "0" ]; then
  exit 0
fi

call_lefthook()
{
  echo "lefthook $@" >> ran
}

call_lefthook run "%s" "$@"
"""


def test_lefthook_gets_lines_for_the_hooks_that_it_has(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "can_configure_hooks", lambda _: False)
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "pre-push", "commit-msg"):
        (hooks / name).write_text(LEFTHOOK % name)
        (hooks / name).chmod(0o755)
    (repo / ".lefthook.yaml").write_text("pre-commit:\n  jobs:\n    - run: make lint\n")
    before = snapshot(repo / ".git")
    here = Repository.discover(repo)
    with pytest.raises(UserError, match="lefthook") as refused:
        library.install(here, fetch=False)
    assert snapshot(repo / ".git") == before
    first, *lines = (refused.value.hint or "").splitlines()[1:]
    assert first == ".lefthook.yaml, then: lefthook install"
    assert [line for line in lines if not line.startswith(" ")] == ["pre-commit:", "pre-push:"]
    assert lines[-1].strip() == "use_stdin: true"
    (repo / ".lefthook.yaml").write_text("\n".join(lines))
    report = library.install(here, fetch=False)
    assert report.called == ["pre-commit", "pre-push"]
    assert library.installed_hooks(here) == list(library.HOOKS)
    library.uninstall(here)
    assert snapshot(hooks) == {name.removeprefix("hooks/"): each for name, each in before.items() if "hooks/" in name}


def test_lefthook_that_moved_ours_aside_is_seen_and_undone(repo: Path) -> None:
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-commit").write_text(LEFTHOOK % "post-commit")
    here = Repository.discover(repo)
    library.install(here, fetch=False, force=True)
    assert library.chains(here)["post-commit"] == ["gitml"], "a script that may not be executed does not run"
    (hooks / "post-commit").replace(hooks / "post-commit.old")
    (hooks / "post-commit").write_text(LEFTHOOK % "post-commit" + "# newer\n")
    assert "post-commit" not in library.installed_hooks(here)
    library.uninstall(here)
    assert [path.name for path in hooks.iterdir()] == ["post-commit"]
    assert (hooks / "post-commit").read_text().endswith("# newer\n")


def test_a_script_that_replaced_ours_is_not_taken_for_the_one_before(repo: Path) -> None:
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-commit").write_text("#!/bin/sh\nfirst\n")
    here = Repository.discover(repo)
    library.install(here, fetch=False)
    (hooks / "post-commit").write_text("#!/bin/sh\nsecond\n")
    before = snapshot(repo / ".git")
    with pytest.raises(UserError, match="took the place"):
        library.install(here, fetch=False)
    assert snapshot(repo / ".git") == before
    (hooks / "post-commit").write_text("#!/bin/sh\nfirst\n")
    library.install(here, fetch=False)
    library.uninstall(here)
    assert snapshot(hooks) == {"post-commit": (b"#!/bin/sh\nfirst\n", 0o755)}


def test_hooks_in_the_configuration_of_git(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a git that has them is told; one that has none ignores it."""
    monkeypatch.setattr(library, "can_configure_hooks", lambda _: True)
    lay_out_husky(repo)
    before = snapshot(repo)
    here = Repository.discover(repo)
    report = library.install(here, fetch=False)
    assert report.configured == [name for name in library.HOOKS if name != "post-index-change"]
    assert library.installed_hooks(here) == list(library.HOOKS)
    command = run_git(repo, "config", "hook.gitml-post-commit.command")
    marker = repo / ".git" / "ml" / "committing"
    marker.write_text("1\n")
    commit(repo)
    subprocess.run(["sh", "-c", f'{command} "$@"', "hook"], cwd=repo, check=True)
    assert not marker.exists(), "the command is ours"
    run_git(repo, "config", "hook.post-merge.enabled", "false")
    assert "post-merge" not in library.installed_hooks(Repository.discover(repo))
    run_git(repo, "config", "--unset", "hook.post-merge.enabled")
    library.uninstall(here)
    assert {name: text for name, text in snapshot(repo).items() if name in before} == before
    assert not (repo / ".git" / "ml" / "hooks").exists()


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
    assert b"gitml: neither /nowhere/python nor git-ml on PATH is there" in done.stderr
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
