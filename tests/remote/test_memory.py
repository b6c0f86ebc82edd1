"""Large transfers take little memory, whatever their size: ours and git's."""

import random
import subprocess
from pathlib import Path

import pytest

from benchmarks.lab import Peak
from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore

SIZE = 768 << 20
MOST = 300_000_000


def peak_of(project: Project, *command: str) -> dict[str, int]:
    """The most memory that a command and what it starts took, in bytes by program."""
    process = subprocess.Popen(
        command, cwd=project.path, env=project.environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = Peak(process.pid)
    said = process.communicate()[1]
    memory = peak.stop()
    assert process.returncode == 0, said
    return memory


@pytest.mark.parametrize("kind", ["file", "rclone"])
def test_a_large_file_takes_little_memory_both_ways(
    kind: str, new_store: NewStore, work: Project, tmp_path: Path
) -> None:
    url = new_store(kind)
    work.ml("init")
    work.write(".gitattributes", "*.bin filter=ml -text\n")
    chance = random.Random(1)
    with (work.path / "large.bin").open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(chance.randbytes(1 << 20))
    work.ml("add", "large.bin")
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "large")
    sent = peak_of(work, "git", "push", "-q", url, "HEAD:refs/heads/main")
    fetched = peak_of(Project(tmp_path), "git", "clone", "-q", "--mirror", url, "copy.git")
    assert {"git", "git-remote-ml"} <= fetched.keys() & sent.keys()
    for memory in (sent, fetched):
        assert max(memory.values()) <= MOST, memory
    assert (tmp_path / "copy.git" / "objects" / "pack").is_dir()
    copy = Project(tmp_path / "copy.git")
    assert int(copy.git("rev-list", "--count", "--objects", "--all")) > SIZE // (1 << 20)
