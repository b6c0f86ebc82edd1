"""What `git push` does to a store, as git's own tests ask of servers (t5516, t5543, t5801)."""

from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit


@pytest.fixture
def url(new_store: NewStore) -> str:
    return new_store("file")


def refs(project: Project, url: str) -> dict[str, str]:
    listed = project.git("ls-remote", "--refs", url).splitlines()
    return {name: oid for oid, name in (line.split("\t") for line in listed)}


def push(project: Project, *arguments: str) -> tuple[int, str]:
    """A push that may be refused: its exit code and what `--porcelain` says."""
    done = project.run("git", "push", "--porcelain", *arguments, check=False)
    return done.returncode, done.stdout


def test_new_branches_by_refspecs_of_all_kinds(work: Project, url: str) -> None:
    first = work.head()
    second = commit(work, "two\n")
    work.git("push", "-q", url, "HEAD", "HEAD~1:refs/heads/old", f"{second}:refs/heads/by-oid", "main:refs/other/place")
    assert refs(work, url) == {
        "refs/heads/main": second,
        "refs/heads/old": first,
        "refs/heads/by-oid": second,
        "refs/other/place": second,
    }


def test_pushing_again_changes_nothing(work: Project, url: str) -> None:
    work.git("push", "-q", url, "main")
    done = work.run("git", "push", url, "main")
    assert "Everything up-to-date" in done.stderr


def test_a_branch_goes_forward_only_unless_forced(work: Project, url: str) -> None:
    work.git("push", "-q", url, "main")
    before = commit(work, "two\n")
    work.git("push", "-q", url, "main")
    work.git("commit", "-q", "--amend", "-m", "another two")
    code, said = push(work, url, "main")
    assert code != 0
    assert "non-fast-forward" in said
    assert refs(work, url) == {"refs/heads/main": before}
    work.git("push", "-q", url, "+main")
    assert refs(work, url) == {"refs/heads/main": work.head()}


def test_what_others_pushed_must_be_fetched_first(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    theirs = commit(other, "theirs\n")
    other.git("push", "-q")
    commit(work, "ours\n")
    code, said = push(work, url, "main")
    assert code != 0
    assert "fetch first" in said
    assert refs(work, url) == {"refs/heads/main": theirs}


def test_one_ref_is_refused_and_the_others_move(work: Project, url: str) -> None:
    commit(work, "two\n")
    work.git("push", "-q", url, "main")
    work.git("branch", "good")
    work.git("reset", "-q", "--hard", "HEAD~1")
    commit(work, "another\n")
    code, said = push(work, url, "main", "good")
    assert code != 0
    assert "!\trefs/heads/main" in said
    assert "*\trefs/heads/good" in said
    assert set(refs(work, url)) == {"refs/heads/main", "refs/heads/good"}


def test_atomic_moves_all_or_none(work: Project, url: str) -> None:
    kept = commit(work, "two\n")
    work.git("push", "-q", url, "main")
    work.git("branch", "good")
    work.git("reset", "-q", "--hard", "HEAD~1")
    commit(work, "another\n")
    code, said = push(work, "--atomic", url, "main", "good")
    assert code != 0
    assert "atomic push failed" in said
    assert refs(work, url) == {"refs/heads/main": kept}
    work.git("push", "-q", "--atomic", url, "+main", "good", "main:refs/heads/third")
    assert set(refs(work, url)) == {"refs/heads/main", "refs/heads/good", "refs/heads/third"}


def test_atomic_when_the_store_itself_refuses(work: Project, url: str) -> None:
    """Git's own comparison with the list lets both through; the store knows that one is impossible."""
    work.git("push", "-q", url, "main", "main:refs/heads/a/b")
    code, said = push(work, "--atomic", url, "main:refs/heads/new", "main:refs/heads/a")
    assert code != 0
    assert "another ref is named like its directory" in said
    assert set(refs(work, url)) == {"refs/heads/main", "refs/heads/a/b"}


def test_dry_run_changes_nothing(work: Project, url: str, tmp_path: Path) -> None:
    code, said = push(work, "--dry-run", url, "main")
    assert code == 0
    assert "*\tHEAD:refs/heads/main" in said or "*\trefs/heads/main:refs/heads/main" in said
    assert list(tmp_path.glob("store-*")) == []
    work.git("push", "-q", url, "main")
    commit(work, "two\n")
    push(work, "--dry-run", url, "main")
    assert refs(work, url) == {"refs/heads/main": work.head("HEAD~1")}


def test_deleting(work: Project, url: str) -> None:
    work.git("push", "-q", url, "main", "main:refs/heads/gone", "main:refs/tags/gone")
    work.git("push", "-q", url, "--delete", "refs/heads/gone", "refs/tags/gone")
    assert set(refs(work, url)) == {"refs/heads/main"}
    code, said = push(work, url, ":main")
    assert code != 0
    assert "HEAD" in said
    assert set(refs(work, url)) == {"refs/heads/main"}


def test_leases(work: Project, url: str, tmp_path: Path) -> None:
    work.git("remote", "add", "origin", url)
    commit(work, "two\n")
    work.git("push", "-q", "origin", "main")
    other = clone(url, tmp_path / "other")
    theirs = commit(other, "theirs\n")
    other.git("push", "-q")
    work.git("commit", "-q", "--amend", "-m", "amended")
    code, said = push(work, "--force-with-lease", "origin", "main")
    assert code != 0
    assert "stale info" in said
    assert refs(work, url) == {"refs/heads/main": theirs}
    work.git("push", "-q", f"--force-with-lease=main:{theirs}", "origin", "main")
    assert refs(work, url) == {"refs/heads/main": work.head()}
    code, said = push(work, "--force-with-lease=new:", "origin", "main:new")
    assert code == 0
    code, said = push(work, "--force-with-lease=new:", "origin", "HEAD~1:new")
    assert code != 0
    assert "stale info" in said


def test_mirror_and_prune(work: Project, url: str) -> None:
    work.git("tag", "v1")
    work.git("branch", "side")
    work.git("update-ref", "refs/other/x", "HEAD")
    work.git("push", "-q", "--mirror", url)
    assert set(refs(work, url)) == {"refs/heads/main", "refs/heads/side", "refs/tags/v1", "refs/other/x"}
    work.git("branch", "-q", "-D", "side")
    work.git("update-ref", "-d", "refs/other/x")
    work.git("push", "-q", "--mirror", url)
    assert set(refs(work, url)) == {"refs/heads/main", "refs/tags/v1"}


def test_tags_stay_unless_forced(work: Project, url: str) -> None:
    work.git("tag", "-a", "-m", "one", "v1")
    work.git("push", "-q", url, "main", "v1")
    tag = work.head("v1")
    commit(work, "two\n")
    work.git("tag", "-f", "-a", "-m", "other", "v1")
    code, said = push(work, url, "v1")
    assert code != 0
    assert "already exists" in said
    assert refs(work, url)["refs/tags/v1"] == tag
    work.git("push", "-q", "-f", url, "v1")
    assert refs(work, url)["refs/tags/v1"] == work.head("v1")


def test_follow_tags(work: Project, url: str) -> None:
    work.git("tag", "-a", "-m", "one", "v1")
    work.git("push", "-q", "--follow-tags", url, "main")
    assert set(refs(work, url)) == {"refs/heads/main", "refs/tags/v1"}


def test_push_options(work: Project, url: str) -> None:
    work.git("push", "-q", "-o", "fold=never", url, "main")
    done = work.run("git", "push", "-o", "colour=red", url, "main:other", check=False)
    assert done.returncode != 0
    assert "unknown push option 'colour=red'" in done.stderr
    assert "other" not in str(refs(work, url))


def test_another_branch_becomes_head(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main:master")
    work.git("push", "-q", "-o", "head=main", url, "main")
    assert clone(url, tmp_path / "other").git("symbolic-ref", "HEAD") == "refs/heads/main"
    work.git("push", "-q", url, ":master")
    assert refs(work, url).keys() == {"refs/heads/main"}
    done = work.run("git", "push", "-o", "head=nothing", url, "main:more", check=False)
    assert done.returncode != 0
    assert "there is no 'refs/heads/nothing'" in done.stderr


def test_the_first_branch_is_head(work: Project, url: str, tmp_path: Path) -> None:
    work.git("branch", "-q", "-m", "trunk")
    work.git("branch", "main")
    work.git("push", "-q", url, "--all")
    assert clone(url, tmp_path / "other").git("symbolic-ref", "HEAD") == "refs/heads/trunk"


def test_names_of_every_kind(work: Project, url: str, tmp_path: Path) -> None:
    for name in ("größe", "a'b\"c", "x" * 200, "emoji-🐟"):
        work.git("push", "-q", url, f"main:refs/heads/{name}")
    other = clone(url, tmp_path / "other", "--mirror")
    assert refs(work, url) == refs(other, url)
    assert set(other.git("for-each-ref", "--format=%(refname:lstrip=2)").splitlines()) == {
        "größe", "a'b\"c", "x" * 200, "emoji-🐟",
    }  # fmt: skip


def test_other_objects_than_commits(work: Project, url: str, tmp_path: Path) -> None:
    blob, tree = work.head("HEAD:file"), work.head("HEAD^{tree}")
    work.git("push", "-q", url, "main", f"{blob}:refs/tags/blob", f"{tree}:refs/tags/tree")
    code, _ = push(work, url, f"{blob}:refs/heads/blob")
    assert code != 0
    other = clone(url, tmp_path / "other")
    assert other.git("cat-file", "-t", "blob") == "blob"
    assert other.git("cat-file", "-t", "tree") == "tree"
    other.git("fsck", "--strict")


def test_a_small_push_takes_few_requests(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main")
    trace = tmp_path / "trace"
    for number in range(20):
        commit(work, f"{number}\n")
        trace.unlink(missing_ok=True)
        work.git("push", "-q", url, "main", GITML_TRACE_REMOTE=str(trace))
        assert len(trace.read_text().splitlines()) <= 6
    assert work.git("ls-remote", url, "main").split()[0] == work.head()


def test_a_push_into_a_store_of_the_other_hash(work: Project, url: str, tmp_path: Path) -> None:
    work.git("push", "-q", url, "main")
    before = refs(work, url)
    (tmp_path / "long").mkdir()
    long = Project(tmp_path / "long")
    long.git("init", "-q", "--object-format=sha256")
    commit(long, "one\n")
    done = long.run("git", "push", url, "HEAD:refs/heads/long", check=False)
    assert done.returncode != 0
    assert "sha1" in done.stderr
    assert "sha256" in done.stderr
    assert refs(work, url) == before


def test_sha256_round_trip(url: str, tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    long = Project(tmp_path / "long")
    long.git("init", "-q", "--object-format=sha256")
    for number in range(3):
        commit(long, f"{number}\n" * 100)
    long.git("push", "-q", url, "HEAD")
    other = clone(url, tmp_path / "other")
    assert other.head() == long.head()
    assert other.git("rev-parse", "--show-object-format") == "sha256"
    other.git("fsck", "--strict")


def test_a_shallow_clone_pushes_and_cannot_make_holes(
    work: Project, url: str, tmp_path: Path, new_store: NewStore
) -> None:
    for number in range(5):
        commit(work, f"{number}\n")
    work.git("push", "-q", url, "main")
    shallow = clone(url, tmp_path / "shallow", "--depth", "1")
    tip = commit(shallow, "from the shallow\n")
    shallow.git("push", "-q", "origin", "HEAD:main")
    assert refs(work, url) == {"refs/heads/main": tip}
    clone(url, tmp_path / "whole").git("fsck", "--strict")
    done = shallow.run("git", "push", new_store("file"), "HEAD:main", check=False)
    assert done.returncode != 0
    assert "--unshallow" in done.stderr


def test_a_large_file_that_the_store_has_is_not_sent_again(work: Project, url: str, tmp_path: Path) -> None:
    import hashlib

    work.write("large", hashlib.shake_128(b"large").digest(2_000_000))
    commit(work, "large\n")
    work.git("push", "-q", url, "main")
    work.git("checkout", "-q", "--orphan", "fresh")
    work.git("commit", "-q", "-m", "the same file, no history")
    trace = tmp_path / "trace"
    work.git("push", "-q", url, "fresh", GITML_TRACE_REMOTE=str(trace))
    sent = sum(int(line.split()[-4]) for line in trace.read_text().splitlines() if " PUT " in line)
    assert sent < 10_000


def test_what_the_store_has_is_not_sent_again(work: Project, url: str, tmp_path: Path) -> None:
    for number in range(300):
        work.write(f"many/{number}", f"{number} of many\n" * 20)
    commit(work, "with many\n")
    work.git("push", "-q", url, "main")
    work.git("checkout", "-q", "--orphan", "fresh")
    work.git("commit", "-q", "-m", "the same files, no history")
    trace = tmp_path / "trace"
    work.git("push", "-q", url, "fresh", GITML_TRACE_REMOTE=str(trace))
    sent = sum(int(line.split()[3]) for line in trace.read_text().splitlines() if ".pack" in line and "PUT" in line)
    assert 0 < sent < 1000
    clone(url, tmp_path / "other", "--mirror").git("fsck", "--strict")
