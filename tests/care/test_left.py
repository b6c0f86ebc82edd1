"""Older versions that are left to a remote: only what it has, and only once it was asked again."""

from pathlib import Path

import pytest

from gitml.care.dropped import undo
from gitml.care.left import Left, leave_to_remote
from gitml.care.local import LocalReader
from gitml.errors import UserError
from gitml.git.data import FETCHED
from gitml.git.promisor import fetch_contents
from gitml.store.manifest import read_manifest
from gitml.store.pointer import Pointer

from .conftest import NEVER, NOW, Place, copied, noise, pair

LARGE = 1_500_000

Three = tuple[Place, Place, list[Pointer]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Pointer]]:
    top = tmp_path_factory.mktemp("template")
    place, _ = pair(top)
    pointers = []
    for seed in (1, 2, 3):
        pointers.append(place.add("a", noise(seed, LARGE)))
        place.add("b", noise("b"))
        place.commit()
    place.push()
    return top, pointers


@pytest.fixture
def three(template: tuple[Path, list[Pointer]], tmp_path: Path) -> Three:
    """A clone with three versions of a file, and the server that has them."""
    return (*copied(template[0], tmp_path), template[1])


def here(place: Place, *pointers: Pointer) -> list[bool]:
    """Whether contents are here, looked at without asking anybody."""
    report = place.verify(deep=False)
    assert report.faults == []
    reader = LocalReader(place.repo)
    found = [
        reader.has(each.manifest) and all(map(reader.has, (c.oid for c in read_manifest(each.manifest, reader).chunks)))
        for each in pointers
    ]
    reader.close()
    return found


def leave(place: Place, *, since: int = NOW, dry_run: bool = False) -> Left:
    return leave_to_remote(place.repo, "origin", since=since, dry_run=dry_run)


def left(place: Place, *, since: int = NOW) -> set[object]:
    return {version.manifest for version in leave(place, since=since, dry_run=True).versions}


def test_old_versions_stay_at_the_remote_and_come_back_when_fetched(three: Three) -> None:
    place, server, (one, two, now) = three
    assert left(place) == {one.manifest, two.manifest}
    place.prune()
    place.gc()
    assert here(place, one, two, now) == [True, True, True]
    done = leave(place)
    assert ({version.manifest for version in done.versions}, done.bytes) == ({one.manifest, two.manifest}, 2 * LARGE)
    place.gc()
    assert here(place, one, two, now) == [True, True, True]  # until it expires
    assert place.prune(expiry=NEVER).expired == []
    assert len(place.prune().expired) > 0
    assert here(place, one, two, now) == [True, True, True]  # until git gc
    place.gc()
    assert here(place, one, two, now) == [False, False, True]
    report = place.verify()
    assert (report.elsewhere, report.faults) == (2, [])
    place.git("fsck", "--strict")
    # plain git goes on: a commit, a push, a gc
    new = place.add("a", noise(4, LARGE))
    place.commit()
    place.push()
    place.gc()
    assert here(place, one, now, new) == [False, True, True]
    assert new.manifest in server.manifests()
    assert fetch_contents(place.repo, {b"a": one.manifest}) == {}
    place.gc()
    assert here(place, one) == [True]
    place.sound()
    # another time: what was current is old now, what was fetched too
    leave(place)
    place.prune()
    place.gc()
    assert here(place, one, two, now, new) == [False, False, False, True]
    place.sound()
    server.sound()
    assert {one.manifest, two.manifest, now.manifest, new.manifest} <= server.manifests()


def test_only_what_data_heads_of_the_remote_hold_now_is_left_to_it(three: Three) -> None:
    place, server, (one, two, now) = three
    later = place.add("a", noise(4, LARGE))
    place.commit()
    place.add("a", noise(5, LARGE))
    place.commit()
    assert left(place) == {one.manifest, two.manifest}
    (head,) = server.heads()
    server.git("update-ref", "-d", f"refs/ml/data/{head}")
    assert left(place) == set()
    server.git("update-ref", f"refs/ml/data/{head}", head.hex())
    leave(place)
    place.prune()
    place.gc()
    # what was never pushed is still here, and goes out with the next push
    assert here(place, one, later, now) == [False, True, True]
    place.push()
    server.sound()
    assert later.manifest in server.manifests()


def test_recent_and_staged_and_stashed_versions_stay(three: Three) -> None:
    place, _, (one, _, _) = three
    assert left(place, since=1) == set()
    blob = place.git("rev-parse", "HEAD~2:a")
    place.git("update-index", "--cacheinfo", f"100644,{blob},a")
    assert one.manifest not in left(place)
    place.git("update-ref", "--create-reflog", "refs/stash", place.git("stash", "create"))
    place.git("read-tree", "HEAD")
    assert one.manifest not in left(place)
    leave(place)
    place.prune()
    place.gc()
    assert here(place, one) == [True]
    place.sound()


def test_it_can_be_taken_back(three: Three) -> None:
    place, _, pointers = three
    before = place.manifests()
    leave(place)
    assert place.manifests() < before
    undo(place.repo)
    assert place.dropped() == set()
    place.gc()
    assert place.manifests() == before
    assert here(place, *pointers) == [True, True, True]
    place.sound()


def test_what_became_current_again_stays_when_the_rest_goes(three: Three) -> None:
    place, _, (one, two, now) = three
    leave(place)
    blob = place.git("rev-parse", "HEAD~2:a")
    place.git("update-index", "--cacheinfo", f"100644,{blob},a")
    done = place.prune()
    assert (done.recovered, done.waiting) == (1, 0)
    place.gc()
    assert here(place, one, two, now) == [True, False, True]
    place.sound()


def test_the_remote_is_asked_again_before_the_last_copy_goes(three: Three) -> None:
    place, server, (one, two, now) = three
    leave(place)
    address = place.git("remote", "get-url", "origin")
    place.git("remote", "set-url", "origin", "/nowhere")
    done = place.prune()
    assert (done.expired, list(done.unasked)) == ([], ["origin"])
    place.git("remote", "set-url", "origin", address)
    # a remote that lost its data meanwhile
    for name in server.refs("refs/ml/data"):
        server.git("update-ref", "-d", name)
    done = place.prune()
    assert (done.recovered, done.waiting) == (2, 0)
    place.gc()
    assert here(place, one, two, now) == [True, True, True]
    place.sound()


def test_data_commits_that_others_pushed_are_looked_at_without_their_content(three: Three) -> None:
    place, server, (one, two, now) = three
    other = Place(place.path.parent / "other")
    place.git("clone", "-q", f"file://{server.path}", str(other.path))
    other.add("c", noise("c"))
    other.commit()
    other.push()
    assert sorted(place.git("cat-file", "-t", oid.hex(), check=False) for oid in server.heads()) == ["", "commit"]
    assert left(place) == {one.manifest, two.manifest}
    server.git("config", "uploadpack.allowFilter", "false")
    with pytest.raises(UserError, match="filters"):
        leave(place)
    assert place.refs(FETCHED) == {}
    assert here(place, one, two, now) == [True, True, True]


def test_a_remote_that_cannot_be_asked_gets_nothing(three: Three) -> None:
    place, _, _ = three
    place.git("remote", "set-url", "origin", "/nowhere")
    with pytest.raises(UserError, match="cannot ask 'origin'"):
        leave(place)


def test_nothing_is_left_to_one_who_borrows_from_here(three: Three, tmp_path: Path) -> None:
    place, _, (one, _, _) = three
    place.git("clone", "-q", "--shared", ".", str(tmp_path / "borrower"))
    place.git("remote", "add", "borrower", "../borrower")
    Place(tmp_path / "borrower").git("fetch", "-q", "origin", "+refs/ml/data/*:refs/ml/data/*")
    with pytest.raises(UserError, match="borrows objects"):
        leave_to_remote(place.repo, "borrower", since=NOW)
    assert here(place, one) == [True]


def test_nothing_is_left_to_oneself(three: Three) -> None:
    place, _, pointers = three
    place.git("remote", "add", "self", ".")
    leave_to_remote(place.repo, "self", since=NOW)
    place.prune()
    place.gc()
    assert here(place, *pointers) == [True, True, True]
