"""A command that is forked says and does what it does when it begins from nothing."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.warm import can_be_warm, warm


@pytest.mark.parametrize(
    "arguments",
    [("version",), ("status",), ("no-such-command",), ("cat", "file"), ("cat", "not-there"), ("install",)],
    ids=" ".join,
)
def test_what_it_says_and_how_it_ends(repo: Path, arguments: tuple[str, ...]) -> None:
    project = Project(repo)
    project.write("below/file", b"\x00\xff\r\nno end")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "file")
    where, environment = repo / "below", project.environment()
    cold = subprocess.run(
        ["git", "ml", *arguments],
        cwd=where,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    forked = warm().run(arguments, where, environment)
    assert (forked.returncode, forked.stdout, forked.stderr) == (cold.returncode, cold.stdout, cold.stderr)


def test_each_has_its_own_directory_and_environment(tmp_path: Path) -> None:
    places = [tmp_path / str(number) for number in range(6)]
    for place in places:
        place.mkdir()
        Project(place).git("init", "-q")
        Project(place).write("file", place.name)
        Project(place).git("add", "-A")
        Project(place).git("commit", "-q", "-m", "file")

    def read(place: Path) -> bytes:
        # the directory is another's; the variable says which repository it is
        environment = {**Project(place).environment(), "GIT_DIR": str(place / ".git")}
        return warm().run(["cat", "HEAD:file"], tmp_path, environment).stdout

    with ThreadPoolExecutor(len(places)) as threads:
        assert list(threads.map(read, places)) == [place.name.encode() for place in places]


def test_what_needs_a_new_interpreter_gets_one() -> None:
    assert can_be_warm(["status"], {"GITML": "0"})
    assert not can_be_warm(["status"], {"PYTHONHASHSEED": "1"})
    assert not can_be_warm(["status"], {"PATH": "/bin"})
    assert not can_be_warm(["status", "--help"], {})
