from collections.abc import Callable

import pytest

from gitml.care.local import LocalReader
from gitml.care.partial import leave_to_remote
from gitml.care.prune import Version
from gitml.errors import UserError
from gitml.git.transfer import fetch_data, push_data
from gitml.store.manifest import read_manifest
from gitml.store.pointer import Pointer

from .conftest import NOW, Place, noise

LARGE = 1_500_000


@pytest.fixture
def three(make: Callable[..., Place]) -> tuple[Place, Place, list[Pointer]]:
    """A clone with three versions of a file, and the server that has them."""
    server, place = make("server.git", "--bare"), make("here")
    server.git("config", "uploadpack.allowFilter", "true")
    place.git("remote", "add", "origin", str(server.path))
    pointers = []
    for seed in (1, 2, 3):
        pointers.append(place.add("a", noise(seed, LARGE)))
        place.add("b", noise("b"))
        place.commit()
    push(place)
    return place, server, pointers


def push(place: Place) -> None:
    push_data(place.repo, "origin", "origin", lambda oid: oid)
    place.git("push", "-q", "--no-verify", "origin", "--all")


def here(place: Place, pointer: Pointer) -> bool:
    """Whether a content is here without asking a remote."""
    report = place.verify(deep=False)
    assert report.faults == []
    reader = LocalReader(place.repo)
    found = all(reader.has(chunk.oid) for chunk in read_manifest(pointer.manifest, reader).chunks)
    reader.close()
    return found


def leave(place: Place, *, since: int = NOW, dry_run: bool = False) -> list[Version]:
    return leave_to_remote(place.repo, "origin", since=since, dry_run=dry_run).versions


def test_old_versions_stay_at_the_remote_and_come_back_when_read(
    three: tuple[Place, Place, list[Pointer]],
) -> None:
    place, _, (one, two, now) = three
    assert leave(place, dry_run=True) != []
    place.gc()
    assert here(place, one)
    assert {version.manifest for version in leave(place)} == {one.manifest, two.manifest}
    place.gc()
    assert [here(place, pointer) for pointer in (one, two, now)] == [False, False, True]
    report = place.verify()
    assert (report.elsewhere, report.faults) == (2, [])
    place.git("fsck", "--strict")
    # plain git goes on: a commit, a push, a fetch, a gc
    new = place.add("a", noise(4, LARGE))
    place.commit()
    push(place)
    fetch_data(place.repo, "origin")
    place.gc()
    assert [here(place, pointer) for pointer in (one, now, new)] == [False, True, True]
    assert place.has(one)  # read through git, which asks the promisor
    place.sound()
    # another time: the version that was current is old now, and goes too
    leave(place)
    place.gc()
    assert [here(place, pointer) for pointer in (one, two, now, new)] == [False, False, False, True]
    place.prune()
    place.gc()
    place.sound()
    assert here(place, new)


def test_only_what_the_remote_has_now_is_left_to_it(three: tuple[Place, Place, list[Pointer]]) -> None:
    place, server, (one, _, now) = three
    later = place.add("a", noise(4, LARGE))
    place.commit()
    place.add("a", noise(5, LARGE))
    place.commit()
    left = {version.manifest for version in leave(place, dry_run=True)}
    assert one.manifest in left
    assert later.manifest not in left
    for name in server.refs("refs/ml/data"):
        server.git("update-ref", "-d", name)
    assert leave(place) == []
    place.gc()
    assert here(place, one)
    assert here(place, now)


def test_every_remote_that_has_data_must_have_it(three: tuple[Place, Place, list[Pointer]]) -> None:
    place, _, _ = three
    base = next(iter(place.heads()))
    first = place.git("rev-list", "--max-parents=0", base.hex())
    place.git("update-ref", "refs/ml/remotes/other/data/ab", first)
    assert {version.path for version in leave(place, dry_run=True)} == {b"a"}
    assert len(leave(place, dry_run=True)) == 1


def test_recent_and_staged_and_stashed_versions_stay(three: tuple[Place, Place, list[Pointer]]) -> None:
    place, _, (one, _, _) = three
    assert leave(place, since=1, dry_run=True) == []
    blob = place.git("rev-parse", "HEAD~2:a")
    place.git("update-index", "--cacheinfo", f"100644,{blob},a")
    assert one.manifest not in {version.manifest for version in leave(place, dry_run=True)}
    place.git("update-ref", "--create-reflog", "refs/stash", place.git("stash", "create"))
    place.git("read-tree", "HEAD")
    assert one.manifest not in {version.manifest for version in leave(place)}
    place.gc()
    assert here(place, one)
    place.sound()


def test_a_remote_that_cannot_be_asked_gets_nothing(three: tuple[Place, Place, list[Pointer]]) -> None:
    place, _, _ = three
    place.git("remote", "set-url", "origin", "/nowhere")
    with pytest.raises(UserError, match="cannot reach 'origin'"):
        leave(place)
