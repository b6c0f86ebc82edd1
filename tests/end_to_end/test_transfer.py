"""Data that travels by plain git push, fetch and clone, between installed clones and real servers."""

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.resources import data_dir
from tests.conftest import run_git
from tests.end_to_end.project import Project
from tests.end_to_end.travel import blobs, clone, content, fsck, noise, put
from tests.servers import KINDS, serve

MISSING = 5


def hook(bare: Path, name: str, script: str) -> None:
    place = bare / "hooks" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"#!/bin/sh\n{script}")
    place.chmod(0o755)


@pytest.mark.parametrize(
    ("kind", "version", "allow"),
    [(kind, 2, "") for kind in KINDS]
    + [("http", 0, ""), ("daemon", 0, "allowAnySHA1InWant"), ("http", 2, "allowFilter")]
    + [("ssh", 0, "allowFilter"), ("http", 0, "allowFilter allowAnySHA1InWant")],
)  # fmt: skip
def test_data_travels_over_every_server(
    work: Project, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, version: int, allow: str
) -> None:
    for each in allow.split():
        run_git(bare, "config", f"uploadpack.{each}", "true")
    home = Path(os.environ["GIT_CONFIG_GLOBAL"])
    home.write_text(home.read_text() + f"[protocol]\n\tversion = {version}\n")
    with serve(kind, bare.parent, monkeypatch) as top:
        url = f"{top}/server.git"
        work.git("remote", "add", "origin", url)
        work.git("push", "-q", "-u", "origin", "main")
        other = clone(url, tmp_path / "other")
        assert [content(other, name) for name in ("data/changed", "data/1")] == [noise(2), noise(11)]
        single = version == 2 or "allowAnySHA1InWant" in allow
        assert (blobs(other.path) < blobs(work.path)) == single, "only what is checked out came, where that can be"
        put(work, "data/changed", 3)
        work.git("push", "-q")
        other.git("pull", "-q")
        assert content(other, "data/changed") == noise(3)
        put(other, "data/theirs", 4)
        other.git("push", "-q")
        work.git("pull", "-q")
        assert content(work, "data/theirs") == noise(4)
        if kind != "file":
            assert json.loads(work.ml("ls", "--remote", "origin", "--json", check=single).stdout or "{}") or not single
    for where in (work.path, other.path, bare):
        fsck(where)
    run_git(other.path, "gc", "-q", "--prune=now")
    other.git("checkout", "-q", "HEAD~1")
    assert content(other, "data/changed") == noise(3)
    assert other.is_clean()


def test_a_large_push_goes_in_stages_and_goes_on_where_it_stopped(work: Project, bare: Path, tmp_path: Path) -> None:
    put(work, "data/large", 5, 4_000_000)
    put(work, "data/more", 6, 900_000)
    work.git("config", "ml.pushLimit", "1500k")
    work.git("remote", "add", "origin", str(bare))
    plan = work.json("push", "origin", "--dry-run")
    assert plan["pushes"] >= 4
    assert {each["path"] for each in plan["contents"]} == {
        "data/changed", "data/1", "data/2", "data/large", "data/more"
    }  # fmt: skip
    assert not list((bare / "refs").rglob("ml/*")), "a dry run sends nothing"
    # the server breaks off after two pushes
    hook(bare, "pre-receive", 'n=$(cat count 2>/dev/null || echo 0)\necho $((n + 1)) > count\n[ "$n" -lt 2 ]\n')
    assert work.run("git", "push", "-q", "origin", "main", check=False).returncode != 0
    assert run_git(bare, "for-each-ref", "refs/heads") == ""
    hook(bare, "pre-receive", "while read line; do echo $line >> pushes; done\n")
    assert work.json("push", "origin", "--dry-run")["size"] < plan["size"]
    work.git("push", "-q", "origin", "main")
    staged = [line for line in (bare / "pushes").read_text().splitlines() if line.split()[1].strip("0")]
    assert 2 <= len(staged) - 1 <= plan["pushes"] - 1, "what had arrived was not sent again"
    fsck(bare)
    assert len(run_git(bare, "for-each-ref", "refs/ml/data").splitlines()) == 1
    other = clone(f"file://{bare}", tmp_path / "other")
    assert content(other, "data/large") == noise(5, 4_000_000)
    assert work.json("push", "origin")["contents"] == []


@pytest.mark.parametrize(
    ("name", "script"),
    {
        "update": 'case $1 in refs/ml/*) echo "no such refs here"; exit 1 ;; esac\n',
        "pre-receive": 'while read a b name; do case $name in refs/ml/*) exit 1 ;; esac; done\n',
        "post-receive": 'git for-each-ref --format="delete %(refname)" refs/ml | git update-ref --stdin\n',
    }.items(),
)  # fmt: skip
def test_a_host_that_refuses_or_drops_our_refs_gets_branches(
    work: Project, bare: Path, tmp_path: Path, name: str, script: str
) -> None:
    hook(bare, name, script)
    work.git("remote", "add", "origin", f"file://{bare}")
    work.git("push", "-q", "-u", "origin", "main")
    assert work.git("config", "remote.origin.mlNamespace") == "refs/heads/gitml"
    assert run_git(bare, "for-each-ref", "refs/ml") == ""
    assert "refs/heads/gitml/data/" in run_git(bare, "for-each-ref")
    put(work, "data/changed", 3)
    work.git("push", "-q")
    assert len(run_git(bare, "for-each-ref", "refs/heads/gitml/data").splitlines()) == 1
    other = clone(f"file://{bare}", tmp_path / "other")
    assert content(other, "data/changed") == noise(3)
    other.ml("fetch", "--all")
    assert other.git("config", "remote.origin.mlNamespace") == "refs/heads/gitml"
    put(work, "data/changed", 4)
    work.git("push", "-q")
    other.git("pull", "-q")
    assert content(other, "data/changed") == noise(4)
    assert "gitml/data" not in other.git("for-each-ref", "refs/remotes", "--contains", work.head("refs/heads/main"))
    fsck(bare)


@pytest.mark.parametrize("setting", ["transfer", "receive", "uploadpack"])
def test_a_host_that_hides_our_refs_gets_branches(work: Project, bare: Path, tmp_path: Path, setting: str) -> None:
    run_git(bare, "config", f"{setting}.hideRefs", "refs/ml")
    work.git("remote", "add", "origin", f"file://{bare}")
    work.git("push", "-q", "-u", "origin", "main")
    assert "refs/heads/gitml/data/" in run_git(bare, "for-each-ref")
    other = clone(f"file://{bare}", tmp_path / "other")
    assert content(other, "data/changed") == noise(2)
    put(other, "data/theirs", 3)
    other.git("push", "-q")
    work.git("pull", "-q")
    assert content(work, "data/theirs") == noise(3)
    fsck(bare)


def test_a_remote_without_data_is_named_and_repaired(work: Project, bare: Path, tmp_path: Path) -> None:
    url = f"file://{bare}"
    work.git("remote", "add", "origin", url)
    work.git("push", "-q", "--no-verify", "-u", "origin", "main")
    other = clone(url, tmp_path / "other", status=MISSING)
    listed = work.ml("ls", "--remote", "origin", check=False)
    assert listed.returncode == MISSING
    assert listed.stdout.count("not at origin") == 3
    assert not any(each["at_remote"] for each in work.json("ls", "-r", "origin", check=False)["files"])
    fetched = other.ml("fetch", check=False)
    assert fetched.returncode == MISSING
    assert all(f"'data/{name}'" in fetched.stderr for name in ("1", "2", "changed"))
    examined = other.ml("doctor", check=False).stdout
    assert "origin got commits without their data (data/1, data/2, data/changed)" in examined
    # whoever has neither cannot repair, and says so
    helpless = other.ml("push", check=False)
    assert helpless.returncode == MISSING
    assert "'data/changed' is neither here nor at origin" in helpless.stderr
    sent = work.ml("push")
    assert set(sent.stdout.split()) == {"data/1", "data/2", "data/changed"}
    assert work.ml("push").stdout == ""
    assert work.ml("ls", "-r", "origin").stdout.count(" at origin") == 3
    examined = other.ml("doctor", check=False).stdout
    assert "origin has it; git ml pull" in examined
    assert [each["path"] for each in other.json("pull", "--dry-run", "data/1")["files"]] == ["data/1"]
    other.ml("pull", "data/1")
    assert content(other, "data/1") == noise(11)
    assert content(other, "data/2") != noise(12)
    other.ml("pull")
    assert content(other, "data/2") == noise(12)
    assert other.is_clean()
    fsck(bare)


def test_the_pre_receive_hook_refuses_commits_without_data(work: Project, bare: Path, tmp_path: Path) -> None:
    hook(bare, "pre-receive", (data_dir("templates") / "server" / "pre-receive").read_text())
    work.git("remote", "add", "origin", f"file://{bare}")
    work.write("data/odd \udcff=name", noise(9))
    put(work, "data/large", 5, 2_500_000)
    refused = work.run("git", "push", "--no-verify", "origin", "main", check=False)
    assert refused.returncode != 0
    assert run_git(bare, "for-each-ref") == ""
    for name in ("data/changed", "data/1", "data/2", "data/large"):
        assert f"the content of '{name}' is not here" in refused.stderr
    assert "git ml install" in refused.stderr
    work.git("push", "-q", "origin", "main")
    work.git("tag", "v1")
    work.git("push", "-q", "origin", "v1", "main:refs/heads/other")
    work.git("push", "-q", "origin", ":other")
    # a manifest without one of its chunks
    put(work, "data/part", 6, 1_000_000)
    manifest = work.git("cat-file", "blob", "HEAD:data/part").splitlines()[3].split()[1]
    shutil.copytree(bare, tmp_path / "other.git")
    work.run("git", "push", "-q", "--no-verify", f"file://{tmp_path}/other.git", f"{manifest}:refs/tags/manifest")
    refused = work.run("git", "push", "--no-verify", f"file://{tmp_path}/other.git", "main", check=False)
    assert refused.returncode != 0
    assert refused.stderr.count("the content of") == 1
    assert "the content of 'data/part' is not here" in refused.stderr
    work.git("push", "-q", "origin", "main")
    fsck(bare)


def test_eight_pushers_at_once(work: Project, bare: Path, tmp_path: Path) -> None:
    work.git("remote", "add", "origin", f"file://{bare}")
    work.git("push", "-q", "origin", "main")
    clones = []
    for number in range(8):
        shutil.copytree(work.path, tmp_path / f"c{number}", symlinks=True)
        each = Project(tmp_path / f"c{number}")
        each.git("switch", "-q", "-c", f"b{number}")
        put(each, "data/mine", 100 + number)
        clones.append(each)
    pushing = [
        subprocess.Popen(
            ["git", "push", "-q", "origin", f"b{number}"], cwd=each.path, env=each.environment(), stderr=subprocess.PIPE
        )
        for number, each in enumerate(clones)
    ]
    ended = [(process.communicate()[1], process.returncode) for process in pushing]
    assert [code for _, code in ended] == [0] * 8, ended
    fsck(bare)
    run_git(bare, "gc", "-q", "--prune=now")
    fsck(bare)
    reader = clone(f"file://{bare}", tmp_path / "reader")
    for number in range(8):
        reader.git("checkout", "-q", f"origin/b{number}")
        assert content(reader, "data/mine") == noise(100 + number)


def test_killed_pushes_lose_nothing(work: Project, bare: Path, tmp_path: Path) -> None:
    work.git("config", "ml.pushLimit", "400k")
    work.git("remote", "add", "origin", f"file://{bare}")
    put(work, "data/large", 5, 2_000_000)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    for round_ in range(12):
        process = subprocess.Popen(
            ["git", "push", "-q", "origin", "main"], cwd=work.path, env=work.environment(), stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout=chance.random() * 0.08 * (round_ + 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        fsck(bare)
        if run_git(bare, "for-each-ref", "refs/heads"):
            break
    for lock in [*bare.rglob("*.lock"), *(work.path / ".git").rglob("*.lock")]:
        lock.unlink()  # as git tells users to after a crash
    work.git("push", "-q", "origin", "main")
    fsck(bare)
    fsck(work.path)
    other = clone(f"file://{bare}", tmp_path / "other")
    assert content(other, "data/large") == noise(5, 2_000_000)


def make_shallow(url: str, where: Path) -> Project:
    return clone(url, where, "--depth=1")


def make_partial(url: str, where: Path) -> Project:
    return clone(url, where, "--filter=blob:none")


def make_shared(url: str, where: Path) -> Project:
    return clone(url.removeprefix("file://"), where, "--shared")


@pytest.mark.parametrize("make", [make_shallow, make_partial, make_shared])
def test_clones_of_every_shape(work: Project, bare: Path, tmp_path: Path, make: Callable[[str, Path], Project]) -> None:
    run_git(bare, "config", "uploadpack.allowFilter", "true")
    url = f"file://{bare}"
    work.git("push", "-q", url, "main")
    other = make(url, tmp_path / "other")
    assert content(other, "data/changed") == noise(2)
    put(other, "data/theirs", 4)
    other.git("push", "-q", "origin", "main")
    fsck(bare)
    work.git("pull", "-q", url, "main", check=False)
    work.git("remote", "add", "origin", url)
    work.ml("pull")
    assert content(work, "data/theirs") == noise(4)
    run_git(other.path, "gc", "-q", "--prune=now")
    fsck(other.path)


def test_tags_all_mirror_and_several_urls(work: Project, tmp_path: Path) -> None:
    servers = [tmp_path / f"s{number}.git" for number in range(5)]
    for server in servers:
        run_git(tmp_path, "init", "-q", "--bare", str(server))
    work.git("switch", "-q", "-c", "side")
    put(work, "data/side", 7)
    work.git("tag", "-a", "-m", "t", "v1")
    work.git("switch", "-q", "main")
    work.git("push", "-q", str(servers[0]), "v1")
    work.git("remote", "add", "all", str(servers[1]))
    work.git("push", "-q", "--all", "all")
    work.git("push", "-q", "--mirror", str(servers[2]))
    work.git("remote", "add", "two", str(servers[3]))
    for server in servers[3:]:
        work.git("remote", "set-url", "--add", "--push", "two", str(server))
    work.git("push", "-q", "two", "side", "main")
    for server in servers:
        fsck(server)
        reader = tmp_path / f"r-{server.name}"
        run_git(tmp_path, "clone", "-q", "--no-checkout", f"file://{server}", str(reader))
        project = Project(reader)
        project.ml("install")
        project.git("checkout", "-q", "v1" if server == servers[0] else "origin/side")
        assert content(project, "data/side") == noise(7), server
        assert content(project, "data/changed") == noise(2), server


def test_fetch_recent_and_all(work: Project, bare: Path, tmp_path: Path) -> None:
    work.git("remote", "add", "origin", f"file://{bare}")
    work.git("switch", "-q", "-c", "side")
    put(work, "data/side", 7)
    work.git("switch", "-q", "-c", "old", "main")
    work.write("data/old", noise(8))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "old", GIT_COMMITTER_DATE="2001-01-01T00:00:00Z")
    work.git("push", "-q", "origin", "main", "side", "old")
    run_git(bare, "symbolic-ref", "HEAD", "refs/heads/main")
    other = clone(f"file://{bare}", tmp_path / "other")
    assert other.json("fetch")["files"] == []
    would = other.json("fetch", "--recent", "--dry-run")
    assert [each["path"] for each in would["files"]] == ["data/side"]
    assert other.json("fetch", "--recent", "--dry-run") == would, "nothing was fetched"
    assert [(each["path"], each["here"]) for each in other.json("fetch", "--recent")["files"]] == [("data/side", True)]
    other.ml("fetch", "--all")
    assert blobs(other.path) == blobs(work.path)
    wrong = other.ml("fetch", "--all", "data", check=False)
    assert (wrong.returncode, wrong.stdout) == (128, "")
    assert other.ml("fetch", "nothing/here", check=False).returncode == 128
    assert other.ml("fetch", "--remote", "nowhere", check=False).returncode == 128


def test_a_submodule(work: Project, bare: Path, tmp_path: Path) -> None:
    work.git("push", "-q", str(bare), "main")
    above = tmp_path / "above"
    above.mkdir()
    run_git(above, "init", "-q")
    run_git(above, "submodule", "--quiet", "add", f"file://{bare}", "sub")
    inner = Project(above / "sub")
    inner.ml("install")
    assert content(inner, "data/changed") == noise(2)
    put(inner, "data/inner", 6)
    inner.git("push", "-q", "origin", "main")
    fsck(bare)
    assert content(clone(f"file://{bare}", tmp_path / "other"), "data/inner") == noise(6)
