"""Last changes of many paths, against `git log -1` for each."""

import random
from pathlib import Path

import pytest

from gitml.git.lastchange import last_changes
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from tests.end_to_end.project import Project

PATHS = (b"a", b"d", b"d/b", b"d/e/c", b"d/with space", b"d/*", b"never", b"")


def history(project: Project, seed: int, commits: int = 60) -> list[str]:
    """Commits with merges of every kind: of one side, of the other, of both, and with edits of their own."""
    choose = random.Random(seed)
    files = [path.decode() for path in (b"a", b"d/b", b"d/e/c", b"d/with space", b"d/*")]
    stream: list[str] = []
    trees: list[dict[str, str]] = []
    for number in range(1, commits + 1):
        count = 0 if number in (1, 40) else choose.choice((1, 1, 1, 2, 3))
        parents = choose.sample(range(max(1, number - 6), number), min(count, number - 1, 6))
        tree = dict(trees[choose.choice(parents) - 1]) if parents else {"other": "x"}
        for file in choose.sample(files, choose.choice((0, 0, 1, 2))):
            tree[file] = choose.choice("xyz")
            if choose.random() < 0.2:
                del tree[file]
        trees.append(tree)
        # clocks go back now and then
        when = 1_700_000_000 + 60 * number - (3000 if choose.random() < 0.1 else 0)
        stream.append(f"commit refs/heads/{number}\nmark :{number}\ncommitter A <a> {when} +0000\ndata 0\n")
        stream += [f"{'merge' if at else 'from'} :{parent}\n" for at, parent in enumerate(parents)]
        stream.append("deleteall\n")
        stream += [f'M 644 inline "{file}"\ndata 1\n{content}\n' for file, content in tree.items()]
    project.run("git", "fast-import", "--quiet", stdin="".join(stream).encode())
    return [project.git("rev-parse", f"refs/heads/{number}") for number in range(11, commits + 1, 12)]


@pytest.mark.parametrize("seed", range(3))
def test_as_git_log_says(tmp_path: Path, seed: int) -> None:
    project = Project(tmp_path)
    project.git("init", "-q")
    commits = history(project, seed)
    repo = Repository.discover(project.path)
    with GitOdb(repo.git, repo.format) as odb:
        for start in commits:
            said = {
                path: project.git("log", "-1", "--format=%H", start, "--", f":(top,literal){path.decode()}")
                for path in PATHS
            }
            found = last_changes(repo, odb, Oid.parse(start), PATHS)
            assert {path: oid.hex() if oid else "" for path, oid in found.items()} == said
            # git leaves out more where it is asked for less
            for path in PATHS[1:5]:
                some = last_changes(repo, odb, Oid.parse(start), [path])
                assert project.git("ls-tree", start, path.decode()) == "" or some == {path: found[path]}
        assert last_changes(repo, odb, Oid.parse(commits[-1]), []) == {}
