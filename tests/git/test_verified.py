"""Pointers that are known to be right."""

import hashlib
import os
from pathlib import Path

import pytest

from gitml.git import verified
from gitml.git.repository import Repository
from gitml.git.verified import LARGE, VerifiedPointers
from gitml.oid import Oid
from gitml.record import replace
from gitml.store.pointer import Pointer


def pointer(number: int, size: int = LARGE) -> Pointer:
    return Pointer(hashlib.sha256(b"%d" % number).digest(), size, Oid(hashlib.sha1(b"%d" % number).digest()))


@pytest.fixture
def repository(repo: Path) -> Repository:
    return Repository.discover(repo)


@pytest.fixture
def file(repository: Repository) -> Path:
    return repository.state_dir / "verified"


def test_what_one_process_remembers_others_know(repository: Repository) -> None:
    known = VerifiedPointers(repository)
    assert pointer(1) not in known
    known.add(pointer(1))
    known.add(pointer(2))
    assert pointer(1) in known
    later = VerifiedPointers(repository)
    assert [pointer(n) in later for n in (1, 2, 3)] == [True, True, False]


def test_every_part_of_a_pointer_counts(repository: Repository) -> None:
    one, other = pointer(1), pointer(2)
    VerifiedPointers(repository).add(one)
    known = VerifiedPointers(repository)
    assert one in known
    assert replace(one, sha256=other.sha256) not in known
    assert replace(one, manifest=other.manifest) not in known
    assert replace(one, size=one.size + 1) not in known


def test_small_content_is_not_worth_it(repository: Repository, file: Path) -> None:
    known = VerifiedPointers(repository)
    known.add(pointer(1, LARGE - 1))
    assert pointer(1, LARGE - 1) not in known
    assert not file.exists()


def test_nothing_is_written_twice(repository: Repository, file: Path) -> None:
    for _ in range(3):
        known = VerifiedPointers(repository)
        known.add(pointer(1))
        known.add(pointer(1))
    assert file.stat().st_size == 32


def test_two_that_write_at_once_lose_nothing(repository: Repository) -> None:
    one, other = VerifiedPointers(repository), VerifiedPointers(repository)
    assert pointer(1) not in one
    assert pointer(2) not in other
    one.add(pointer(1))
    other.add(pointer(2))
    later = VerifiedPointers(repository)
    assert pointer(1) in later
    assert pointer(2) in later


def test_what_a_kill_left_half_written_is_put_right(repository: Repository, file: Path) -> None:
    VerifiedPointers(repository).add(pointer(1))
    with file.open("ab") as half:
        half.write(b"half of one")
    known = VerifiedPointers(repository)
    assert pointer(1) in known
    known.add(pointer(2))
    assert file.stat().st_size == 64
    later = VerifiedPointers(repository)
    assert pointer(1) in later
    assert pointer(2) in later
    assert os.listdir(file.parent) == ["verified"]


def test_of_too_many_the_newer_half_stays(repository: Repository, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "_MOST", 10)
    for number in range(11):
        VerifiedPointers(repository).add(pointer(number))
    assert file.stat().st_size == 5 * 32
    known = VerifiedPointers(repository)
    assert [number for number in range(11) if pointer(number) in known] == [6, 7, 8, 9, 10]


def test_where_nothing_can_be_written_nothing_is_remembered(repository: Repository, file: Path) -> None:
    file.mkdir(parents=True)
    known = VerifiedPointers(repository)
    assert pointer(1) not in known
    known.add(pointer(1))
    assert pointer(1) not in VerifiedPointers(repository)
