"""What is read in a terminal: through git's pager, with colours, as wide as the terminal."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import TWO_STAGES, Project, small_project

SAW = 'cat > "$SEEN"; env > "$SEEN.env"'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    pipeline = json.loads(json.dumps(TWO_STAGES))
    pipeline["stages"][0]["metrics"] = ["metrics.json"]
    project = small_project(tmp_path_factory.mktemp("paged") / "project", pipeline)
    project.commit("=start")
    project.write("training/b.csv", "5\n6\n")
    project.commit("more rows, and a subject that goes on for longer than there is room in a narrow terminal")
    return project


def in_terminal(project: Project, *command: str, columns: int = 80, **extra: str) -> tuple[int, str]:
    """Exit code and what a terminal of this width got to show."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = project.environment(**{"TERM": "xterm", **extra})
    environment = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LESS", "NO_COLOR")}
    process = subprocess.Popen(command, cwd=project.path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # on Linux: nobody has the other end any more
            break
        if not data:
            break
        shown += data
    os.close(ours)
    return process.wait(60), shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("command", [["diff"], ["log"], ["show", "model/metrics.json"], ["why", "model"], ["dag"]])
def test_commands_that_are_read_go_to_the_pager_in_colour(project: Project, tmp_path: Path, command: list[str]) -> None:
    seen = tmp_path / "seen"
    # so wide that no cell is cut
    code, shown = in_terminal(project, "git", "ml", *command, columns=200, GIT_PAGER=SAW, SEEN=str(seen))
    assert (code, shown) == (0, "")
    told = seen.read_text()
    plain = project.ml(*command).stdout
    assert re.sub(r"\s+", " ", re.sub(r"\x1b\[\d*m", "", told)) == re.sub(r"\s+", " ", plain)
    if command[0] in ("diff", "dag"):
        assert "\x1b[1m" in told
    environment = Path(f"{seen}.env").read_text().splitlines()
    assert "LESS=FRX" in environment
    assert "LV=-c" in environment


def test_the_pager_is_the_one_that_git_would_use(project: Project, tmp_path: Path) -> None:
    git = ["git", "-c", "core.pager=sed s/^/core:/"]
    _, shown = in_terminal(project, *git, "ml", "log", PAGER="sed s/^/pager:/")
    assert all(line.startswith("core:") for line in shown.splitlines())
    _, shown = in_terminal(project, *git, "ml", "log", GIT_PAGER="sed s/^/git:/")
    assert all(line.startswith("git:") for line in shown.splitlines())
    _, shown = in_terminal(project, "git", "ml", "log", PAGER="sed s/^/pager:/")
    assert all(line.startswith("pager:") for line in shown.splitlines())


def test_no_pager_where_git_has_none(project: Project, tmp_path: Path) -> None:
    pager = "sed s/^/paged:/"
    cases: list[tuple[list[str], dict[str, Any]]] = [
        (["git", "--no-pager", "ml", "log"], {"GIT_PAGER": pager}),
        (["git", "-c", "pager.ml=false", "ml", "log"], {"GIT_PAGER": pager}),
        (["git", "ml", "log"], {"GIT_PAGER": "cat"}),
        (["git", "ml", "log"], {"GIT_PAGER": ""}),
        (["git", "ml", "log"], {"GIT_PAGER": pager, "TERM": "dumb"}),
        (["git", "ml", "status"], {"GIT_PAGER": pager}),
        (["git", "ml", "log"], {"GIT_PAGER": "no-such-program"}),
    ]
    for command, extra in cases:
        code, shown = in_terminal(project, *command, **extra)
        assert code == 0
        assert "model" in shown
        assert "paged:" not in shown
    assert "paged:" not in project.ml("log", GIT_PAGER=pager).stdout


def test_a_pager_that_git_started_is_not_started_again_and_gets_colour(project: Project) -> None:
    _, shown = in_terminal(project, "git", "-p", "ml", "diff", GIT_PAGER="sed s/^/paged:/")
    lines = shown.splitlines()
    assert all(line.startswith("paged:") and not line.startswith("paged:paged:") for line in lines)
    assert "\x1b[1m" in shown


def test_exit_codes_and_errors_come_through(project: Project) -> None:
    code, _ = in_terminal(project, "git", "ml", "diff", "--exit-code", GIT_PAGER="sed s/^/paged:/")
    assert code == 1
    code, shown = in_terminal(project, "git", "ml", "diff", "nothing", GIT_PAGER="sed s/^/paged:/")
    assert code == 128
    assert "error:" in shown
    assert "paged:" not in shown


def test_a_reader_that_quits_ends_the_command_without_a_word(project: Project) -> None:
    code, shown = in_terminal(project, "git", "ml", "log", "--json", GIT_PAGER="true")
    assert shown == ""
    assert code in (0, 141)


def test_lines_fit_the_terminal_and_lose_no_last_column(project: Project) -> None:
    for command in (["diff"], ["log"], ["show", "model/metrics.json"], ["why", "model"]):
        _, shown = in_terminal(project, "git", "ml", *command, columns=60, GIT_PAGER="cat", NO_COLOR="1")
        # rows of tables; a sentence is the terminal's to break
        rows = [line for line in shown.splitlines() if re.match(r"  \S.*\S  ", line)]
        assert rows
        longest = max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in rows)
        assert longest <= 60, (command, longest)
    _, shown = in_terminal(project, "git", "ml", "log", columns=60, GIT_PAGER="cat")
    assert "there is room in a narrow terminal" in re.sub(r"\s+", " ", shown)
    assert max(len(line) for line in project.ml("log").stdout.splitlines()) > 60
