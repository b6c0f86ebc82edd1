"""A repository with committed data, made without the filter: fast enough for many small situations."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pytest

from gitml.care.prune import Pruned, prune
from gitml.care.repair import Repaired, join, repair
from gitml.care.roots import read_needs
from gitml.care.verify import Verified, examine
from gitml.git.data import DROPPED, HEADS, STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.pushed import PushedRef
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.git.stagedchain import write_staged
from gitml.git.transfer import push_data
from gitml.oid import Oid
from gitml.store.content import Stored, read_content, store_content
from gitml.store.manifest import read_manifest
from gitml.store.pointer import Pointer, format_pointer

NEVER = 0
NOW = 1 << 40


def noise(seed: int | str, size: int = 70_000) -> bytes:
    return hashlib.shake_128(str(seed).encode()).digest(size)


class Place:
    """One repository, and what users and hooks do to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def repo(self) -> Repository:
        return Repository.discover(self.path)

    def git(self, *arguments: str, check: bool = True, data: bytes | None = None) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, input=data, capture_output=True, check=False)
        assert not check or done.returncode == 0, f"git {arguments}: {done.stdout!r} {done.stderr!r}"
        return os.fsdecode(done.stdout).removesuffix("\n")

    def store(self, content: bytes, *, path: bytes = b"x", session: str | None = None) -> Stored:
        """As the filter: the content is in a pack, and a staged chain holds it if there is a `session`."""
        repo = self.repo
        with GitOdb(repo.git, repo.format) as odb:
            known = ObjectIndex(repo.objects_dir, repo.format)
            with PackWriter(repo.objects_dir, repo.format, known=known, reader=odb) as pack:
                stored = store_content([content], pack)
                commit = tip = None
                if session is not None:
                    tip = repo.try_resolve(STAGED + session)
                    commit = write_staged(pack, path, stored.pointer.manifest, stored.data_tree, tip)
                pack.finish()
            if session is not None:
                update_refs(repo.git, [RefUpdate(STAGED + session, commit, tip)])
        return stored

    def add(self, name: str | bytes, content: bytes, *, session: str | None = None) -> Pointer:
        """Put the pointer of `content` into the index."""
        path = os.fsencode(name)
        pointer = self.store(content, path=path, session=session).pointer
        blob = self.git("hash-object", "-w", "--stdin", data=format_pointer(pointer))
        self.git("update-index", "-z", "--index-info", data=b"100644 %s\t%s\0" % (blob.encode(), path))
        return pointer

    def commit(self, files: dict[str, bytes] | None = None, *, cover: bool = True) -> str:
        for name, content in (files or {}).items():
            self.add(name, content)
        self.git("commit", "-q", "--allow-empty", "-m", "c")
        if cover:
            self.cover()
        return self.git("rev-parse", "HEAD")

    def cover(self) -> None:
        repo = self.repo
        with GitOdb(repo.git, repo.format) as odb:
            DataLog(repo, odb).cover_commit(repo.resolve("HEAD"))

    def push(self, remote: str = "origin") -> None:
        """As `git push --force --all` with our hook."""
        listed = (line.split("\t") for line in self.git("ls-remote", remote, "refs/heads/*").splitlines())
        there = {name: Oid.parse(oid) for oid, name in listed}
        pushed = [PushedRef(name, oid, name, there.get(name)) for name, oid in self.refs("refs/heads").items()]
        push_data(self.repo, remote, remote, pushed, lambda oid: oid)
        self.git("push", "-q", "--no-verify", "--force", remote, "--all")

    def forget(self) -> None:
        """Leave no way back to what no ref leads to."""
        self.git("reflog", "expire", "--expire=now", "--all")
        for name in ("ORIG_HEAD", "FETCH_HEAD"):
            (self.repo.git_dir / name).unlink(missing_ok=True)

    def prune(self, *, expiry: int = NOW, dry_run: bool = False) -> Pruned:
        return prune(self.repo, expiry=expiry, dry_run=dry_run)

    def gc(self) -> None:
        self.git("gc", "-q", "--prune=now")

    def verify(self, *, deep: bool = True) -> Verified:
        return examine(self.repo, read_needs, deep=deep)

    def repair(self) -> Repaired:
        """As `git ml fsck --repair`."""
        rounds = []
        for _ in range(4):
            report = self.verify()
            if not report.faults and not report.packs:
                break
            rounds.append(repair(self.repo, report))
        return join(rounds)

    def sound(self, *, after_kill: bool = False) -> None:
        """Every pointer of every root can be read, and git agrees.

        After a kill git may leave parts of a pack that it was taking away; they are named, and nothing needs them.
        """
        report = self.verify()
        assert report.faults == []
        assert [fault for fault in report.packs if not (after_kill and fault.incomplete)] == []
        self.git("fsck", "--strict", "--full", "--no-dangling")

    def has(self, pointer: Pointer) -> bool:
        """Whether all of a content is here."""
        repo = self.repo
        index = ObjectIndex(repo.objects_dir, repo.format)
        if not index.has(pointer.manifest):
            return False
        with GitOdb(repo.git, repo.format) as odb:
            return b"".join(read_content(pointer, odb)) is not None

    def chunks(self, pointer: Pointer) -> list[Oid]:
        with GitOdb(self.repo.git, self.repo.format) as odb:
            return [chunk.oid for chunk in read_manifest(pointer.manifest, odb).chunks]

    def refs(self, prefix: str) -> dict[str, Oid]:
        return list_refs(self.repo.git, prefix)

    def heads(self) -> set[Oid]:
        return set(self.refs(HEADS).values())

    def dropped(self) -> set[Oid]:
        return set(self.refs(DROPPED).values())

    def manifests(self) -> set[Oid]:
        """What the living heads hold."""
        repo = self.repo
        with GitOdb(repo.git, repo.format) as odb:
            log = DataLog(repo, odb)
            return {manifest for _, manifest in log.additions(log.heads())}


def pair(top: Path) -> tuple[Place, Place]:
    """An empty repository and its empty server; they outlive the sealed environment of one test."""
    for name, options in (("server.git", ["--bare"]), ("here", [])):
        subprocess.run(["git", "init", "-q", "-b", "main", *options, str(top / name)], check=True)
    place, server = Place(top / "here"), Place(top / "server.git")
    place.git("config", "user.name", "Ada")
    place.git("config", "user.email", "ada@example.org")
    server.git("config", "uploadpack.allowFilter", "true")
    place.git("remote", "add", "origin", f"file://{server.path}")
    return place, server


def copied(template: Path, top: Path) -> tuple[Place, Place]:
    """A pair of a test's own."""
    for name in ("server.git", "here"):
        shutil.copytree(template / name, top / name, symlinks=True)
    place, server = Place(top / "here"), Place(top / "server.git")
    place.git("remote", "set-url", "origin", f"file://{server.path}")
    return place, server


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Place]:
    def made(name: str = "place", *options: str) -> Place:
        path = tmp_path / name
        subprocess.run(["git", "init", "-q", *options, str(path)], check=True)
        return Place(path)

    return made


@pytest.fixture
def place(make: Callable[..., Place]) -> Place:
    return make()
