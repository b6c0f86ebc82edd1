import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.care.prune import undo
from gitml.care.remote import prune_remote
from gitml.care.roots import read_needs
from gitml.errors import UserError
from gitml.git.transfer import fetch_data, push_data

from .conftest import NEVER, NOW, Place, noise

LARGE = 1_500_000


def clone(source: Place, path: Path) -> Place:
    subprocess.run(["git", "clone", "-q", str(source.path), str(path)], check=True)
    made = Place(path)
    fetch_data(made.repo, "origin")
    return made


def push(place: Place, remote: str = "origin") -> None:
    push_data(place.repo, remote, remote, lambda oid: oid)
    place.git("push", "-q", "--no-verify", remote, "--all")


@pytest.fixture
def shared(make: Callable[..., Place]) -> tuple[Place, Place]:
    """A clone with two versions and a branch, and the server that has them."""
    server, place = make("server.git", "--bare"), make("here")
    place.git("remote", "add", "origin", str(server.path))
    place.commit({"a": noise(1, LARGE), "b": noise("b")})
    place.commit({"a": noise(2, LARGE)})
    push(place)
    return place, server


def test_what_a_deleted_branch_had_goes_once_no_reflog_has_it(place: Place) -> None:
    place.commit({"a": noise(1)})
    place.git("switch", "-q", "-c", "side")
    side = place.add("a", noise(2, LARGE))
    place.commit()
    place.git("switch", "-q", "main")
    assert place.prune().versions == []
    place.git("branch", "-q", "-D", "side")
    assert place.prune().versions == []  # HEAD's reflog
    place.forget()
    (version,) = place.prune(dry_run=True).versions
    assert (version.path, version.manifest) == (b"a", side.manifest)
    assert side.manifest in place.manifests()
    done = place.prune()
    assert [each.manifest for each in done.versions] == [side.manifest]
    assert place.dropped() == set()
    place.gc()
    assert not place.has(side)
    place.sound()
    assert place.prune().versions == []


def test_the_latest_version_goes_and_an_older_one_stays(place: Place) -> None:
    one = place.add("a", noise(1))
    first = place.commit()
    two = place.add("a", noise(2))
    place.commit()
    place.git("reset", "-q", "--soft", first)
    place.git("read-tree", "HEAD")
    place.forget()
    place.prune()
    assert place.manifests() == {one.manifest}
    place.gc()
    assert not place.has(two)
    place.sound()


def test_dropped_content_waits_and_comes_back(place: Place) -> None:
    place.commit({"a": noise(1)})
    place.git("switch", "-q", "-c", "side")
    side = place.add("s", noise(2))
    place.commit()
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", "side")
    place.forget()
    place.prune(expiry=NEVER)
    assert len(place.dropped()) == 1
    assert side.manifest not in place.manifests()
    place.gc()
    assert place.has(side)
    assert len(undo(place.repo)) == 1
    assert side.manifest in place.manifests()
    place.add("s", noise(2))
    place.commit(cover=False)
    place.sound()
    with pytest.raises(UserError, match="nothing was dropped"):
        undo(place.repo)


def test_what_came_to_be_needed_again_is_covered_before_it_expires(place: Place) -> None:
    place.commit({"a": noise(1)})
    place.git("switch", "-q", "-c", "side")
    side = place.add("s", noise(2))
    commit = place.commit()
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", "side")
    place.forget()
    place.prune(expiry=NEVER)
    place.git("branch", "side", commit)
    done = place.prune()
    assert (done.recovered, done.waiting) == (1, 0)
    place.gc()
    assert place.has(side)
    place.sound()


@pytest.mark.parametrize(
    "keep",
    [
        "index",
        "stash",
        "reflog",
        "worktree",
        "worktree index",
        "ORIG_HEAD",
        "tag of a tree",
        "note",
        "run cache",
        "bisect",
        "replaced",
    ],
)
def test_every_kind_of_root_keeps(place: Place, tmp_path: Path, keep: str) -> None:
    base = place.commit({"a": noise(1)})
    kept = place.add("k", noise(keep))
    tree = place.git("write-tree")
    match keep:
        case "index":
            pass
        case "stash":
            (place.path / "a").write_bytes(b"")
            place.git("update-ref", "--create-reflog", "refs/stash", place.git("stash", "create"))
        case "worktree" | "worktree index":
            place.git("worktree", "add", "-q", "--no-checkout", "--detach", str(tmp_path / "w"), base)
            linked = Place(tmp_path / "w")
            linked.git("read-tree", tree)
            if keep == "worktree":
                linked.git("commit", "-q", "-m", "w")
                linked.git("read-tree", "--empty")
        case "replaced":
            hidden = place.git("commit-tree", tree, "-p", base, "-m", "c")
            place.git("update-ref", "refs/heads/replaced", hidden)
            place.git("replace", hidden, base)
        case "tag of a tree":
            place.git("tag", "-a", "-m", "t", "tree", tree)
        case _:
            commit = place.git("commit-tree", tree, "-p", base, "-m", "c")
            if keep == "reflog":
                place.git("update-ref", "HEAD", commit)
                place.git("update-ref", "HEAD", base)
            elif keep == "ORIG_HEAD":
                (place.path / ".git/ORIG_HEAD").write_text(f"{commit}\n")
            else:
                ref = {"note": "refs/notes/n", "run cache": "refs/ml/runs", "bisect": "refs/bisect/bad"}[keep]
                place.git("update-ref", ref, commit)
    if keep != "index":
        place.git("read-tree", base)
    place.repair()
    if keep not in ("reflog", "stash", "ORIG_HEAD"):
        place.forget()
    assert kept.manifest in read_needs(place.repo).manifests()
    place.prune()
    place.gc()
    assert place.has(kept)
    place.sound()


def test_staging_that_was_given_up_goes_and_that_of_the_living_stays(place: Place) -> None:
    place.commit({"a": noise(1)})
    alive = place.store(noise(2), session=f"{os.getpid()}-x").pointer
    dead = place.store(noise(3), session="4194304-x").pointer
    waiting = place.add("w", noise(4), session="4194304-x")
    assert place.prune(expiry=NEVER).staged == []
    assert [each.manifest for each in place.prune().staged] == [dead.manifest]
    place.gc()
    assert [place.has(pointer) for pointer in (alive, dead, waiting)] == [True, False, True]
    place.sound()


def test_precious_objects_are_left_alone(place: Place) -> None:
    place.commit({"a": noise(1)})
    place.git("config", "core.repositoryFormatVersion", "1")
    place.git("config", "extensions.preciousObjects", "true")
    with pytest.raises(UserError, match="precious"):
        place.prune()


def test_what_a_remote_has_is_not_rewritten(shared: tuple[Place, Place]) -> None:
    place, server = shared
    before = place.heads()
    place.git("switch", "-q", "-c", "side")
    private = place.add("p", noise(3))
    place.commit()
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", "side")
    other = place.add("o", noise(4))
    place.commit()
    (stays,) = place.heads()
    place.forget()
    place.prune()
    assert private.manifest not in place.manifests()
    assert other.manifest in place.manifests()
    (head,) = place.heads()
    assert head != stays
    assert place.git("rev-parse", f"{head}^") == next(iter(before)).hex()
    place.gc()
    assert not place.has(private)
    push(place)
    push(place)
    assert server.heads() == {head}
    fetch_data(place.repo, "origin")
    assert place.heads() == {head}
    place.sound()


def test_a_remote_lets_go_in_two_steps_and_nothing_comes_back(shared: tuple[Place, Place], tmp_path: Path) -> None:
    place, server = shared
    place.git("switch", "-q", "-c", "side")
    gone = place.add("s", noise(3))
    place.commit()
    push(place)
    behind = clone(server, tmp_path / "behind")
    place.git("push", "-q", "--no-verify", "origin", ":side")
    with pytest.raises(UserError, match="at least a day"):
        prune_remote(place.repo, "origin", expiry=NOW)
    done = prune_remote(place.repo, "origin", expiry=1)
    assert [version.manifest for version in done.versions] == [gone.manifest]
    assert (server.heads() & set(done.replaced), server.dropped()) == (set(), set(done.replaced))
    assert gone.manifest not in server.manifests()
    # the clone that did not know keeps what its branches need
    fetch_data(behind.repo, "origin")
    behind.gc()
    assert behind.has(gone)
    # and pushes something new: what was dropped stays away
    new = behind.add("n", noise(4))
    behind.commit()
    push(behind)
    assert new.manifest in server.manifests()
    assert gone.manifest not in server.manifests()
    # content of the branch is still in that clone, and goes up with a branch that needs it
    behind.git("branch", "again", "origin/side")
    push(behind)
    assert gone.manifest in server.manifests()
    behind.git("push", "-q", "--no-verify", "origin", ":again")
    behind.sound()
    prune_remote(behind.repo, "origin", expiry=1)
    # second step, after the grace period
    for name, oid in server.refs("refs/ml/dropped").items():
        server.git("update-ref", "-d", name)
        server.git("update-ref", f"refs/ml/dropped/1-{oid.hex()}", oid.hex())
    done = prune_remote(place.repo, "origin", expiry=2)
    assert len(done.expired) == 2
    assert (server.dropped(), done.versions) == (set(), [])
    server.gc()
    assert not server.has(gone)
    server.sound()
    # a clone that lets go of its own old heads
    fetch_data(place.repo, "origin")
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", "side")
    place.git("fetch", "-q", "--prune", "origin")
    place.forget()
    place.prune()
    place.gc()
    assert not place.has(gone)
    place.sound()


def test_what_the_grace_period_saved_is_covered_again(shared: tuple[Place, Place]) -> None:
    place, server = shared
    place.git("switch", "-q", "-c", "side")
    late = place.add("s", noise(3))
    commit = place.commit()
    push(place)
    place.git("push", "-q", "--no-verify", "origin", ":side")
    prune_remote(place.repo, "origin", expiry=1)
    # a push that was under way relied on the old head
    place.git("push", "-q", "--no-verify", "origin", f"{commit}:refs/heads/late")
    assert late.manifest not in server.manifests()
    prune_remote(place.repo, "origin", expiry=1)
    assert late.manifest in server.manifests()
    server.sound()


def test_a_merge_with_a_superseded_head_does_not_bring_its_content_back(
    shared: tuple[Place, Place], tmp_path: Path
) -> None:
    place, server = shared
    place.git("switch", "-q", "-c", "side")
    gone = place.add("s", noise(3))
    place.commit()
    push(place)
    racing = clone(server, tmp_path / "racing")
    place.git("push", "-q", "--no-verify", "origin", ":side")
    # built on the old head, pushed after the prune without a fetch in between
    new = racing.add("n", noise(4))
    racing.commit()
    prune_remote(place.repo, "origin", expiry=1)
    push(racing)
    assert len(server.heads()) == 2
    fetch_data(racing.repo, "origin")
    racing.commit({"m": noise(5)})
    push(racing)
    assert gone.manifest not in server.manifests()
    assert new.manifest in server.manifests()
    # the superseded head waits on the server for its grace period like any other
    assert len(server.heads()) == 2
    assert len(prune_remote(place.repo, "origin", expiry=1).replaced) == 1
    assert len(server.heads()) == 1
    server.sound()
    racing.sound()


def test_a_clone_that_does_not_know_all_prunes_no_remote(shared: tuple[Place, Place], tmp_path: Path) -> None:
    _, server = shared
    server.git("config", "uploadpack.allowFilter", "true")
    for name, option in (("shallow", "--depth=1"), ("partial", "--filter=blob:none")):
        subprocess.run(
            ["git", "clone", "-q", option, "--no-checkout", f"file://{server.path}", str(tmp_path / name)], check=True
        )
        with pytest.raises(UserError, match="whole history"):
            prune_remote(Place(tmp_path / name).repo, "origin", expiry=1)
    assert len(server.heads()) == 1


def test_nothing_is_dropped_where_files_of_the_history_are_lost(place: Place) -> None:
    place.add("p", noise(1))
    place.commit()
    blob = place.git("rev-parse", "HEAD:p")
    (place.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UserError, match=r"files of the history are not here \(1\)"):
        place.prune()
