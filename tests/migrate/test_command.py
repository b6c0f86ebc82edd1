"""`git ml migrate` as users type it; and killed in the middle."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.git.repository import Repository
from tests.conftest import run_git
from tests.end_to_end.project import Project
from tests.migrate.histories import History, noise, refs, set_up, text


@pytest.fixture
def project(repo: Path) -> Project:
    history = History()
    first = history.commit("main", b"one", {b"a.bin": noise(1), b"t.csv": text(1), b"x": b"x"})
    history.commit("main", b"two", {b"a.bin": noise(2)}, [first])
    history.write(repo)
    run_git(repo, "reset", "-q", "--hard")
    return Project(repo)


def test_the_story_of_a_migration(project: Project) -> None:
    before = project.git("for-each-ref")
    assert project.json("migrate", "info", "main")["patterns"] == [
        {"kind": "git", "pattern": "*.bin", "files": 1, "versions": 2, "bytes": 140_000},
        {"kind": "git", "pattern": "*.csv", "files": 1, "versions": 1, "bytes": len(text(1))},
    ]
    assert project.json("migrate", "info", "--include", "a.*")["patterns"] == [
        {"kind": "git", "pattern": "a.*", "files": 1, "versions": 1, "bytes": 70_000}
    ]
    old = project.git("rev-list", "--reverse", "main").splitlines()
    done = project.ml("migrate", "import", "main", "-I", "*.bin", "--object-map", "../map")
    new = project.git("rev-list", "--reverse", "main").splitlines()
    assert done.stdout == "2 commits rewritten, 2 contents of 140.0 kB converted\n"
    assert sorted((project.path.parent / "map").read_text().split()) == sorted(
        f"{a},{b}" for a, b in zip(old, new, strict=True)
    )
    assert project.is_clean()
    assert [file["path"] for file in project.json("ls")["files"]] == ["a.bin"]
    undo = next(line for line in done.stderr.splitlines() if line.startswith("undo: ")).removeprefix("undo: git ")
    project.git(*undo.split())
    assert [line for line in project.git("for-each-ref").splitlines() if "refs/ml/data" not in line] == [before]
    assert project.is_clean()
    said = project.ml("migrate", "import", "--above", "100kB")
    assert said.stdout == f"1 content of {len(text(1)) / 1000:.1f} kB converted in a new commit\n"
    assert project.git("log", "-1", "--format=%s %an") == "put files under gitml (from plain git) Ada"
    assert project.ml("migrate", "export").stderr.startswith("undo: ")
    assert project.git("rev-parse", "HEAD^{tree}") == project.git("rev-parse", "HEAD~2^{tree}")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("import",), 128, "error: no files are named"),
        (("import", "--from", "svn"), 129, "'svn' is none of git, lfs, dvc"),
        (("import", "--above", "big"), 129, "'big' is not a size"),
        (("import", "main", "--everything"), 129, "--everything leaves no refs to choose"),
        (("import", "main", "--no-rewrite"), 129, "name no refs"),
        (("import", "nowhere", "-I", "*"), 128, "error: 'nowhere' is not a branch"),
        (("export", "--to", "svn"), 129, "'svn' is none of git, lfs, dvc"),
        (("undo",), 128, "error: there is no migration to undo"),
        (("undo", "20200101T000000Z"), 128, "error: there is no migration '20200101T000000Z'"),
    ],
)
def test_what_cannot_be_done_is_said(project: Project, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = project.ml("migrate", *arguments, check=False)
    assert done.returncode == code
    assert message in done.stderr


def test_a_remote_that_cannot_be_asked_stops_a_rewriting(project: Project) -> None:
    project.git("remote", "add", "origin", "/nowhere")
    done = project.ml("migrate", "import", "main", "-I", "*.bin", check=False)
    assert "cannot learn what 'origin' has" in done.stderr
    assert "--skip-fetch" in done.stderr
    assert project.ml("migrate", "import", "main", "-I", "*.bin", "--skip-fetch").returncode == 0


def test_two_at_once_and_a_run_under_way_are_kept_apart(project: Project) -> None:
    import fcntl

    for name, message in (("migrate.lock", "another migration is under way"), ("runner.lock", "a run is under way")):
        lock = project.path / ".git/ml" / name
        lock.parent.mkdir(exist_ok=True)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            done = project.ml("migrate", "import", "-I", "*.bin", check=False)
            assert (done.returncode, message in done.stderr) == (4, True)


def _when(path: str) -> Callable[[Path], bool]:
    return lambda git_dir: (git_dir / path).exists()


def _has_pack(git_dir: Path) -> bool:
    return any((git_dir / "ml/migrate/objects/pack").glob("pack-*.idx"))


def _refs_moved(git_dir: Path) -> bool:
    return any((git_dir / "refs/ml/migrate-backup").glob("*/heads/main"))


@pytest.mark.parametrize(
    "moment",
    [
        _has_pack,
        _when("ml/migrate/trees.json"),
        _when("ml/migrating.json"),
        _refs_moved,
    ],
    ids=["contents", "engine", "noted", "refs"],
)
def test_a_kill_leaves_all_or_nothing(repo: Path, moment: Callable[[Path], bool]) -> None:
    history = History()
    mark = 0
    for number in range(24):
        files = {b"a.bin": noise(number, 100_000), b"n": b"%d" % number}
        mark = history.commit("main", b"%d" % number, files, [mark] if mark else [])
    history.ref("refs/heads/middle", 12)
    history.write(repo)
    set_up(repo)
    project, here = Project(repo), Repository.discover(repo)
    before = refs(here)
    process = subprocess.Popen(
        ["git", "ml", "migrate", "import", "main", "-I", "*.bin"],
        cwd=repo, env=project.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not moment(repo / ".git"):
        pass
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    def moved() -> set[str]:
        after = refs(here)
        return {name for name, oid in before.items() if after[name] != oid}

    # a git that moves refs at this very moment comes to its end
    project.until(lambda: moved() in (set(), set(before)))
    assert here.git.run("fsck", "--strict", "--connectivity-only").returncode == 0
    (repo / ".git/index.lock").unlink(missing_ok=True)  # git leaves it when it is killed
    project.ml("migrate", "import", "main", "-I", "*.bin", "--yes")
    assert moved() == set(before)
    assert project.is_clean()
    assert (repo / "a.bin").read_bytes() == noise(23, 100_000)
    assert len(json.loads(project.ml("ls", "--json").stdout)["files"]) == 1
    assert not (repo / ".git/ml/migrate").exists()
    assert not (repo / ".git/ml/migrating.json").exists()
