"""What a push, fetch or clone sends and how often it connects: no more than what is new."""

import hashlib
import random
from pathlib import Path

from tests.conftest import run_git
from tests.end_to_end.project import Project
from tests.end_to_end.travel import blobs, clone, content, counted, fsck, noise, put, weighed


def test_a_push_makes_few_connections(work: Project, bare: Path, tmp_path: Path) -> None:
    work.git("remote", "add", "origin", f"file://{bare}")
    connections = counted(work, tmp_path)
    work.git("push", "-q", "-u", "origin", "main")
    assert connections() == {"upload-pack": 2, "receive-pack": 2}
    put(work, "data/changed", 3)
    work.git("push", "-q")
    # git's own, one that asks what is there, and one that takes the data: git has no way to put them into one
    assert connections() == {"upload-pack": 1, "receive-pack": 2}
    work.git("commit", "-q", "--allow-empty", "-m", "no data")
    work.git("push", "-q")
    assert connections() == {"receive-pack": 1}
    work.git("push", "-q")
    assert connections() == {"receive-pack": 1}


def test_a_push_carries_only_what_it_needs(work: Project, bare: Path) -> None:
    work.git("remote", "add", "origin", str(bare))
    work.git("switch", "-q", "-c", "secret")
    put(work, "data/secret", 7, 2_000_000)
    work.git("switch", "-q", "main")
    put(work, "data/open", 8)
    work.git("push", "-q", "origin", "main")
    assert blobs(bare) == blobs(work.path) - len(secret_chunks(work))
    assert not secret_chunks(work) & set(run_git(bare, "cat-file", "--batch-all-objects", "--batch-check").split())
    fsck(bare)
    work.git("push", "-q", "origin", "secret")
    assert blobs(bare) == blobs(work.path)
    fsck(bare)


def secret_chunks(project: Project) -> set[str]:
    manifest = project.git("cat-file", "blob", "secret:data/secret").splitlines()[3].split()[1]
    listed = project.git("rev-list", "--objects", "--all").splitlines()
    tree = next(line for line in listed if line.endswith(" data/secret/manifest"))
    assert tree.split()[0] == manifest
    return {line.split()[0] for line in listed if " data/secret/" in line and not line.endswith("/manifest")}


def test_a_clone_with_single_objects_sends_only_what_changed(work: Project, bare: Path, tmp_path: Path) -> None:
    run_git(bare, "config", "uploadpack.allowFilter", "true")
    size = 40_000_000
    before = noise(5, size)
    work.write("data/large", before)
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "large")
    work.git("remote", "add", "origin", f"file://{bare}")
    work.git("push", "-q", "-u", "origin", "main")
    other = clone(f"file://{bare}", tmp_path / "other")
    after = before[: size // 2] + noise(6, size // 100) + before[size // 2 + size // 100 :]
    other.write("data/large", after)
    other.git("commit", "-q", "-a", "-m", "1 % changed")
    sent = weighed(other, tmp_path / "pushed")("push", "-q")
    received = weighed(work, tmp_path / "pulled")("pull", "-q")
    assert content(work, "data/large") == after
    assert size // 100 < sum(sent) <= size * 3 // 100
    assert size // 100 < sum(received) <= size * 3 // 100
    fsck(bare)
    fsck(other.path)


def test_a_clone_with_all_data_gets_differences(work: Project, bare: Path, tmp_path: Path) -> None:
    url = f"file://{bare}"
    # no two chunks of this table have one sketch: git would send one of them whole, as it looks for the base of a chunk
    # once for all paths that end in the same 16 characters
    chance = random.Random(7)

    def row(number: int) -> str:
        return f"{number},{chance.random():.6f},{chance.choice('abcdefgh')},{chance.randrange(10**6)}\n"

    lines = [hashlib.md5(b"%d" % number).hexdigest() + "\n" for number in range(30_000)]
    days = [row(number) for number in range(190_476)]
    work.write("data/table", "".join(lines))
    work.write("data/days", "".join(days))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "table")
    work.git("remote", "add", "origin", url)
    work.git("push", "-q", "-u", "origin", "main")
    other = clone(url, tmp_path / "other")
    other.ml("fetch", "--all")
    pushed, pulled = weighed(work, tmp_path / "pushed"), weighed(other, tmp_path / "pulled")

    def travels(most: int, name: str, content: str) -> None:
        work.write(name, content)
        work.git("commit", "-q", "-a", "-m", name)
        _, sent = pushed("push", "-q", "origin", "main")
        received, _ = pulled("pull", "-q")
        assert other.read(name) == content
        assert 1000 < sent <= most
        # all connections of the pull together, and the trees in which four other files stand
        assert 1000 < received <= most + 500

    lines[15_000] = "changed\n"
    travels(2000, "data/table", "".join(lines))
    for number in range(300):
        days.insert(chance.randrange(len(days)), row(number))
    travels(30_000, "data/days", "".join(days))
    fsck(other.path)
    # who has pushed has the history as well, and gets a difference where little else is new (and the server can tell)
    run_git(bare, "config", "uploadpack.allowFilter", "true")
    lines[20_000] = "theirs\n"
    other.write("data/table", "".join(lines))
    other.git("commit", "-q", "-a", "-m", "theirs")
    other.git("push", "-q", "origin", "main")
    received, _ = weighed(work, tmp_path / "theirs")("pull", "-q")
    assert 1000 < received < 8000
    assert work.read("data/table") == "".join(lines)
    fsck(work.path)


def test_a_clone_may_hold_one_file_of_many(work: Project, bare: Path, tmp_path: Path) -> None:
    work.git("remote", "add", "origin", f"file://{bare}")
    work.git("push", "-q", "-u", "origin", "main")
    run_git(tmp_path, "clone", "-q", f"file://{bare}", "other")
    other = Project(tmp_path / "other")
    assert "3 files left as pointers" in other.ml("install", "--no-fetch").stdout
    other.ml("pull", "data/1")
    put(work, "data/2", 20)
    work.git("push", "-q")
    other.git("pull", "-q")
    assert content(other, "data/1") == noise(11)
    assert blobs(other.path) == blobs_of(other, "data/1")
    other.ml("install")
    assert content(other, "data/2") == noise(20)
    assert other.is_clean()


def blobs_of(project: Project, path: str) -> int:
    (listed,) = (each for each in project.json("ls", check=False)["files"] if each["path"] == path)
    assert listed["here"]
    return int(listed["chunks"])
