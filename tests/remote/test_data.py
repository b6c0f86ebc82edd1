"""gitml's own data in stores: pushed by hooks, fetched on demand, and beside a forge that holds the code."""

import hashlib
from pathlib import Path

import pytest

from tests.conftest import run_git
from tests.end_to_end.project import Project, small_project
from tests.remote.conftest import NewStore

KINDS = ("file", "moto")


def noise(seed: str, size: int = 700_000) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with results, and with large files under gitml."""
    project = small_project(tmp_path / "project")
    project.write(".gitattributes", "data/** filter=ml -text\n")
    project.write("data/a.bin", noise("a"))
    project.write("data/b.bin", noise("b"))
    project.commit("first")
    return project


def clone(project: Project, url: str, path: Path) -> Project:
    project.git("clone", "-q", url, str(path))
    other = Project(path)
    other.ml("install")
    return other


def tasks(project: Project) -> set[str]:
    """The tasks that were ever executed, as far as the run cache here knows."""
    listed = project.git("ls-tree", "-r", "--name-only", "refs/ml/runs", check=False).splitlines()
    return {path for path in listed if path.startswith("runs/") and "/task/" in path}


def received(trace: Path) -> int:
    lines = [line.split() for line in trace.read_text().splitlines()]
    return sum(int(line[-4]) for line in lines if line[1] == "GET" and "packs/" in line[2])


@pytest.mark.parametrize("kind", KINDS)
def test_code_data_and_results_in_one_place(kind: str, new_store: NewStore, project: Project, tmp_path: Path) -> None:
    url = new_store(kind)
    project.git("remote", "add", "origin", url)
    project.git("push", "-q", "-u", "origin", "main")
    other = clone(project, url, tmp_path / "other")
    assert (other.path / "data/a.bin").read_bytes() == noise("a")
    assert set(other.states().values()) == {"fresh"}
    assert other.executions() == 0
    other.write("input/z.csv", "z\n")
    other.write("data/a.bin", noise("a") + b"more")
    other.commit("continued")
    assert len(tasks(other) - tasks(project)) == 1
    other.git("push", "-q")
    project.git("pull", "-q")
    assert (project.path / "data/a.bin").read_bytes() == noise("a") + b"more"
    before = project.executions()
    assert set(project.states().values()) == {"fresh"}
    project.ml("run")
    assert project.executions() == before
    for each in (project, other):
        each.git("fsck")
        each.ml("fsck", "--deep")
    assert "all good" in project.ml("remote", "fsck", "--deep", "origin").stderr


def test_one_file_comes_alone(new_store: NewStore, project: Project, tmp_path: Path) -> None:
    url = new_store("file")
    for number in range(30):
        project.write(f"data/many/{number}", noise(str(number), 300_000))
    project.commit("many")
    project.git("push", "-q", url, "main")
    project.git("clone", "-q", url, str(tmp_path / "other"))
    other = Project(tmp_path / "other")
    other.git("config", "ml.skip", "*")
    other.ml("install")
    trace = tmp_path / "trace"
    other.ml("checkout", "data/many/7", GITML_TRACE_REMOTE=str(trace))
    assert (other.path / "data/many/7").read_bytes() == noise("7", 300_000)
    assert 300_000 <= received(trace) < 400_000


def test_a_small_change_of_a_large_file_sends_little(new_store: NewStore, project: Project, tmp_path: Path) -> None:
    url = new_store("file")
    content = bytearray(noise("large", 20_000_000))
    project.write("data/large", bytes(content))
    project.commit("large")
    project.git("push", "-q", url, "main")
    content[9_000_000:9_000_010] = b"0123456789"
    project.write("data/large", bytes(content))
    project.commit("changed")
    trace = tmp_path / "trace"
    project.git("push", "-q", url, "main", GITML_TRACE_REMOTE=str(trace))
    sent = sum(int(line.split()[-4]) for line in trace.read_text().splitlines() if " PUT " in line)
    assert sent < 1_500_000


def test_a_store_for_data_beside_a_forge_for_code(new_store: NewStore, project: Project, tmp_path: Path) -> None:
    url = new_store("file")
    run_git(tmp_path, "init", "-q", "--bare", "-b", "main", str(tmp_path / "forge.git"))
    forge = f"file://{tmp_path}/forge.git"
    project.git("remote", "add", "origin", forge)
    project.git("remote", "add", "storage", url)
    project.git("config", "ml.dataRemote", "storage")
    project.git("push", "-q", "-u", "origin", "main")
    assert run_git(tmp_path / "forge.git", "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main"]
    stored = [line.split("\t")[1] for line in project.git("ls-remote", "storage").splitlines()]
    assert {name.split("/")[2] for name in stored} == {"data", "runs"}

    project.git("clone", "-q", forge, str(tmp_path / "other"))
    other = Project(tmp_path / "other")
    other.git("remote", "add", "storage", url)
    other.git("config", "ml.dataRemote", "storage")
    other.ml("install")
    assert (other.path / "data/b.bin").read_bytes() == noise("b")
    assert set(other.states().values()) == {"fresh"}

    project.write("input/z.csv", "z\n")
    project.write("data/a.bin", noise("new a"))
    project.commit("more")
    project.git("push", "-q")
    other.git("pull", "-q")
    assert (other.path / "data/a.bin").read_bytes() == noise("new a")
    assert set(other.states().values()) == {"fresh"}
    head = other.head()
    other.ml("run")
    assert other.head() == head == project.head()
    assert other.executions() == 0
    assert run_git(tmp_path / "forge.git", "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main"]
    assert "has all data" in other.ml("push").stderr


def test_a_data_remote_that_is_none_is_said(project: Project, tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "-b", "main", str(tmp_path / "forge.git"))
    project.git("remote", "add", "origin", str(tmp_path / "forge.git"))
    project.git("config", "ml.dataRemote", "storage")
    done = project.run("git", "push", "origin", "main", check=False)
    assert done.returncode != 0
    assert "ml.dataRemote is 'storage', and there is no such remote" in done.stderr


def test_a_promisor_for_large_blobs_beside_a_forge(new_store: NewStore, tmp_path: Path, work: Project) -> None:
    """git's own large object promisor: a forge that does not have the blob, a store that does."""
    url = new_store("file")
    work.write("large", noise("large"))
    work.write("small", "small\n")
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "large")
    work.git("push", "-q", url, "main")
    work.git("config", "uploadpack.allowFilter", "true")
    forge = tmp_path / "forge.git"
    work.git("clone", "-q", "--bare", "--filter=blob:limit=100k", f"file://{work.path}", str(forge))
    run_git(forge, "remote", "remove", "origin")
    run_git(forge, "config", "uploadpack.allowFilter", "true")
    blob = work.head("HEAD:large")
    assert run_git(forge, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").count(blob) == 0

    work.git("clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{forge}", str(tmp_path / "partial"))
    other = Project(tmp_path / "partial")
    assert other.run("git", "checkout", "-q", "main", check=False).returncode != 0, "the forge had the blob"
    other.git("remote", "add", "storage", url)
    other.git("config", "remote.storage.promisor", "true")
    other.git("config", "remote.storage.partialCloneFilter", "blob:none")
    trace = tmp_path / "trace"
    other.git("checkout", "-q", "-f", "main", GITML_TRACE_REMOTE=str(trace))
    assert (other.path / "large").read_bytes() == noise("large")
    assert (other.path / "small").read_text() == "small\n"
    assert received(trace) > 700_000
    other.git("fsck")
