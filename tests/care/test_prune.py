import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from gitml.care.dropped import undo
from gitml.care.remote import prune_remote
from gitml.care.roots import read_needs
from gitml.errors import UserError
from gitml.git.promisor import fetch_contents, fetch_missing
from gitml.git.remotes import fetch_data
from gitml.store.pointer import parse_pointer

from .conftest import NEVER, NOW, Place, copied, noise, pair

LARGE = 1_500_000


def clone(source: Place, path: Path) -> Place:
    subprocess.run(["git", "clone", "-q", str(source.path), str(path)], check=True)
    made = Place(path)
    fetch_data(made.repo, "origin")  # as git ml fetch --all
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("template")
    place, _ = pair(top)
    place.commit({"a": noise(1, LARGE), "b": noise("b")})
    place.commit({"a": noise(2, LARGE)})
    place.push()
    return top


@pytest.fixture
def shared(template: Path, tmp_path: Path) -> tuple[Place, Place]:
    """A clone with two versions and a branch, and the server that has them."""
    return copied(template, tmp_path)


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
    place.push()
    place.push()
    assert server.heads() == {head}
    fetch_data(place.repo, "origin")
    assert place.heads() == {head}
    place.sound()


def test_a_remote_lets_go_in_two_steps_and_nothing_comes_back(shared: tuple[Place, Place], tmp_path: Path) -> None:
    place, server = shared
    place.git("switch", "-q", "-c", "side")
    gone = place.add("s", noise(3))
    place.commit()
    place.push()
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
    behind.push()
    assert new.manifest in server.manifests()
    assert gone.manifest not in server.manifests()
    # content of the branch is still in that clone, and goes up with a branch that needs it
    behind.git("branch", "again", "origin/side")
    behind.push()
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
    place.push()
    place.git("push", "-q", "--no-verify", "origin", ":side")
    prune_remote(place.repo, "origin", expiry=1)
    # a push that was under way relied on the old head
    place.git("push", "-q", "--no-verify", "origin", f"{commit}:refs/heads/late")
    assert late.manifest not in server.manifests()
    prune_remote(place.repo, "origin", expiry=1)
    assert late.manifest in server.manifests()
    server.sound()


def test_a_push_that_missed_the_prune_brings_nothing_back(shared: tuple[Place, Place], tmp_path: Path) -> None:
    place, server = shared
    place.git("switch", "-q", "-c", "side")
    gone = place.add("s", noise(3))
    place.commit()
    place.push()
    racing = clone(server, tmp_path / "racing")
    place.git("push", "-q", "--no-verify", "origin", ":side")
    # built on the old head, pushed after the prune without a fetch in between
    new = racing.add("n", noise(4))
    racing.commit()
    (old,) = racing.heads()
    prune_remote(place.repo, "origin", expiry=1)
    racing.push()
    assert len(server.heads()) == 2
    fetch_data(racing.repo, "origin")
    racing.commit({"m": noise(5)})
    racing.push()
    assert gone.manifest not in server.manifests()
    assert new.manifest in server.manifests()
    assert len(server.heads()) == 1
    # one that was under way when the prune came adds to the old head: nothing is lost, and the next prune ends it
    racing.git("push", "-q", "--no-verify", "origin", f"{old}:refs/ml/data/{old}")
    assert gone.manifest in server.manifests()
    again = prune_remote(place.repo, "origin", expiry=1)
    assert {version.manifest for version in again.versions} == {gone.manifest}
    assert gone.manifest not in server.manifests()
    assert new.manifest in server.manifests()
    server.sound()
    racing.sound()


def test_what_a_remote_gave_before_it_was_pruned_is_sent_when_it_is_needed_again(
    shared: tuple[Place, Place], tmp_path: Path
) -> None:
    place, server = shared
    place.git("switch", "-q", "-c", "side")
    gone = place.add("s", noise(3))
    side = place.commit()
    place.push()
    subprocess.run(["git", "clone", "-q", str(server.path), str(tmp_path / "single")], check=True)
    single = Place(tmp_path / "single")
    assert fetch_contents(single.repo, {b"s": gone.manifest}) == {}
    place.git("push", "-q", "--no-verify", "origin", ":side")
    prune_remote(place.repo, "origin", expiry=1)
    for name in server.refs("refs/ml/dropped"):
        server.git("update-ref", "-d", name)
    # neither the branch seen there once, nor what came from there, nor an object that waits for git gc, counts
    single.git("update-ref", "refs/heads/again", side)
    single.push()
    assert gone.manifest in server.manifests()
    server.gc()
    server.sound()
    assert server.has(gone)


def test_a_clone_that_does_not_know_all_prunes_no_remote(shared: tuple[Place, Place], tmp_path: Path) -> None:
    _, server = shared
    server.git("config", "uploadpack.allowFilter", "true")
    for name, option in (("shallow", "--depth=1"), ("partial", "--filter=blob:none")):
        subprocess.run(
            ["git", "clone", "-q", option, "--no-checkout", f"file://{server.path}", str(tmp_path / name)], check=True
        )
        with pytest.raises(UserError, match=r"shallow|files of the history"):
            prune_remote(Place(tmp_path / name).repo, "origin", expiry=1)
    assert len(server.heads()) == 1


def test_nothing_is_dropped_where_files_of_the_history_are_lost(place: Place) -> None:
    place.add("p", noise(1))
    place.commit()
    blob = place.git("rev-parse", "HEAD:p")
    (place.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UserError, match=r"files of the history are not here \(1\)"):
        place.prune()


def test_what_was_fetched_object_by_object_goes_when_nothing_needs_it(
    shared: tuple[Place, Place], tmp_path: Path
) -> None:
    place, server = shared
    place.git("switch", "-q", "-c", "side")
    large, part = place.add("s", noise("s")), place.add("p", noise("p", LARGE))
    place.commit()
    place.push()
    url = f"file://{server.path}"
    subprocess.run(["git", "clone", "-q", "--no-checkout", url, str(tmp_path / "single")], check=True)
    single = Place(tmp_path / "single")
    single.git("read-tree", "HEAD")
    now = single.git("rev-parse", "HEAD:b")
    kept = parse_pointer(single.git("cat-file", "-p", now).encode() + b"\n")
    assert fetch_contents(single.repo, {b"s": large.manifest, b"b": kept.manifest}) == {}
    assert fetch_missing(single.repo, [part.manifest]) == set()
    assert (single.verify().elsewhere, single.verify().faults) == (3, [])  # two versions of a; p as a whole
    assert single.prune().dropped == []
    single.git("update-ref", "-d", "refs/remotes/origin/side")
    single.forget()
    done = single.prune(expiry=NEVER)
    assert ([version.manifest for version in done.versions], len(done.dropped)) == ([large.manifest], 2)
    single.sound()
    assert len(undo(single.repo)) == 2
    single.gc()
    assert (single.has(large), single.git("cat-file", "-t", part.manifest.hex())) == (True, "blob")
    single.prune()
    single.gc()
    assert [single.has(pointer) for pointer in (large, kept)] == [False, True]
    assert single.git("cat-file", "-t", part.manifest.hex(), check=False) == ""
    single.sound()


def test_heads_of_a_remote_that_is_gone_are_ours(shared: tuple[Place, Place]) -> None:
    place, _ = shared
    place.git("switch", "-q", "-c", "side")
    side = place.add("s", noise(3))
    place.commit()
    place.push()
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", "side")
    place.git("update-ref", "-d", "refs/remotes/origin/side")
    place.forget()
    assert place.prune().versions == []
    place.git("remote", "remove", "origin")
    place.forget()
    assert [version.manifest for version in place.prune().versions] == [side.manifest]
    assert place.refs("refs/ml/remotes") == {}
    place.gc()
    assert not place.has(side)
    place.sound()


@pytest.mark.parametrize("sign", ["index.lock", "objects/pack/staged-1-ab"])
def test_what_was_dropped_just_now_waits_while_something_is_added(place: Place, sign: str) -> None:
    place.commit({"a": noise(1)})
    place.git("switch", "-q", "-c", "side")
    place.commit({"s": noise(2)})
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", "side")
    place.forget()
    with (place.path / ".git" / sign).open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as a session holds its pack
        done = place.prune()
        assert (done.busy, done.waiting, len(done.dropped)) == (True, 1, 1)
        Path(file.name).unlink()
    assert len(place.prune().expired) == 1


def test_what_a_bisection_in_another_worktree_tests_is_needed(place: Place, tmp_path: Path) -> None:
    base = place.commit({"a": noise(1)})
    place.git("worktree", "add", "-q", "--no-checkout", "--detach", str(tmp_path / "w"), base)
    linked = Place(tmp_path / "w")
    for here, there in ((place, linked), (linked, place)):
        here.git("read-tree", base)
        pointer = here.add("k", noise(str(here.path)))
        commit = here.git("commit-tree", here.git("write-tree"), "-p", base, "-m", "c")
        here.git("read-tree", base)
        here.git("update-ref", "refs/bisect/bad", commit)
        assert commit not in there.git("for-each-ref", "refs/bisect")
        assert pointer.manifest in read_needs(there.repo).manifests()
