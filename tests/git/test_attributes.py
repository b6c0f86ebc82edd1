"""Attributes of a tree that is not checked out."""

from pathlib import Path

from gitml.git.attributes import filter_of
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from tests.conftest import run_git


def test_attributes_are_those_of_the_tree_and_not_of_the_worktree(repo: Path) -> None:
    (repo / "sub").mkdir()
    (repo / ".gitattributes").write_text("data/** filter=ml\n*.bin filter=ml\n")
    (repo / "sub" / ".gitattributes").write_text("*.bin -filter\nodd* filter=ml\n")
    run_git(repo, "add", ".")
    run_git(repo, "commit", "-q", "-m", "attributes")
    (repo / ".gitattributes").write_text("* -filter\n")
    here = Repository.discover(repo)
    paths = [b"data/a/b", b"a.bin", b"a.txt", b"sub/a.bin", b"sub/odd\nname\xff", b"other/x.bin"]
    with GitOdb(here.git, here.format) as odb:
        found = filter_of(here, odb, here.resolve("HEAD^{tree}"), paths)
        assert filter_of(here, odb, here.resolve("HEAD^{tree}"), []) == set()
    assert found == {b"data/a/b", b"a.bin", b"sub/odd\nname\xff", b"other/x.bin"}
    assert run_git(here.worktree or repo, "diff", "--cached", "--name-only") == ""
