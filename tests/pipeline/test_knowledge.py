"""What history says of stages: for many at once as for each alone."""

import random
from pathlib import Path

import pytest

from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline.cache import RunCache
from gitml.pipeline.knowledge import RecordChange, RepositoryKnowledge
from gitml.provenance.record import record_path
from tests.conftest import run_git

NAMES = ["a", "b", "deep/c", "ä b", "only on a side", "taken back", "never"]


def write(repo: Path, name: str, text: str) -> None:
    place = repo / record_path(name).decode()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def commit(repo: Path, message: str) -> None:
    run_git(repo, "add", "-A")
    run_git(repo, "commit", "-q", "--allow-empty", "-m", message)


@pytest.fixture
def woven(repo: Path) -> Path:
    """Branches that are merged in every way; records that come, change, go, and never were."""
    chance = random.Random(3)
    commit(repo, "root")
    for number in range(6):
        run_git(repo, "checkout", "-q", "-b", f"side{number}")
        name = "only on a side" if number == 2 else chance.choice(NAMES[:4])
        write(repo, name, f"side {number}\n")
        commit(repo, f"side {number}")
        run_git(repo, "checkout", "-q", "main")
        write(repo, chance.choice(NAMES[:4]), f"main {number}\n")
        if number == 4:
            write(repo, "taken back", "for a while\n")
        commit(repo, f"main {number}")
        strategy = ["-s", "ours"] if number == 2 else ["-X", "ours"] if number % 2 else ["-X", "theirs"]
        run_git(repo, "merge", "-q", "-m", f"merge {number}", *strategy, f"side{number}")
    (repo / record_path("taken back").decode()).unlink()
    commit(repo, "take back")
    return repo


def histories(where: Path, *, each_alone: bool) -> dict[str, list[RecordChange]]:
    repo = Repository.discover(where)
    with GitOdb(repo.git, repo.format) as odb:
        cache, head = RunCache(repo, odb), repo.resolve("HEAD")

        def look() -> RepositoryKnowledge:
            return RepositoryKnowledge(repo, odb, cache, head, lambda _commit, _name: None)

        shared = look()
        return {name: (look() if each_alone else shared).history(name) for name in NAMES}


def test_many_stages_have_the_history_that_each_has(woven: Path) -> None:
    run_git(woven, "config", "log.diffMerges", "off")
    run_git(woven, "config", "log.showRoot", "false")
    together = histories(woven, each_alone=False)
    assert together == histories(woven, each_alone=True)
    assert together["never"] == []
    assert len(together["taken back"]) == 2
    assert together["a"]
    assert together["deep/c"]


def test_a_record_of_the_first_commit_is_seen(repo: Path) -> None:
    for name in NAMES[:4]:
        write(repo, name, "first\n")
    commit(repo, "root")
    assert {name: len(found) for name, found in histories(repo, each_alone=False).items() if found} == dict.fromkeys(
        NAMES[:4], 1
    )
