"""Clone, fetch, push and ls-remote with the real git, against every kind of store."""

from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit
from tests.stores import CREDENTIALS, KINDS, address


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
        work.write(name, _noise(9 << 20, noise + name.encode()))
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


def test_a_store_that_ignores_conditions_is_refused(rclone: str, work: Project, tmp_path: Path) -> None:
    url = address(rclone, "bucket", "unconditional")
    trace = tmp_path / "trace"
    done = work.run("git", "push", url, "main", check=False, extra={"GITML_TRACE_REMOTE": str(trace)})
    assert done.returncode != 0
    assert "ignores conditional writes (If-Match): of two pushes at once one would be lost" in done.stderr
    assert "single_writer=true" in done.stderr
    assert not any("refs.json" in line and " PUT " in line for line in trace.read_text().splitlines())
    work.git("remote", "add", "origin", url)
    work.git("config", "remote.origin.mlSingleWriter", "true")
    work.git("push", "-q", "origin", "main")
    assert clone(url, tmp_path / "other").head() == work.head()


def test_requests_of_pushes_to_s3(moto: str, work: Project, tmp_path: Path) -> None:
    """The first of a clone tries whether conditions are minded, and is still a small push."""
    url = address(moto, "bucket", "counted")
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    counts = []
    for number in range(3):
        commit(other, f"{number}\n")
        trace = tmp_path / f"trace-{number}"
        other.git("push", "-q", GITML_TRACE_REMOTE=str(trace))
        counts.append(len(trace.read_text().splitlines()))
    assert counts == [6, 4, 4]
    trace = tmp_path / "trace-pull"
    work.git("pull", "-q", url, "main", GITML_TRACE_REMOTE=str(trace))
    assert work.head() == other.head()
    assert len(trace.read_text().splitlines()) <= 7


def test_settings_of_a_remote(moto: str, work: Project, tmp_path: Path) -> None:
    work.git("remote", "add", "origin", "ml::s3://bucket/settings")
    work.git("config", "remote.origin.mlEndpoint", moto)
    work.git("config", "remote.origin.mlRegion", "us-east-1")
    work.git("config", "--add", "remote.origin.mlOption", "virtual_hosted_style_request=false")
    work.git("push", "-q", "origin", "main")
    assert clone(address(moto, "bucket", "settings"), tmp_path / "other").head() == work.head()
    work.git("config", "--add", "remote.origin.mlOption", "colour=red")
    done = work.run("git", "fetch", "origin", check=False)
    assert done.returncode != 0
    assert "unknown option" in done.stderr
    assert "colour" in done.stderr


@pytest.mark.parametrize("option", ["", "&metadata_endpoint=http://127.0.0.1:9"])
def test_without_credentials_it_is_said_what_to_set(
    moto: str, work: Project, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    for name in (*CREDENTIALS, "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    done = work.run("git", "ls-remote", address(moto, "bucket", "x", option), check=False)
    assert done.returncode == 128
    assert "no credentials were found" in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr
    for url, hint in (("ml::az://container/x", "AZURE_STORAGE_ACCOUNT_NAME"),):
        done = work.run("git", "ls-remote", url, check=False)
        assert done.returncode == 128
        assert "no credentials were found" in done.stderr
        assert hint in done.stderr


def test_no_profile_and_no_bucket(moto: str, work: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    done = work.run("git", "ls-remote", address(moto, "no-such-bucket", "x"), check=False)
    assert done.returncode == 128
    assert "there is no such bucket" in done.stderr
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    done = work.run("git", "ls-remote", address(moto, "bucket", "x"), check=False)
    assert done.returncode == 128
    assert "nobody" in done.stderr
