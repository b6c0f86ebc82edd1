"""How git is run: one place for arguments, environment and failures.

Hooks inherit `GIT_DIR`, `GIT_INDEX_FILE` and friends; passed on to a git command for another repository or
index they silently redirect it. So children start from an allow-list, and a `Git` names its repository
explicitly.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from gitml.errors import GitmlError

SMALL_WINDOWS = ("-c", "core.packedGitWindowSize=16m", "-c", "core.packedGitLimit=128m")
"""Git maps packs that it reads, by default all of them at once, which counts as its memory; this takes no longer."""

# What users set to steer git itself rather than to name a repository (pre-commit keeps a similar list).
_KEPT = frozenset(
    {
        "GIT_ASKPASS", "GIT_ALLOW_PROTOCOL", "GIT_CEILING_DIRECTORIES", "GIT_CONFIG_COUNT", "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_SYSTEM", "GIT_DEFAULT_HASH", "GIT_EXEC_PATH",
        "GIT_HTTP_PROXY_AUTHMETHOD", "GIT_NO_REPLACE_OBJECTS", "GIT_PROTOCOL", "GIT_SSH", "GIT_SSH_COMMAND",
        "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY", "GIT_TEMPLATE_DIR", "GIT_TERMINAL_PROMPT", "GIT_TRACE", "GIT_TRACE2",
    }
)  # fmt: skip

_QUICK = frozenset(
    {
        "cat-file", "check-attr", "config", "for-each-ref", "log", "ls-tree", "merge-base", "rev-list", "rev-parse",
        "update-index", "update-ref",
    }
)  # fmt: skip
"""What takes no time and may be done twice."""

ENDING_ALL = frozenset({-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP})
"""How git ends when a whole group of processes is told to end: Ctrl-C, `timeout`, systemd, a closed terminal."""


def clean_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """`environ` without the variables that bind git to one repository, index or object directory."""
    source = os.environ if environ is None else environ
    return {
        name: value
        for name, value in source.items()
        if not name.startswith("GIT_")
        or name in _KEPT
        or name.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_", "GIT_AUTHOR_", "GIT_COMMITTER_"))
    }


class GitError(GitmlError):
    """A git command failed. Carries its `arguments`, `status` and `stderr`."""

    def __init__(self, arguments: Sequence[str], status: int, stderr: bytes) -> None:
        text = stderr.decode("utf-8", "replace").strip()
        last = text.splitlines()[-1] if text else f"exit status {status}"
        super().__init__(f"git {arguments[0] if arguments else ''} failed: {last}")
        self.arguments = tuple(arguments)
        self.status = status
        self.stderr = text


class Git:
    """Runs git for one repository.

    `git_dir` is the directory of this worktree (`.git`, or `.git/worktrees/<name>`); `worktree` is its top
    level, None in a bare repository.
    """

    def __init__(self, git_dir: Path, worktree: Path | None) -> None:
        self.git_dir = git_dir
        self.worktree = worktree

    def command(self, *arguments: str) -> list[str]:
        """The argument vector that runs git here."""
        place = [f"--git-dir={self.git_dir}"]
        if self.worktree is not None:
            place.append(f"--work-tree={self.worktree}")
        return ["git", *place, *arguments]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for git children, with `extra` on top.

        `GITML_ACTIVE` keeps our own hooks from answering to what we do ourselves.
        """
        return {**clean_environment(), "GIT_OPTIONAL_LOCKS": "0", "GITML_ACTIVE": "1", **(extra or {})}

    def run(
        self,
        *arguments: str,
        input: bytes | None = None,  # noqa: A002 - named as in subprocess.run
        check: bool = True,
        env: Mapping[str, str] | None = None,
        show: bool = False,
        apart: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git to its end with output captured; raise `GitError` if it fails and `check` is set.

        With `show` its messages also go to our standard error as they come, for progress. With `apart` it is in a
        session of its own: what kills us with our whole process group lets it finish.
        """
        process = subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.worktree or self.git_dir,
            env=self.environment(env),
            start_new_session=apart,
        )
        with process:
            if show:
                stdout, stderr = _communicate_showing(process, input)
            else:
                stdout, stderr = process.communicate(input)
        if process.returncode in ENDING_ALL and arguments[:1] and arguments[0] in _QUICK:
            # Ctrl-C in a terminal reaches git as well; we are still here, so somebody has things to put in order first
            return self.run(*arguments, input=input, check=check, env=env, show=show, apart=True)
        done = subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)
        if check and done.returncode != 0:
            raise GitError(arguments, done.returncode, done.stderr)
        return done

    def together(self, *commands: Sequence[str]) -> list[subprocess.CompletedProcess[bytes]]:
        """Run several commands at once that only look; give them in this order, failed ones too."""
        processes = [
            subprocess.Popen(
                self.command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self.worktree or self.git_dir,
                env=self.environment(),
            )
            for arguments in commands
        ]
        done = []
        for arguments, process in zip(commands, processes, strict=True):
            with process:
                stdout, _ = process.communicate()
            done.append(subprocess.CompletedProcess(arguments, process.returncode, stdout))
        return done

    def in_terminal(self, *arguments: str, env: Mapping[str, str] | None = None) -> int:
        """Run git as the user would, with our streams and environment, so that it may ask; give its exit status."""
        return subprocess.run(["git", *arguments], env={**os.environ, **(env or {})}, check=False).returncode

    def output(self, *arguments: str, input: bytes | None = None, env: Mapping[str, str] | None = None) -> bytes:  # noqa: A002
        """What git prints on standard output; raise `GitError` if it fails."""
        return self.run(*arguments, input=input, env=env).stdout

    def line(self, *arguments: str) -> str:
        """The one line that git prints, decoded (undecodable bytes as in file names); raise `GitError`."""
        return os.fsdecode(self.output(*arguments)).rstrip("\n")

    def lines(self, *arguments: str) -> list[str]:
        """The lines that git prints."""
        return os.fsdecode(self.output(*arguments)).splitlines()

    def succeeds(self, *arguments: str) -> bool:
        """Whether git exits with 0."""
        return self.run(*arguments, check=False).returncode == 0

    def popen(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start git with pipes on standard input and output; its messages go to our standard error."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.worktree or self.git_dir,
            env=self.environment(env),
        )


def _communicate_showing(process: subprocess.Popen[bytes], data: bytes | None) -> tuple[bytes, bytes]:
    """As `communicate`, but what arrives on standard error is passed on at once."""
    assert process.stderr is not None
    said = bytearray()
    source = process.stderr
    process.stderr = None  # `communicate` leaves it to us

    def relay() -> None:
        with source:
            while piece := os.read(source.fileno(), 4096):
                said.extend(piece)
                sys.stderr.buffer.write(piece)
                sys.stderr.buffer.flush()

    relaying = threading.Thread(target=relay)
    relaying.start()
    stdout, _ = process.communicate(data)
    relaying.join()
    return stdout, bytes(said)
