"""`-X ours` and `-X theirs` decide about large files too, although git does not tell merge drivers."""

import sys
from pathlib import Path

import pytest

from gitml.hooks.merging import favoured_side
from tests.end_to_end.project import Project


@pytest.mark.parametrize(
    ("words", "side"),
    [
        (" --theirs", "theirs"),
        ("--ours", "ours"),
        ("--ours --theirs", "theirs"),
        ("--patience", ""),
        ("", ""),
    ],
)
def test_a_rebase_leaves_it_in_a_file(tmp_path: Path, words: str, side: str) -> None:
    (tmp_path / "rebase-merge").mkdir()
    (tmp_path / "rebase-merge" / "strategy_opts").write_text(words)
    assert favoured_side(tmp_path) == side


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show the arguments of git")
def test_merges_and_picks_favour_the_side_that_is_asked_for(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.git("init", "-q", "-b", "main")
    project.ml("install")
    path = project.path / "data" / "a.bin"
    path.parent.mkdir(exist_ok=True)
    project.ml("track", "data/")

    def write(content: bytes) -> None:
        path.write_bytes(content * 100_000)
        project.git("add", "-A")
        project.git("commit", "-q", "-m", "data")

    write(b"1")
    project.git("switch", "-q", "-c", "other")
    write(b"2")
    project.git("switch", "-q", "-")
    write(b"3")
    assert project.run("git", "merge", "-q", "other", check=False).returncode != 0
    project.git("merge", "--abort")
    project.git("merge", "-q", "-X", "theirs", "other")
    assert path.read_bytes()[:1] == b"2"
    project.git("reset", "-q", "--hard", "HEAD^")
    project.git("cherry-pick", "--strategy-option=ours", "--keep-redundant-commits", "other")
    assert path.read_bytes()[:1] == b"3"
