"""What is kept of reviews, and for which repository."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from gitml.git.identity import origin, root_commit
from gitml.git.repository import Repository
from gitml.pipeline.trust import Doubt, Level, Trust


def git(at: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def make(at: Path, text: str = "first") -> Path:
    at.mkdir()
    git(at, "init", "-q")
    git(at, "commit", "-q", "--allow-empty", "-m", text)
    return at


def trust(at: Path) -> Trust:
    return Trust(Repository.discover(at))


def kept(tmp_path: Path) -> Path:
    (file,) = (Path(os.environ["XDG_STATE_HOME"]) / "gitml" / "trust").iterdir()
    return file


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("GITML_TRUST", raising=False)


def test_another_repository_at_the_same_path_is_not_trusted(tmp_path: Path) -> None:
    place = make(tmp_path / "work")
    trust(place).set_level(Level.REPO)
    trust(place).add(["a"])
    assert trust(place).lists("a")
    place.rename(tmp_path / "aside")
    make(place, "a stranger's")
    found = trust(place)
    assert (found.level, found.lists("a"), found.has("a"), found.doubt) == (Level.MINE, False, False, Doubt.REPOSITORY)
    assert "another repository" in Doubt.REPOSITORY.words
    # nothing was written so far: with the right repository back, all of it holds again
    place.rename(tmp_path / "stranger")
    (tmp_path / "aside").rename(place)
    assert (trust(place).level, trust(place).has("a"), trust(place).doubt) == (Level.REPO, True, None)


@pytest.mark.parametrize(("level", "left"), [(Level.NEVER, Level.NEVER), (Level.ASK, Level.ASK), ("signed", "mine")])
def test_a_stricter_level_stays(tmp_path: Path, level: Level, left: Level) -> None:
    place = make(tmp_path / "work")
    trust(place).set_level(Level(level))
    place.rename(tmp_path / "aside")
    make(place, "other")
    assert trust(place).level == left


def test_a_clone_of_the_same_history_from_elsewhere_is_not_trusted(tmp_path: Path) -> None:
    place = make(tmp_path / "work")
    trust(place).add(["a"])
    # adding the first remote is what everybody does after 'git init'
    git(place, "remote", "add", "origin", "https://ada:secret@example.org/team/repo.git")
    repo = Repository.discover(place)
    assert origin(repo) == "https://example.org/team/repo"
    assert trust(place).has("a")
    trust(place).bind()
    assert "secret" not in kept(tmp_path).read_text()
    git(place, "remote", "set-url", "origin", "https://bob@example.org/team/repo/")
    assert trust(place).has("a"), "the same place, said in another way"
    git(place, "remote", "set-url", "origin", "https://example.org/fork/repo")
    assert (trust(place).has("a"), trust(place).doubt) == (False, Doubt.REPOSITORY)
    trust(place).add(["b"], whole=True)
    assert (trust(place).has("a"), trust(place).has("b"), trust(place).doubt) == (False, True, None)


def test_a_level_that_was_set_before_the_first_commit_is_bound_to_it(tmp_path: Path) -> None:
    place = tmp_path / "work"
    place.mkdir()
    git(place, "init", "-q")
    trust(place).set_level(Level.REPO)
    assert root_commit(Repository.discover(place)) is None
    git(place, "commit", "-q", "--allow-empty", "-m", "first")
    assert trust(place).level is Level.REPO
    trust(place).bind()
    assert json.loads(kept(tmp_path).read_text())["root"] == git(place, "rev-parse", "HEAD")
    git(place, "commit", "-q", "--allow-empty", "-m", "second")
    git(place, "checkout", "-q", "--orphan", "other")
    git(place, "commit", "-q", "--allow-empty", "-m", "third")
    assert trust(place).level is Level.REPO, "another branch without common history is not another repository"


def test_a_list_of_an_earlier_version_counts_no_more_but_its_level_does(tmp_path: Path) -> None:
    place = make(tmp_path / "work")
    trust(place).add(["a"])
    kept(tmp_path).write_text(json.dumps({"commands": ["a"], "level": "ask"}))
    found = trust(place)
    assert (found.level, found.has("a"), found.doubt) == (Level.ASK, False, Doubt.FORM)
    assert "lock files" in Doubt.FORM.words
    found.add(["b"])
    assert trust(place).doubt is Doubt.FORM, "one command that was run is not a review of all"
    trust(place).add(["b"], whole=True)
    assert trust(place).doubt is None
    kept(tmp_path).write_text(json.dumps({"commands": [], "level": "never"}))
    assert (trust(place).level, trust(place).doubt) == (Level.NEVER, None), "nothing was lost"


def test_linked_worktrees_share_what_was_reviewed(tmp_path: Path) -> None:
    place = make(tmp_path / "work")
    git(place, "worktree", "add", "-q", str(tmp_path / "linked"))
    trust(tmp_path / "linked").add(["a"])
    assert trust(place).has("a")
