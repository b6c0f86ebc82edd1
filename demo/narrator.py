"""Tells a story with real commands: shows each one as typed, what it said, and why that happened.

A story lives in one temporary directory with a home of its own, so that neither the user's configuration nor a CI's
variables take part in it and nothing of it stays behind.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WIDTH = 100
PATIENCE = 600.0
"""Seconds that anything may take; much more than it does."""


class StoryError(Exception):
    """Something did not go as told."""


class Narrator:
    """Runs commands below `root` and prints what happens. Bold and colours only in a terminal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = _environment(root)
        self._terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = ""
        self._after_gap = True

    def step(self, number: int, title: str) -> None:
        """Begin a step."""
        self._step = f"step {number}"
        rule = "─" * max(WIDTH - len(title) - 5, 3)
        self._leave_gap()
        self._tell(f"{self._paint(f'{number}. {title}', '1;36')} {self._paint(rule, '2')}", gap=True)

    def say(self, text: str) -> None:
        """Explain."""
        self._tell(textwrap.fill(" ".join(text.split()), WIDTH), gap=True)

    def claim(self, holds: bool, text: str) -> None:
        """State what has just been checked; end the story if it is not so."""
        if not holds:
            raise StoryError(f"{self._step}: this is not so: {text}")
        self._leave_gap()
        self._tell(f"{self._paint('✓', '32')} {text}", gap=True)

    def show(self, directory: Path, *command: str, succeeds: bool = True) -> str:
        """Run a command as the reader would type it; print and give what it said."""
        prompt = f"{directory.relative_to(self.root)} $"
        self._tell(f"{self._paint(prompt, '2')} {self._paint(shlex.join(command), '1')}")
        said = self.run(directory, *command, succeeds=succeeds)
        if said:
            self._tell(textwrap.indent(said, "    "))
        return said

    def note(self, directory: Path, action: str) -> None:
        """Print something done to files as if it had been typed."""
        self._tell(f"{self._paint(f'{directory.relative_to(self.root)} $', '2')} {self._paint(action, '1')}")

    def run(self, directory: Path, *command: str, succeeds: bool = True) -> str:
        """Run a command quietly; give standard output and error in the order they came."""
        done = self._finish(directory, command, subprocess.STDOUT)
        said = done.stdout.decode(errors="replace").rstrip()
        if succeeds and done.returncode != 0:
            raise StoryError(f"{self._step}: '{shlex.join(command)}' ended with {done.returncode}\n{said}")
        return said

    def ask(self, directory: Path, *command: str) -> str:
        """Run a command quietly; give its standard output alone."""
        done = self._finish(directory, command, subprocess.PIPE)
        if done.returncode not in (0, 2):  # 2: a stage failed, and the answer says so
            raise StoryError(
                f"{self._step}: '{shlex.join(command)}' ended with {done.returncode}\n"
                + done.stderr.decode(errors="replace").rstrip()
            )
        return done.stdout.decode().removesuffix("\n")

    def _finish(self, directory: Path, command: tuple[str, ...], stderr: int) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                command,
                cwd=directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                check=False,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise StoryError(f"{self._step}: '{shlex.join(command)}' takes more than {PATIENCE:.0f} s") from None

    def left_behind(self) -> list[str]:
        """Commands of live processes that have to do with this story, seen through /proc where there is one."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue  # ended meanwhile
            if any(os.fsencode(self.root) in word for word in words):
                found.append(b" ".join(words).decode(errors="replace"))
        return found

    def _leave_gap(self) -> None:
        if not self._after_gap:
            self._tell("")

    def _tell(self, text: str, *, gap: bool = False) -> None:
        """Print, with an empty line after it if `gap`."""
        print(text, end="\n\n" if gap else "\n", flush=True)
        self._after_gap = gap

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._terminal else text


@contextmanager
def stage(keep: bool) -> Iterator[Narrator]:
    """A narrator with an empty directory, which is removed at the end unless `keep`."""
    root = Path(tempfile.mkdtemp(prefix="gitml-demo-")).resolve()
    try:
        yield Narrator(root)
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def told(opening: str, tell: Callable[[Narrator], None]) -> int:
    """Tell a story; give the exit code. `KEEP=1` in the environment keeps its directory."""
    started = time.monotonic()
    keep = os.environ.get("KEEP", "") not in ("", "0")
    try:
        with stage(keep) as narrator:
            print(opening)
            tell(narrator)
            print(f"The story took {time.monotonic() - started:.0f} s.", end=" ")
            print(f"It is all in {narrator.root}" if keep else "Its directory is removed now; KEEP=1 keeps it.")
    except StoryError as error:
        print(f"\nthe demo failed at {error}\n(KEEP=1 keeps its directory)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _environment(root: Path) -> dict[str, str]:
    """What the commands of a story see: this Python first on PATH, a home below `root`, nothing of CI, git, clouds."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT", "XDG_", "AWS_")) and name not in {"CI", "EMAIL", "VIRTUAL_ENV"}
    }
    home = root / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n"
        "[core]\n\tpager = cat\n[advice]\n\tdetachedHead = false\n"
    )
    return {
        **kept,
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_EDITOR": "true",
        "LC_ALL": "C.UTF-8",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
