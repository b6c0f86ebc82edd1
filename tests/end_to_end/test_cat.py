"""`git ml cat`: files of any commit on standard output."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.project import Project

BIG = hashlib.shake_128(b"big").digest(700_000)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.path.mkdir()
    project.git("init", "-q")
    project.ml("install")
    project.write(".gitattributes", "data/** filter=ml -text\n")
    project.write("data/big.bin", BIG)
    project.write("data/raw\udcff", b"odd\n")
    project.commit("first", wait=False)
    project.write("data/big.bin", b"small now\n")
    project.commit("second", wait=False)
    return project


def cat(project: Project, *names: str, below: str = ".") -> subprocess.CompletedProcess[bytes]:
    command = ["git", "ml", "cat", *names]
    return subprocess.run(
        command, cwd=project.path / below, env=project.environment(), capture_output=True, check=False
    )


def test_files_of_any_commit(project: Project) -> None:
    assert cat(project, "HEAD~1:data/big.bin").stdout == BIG
    assert cat(project, "data/big.bin").stdout == b"small now\n"
    assert cat(project, "big.bin", "HEAD:./raw\udcff", "HEAD:data/big.bin", below="data").stdout == (
        b"small now\nodd\nsmall now\n"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HEAD:nothing", "there is no 'nothing' in 'HEAD'"),
        ("HEAD:data", "is a directory"),
        ("nowhere:data/big.bin", "nowhere"),
        (":data/big.bin", "names a file of the index"),
        ("../outside", "outside the repository"),
    ],
)
def test_what_cannot_be_printed(project: Project, name: str, words: str) -> None:
    done = cat(project, name)
    assert (done.returncode, done.stdout) == (128, b"")
    assert done.stderr.decode().startswith("error: ")
    assert words in done.stderr.decode()


def test_a_reader_that_leaves_ends_it_quietly(project: Project) -> None:
    reading, writing = os.pipe()
    command = ["git-ml", "cat", "HEAD~1:data/big.bin"]
    with subprocess.Popen(
        command, cwd=project.path, env=project.environment(), stdout=writing, stderr=subprocess.PIPE
    ) as run:
        os.close(writing)
        assert os.read(reading, 1) == BIG[:1]
        os.close(reading)
        assert run.stderr is not None
        assert run.stderr.read() == b""
    assert run.returncode == 141
