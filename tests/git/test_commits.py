from pathlib import Path

import pytest

from gitml.errors import CorruptError
from gitml.git.commits import Commit, Signature, format_commit, format_trailers, parse_commit, parse_trailers
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid

TREE, PARENT = Oid(b"\1" * 20), Oid(b"\2" * 20)
WHO = Signature(b"Ada \xff", b"ada@example.org", 1700000000, "-0730")


@pytest.mark.parametrize(
    "commit",
    [
        Commit(TREE, (), WHO, WHO, b"subject\n"),
        Commit(TREE, (PARENT, TREE), WHO, Signature(b"", b"", 0), b""),
        Commit(TREE, (), WHO, WHO, b"\n\nodd\n\n", ((b"encoding", b"latin-1"), (b"gpgsig", b"-----\n\nabc\n-----\n"))),
    ],
)
def test_parse_is_the_inverse_of_format(commit: Commit) -> None:
    assert parse_commit(format_commit(commit)) == commit


def test_a_commit_of_git_survives_both_ways(repo: Path) -> None:
    repository = Repository.discover(repo)
    repository.git.run("commit", "-q", "--allow-empty", "-m", "s\n\nb", "-m", "Key: v")
    with GitOdb(repository.git, repository.format) as odb:
        data = odb.read(repository.resolve("HEAD"))[1]
    commit = parse_commit(data)
    assert format_commit(commit) == data
    assert commit.author.name == b"Ada"
    assert parse_trailers(commit.message) == {"Key": "v"}


@pytest.mark.parametrize(
    "data", [b"", b"tree xyz\n", format_commit(Commit(TREE, (), WHO, WHO, b"")).replace(b"<", b"")]
)
def test_a_malformed_commit_is_named_so(data: bytes) -> None:
    with pytest.raises(CorruptError, match="malformed commit"):
        parse_commit(data)


def test_trailers() -> None:
    pairs = {"Gitml-Run": "ab12", "Gitml-Stages": "model,\ninference"}
    text = format_trailers(pairs)
    assert text == b"Gitml-Run: ab12\nGitml-Stages: model,\n inference\n"
    assert parse_trailers(b"subject\n\nbody\n\n" + text) == pairs
    assert parse_trailers(b"s\n\n" + text + b"(cherry picked from commit 12)\n") == pairs


@pytest.mark.parametrize("message", [b"", b"Key: value\n", b"s\n\nKey: value\nand text\n", b"s\n\nKey: value\n\ntext"])
def test_text_is_not_taken_for_trailers(message: bytes) -> None:
    assert parse_trailers(message) == {}
