"""Large files go in and out with little memory, whatever their size: ours and git's."""

import os
import random
from pathlib import Path

import pytest

from tests.end_to_end.memory import peak_of
from tests.end_to_end.project import Project

BLOCK = 64 << 20
BLOCKS = 5
"""Whoever held a whole file, which is so many times the same block, would take more than is allowed."""
MOST = {"git": 100_000_000}
MOST_OF_OURS = 300_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large file, most of which is stored once."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    block = random.Random(1).randbytes(BLOCK)
    with path.open("wb") as file:
        for _ in range(BLOCKS):
            file.write(block)
    return path


@pytest.mark.parametrize("command", [("git", "add", "large.bin"), ("git", "ml", "add", "large.bin")])
def test_a_large_file_takes_little_memory(tmp_path: Path, large: Path, command: tuple[str, ...]) -> None:
    work = Project(tmp_path)
    work.git("init", "-q")
    work.ml("install")
    work.write(".gitattributes", "*.bin filter=ml -text\n")
    os.link(large, tmp_path / "large.bin")
    commands = [command, ("git", "reset", "-q", "--hard")]
    for each in commands if command[1] == "add" else commands[:1]:
        memory = peak_of(work, *each)
        # ours are started by git, and their names are those of an interpreter
        assert len(memory) > 1
        assert all(size <= MOST.get(program, MOST_OF_OURS) for program, size in memory.items()), memory
        assert (tmp_path / "large.bin").stat().st_size == BLOCK * BLOCKS
        if each == command:
            work.git("commit", "-q", "-m", "large")
            (tmp_path / "large.bin").unlink()
