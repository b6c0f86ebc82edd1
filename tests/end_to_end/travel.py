"""Clones whose data travels, and what is counted on the way."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.conftest import run_git
from tests.end_to_end.project import Project


def noise(seed: int, size: int = 150_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def put(project: Project, name: str, seed: int, size: int = 150_000) -> None:
    project.write(name, noise(seed, size))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", name)


def clone(url: str, where: Path, *options: str, status: int = 0) -> Project:
    run_git(where.parent, "clone", "-q", *options, url, str(where))
    project = Project(where)
    assert project.ml("install", check=False).returncode == status
    return project


def content(project: Project, name: str) -> bytes:
    return (project.path / name).read_bytes()


def fsck(where: Path) -> None:
    run_git(where, "fsck", "--strict", "--full", "--no-dangling")


def blobs(where: Path) -> int:
    """How many blobs of more than a pointer's size a repository has."""
    listed = run_git(where, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectsize)")
    return sum(1 for line in listed.splitlines() if line.startswith("blob") and int(line.split()[1]) > 60_000)


def counted(project: Project, top: Path) -> Callable[[], Counter[str]]:
    """Have every connection to origin counted; what is given tells those since it was last asked, by program."""
    log = top / "connections"
    for name in ("upload-pack", "receive-pack"):
        script = top / name
        script.write_text(f"#!/bin/sh\necho {name} >> '{log}'\nexec git-{name} \"$@\"\n")
        script.chmod(0o755)
        project.git("config", f"remote.origin.{name.replace('-', '')}", str(script))

    def connections() -> Counter[str]:
        found = Counter(log.read_text().split())
        log.unlink()
        return found

    return connections


def weighed(project: Project, top: Path) -> Callable[..., tuple[int, int]]:
    """Have every byte from and to origin counted; what is given runs git and tells how many it received and sent."""
    top.mkdir()
    for name in ("upload-pack", "receive-pack"):
        script = top / name
        script.write_text(f"#!/bin/sh\ntee -a '{top}/sent' | git-{name} \"$@\" | tee -a '{top}/received'\n")
        script.chmod(0o755)
        project.git("config", f"remote.origin.{name.replace('-', '')}", str(script))

    def bytes_of(*command: str) -> tuple[int, int]:
        for name in ("received", "sent"):
            (top / name).write_bytes(b"")
        project.git(*command)
        return (top / "received").stat().st_size, (top / "sent").stat().st_size

    return bytes_of
