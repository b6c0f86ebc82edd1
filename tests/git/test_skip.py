import os
from pathlib import Path

import pytest

from gitml.git.repository import Repository
from gitml.git.skip import SkipPatterns, read_skip
from tests.conftest import run_git

PATHS = [
    "a.bin",
    "b.csv",
    "raw/a.bin",
    "raw/2024/b.bin",
    "data/raw/c.bin",
    "data/x1.csv",
    "data/x2.csv",
    "data/[odd] *name",
    "data/deep/er/d.csv",
    os.fsdecode(b"data/\xff\n.bin"),
]


def matched(*patterns: str) -> list[str]:
    skip = SkipPatterns(patterns)
    return [path for path in PATHS if skip.match(os.fsencode(path))]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.bin", [path for path in PATHS if path.endswith(".bin")]),
        ("raw", ["raw/a.bin", "raw/2024/b.bin", "data/raw/c.bin"]),
        ("raw/", ["raw/a.bin", "raw/2024/b.bin", "data/raw/c.bin"]),
        ("/raw", ["raw/a.bin", "raw/2024/b.bin"]),
        ("raw/**", ["raw/a.bin", "raw/2024/b.bin"]),
        ("raw/*", ["raw/a.bin", "raw/2024/b.bin"]),
        ("data/*.csv", ["data/x1.csv", "data/x2.csv"]),
        ("data/**/*.csv", ["data/x1.csv", "data/x2.csv", "data/deep/er/d.csv"]),
        ("**/c.bin", ["data/raw/c.bin"]),
        ("data/x?.csv", ["data/x1.csv", "data/x2.csv"]),
        ("data/x[2-9].csv", ["data/x2.csv"]),
        ("data/x[!2-9].csv", ["data/x1.csv"]),
        (r"data/\[odd\] \*name", ["data/[odd] *name"]),
        ("a.b", []),
        ("", []),
    ],
)
def test_patterns_match_as_in_gitattributes(pattern: str, expected: list[str]) -> None:
    assert matched(pattern) == expected


def test_several_patterns_and_none() -> None:
    assert matched("/a.bin", "b.csv") == ["a.bin", "b.csv"]
    assert matched() == []
    assert not SkipPatterns([])


def test_they_come_from_the_configuration(repo: Path) -> None:
    assert not read_skip(Repository.discover(repo))
    run_git(repo, "config", "--add", "ml.skip", "*.csv")
    run_git(repo, "config", "--add", "ml.skip", "odd \n name")
    repository = Repository.discover(repo)
    assert read_skip(repository).match(b"x/b.csv")
    assert read_skip(repository).match(b"odd \n name")
