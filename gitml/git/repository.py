"""Where a repository's parts are: git directory, common directory, worktree, hooks, our own state."""

import os
import subprocess
from functools import cached_property
from pathlib import Path

from gitml.errors import UserError
from gitml.git.command import Git, clean_environment
from gitml.git.configuration import Configuration, parse_configuration
from gitml.oid import ObjectFormat, Oid
from gitml.record import record


@record(slots=False)
class Repository:
    """An ordinary git repository, from one of its worktrees.

    `git_dir` belongs to this worktree, `common_dir` to all of them (the same outside linked worktrees).
    """

    git_dir: Path
    common_dir: Path
    worktree: Path | None
    format: ObjectFormat

    @classmethod
    def discover(cls, start: Path | None = None) -> "Repository":
        """The repository that `start` (default: the current directory) is in; raise `UserError` outside one.

        `GIT_DIR` and `GIT_WORK_TREE` are obeyed only without `start`, as git itself and its hooks set them.
        """
        environment = dict(os.environ) if start is None else clean_environment()
        done = subprocess.run(
            ["git", "rev-parse", "--absolute-git-dir", "--git-common-dir", "--is-bare-repository",
             "--show-object-format", "--show-toplevel"],
            cwd=start, capture_output=True, check=False, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        lines = os.fsdecode(done.stdout).splitlines()
        if len(lines) < 4:
            detail = done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ")
            raise UserError(detail or "not a git repository", hint="create one: git ml init")
        git_dir = Path(lines[0])
        common = Path(lines[1])
        if not common.is_absolute():
            common = (Path(start or Path.cwd()) / common).resolve()
        worktree = Path(lines[4]) if lines[2] == "false" and len(lines) > 4 else None
        return cls(git_dir=git_dir, common_dir=common, worktree=worktree, format=ObjectFormat.named(lines[3]))

    @cached_property
    def git(self) -> Git:
        """Runs git here."""
        return Git(self.git_dir, self.worktree)

    @property
    def state_dir(self) -> Path:
        """Our own files, shared by all worktrees: runs, temporary workspaces, locks."""
        return self.common_dir / "ml"

    @property
    def objects_dir(self) -> Path:
        """Where objects and packs are written."""
        return self.common_dir / "objects"

    def resolve(self, revision: str) -> Oid:
        """The oid that `revision` names (add `^{commit}` or `^{tree}` to ask for a kind); raise `UserError`."""
        done = self.git.run("rev-parse", "--verify", "--quiet", "--end-of-options", revision, check=False)
        if done.returncode != 0:
            raise UserError(f"unknown revision '{revision.partition('^{')[0]}'")
        return Oid.parse(done.stdout.strip())

    def try_resolve(self, revision: str) -> Oid | None:
        """The oid that `revision` names, None if there is none."""
        done = self.git.run("rev-parse", "--verify", "--quiet", "--end-of-options", revision, check=False)
        return Oid.parse(done.stdout.strip()) if done.returncode == 0 else None

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration as it was when it was first asked for, or last changed by `configure`."""
        return parse_configuration(self.git.output("config", "-z", "--list"))

    def know_configuration(self, listed: bytes) -> None:
        """Take what `git config -z --list` printed a moment ago, instead of asking for it."""
        self.__dict__["configuration"] = parse_configuration(listed)

    @property
    def has_filter(self) -> bool:
        """Whether git runs our filter here."""
        return self.config("filter.ml.process") is not None

    def configure(self, *arguments: str, check: bool = True) -> bool:
        """Run `git config --local`; whether it did what was asked. Raise `GitError` if not and `check` is set."""
        done = self.git.run("config", "--local", *arguments, check=check)
        self.__dict__.pop("configuration", None)
        return done.returncode == 0

    def config(self, name: str) -> str | None:
        """The value of a configuration variable as git resolves it, None if unset."""
        return self.configuration.text(name)

    def config_bool(self, name: str, default: bool) -> bool:
        """A boolean configuration variable."""
        return self.configuration.boolean(name, default)

    def config_int(self, name: str, default: int) -> int:
        """An integer configuration variable; `k`, `m` and `g` suffixes as git reads them."""
        return self.configuration.integer(name, default)
