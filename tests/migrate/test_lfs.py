"""From git-lfs and back: by hand-written pointers, and with the real program where it is installed."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gitml.errors import ExitCode
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.install.chain import hooks_dir
from gitml.migrate.convert import ConversionError
from gitml.migrate.lfs import LfsStore, format_lfs_pointer
from gitml.migrate.migration import detect, remove_lfs_setup, uses_lfs
from gitml.migrate.selection import Choice
from gitml.store.pointer import is_pointer
from tests.conftest import run_git
from tests.end_to_end.project import Project
from tests.migrate.histories import EVERYTHING, History, files_of, noise, run, set_up, status, trees_of

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")


def keep(repo: Path, content: bytes) -> bytes:
    """Put content where git-lfs keeps it; give its pointer."""
    return LfsStore(Repository.discover(repo)).write([content])


@pytest.fixture
def lfs_repo(repo: Path) -> Path:
    """Two versions with pointers of git-lfs, one nested attribute file, one small content, an .lfsconfig."""
    history = History()
    first = history.commit(
        "main",
        b"one",
        {
            b".gitattributes": ATTRIBUTES + b"*.c text\n",
            b".lfsconfig": b"[lfs]\n\turl = https://example.org/\n",
            b"a.bin": keep(repo, noise(1)),
            b"small.bin": (0o100755, keep(repo, b"small")),
            b"empty.bin": b"",
            b"sub/.gitattributes": b"table filter=lfs diff=lfs merge=lfs -text\n",
            b"sub/table": keep(repo, noise(2)),
            b"x.c": b"int x;\n",
        },
    )
    history.commit("main", b"two", {b"a.bin": keep(repo, noise(3))}, [first])
    history.write(repo)
    run_git(repo, "reset", "-q", "--hard")
    return repo


def test_pointers_become_those_of_gitml(lfs_repo: Path) -> None:
    assert detect(Repository.discover(lfs_repo)) == "lfs"
    repo = set_up(lfs_repo)
    outcome = run(lfs_repo, source="lfs", choice=Choice(("main",)))
    assert (outcome.commits, outcome.contents) == (2, 4)
    with GitOdb(repo.git, repo.format) as odb:
        for revision, newest in (("main~1", noise(1)), ("main", noise(3))):
            files = files_of(repo, odb, revision)
            assert files[b"a.bin"].content == newest
            assert is_pointer(odb.read(files[b"a.bin"].oid)[1])
            assert (files[b"small.bin"].mode, files[b"small.bin"].content) == (0o100755, b"small")
            assert not is_pointer(odb.read(files[b"small.bin"].oid)[1])
            assert files[b"empty.bin"].content == b""
            assert files[b"sub/table"].content == noise(2)
            assert files[b".gitattributes"].content == b"*.bin filter=ml -text\n*.c text\n"
            assert files[b"sub/.gitattributes"].content == b"table filter=ml -text\n"
            assert b".lfsconfig" not in files
    assert status(lfs_repo) == ""
    assert (lfs_repo / "a.bin").read_bytes() == noise(3), "where a pointer stood is the content now"
    assert (lfs_repo / "small.bin").read_bytes() == b"small"
    assert not uses_lfs(repo, ["main"])


def test_what_came_from_git_lfs_goes_back_to_the_same_trees(lfs_repo: Path) -> None:
    run_git(lfs_repo, "rm", "-q", ".lfsconfig")
    run_git(lfs_repo, "commit", "-q", "-m", "no server")
    repo = set_up(lfs_repo)
    commits = [repo.resolve(name) for name in ("main", "main~1", "main~2")]
    trees = trees_of(repo.git, commits)
    imported = run(lfs_repo, source="lfs", choice=EVERYTHING)
    shutil.rmtree(lfs_repo / ".git/lfs")
    exported = run(lfs_repo, to="lfs", choice=EVERYTHING)
    back = trees_of(repo.git, [exported.object_map[imported.object_map[oid]] for oid in commits])
    assert back[0] == trees[0]
    assert len(back) == 3, "the older ones differ by the .lfsconfig that is of no use any more"
    store = LfsStore(repo)
    for content in (noise(1), noise(2), noise(3), b"small"):
        assert store.path(hashlib.sha256(content).digest()).read_bytes() == content


def test_one_new_commit_is_enough(lfs_repo: Path) -> None:
    repo = set_up(lfs_repo)
    old = repo.resolve("main")
    run(lfs_repo, source="lfs")
    assert repo.resolve("main~1") == old
    assert (lfs_repo / "sub/table").read_bytes() == noise(2)
    assert not (lfs_repo / ".lfsconfig").exists()
    assert status(lfs_repo) == ""


def test_chosen_files_leave_git_lfs(lfs_repo: Path) -> None:
    repo = set_up(lfs_repo)
    run(lfs_repo, source="lfs", choice=Choice(("main",)), include=("a.bin",))
    with GitOdb(repo.git, repo.format) as odb:
        files = files_of(repo, odb, "main")
        assert files[b"a.bin"].content == noise(3)
        assert files[b"sub/table"].content == format_lfs_pointer(hashlib.sha256(noise(2)).digest(), 70_000)
    assert uses_lfs(repo, ["main"])
    assert run_git(lfs_repo, "check-attr", "filter", "diff", "--", "a.bin").splitlines() == [
        "a.bin: filter: ml",
        "a.bin: diff: unspecified",
    ]


def test_missing_contents_are_named_and_nothing_happens(lfs_repo: Path) -> None:
    repo = set_up(lfs_repo)
    LfsStore(repo).path(hashlib.sha256(noise(1)).digest()).unlink()
    old = repo.resolve("main")
    with pytest.raises(ConversionError, match=r"one content is missing, nothing was changed\n'a.bin'") as caught:
        run(lfs_repo, source="lfs", choice=Choice(("main",)))
    assert caught.value.exit_code == ExitCode.MISSING_DATA
    assert repo.resolve("main") == old
    outcome = run(lfs_repo, source="lfs", choice=Choice(("main",)), skip_missing=True)
    assert outcome.missing == [b"a.bin"]
    with GitOdb(repo.git, repo.format) as odb:
        assert files_of(repo, odb, "main")[b"a.bin"].content == noise(3)


def test_damaged_contents_stop_everything(lfs_repo: Path) -> None:
    repo = set_up(lfs_repo)
    LfsStore(repo).path(hashlib.sha256(noise(1)).digest()).write_bytes(noise(9))
    with pytest.raises(ConversionError, match="damaged") as caught:
        run(lfs_repo, source="lfs", choice=Choice(("main",)), skip_missing=True)
    assert caught.value.exit_code == ExitCode.VERIFICATION_FAILED


def test_hooks_of_git_lfs_go_and_others_stay(repo: Path) -> None:
    here = Repository.discover(repo)
    hooks = hooks_dir(here)
    hooks.mkdir(exist_ok=True)
    lfs = '#!/bin/sh\ncommand -v git-lfs >/dev/null 2>&1 || { echo >&2 "no"; exit 2; }\ngit lfs %s "$@"\n'
    (hooks / "pre-push").write_text(lfs % "pre-push")
    (hooks / "post-merge.gitml-orig").write_text(lfs % "post-merge")
    (hooks / "post-checkout.legacy.gitml-orig").write_text(lfs % "post-checkout")
    (hooks / "post-commit").write_text(lfs % "post-commit" + "echo mine\n")
    run_git(repo, "config", "filter.lfs.clean", "git-lfs clean -- %f")
    assert remove_lfs_setup(here, hooks) == ["pre-push", "post-checkout", "post-merge", "filter.lfs"]
    assert sorted(path.name for path in hooks.iterdir()) == ["post-commit"]
    assert remove_lfs_setup(here, hooks) == []


@needs_lfs
def test_the_real_git_lfs_agrees(repo: Path, tmp_path: Path) -> None:
    run_git(repo, "lfs", "install", "--local")
    run_git(repo, "lfs", "track", "*.bin")
    for number in (1, 2):
        (repo / "a.bin").write_bytes(noise(number))
        (repo / "b.bin").write_bytes(b"small %d" % number)
        run_git(repo, "add", "-A")
        run_git(repo, "commit", "-q", "-m", f"version {number}")
    here = set_up(repo)
    commits = [here.resolve(name) for name in ("main", "main~1")]
    trees = trees_of(here.git, commits)
    imported = run(repo, source="lfs", choice=EVERYTHING)
    assert status(repo) == ""
    assert (repo / "a.bin").read_bytes() == noise(2)
    shutil.rmtree(repo / ".git/lfs")
    exported = run(repo, to="lfs", choice=EVERYTHING)
    back = [exported.object_map[imported.object_map[oid]] for oid in commits]
    assert trees_of(here.git, back) == trees
    assert status(repo) == ""
    assert "OK" in run_git(repo, "lfs", "fsck")
    assert [line.split()[2] for line in run_git(repo, "lfs", "ls-files", "--all").splitlines()].count("a.bin") == 2
    run_git(tmp_path, "init", "-q", "--bare", "remote.git")
    run_git(repo, "remote", "add", "origin", f"file://{tmp_path}/remote.git")
    run_git(repo, "lfs", "push", "--all", "origin")
    run_git(repo, "push", "-q", "origin", "main")
    subprocess.run(["git", "lfs", "install"], check=True, capture_output=True, cwd=tmp_path)
    run_git(tmp_path, "clone", "-q", f"file://{tmp_path}/remote.git", "clone")
    assert (tmp_path / "clone/a.bin").read_bytes() == noise(2)


@needs_lfs
def test_the_command_leaves_git_lfs_and_comes_back(repo: Path) -> None:
    project = Project(repo)
    project.git("lfs", "install", "--local")
    project.write(".gitattributes", ATTRIBUTES)
    project.write("a.bin", noise(1))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    said = project.ml("migrate", "import", "main").stderr
    assert "git-lfs is no longer set up here" in said
    assert project.git("config", "--local", "filter.lfs.process", check=False) == ""
    assert project.is_clean()
    assert "git lfs update" in project.ml("migrate", "undo").stderr
    assert project.is_clean()
    assert (repo / "a.bin").read_bytes() == noise(1)
    assert project.git("lfs", "ls-files", "-n") == "a.bin"


@needs_lfs
def test_what_is_not_here_is_fetched_by_git_lfs(repo: Path, tmp_path: Path) -> None:
    run_git(repo, "lfs", "install", "--local")
    run_git(repo, "lfs", "track", "*.bin")
    for number in (1, 2):
        (repo / "a.bin").write_bytes(noise(number))
        run_git(repo, "add", "-A")
        run_git(repo, "commit", "-q", "-m", f"version {number}")
    run_git(tmp_path, "init", "-q", "--bare", "remote.git")
    run_git(repo, "remote", "add", "origin", f"file://{tmp_path}/remote.git")
    run_git(repo, "push", "-q", "origin", "main")
    os.environ["GIT_LFS_SKIP_SMUDGE"] = "1"
    try:
        run_git(tmp_path, "clone", "-q", f"file://{tmp_path}/remote.git", "clone")
    finally:
        del os.environ["GIT_LFS_SKIP_SMUDGE"]
    clone = tmp_path / "clone"
    here = set_up(clone)
    with pytest.raises(ConversionError):
        run(clone, source="lfs", choice=Choice(include=("main",)), skip_fetch=True)
    run(clone, source="lfs", choice=Choice(include=("main",)))
    with GitOdb(here.git, here.format) as odb:
        assert files_of(here, odb, "main~1")[b"a.bin"].content == noise(1)
    assert (clone / "a.bin").read_bytes() == noise(2)
    assert status(clone) == ""
