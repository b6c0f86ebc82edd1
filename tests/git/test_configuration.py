"""What variables mean is git's to say; it is asked about each of these."""

import subprocess
from pathlib import Path

import pytest

from gitml.git.configuration import parse_configuration
from gitml.git.repository import Repository

VALUES = [
    "", " ", "true", "TRUE", "yes", "On", "1", "2", "-1", "false", "No", "off", "0", "00", "maybe", "1k", "2M", "1g",
    "-3k", "+4", "0x1f", "010", "089", "1 k", "k", "1kk", " 7", "7 ",
]  # fmt: skip


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return Repository.discover(tmp_path)


def asked(repo: Repository, *arguments: str) -> str | None:
    done = repo.git.run("config", *arguments, check=False)
    return done.stdout.decode().rstrip("\n") if done.returncode == 0 else None


@pytest.mark.parametrize("value", VALUES)
def test_values_mean_what_git_says(repo: Repository, value: str) -> None:
    repo.configure("ml.some", value)
    truth = asked(repo, "--type=bool", "--get", "ml.some")
    for default in (True, False):
        assert repo.config_bool("ml.some", default) is (default if truth is None else truth == "true")
    number = asked(repo, "--type=int", "--get", "ml.some")
    # git stops at an empty number; to us it is one that is not set
    assert repo.config_int("ml.some", 77) == (77 if number is None else int(number))
    assert repo.config("ml.some") == value


def test_names_lists_and_what_stands_without_a_value(repo: Repository) -> None:
    with (repo.git_dir / "config").open("a") as file:
        file.write('[ml]\n\tskip = a\n\tbare\n[Remote "A.b"]\n\tURL = x\\ny\n\tmlRegion = eu\n[ml]\n\tSKIP = b=c\n')
    found = repo.configuration
    assert found.all("ml.Skip") == ("a", "b=c")
    assert found.text("ML.skip") == "b=c"
    assert found.boolean("ml.bare", False) is True
    assert found.text("remote.A.b.url") == "x\ny"
    assert found.text("remote.a.b.url") is None
    assert list(found.below("remote.A.b.")) == [("url", "x\ny"), ("mlregion", "eu")]
    assert found.text("ml.none") is None
    assert found.all("ml.none") == ()


def test_what_is_changed_through_the_repository_is_seen(repo: Repository) -> None:
    assert repo.config("ml.some") is None
    assert repo.configure("ml.some", "1")
    assert repo.config("ml.some") == "1"
    assert not repo.configure("--unset-all", "ml.other", check=False)
    assert repo.configure("--unset-all", "ml.some")
    assert repo.config("ml.some") is None


def test_an_empty_listing_has_nothing() -> None:
    assert parse_configuration(b"").values == {}
