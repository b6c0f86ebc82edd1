"""What git starts must start fast: heavy modules stay out until they are needed."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from gitml.__main__ import main

HEAVY = {
    "typer",
    "rich",
    "numpy",
    "sklearn",
    "boto3",
    "isal",
    "pygit2",
    "dulwich",
    "yaml",
    "matplotlib",
    "logging",
    "tomllib",
    "dataclasses",
    "inspect",
}


HOOKS = ["gitml.hooks.committing", "gitml.hooks.arriving", "gitml.hooks.pushing"]


@pytest.mark.parametrize("module", ["gitml.filter.server", *HOOKS, "gitml.remote.helper", "gitml.formats.child"])
def test_entry_points_of_git_import_nothing_heavy(module: str) -> None:
    listing = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=True)
    assert module in done.stdout.splitlines()
    assert HEAVY & set(done.stdout.splitlines()) == set()


def test_what_is_answered_at_a_glance_needs_neither_the_command_line_nor_what_evaluates() -> None:
    listing = "import sys, gitml.cli.glance; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert "gitml.pipeline.settled" in loaded
    assert loaded & {*HEAVY, "socket", "gitml.pipeline.spec", "gitml.pipeline.plan", "gitml.git.pack"} == set()


def test_a_command_imports_only_itself() -> None:
    listing = (
        "import sys; from gitml.cli.main import build; build(['status'])\n"
        "print('\\n'.join(name for name in sys.modules if name.startswith('gitml.')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert "gitml.cli.status" in loaded
    assert loaded & {"gitml.cli.run", "gitml.pipeline.run", "gitml.pipeline.task", "gitml.filter.server"} == set()
    assert loaded & {"gitml.install", "gitml.remote.egress"} == set()


@pytest.mark.parametrize("command", ["status", "run"])
def test_commands_do_without_what_few_need(command: str) -> None:
    listing = f"import sys; from gitml.cli.main import build; build(['{command}']); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert f"gitml.cli.{command}" in loaded
    assert loaded & {"dataclasses", "yaml", "cronsim", "obstore", "gitml.pipeline.dispatch"} == set()


def test_windows_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gitml.__main__.os", SimpleNamespace(name="nt"))
    assert main(["status"]) == 128
    assert "WSL" in capsys.readouterr().err


def test_ctrl_c_before_a_command_is_ready_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("gitml.__main__._dispatch", interrupted)
    assert main(["wait", "--attached"]) == 130
    assert "detached, the run goes on" in capsys.readouterr().err
