"""What `git fetch` and `git clone` bring from a store: depth, filters, tags, single objects (t5616 and others)."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit


@pytest.fixture
def url(new_store: NewStore, work: Project) -> str:
    """A store with twelve commits on main, a side branch with a tag of its own, and a tag on main."""
    url = new_store("file")
    for number in range(11):
        work.write(f"dir/sub/{number}", f"{number}\n" * 200)
        commit(work, f"{number}\n" * 300)
    work.git("tag", "-a", "-m", "on main", "v1", "HEAD~3")
    work.git("checkout", "-q", "-b", "side", "HEAD~6")
    work.write("only-on-side", "side\n")
    commit(work, "side\n", "other")
    work.git("tag", "-a", "-m", "on side", "v-side")
    work.git("checkout", "-q", "main")
    work.git("push", "-q", url, "main", "side", "v1", "v-side")
    return url


def count(project: Project, *revisions: str) -> int:
    return int(project.git("rev-list", "--count", *(revisions or ("HEAD",))))


def received(trace: Path) -> int:
    """Bytes of packs that came."""
    lines = [line.split() for line in trace.read_text().splitlines() if "packs/" in line and ".index" not in line]
    return sum(int(line[-4]) for line in lines if line[1] == "GET")


def missing(project: Project) -> int:
    listed = project.git("rev-list", "--objects", "--all", "--missing=print").splitlines()
    return sum(line.startswith("?") for line in listed)


def test_depth_and_back(work: Project, url: str, tmp_path: Path) -> None:
    shallow = clone(url, tmp_path / "shallow", "--depth", "2", "--no-tags")
    assert count(shallow) == 2
    assert (shallow.path / ".git" / "shallow").read_text().split() == [work.head("main~1")]
    shallow.git("fsck")
    shallow.git("fetch", "-q", "--deepen", "3")
    assert count(shallow) == 5
    shallow.git("fsck")
    shallow.git("fetch", "-q", "--depth", "7")
    assert count(shallow) == 7
    tip = commit(work, "later\n")
    work.git("push", "-q", url, "main")
    shallow.git("fetch", "-q")
    assert count(shallow, "origin/main") == 8
    assert shallow.head("origin/main") == tip
    shallow.git("fetch", "-q", "--unshallow")
    assert shallow.git("rev-parse", "--is-shallow-repository") == "false"
    assert count(shallow, "origin/main") == count(work, "main") == 13
    shallow.git("fsck", "--strict")


def test_depth_across_a_merge(work: Project, url: str, tmp_path: Path) -> None:
    work.git("merge", "-q", "-m", "merge", "side")
    work.git("push", "-q", url, "main")
    shallow = clone(url, tmp_path / "shallow", "--depth", "2")
    assert set(shallow.git("rev-list", "HEAD").split()) == {work.head(name) for name in ("main", "main^1", "main^2")}
    shallow.git("fsck")


def test_a_single_branch_brings_nothing_of_others(url: str, tmp_path: Path) -> None:
    single = clone(url, tmp_path / "single", "--single-branch")
    assert single.git("branch", "-a", "--format=%(refname)").split() == [
        "refs/heads/main", "refs/remotes/origin/HEAD", "refs/remotes/origin/main",
    ]  # fmt: skip
    assert single.git("tag").split() == ["v1"]
    objects = single.git("cat-file", "--batch-all-objects", "--batch-check").splitlines()
    commits = [line for line in objects if line.split()[1] == "commit"]
    assert len(commits) == count(single, "--all")
    single.git("fetch", "-q", "origin", "side:side")
    assert single.git("tag").split() == ["v-side", "v1"]
    single.git("fsck", "--strict")


def test_fetching_brings_only_what_is_new(work: Project, url: str, tmp_path: Path) -> None:
    other = clone(url, tmp_path / "other")
    work.write("new", "new\n" * 4000)
    tip = commit(work, "more\n")
    work.git("push", "-q", url, "main")
    trace = tmp_path / "trace"
    other.git("fetch", "-q", GITML_TRACE_REMOTE=str(trace))
    assert other.head("origin/main") == tip
    assert len(trace.read_text().splitlines()) <= 4
    assert received(trace) < 2000
    other.git("fsck", "--strict")


def test_a_fetch_after_others_folded_brings_only_what_is_new(work: Project, url: str, tmp_path: Path) -> None:
    work.write("large", "".join(f"{number * 7919 % 100_003}\n" for number in range(200_000)))
    commit(work, "large\n")
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    commit(work, "small\n")
    work.git("push", "-q", "-o", "fold=now", url, "main")
    trace = tmp_path / "trace"
    other.git("pull", "-q", GITML_TRACE_REMOTE=str(trace))
    assert other.head() == work.head()
    assert received(trace) < 300_000, trace.read_text()
    other.git("fsck", "--strict")


@pytest.mark.parametrize("filters", ["blob:none", "blob:limit=500", "tree:0"])
def test_partial_clones(work: Project, url: str, tmp_path: Path, filters: str) -> None:
    partial = clone(url, tmp_path / "partial", f"--filter={filters}", "--no-checkout")
    assert missing(partial) > 0
    partial.git("fsck")
    partial.git("checkout", "-q", "main", "--", "dir/sub/3")
    assert partial.read("dir/sub/3") == "3\n" * 200
    partial.git("reset", "-q", "--hard")
    assert partial.is_clean()
    assert partial.git("log", "--format=%H", "-p", "--", "file").count("diff --git") == 12
    tip = commit(work, "later\n")
    work.git("push", "-q", url, "main")
    partial.git("pull", "-q")
    assert partial.head() == tip
    theirs = commit(partial, "from the partial clone\n", "another")
    partial.git("push", "-q")
    partial.git("gc", "-q", "--prune=now")
    partial.git("fsck")
    whole = clone(url, tmp_path / "whole")
    assert whole.head() == theirs
    whole.git("fsck", "--strict")


def test_blobs_below_the_limit_come_at_once(work: Project, url: str, tmp_path: Path) -> None:
    partial = clone(url, tmp_path / "partial", "--filter=blob:limit=500", "--no-checkout")
    here = {
        line.split()[0]
        for line in partial.git("cat-file", "--batch-all-objects", "--batch-check").splitlines()
        if line.split()[1] == "blob"
    }
    objects = [line.split()[0] for line in work.git("rev-list", "--objects", "--all").splitlines()]
    sizes = dict.fromkeys(objects, 0)
    for oid in objects:
        if work.git("cat-file", "-t", oid) == "blob":
            sizes[oid] = int(work.git("cat-file", "-s", oid))
    small = {oid for oid, size in sizes.items() if 0 < size < 500}
    # bases of deltas come along
    assert small <= here
    assert {oid for oid in here if sizes[oid] >= 500} != {oid for oid, size in sizes.items() if size >= 500}


def test_one_file_of_a_thousand_costs_that_file(new_store: NewStore, work: Project, tmp_path: Path) -> None:
    import hashlib

    url = new_store("file")
    for number in range(1000):
        work.write(f"data/{number}", hashlib.shake_128(b"%d" % number).digest(20_000))
    commit(work, "many\n")
    work.git("push", "-q", url, "main")
    trace = tmp_path / "trace"
    partial = clone(url, tmp_path / "partial", "--filter=blob:none", "--no-checkout")
    partial.git("checkout", "-q", "main", "--", "data/500", GITML_TRACE_REMOTE=str(trace))
    assert (partial.path / "data/500").read_bytes() == (work.path / "data/500").read_bytes()
    assert 20_000 <= received(trace) < 21_000


def test_single_objects(work: Project, url: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = Project(tmp_path / "empty")
    empty.git("init", "-q")
    blob = work.head("main~4:file")
    empty.git("fetch", "-q", "--no-write-fetch-head", url, blob)
    assert empty.git("cat-file", "blob", blob) == work.git("cat-file", "blob", blob)
    absent = "12" * 20
    done = empty.run("git", "fetch", url, absent, check=False)
    assert done.returncode != 0
    assert f"not our ref {absent}" in done.stderr


def test_an_address_with_nothing_there(tmp_path: Path) -> None:
    here = Project(tmp_path)
    for command in (["clone", f"ml::file://{tmp_path}/nowhere", "x"], ["ls-remote", f"ml::file://{tmp_path}/nowhere"]):
        done = here.run("git", *command, check=False)
        assert done.returncode == 128
        assert "fatal: there is no repository at" in done.stderr
        assert "hint: the first git push makes one" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_ls_remote_outside_a_repository(url: str, work: Project, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    listed = Project(tmp_path / "outside").git("ls-remote", "--symref", url, "HEAD")
    assert listed.splitlines() == ["ref: refs/heads/main\tHEAD", f"{work.head()}\tHEAD"]


def test_a_clone_into_a_linked_worktree_and_bare(url: str, work: Project, tmp_path: Path) -> None:
    bare = clone(url, tmp_path / "bare.git", "--bare")
    bare.git("worktree", "add", "-q", str(tmp_path / "linked"), "side")
    linked = Project(tmp_path / "linked")
    commit(linked, "from a linked worktree\n")
    linked.git("push", "-q", url, "HEAD:side")
    linked.git("fetch", "-q", url, "main")
    work.git("fetch", "-q", url, "side")
    assert work.head("FETCH_HEAD") == linked.head()


def test_a_clone_with_a_reference(url: str, work: Project, tmp_path: Path) -> None:
    other = clone(url, tmp_path / "other", "--reference", str(work.path))
    assert other.head() == work.head()
    other.git("fsck")


def test_a_fetch_that_is_all_here(url: str, work: Project, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    work.git("fetch", "-q", url, "main", "side", GITML_TRACE_REMOTE=str(trace))
    assert [line.split()[1:3] for line in trace.read_text().splitlines()] == [["GET", "refs.json"]]


def test_keep_files_go_when_git_is_through(url: str, tmp_path: Path) -> None:
    other = clone(url, tmp_path / "other")
    assert list((other.path / ".git" / "objects").rglob("*.keep")) == []
    assert list((other.path / ".git" / "objects").glob("tmp_*")) == []
    assert list((other.path / ".git" / "ml").rglob("*.pack")) == []


def test_keep_files_of_killed_fetches_go_whoever_has_their_process_id_now(
    work: Project, url: str, tmp_path: Path
) -> None:
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    packs = other.path / ".git" / "objects" / "pack"
    text = f"gitml: remote {os.getpid()}\n"
    for name in ("left", "held", "of the user"):
        (packs / f"pack-{name}.keep").write_text(text if name != "of the user" else "")
    commit(work, "more\n")
    work.git("push", "-q", url, "main")
    with (packs / "pack-held.keep").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other.git("fetch", "-q")
    assert sorted(path.name for path in packs.glob("*.keep")) == ["pack-held.keep", "pack-of the user.keep"]
