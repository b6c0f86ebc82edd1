from pathlib import Path

import pytest

from gitml.git.command import GitError
from gitml.git.refs import ANY, RefLockedError, RefMovedError, RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.oid import Oid


def commit(repository: Repository, message: str) -> Oid:
    tree = repository.git.line("write-tree")
    return Oid.parse(repository.git.line("commit-tree", "-m", message, tree))


def test_create_move_and_delete_in_one_transaction(repo: Path) -> None:
    repository = Repository.discover(repo)
    one, two = commit(repository, "one"), commit(repository, "two")
    update_refs(repository.git, [RefUpdate("refs/ml/a", one, None), RefUpdate("refs/ml/b", one, ANY)])
    update_refs(
        repository.git,
        [RefUpdate("refs/ml/a", two, one), RefUpdate("refs/ml/b", None, one), RefUpdate("refs/ml/c", None, None)],
    )
    assert list_refs(repository.git, "refs/ml") == {"refs/ml/a": two}
    update_refs(repository.git, [])


@pytest.mark.parametrize("kind", ["expected other", "expected none", "expected some", "expected none, delete"])
def test_nothing_changes_when_a_ref_is_not_as_expected(repo: Path, kind: str) -> None:
    repository = Repository.discover(repo)
    one, two = commit(repository, "one"), commit(repository, "two")
    update_refs(repository.git, [RefUpdate("refs/ml/a", one, None)])
    wrong = {
        "expected other": RefUpdate("refs/ml/a", two, two),
        "expected none": RefUpdate("refs/ml/a", two, None),
        "expected some": RefUpdate("refs/ml/new", two, one),
        "expected none, delete": RefUpdate("refs/ml/a", None, None),
    }[kind]
    with pytest.raises(RefMovedError) as caught:
        update_refs(repository.git, [RefUpdate("refs/ml/other", one, None), wrong])
    assert caught.value.name == wrong.name
    assert list_refs(repository.git, "refs/ml") == {"refs/ml/a": one}


def test_a_lock_and_a_bad_name_are_told_apart(repo: Path) -> None:
    repository = Repository.discover(repo)
    one = commit(repository, "one")
    lock = repo / ".git/refs/ml/a.lock"
    lock.parent.mkdir()
    lock.touch()
    with pytest.raises(RefLockedError, match=r"refs/ml/a\.lock"):
        update_refs(repository.git, [RefUpdate("refs/ml/a", one)])
    with pytest.raises(GitError):
        update_refs(repository.git, [RefUpdate("refs/ml/a..b", one)])


def test_patterns(repo: Path) -> None:
    repository = Repository.discover(repo)
    one = commit(repository, "one")
    names = ["refs/ml/data/x", "refs/ml/remotes/o/data/y", "refs/ml/remotes/o/runs", "refs/ml/database"]
    update_refs(repository.git, [RefUpdate(name, one) for name in names])
    assert list(list_refs(repository.git, "refs/ml/data", "refs/ml/remotes/*/data/*")) == names[:2]


def test_the_reason_is_in_the_reflog(repo: Path) -> None:
    repository = Repository.discover(repo)
    update_refs(repository.git, [RefUpdate("refs/heads/main", commit(repository, "one"))], message="gitml: results")
    assert repository.git.lines("reflog", "--format=%gs", "main") == ["gitml: results"]
