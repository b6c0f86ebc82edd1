"""Lines of `.gitattributes`: what they match is asked of git, and every other byte stays."""

import os
from pathlib import Path

import pytest

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.git.tracking import patterns_for, track, tracked_patterns, untrack
from tests.conftest import run_git


def is_tracked(repo: Path, path: str) -> bool:
    return run_git(repo, "check-attr", "-z", "filter", "--", path).split("\0")[2] == "ml"


@pytest.mark.parametrize(
    ("given", "made", "tracked", "untracked"),
    [
        ("data", "data/", ["data/a/b"], ["other/a", "x/data/a"]),
        ("data", "", ["data/a/b", "data"], ["other"]),
        ("data/", "", ["data/a/b"], ["other"]),
        ("deep/er", "", ["deep/er/a", "deep/er"], ["er"]),
        ("w [x]", "w [x]/", ["w [x]/f", "w [x]/g/h"], ["w x/f"]),
        ("what?.bin", "what?.bin", ["what?.bin"], ["whats.bin"]),
        ("back\\slash", "back\\slash/", ["back\\slash/f"], ["backslash/f"]),
        ("*.parquet", "", ["x/y.parquet", "y.parquet"], ["y.csv"]),
        ("odd name/**", "", ["odd name/z"], ["odd"]),
        ('qu"ote', 'qu"ote', ['qu"ote'], ["quote"]),
        ("raw\udcff", "raw\udcff", ["raw\udcff"], ["raw"]),
        ("#hash", "#hash", ["#hash"], ["hash"]),
    ],
)
def test_names_and_patterns(repo: Path, given: str, made: str, tracked: list[str], untracked: list[str]) -> None:
    here = Repository.discover(repo)
    if made.endswith("/"):
        (repo / made).mkdir(parents=True)
    elif made:
        (repo / made).touch()
    patterns = patterns_for(here, given)
    assert track(here, patterns) == patterns
    assert track(here, patterns) == []
    assert [path for path in tracked if not is_tracked(repo, path)] == []
    assert [path for path in untracked if is_tracked(repo, path)] == []
    assert len(tracked_patterns(here)) == len(patterns)
    assert untrack(here, [*patterns, "never"]) == patterns
    assert not any(is_tracked(repo, path) for path in tracked)


@pytest.mark.parametrize("before", [b"*.txt text", b"# caf\xe9\r\n*.txt text\r\n", b"", b"\xff\n\n*.txt  text\n"])
def test_every_other_byte_stays(repo: Path, before: bytes) -> None:
    here = Repository.discover(repo)
    path = repo / ".gitattributes"
    path.write_bytes(before)
    path.chmod(0o640)
    track(here, ["a/**"])
    newline = b"\r\n" if b"\r\n" in before else b"\n"
    ended = before if not before or before.endswith(b"\n") else before + newline
    assert path.read_bytes() == ended + b"a/** filter=ml -text" + newline
    assert path.stat().st_mode & 0o777 == 0o640
    assert is_tracked(repo, "a/b")
    untrack(here, ["a/**"])
    assert path.read_bytes() == ended
    assert sorted(os.listdir(repo)) == [".git", ".gitattributes"]


def test_a_symbolic_link_is_refused(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("*.txt text\n")
    (repo / ".gitattributes").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="symbolic link"):
        track(Repository.discover(repo), ["a"])
    assert (tmp_path / "outside").read_text() == "*.txt text\n"


@pytest.mark.parametrize("given", ["!data", "", " ", "new\nline"])
def test_what_is_no_pattern(repo: Path, given: str) -> None:
    with pytest.raises(UserError):
        patterns_for(Repository.discover(repo), given)
