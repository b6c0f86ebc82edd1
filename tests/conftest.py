"""The sealed environment of every test, and real repositories to work in."""

import gc
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Tests in the background are told to ignore Ctrl-C or the end of a terminal; what they start must not be.

    Nothing takes time that it does not need: the collector walks all that pytest holds, and the threads of BLAS spin.
    """
    gc.set_threshold(50_000, 10, 10)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # ours goes on; a handler is not inherited, as ignoring is


def _seal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No user's home, configuration, hooks or inherited git variables, and nothing that says that this is CI."""
    for name in list(os.environ):
        if name.startswith(
            ("GIT_", "GITML", "XDG_", "PYTHON", "VIRTUAL_ENV", "CONDA", "AWS_", "AZURE_", "GOOGLE_")
        ) or name in {"CI", "EMAIL"}:
            monkeypatch.delenv(name)
    templates = home / "git-templates"
    templates.mkdir()
    config = home / ".gitconfig"
    config.write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n"
        f'\ttemplateDir = {templates}\n[core]\n\teditor = false\n[protocol "file"]\n\tallow = always\n'
        "[advice]\n\tdetachedHead = false\n[gc]\n\tauto = 0\n"
        # or git starts a process after every commit, merge, fetch, rebase and push that finds nothing to do
        "[maintenance]\n\tauto = false\n[receive]\n\tautogc = false\n"
    )
    for name, value in {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "false",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "NO_COLOR": "1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def sealed_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a module or the session sets up is sealed too: it runs before `sealed_environment`, which is of one test."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _seal(tmp_path_factory.mktemp("home"), monkeypatch)
        yield


@pytest.fixture(autouse=True)
def sealed_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a home of its own."""
    home = tmp_path_factory.mktemp("home")
    _seal(home, monkeypatch)
    return home


Run = Callable[..., str]


def run_git(cwd: Path, *arguments: str, check: bool = True, stdin: bytes | None = None) -> str:
    """Run git in `cwd`; give its standard output without the last newline."""
    done = subprocess.run(["git", *arguments], cwd=cwd, input=stdin, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"git {' '.join(arguments)}: {done.returncode}\n{done.stdout!r}\n{done.stderr.decode()}")
    return os.fsdecode(done.stdout).removesuffix("\n")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """An empty repository with a worktree."""
    where = tmp_path / "repo"
    where.mkdir()
    run_git(where, "init", "-q")
    return where


def git_takes_ref(name: bytes) -> bool:
    """Whether git takes this name for a ref."""
    return subprocess.run([b"git", b"check-ref-format", name], check=False).returncode == 0
