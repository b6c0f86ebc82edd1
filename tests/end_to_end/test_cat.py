"""`git ml cat` as a user types it."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.project import Project, prepared

BIG = hashlib.shake_128(b"big").digest(5_000_000)


@prepared
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.path.mkdir()
    made.git("init", "-q")
    made.ml("install", "--no-fetch")
    made.ml("track", "data/**")
    made.write("data/big", b"old" + BIG)
    made.write("data/small", b"\x00\xff\r\n")
    made.commit("first")
    made.write("data/big", BIG)
    made.commit("second")
    return made


def cat(project: Project, *arguments: str, cwd: str = ".") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "ml", "cat", *arguments],
        cwd=project.path / cwd,
        env=project.environment(),
        capture_output=True,
        check=False,
    )


def said(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, list[str]]:
    return done.returncode, done.stdout, done.stderr.decode().splitlines()


def test_files_are_printed(project: Project) -> None:
    assert said(cat(project, "data/big", "HEAD~1:data/big", "HEAD:data/small")) == (
        0,
        BIG + b"old" + BIG + b"\x00\xff\r\n",
        [],
    )
    assert cat(project, "small", "HEAD:./small", "../data/small", cwd="data").stdout == b"\x00\xff\r\n" * 3
    assert cat(project, "--offset", "4000000", "--length", "10", "data/big").stdout == BIG[4_000_000:4_000_010]
    assert cat(project, "--offset", "4999990", "data/big").stdout == BIG[-10:]
    assert cat(project, "--offset", "9999999", "data/big").stdout == b""
    assert cat(project, "--length", "0", "data/big").stdout == b""


def test_only_what_is_asked_for_is_fetched(project: Project, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", f"file://{project.path}", tmp_path / "clone"], check=True)
    clone = Project(tmp_path / "clone")
    before = clone.git("cat-file", "--batch-all-objects", "--batch-check").count(" blob ")
    done = cat(clone, "--offset", "4000000", "--length", "10", "data/big")
    assert said(done) == (0, BIG[4_000_000:4_000_010], [])
    assert clone.git("cat-file", "--batch-all-objects", "--batch-check").count(" blob ") == before + 2
    clone.git("remote", "remove", "origin")
    code, out, (error, hint) = said(cat(clone, "data/big"))
    assert (code, out) == (5, b"")
    assert error.startswith("error: ")
    assert "no remote has" in error
    assert hint == "hint: push them from a clone that has them: git ml push"


def test_a_reader_that_goes_ends_it_quietly(project: Project) -> None:
    with subprocess.Popen(
        ["git", "ml", "cat", "data/big"],
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == BIG[:10]
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (141, -13)


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["data/none"], 128, "there is no 'data/none' in HEAD", "list what is there: git ls-tree HEAD"),
        (["HEAD~1:none"], 128, "there is no 'none' in HEAD~1", "list what is there: git ls-tree HEAD~1"),
        (["v9:data/big"], 128, "unknown revision 'v9'", "see what there is: git branch -a; git tag"),
        (["data"], 128, "'data' is a directory in HEAD", "see what is in it: git ls-tree 'HEAD:data'"),
        (["../x"], 128, "'../x' is outside the repository", None),
        (
            ["--offset", "1", "data/big", "data/small"],
            128,
            "--offset and --length are for one file",
            "git ml cat --offset N --length N [REV:]PATH",
        ),
        (["--offset", "-1", "data/big"], 129, None, "git ml cat -h"),
        ([], 129, None, "git ml cat -h"),
    ],
)
def test_errors(project: Project, arguments: list[str], code: int, message: str | None, hint: str | None) -> None:
    # a file before the wrong one is not printed either
    given = ["data/small", *arguments] if code == 128 and "--offset" not in arguments else arguments
    found, out, lines = said(cat(project, *given))
    assert (found, out) == (code, b"")
    if message is not None:
        assert lines[0] == f"error: {message}"
    assert lines[1:] == ([f"hint: {hint}"] if hint else [])


def test_damaged_content_is_not_printed(project: Project) -> None:
    project.write("data/small", "gitml pointer 1\nsha256 x\n")
    blob = project.run("git", "hash-object", "-w", "--stdin", stdin=b"gitml pointer 1\nsha256 x\n").stdout.strip()
    project.git("update-index", "--cacheinfo", f"100644,{blob},data/small")
    project.git("commit", "-q", "--no-verify", "-m", "broken")
    code, out, (error, _) = said(cat(project, "data/small"))
    assert (code, out) == (6, b"")
    assert error.startswith("error: 'data/small' in HEAD: malformed pointer")
