"""What `.gitignore` files of a tree ignore, without a checkout."""

from pathlib import Path

from gitml.git.ignores import ignored_by_files
from gitml.git.repository import Repository


def test_lists_of_a_tree_count_and_those_of_the_machine_do_not(repo: Path) -> None:
    (repo / ".git/info").mkdir(exist_ok=True)
    (repo / "mine").write_text("*.txt\n")
    here = Repository.discover(repo)
    here.configure("core.excludesFile", str(repo / "mine"))
    files = {b"": b"/a\nout\n*.dvc\n", b"sub/": b"!keep.dvc\nodd\xff\n"}
    paths = [
        b"a",
        b"sub/a",
        b"out/x",
        b"b.dvc",
        b"sub/b.dvc",
        b"sub/keep.dvc",
        b"sub/odd\xff",
        b"x.txt",
        b"new\nline.dvc",
    ]
    found = ignored_by_files(here, files, paths)
    assert found == {b"a", b"out/x", b"b.dvc", b"sub/b.dvc", b"sub/odd\xff", b"new\nline.dvc"}
    assert ignored_by_files(here, files, []) == ignored_by_files(here, {}, paths) == set()
