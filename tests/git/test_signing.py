"""Result commits that are signed without a terminal."""

import subprocess
from pathlib import Path

import pytest

from gitml.errors import UserError
from gitml.git.commits import Commit, Signature
from gitml.git.repository import Repository
from gitml.git.signing import SigningError, committer_of, signed
from gitml.oid import Oid
from tests.conftest import run_git


def ssh_keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)


def unsigned(repo: Path) -> Commit:
    tree = Oid.parse(run_git(repo, "mktree"))
    ada = Signature("Ada Löwe".encode(), b"ada@example.org", 1_700_000_000, "+0130")
    return Commit(tree=tree, parents=(), author=ada, committer=ada, message=b"gitml: update model\n\nGitml-Run: 1\n")


def test_results_are_signed_with_a_key_that_nobody_must_unlock(repo: Path, tmp_path: Path) -> None:
    commit, key = unsigned(repo), tmp_path / "key"
    assert signed(Repository.discover(repo), commit) == commit, "by default nothing is signed"
    ssh_keygen("-q", "-t", "ed25519", "-N", "", "-f", str(key))
    for name, value in {"gpg.format": "ssh", "user.signingKey": f"{key}.pub", "ml.sign": "always"}.items():
        run_git(repo, "config", name, value)
    done = signed(Repository.discover(repo), commit)
    assert [name for name, _ in done.extra] == [b"gpgsig"]
    assert (done.author, done.message, done.tree) == (commit.author, commit.message, commit.tree)
    assert signed(Repository.discover(repo), commit) == done, "the same key makes the same commit"

    # a passphrase that nobody can type: wait for it, or go without
    ssh_keygen("-q", "-p", "-P", "", "-N", "secret", "-f", str(key))
    with pytest.raises(SigningError, match="cannot be signed"):
        signed(Repository.discover(repo), commit)
    run_git(repo, "config", "ml.sign", "auto")
    assert signed(Repository.discover(repo), commit) == commit
    run_git(repo, "config", "ml.sign", "sometimes")
    with pytest.raises(UserError, match="sometimes"):
        signed(Repository.discover(repo), commit)


def test_the_committer_of_results_can_be_chosen(repo: Path) -> None:
    assert committer_of(Repository.discover(repo)) == (b"gitml", b"gitml@localhost")
    run_git(repo, "config", "ml.committer", "Results Bot <bot@example.org>")
    assert committer_of(Repository.discover(repo)) == (b"Results Bot", b"bot@example.org")
    run_git(repo, "config", "ml.committer", "bot@example.org")
    with pytest.raises(UserError, match=r"ml\.committer"):
        committer_of(Repository.discover(repo))
