"""Clone, fetch, push and ls-remote with the real git, against every kind of store."""

from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit
from tests.stores import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pushed_is_cloned(kind: str, new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store(kind)
    for number in range(5):
        commit(work, f"line {number}\n" * 500, f"dir/file {number}")
    work.git("tag", "-a", "-m", "first", "v1", "HEAD~2")
    work.git("tag", "light")
    work.git("push", "-q", url, "main", "--tags")
    listed = {name: oid for oid, name in (line.split("\t") for line in work.git("ls-remote", url).splitlines())}
    assert listed == {
        "HEAD": work.head(),
        "refs/heads/main": work.head(),
        "refs/tags/light": work.head(),
        "refs/tags/v1": work.head("v1"),
        "refs/tags/v1^{}": work.head("v1^{}"),
    }
    other = clone(url, tmp_path / "other")
    assert other.head() == work.head()
    assert other.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert other.git("tag").split() == ["light", "v1"]
    assert other.read("dir/file 4") == "line 4\n" * 500
    other.git("fsck", "--strict")

    tip = commit(other, "from the other side\n")
    other.git("push", "-q")
    work.git("remote", "add", "origin", url)
    work.git("pull", "-q", "origin", "main")
    assert work.head() == tip
    work.git("fsck", "--strict")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_in_pieces(
    kind: str, new_store: NewStore, work: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_store(kind)
    noise = work.git("rev-parse", "HEAD").encode() * 10
    for name in ("a", "b"):
        work.write(name, _noise(20 << 20, noise + name.encode()))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "large")
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    assert (other.path / "a").read_bytes() == (work.path / "a").read_bytes()
    assert (other.path / "b").read_bytes() == (work.path / "b").read_bytes()
    other.git("fsck", "--strict")


def _noise(size: int, seed: bytes) -> bytes:
    import hashlib

    return hashlib.shake_128(seed).digest(size)
