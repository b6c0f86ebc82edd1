"""A repository with large, small and odd files in two versions."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run_git


def noise(seed: int, size: int) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def with_filter(path: Path) -> None:
    run_git(path, "config", "filter.ml.process", f"'{sys.executable}' -P -m gitml filter-process")
    run_git(path, "config", "filter.ml.required", "true")


FIRST = {
    "data/big.bin": noise(1, 3_000_000),
    "data/small.csv": b"a,b\n1,2\n",
    "data/empty": b"",
    "plain/large.bin": noise(2, 300_000),
    "odd name\n.bin": noise(3, 100_000),
    "at@sign/x": b"at\n",
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits, the first with the tag v1; only to be read. Its data commits are made as the hooks make them."""
    path = tmp_path_factory.mktemp("built") / "repo"
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True)
    for name, value in {"user.name": "Ada", "user.email": "ada@example.org", "gc.auto": "0"}.items():
        run_git(path, "config", name, value)
    with_filter(path)
    (path / ".gitattributes").write_text("* filter=ml -text\nplain/** -filter\n.gitattributes -filter\n")
    for name, content in FIRST.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "link").symlink_to("data/big.bin")
    (path / "folder").symlink_to("data")
    (path / "out").symlink_to("/etc/hostname")
    run_git(path, "add", "-A")
    run_git(path, "commit", "-q", "-m", "first", "--date=2020-01-01T00:00:00Z")
    run_git(path, "tag", "v1")
    (path / "data/big.bin").write_bytes(FIRST["data/big.bin"] + b"more")
    (path / "data/small.csv").unlink()
    (path / "table.json").write_text(json.dumps({"rows": 2}))
    run_git(path, "add", "-A")
    run_git(path, "commit", "-q", "-m", "second")
    return path
