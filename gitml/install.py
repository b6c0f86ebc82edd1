"""Setting a clone up for gitml, and taking it all back: filter, merge driver, attributes, hooks, remotes.

Everything is local to the clone. Foreign hooks are kept and called first; what was there before comes back byte
for byte on uninstall.
"""

import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gitml.errors import UserError
from gitml.git.fill import fill_in
from gitml.git.remotes import configure_remote, fetch_runs, unconfigure_remote
from gitml.git.repository import Repository
from gitml.git.worktree import Materialised, materialise
from gitml.resources import data_dir
from gitml.store.datatree import INCOMPRESSIBLE_SUFFIX

HOOKS = (
    "pre-commit", "prepare-commit-msg", "post-commit", "post-merge", "post-rewrite", "post-checkout",
    "post-index-change", "pre-push",
)  # fmt: skip
_SIGNATURE = b'# gitml hook 1, written by "git ml install"'
_ATTRIBUTES_BEGIN = "# gitml: begin\n"
_ATTRIBUTES_END = "# gitml: end\n"


@dataclass(slots=True)
class Installed:
    """What was done, for the user to read."""

    hooks_dir: Path
    chained: list[str] = field(default_factory=list)
    """Hooks that were there before and run first."""
    remotes: list[str] = field(default_factory=list)
    """Remotes that were reached; their runs are here."""
    unreachable: list[tuple[str, str]] = field(default_factory=list)
    """Remotes that could not be fetched from, with the reason."""
    materialised: Materialised | None = None


def command_line() -> str:
    """How git starts this gitml: the interpreter by its absolute path, blind to modules of the repository (-P)."""
    return f"{shlex.quote(sys.executable)} -P -m gitml"


def hooks_dir(repo: Repository) -> Path:
    """Where git looks for hooks in this repository."""
    return (repo.worktree or repo.git_dir) / repo.git.line("rev-parse", "--git-path", "hooks")


def install(repo: Repository, *, force: bool = False, fetch: bool = True) -> Installed:
    """Set this clone up; doing it again brings it up to date.

    Raise `UserError` before anything changed if hooks belong to a hook manager (`core.hooksPath`) and `force` is
    not given.
    """
    directory = hooks_dir(repo)
    manager = repo.config("core.hooksPath")
    if manager is not None and not force:
        raise UserError(
            f"hooks of this repository live in '{manager}' (core.hooksPath), which a hook manager may rewrite",
            hint="git ml install --force writes there all the same; or call 'git ml hook NAME \"$@\"' from the "
            f"manager's {', '.join(HOOKS)}",
        )
    report = Installed(hooks_dir=directory)
    _configure(repo)
    _write_attributes(repo)
    _write_hooks(directory, report)
    for remote in repo.git.lines("remote"):
        configure_remote(repo, remote)
        if fetch:
            try:
                fetch_runs(repo, remote)
                report.remotes.append(remote)
            except UserError as error:
                report.unreachable.append((remote, error.message))
    if repo.worktree is not None and repo.try_resolve("HEAD") is not None:
        report.materialised = fill_in(repo) if fetch else materialise(repo, None)
    return report


def is_installed(repo: Repository) -> bool:
    """Whether git runs our filter here."""
    return repo.config("filter.ml.process") is not None


def installed_hooks(repo: Repository) -> list[str]:
    """The hooks of ours that stand where git looks."""
    directory = hooks_dir(repo)
    return [name for name in HOOKS if _is_ours(directory / name)]


def chained_hooks(repo: Repository) -> list[str]:
    """The hooks of the user's own that ours call first."""
    directory = hooks_dir(repo)
    return [name for name in HOOKS if (directory / f"{name}.gitml-orig").exists()]


def uninstall(repo: Repository) -> list[str]:
    """Take everything back that `install` did; give the hooks that were restored. Data and results stay."""
    restored: list[str] = []
    directory = hooks_dir(repo)
    for name in HOOKS:
        if not _is_ours(directory / name):
            continue
        (directory / name).unlink()
        original = directory / f"{name}.gitml-orig"
        if original.exists():
            original.replace(directory / name)
            restored.append(name)
    for section in ("filter.ml", "merge.ml"):
        repo.git.run("config", "--local", "--remove-section", section, check=False)
    repo.git.run("config", "--local", "--unset-all", "ml.path", check=False)
    for remote in repo.git.lines("remote"):
        unconfigure_remote(repo, remote)
    _edit_attributes(repo, "")
    return restored


def _configure(repo: Repository) -> None:
    for name, value in {
        "filter.ml.process": f"{command_line()} filter-process",
        "filter.ml.required": "true",
        "merge.ml.name": "gitml results: keep ours, the pipeline brings them up to date",
        # `true` leaves our side in place and reports success; the evaluation after the merge sees what is stale
        "merge.ml.driver": "true",
    }.items():
        repo.git.run("config", "--local", name, value)


def _write_attributes(repo: Repository) -> None:
    _edit_attributes(
        repo,
        f"{_ATTRIBUTES_BEGIN}*{INCOMPRESSIBLE_SUFFIX.decode()} -delta\n.gitml/records/** merge=ml\n{_ATTRIBUTES_END}",
    )


def _edit_attributes(repo: Repository, block: str) -> None:
    path = repo.common_dir / "info" / "attributes"
    text = path.read_text() if path.exists() else ""
    head, begin, rest = text.partition(_ATTRIBUTES_BEGIN)
    if begin:
        text = head + rest.partition(_ATTRIBUTES_END)[2]
    if text and not text.endswith("\n"):
        text += "\n"
    text += block
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    else:
        path.unlink(missing_ok=True)


def _write_hooks(directory: Path, report: Installed) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in HOOKS:
        path = directory / name
        if path.exists() and not _is_ours(path):
            path.replace(directory / f"{name}.gitml-orig")
        if (directory / f"{name}.gitml-orig").exists():
            report.chained.append(name)
        temporary = directory / f"{name}.gitml-tmp"
        temporary.write_bytes(_shim(name))
        temporary.chmod(0o755)
        temporary.replace(path)


def _shim(name: str) -> bytes:
    text = (data_dir("hooks") / name).read_text()
    escaped = "".join(f"\\{char}" if char in '\\"$`' else char for char in sys.executable)
    return text.replace("@PYTHON@", escaped).encode()


def _is_ours(path: Path) -> bool:
    try:
        return _SIGNATURE in path.read_bytes()[:200]
    except OSError:
        return False


def remember_path(repo: Repository) -> None:
    """Keep the PATH that the user works with, for hooks that a graphical client starts with another one."""
    path = os.environ.get("PATH")
    if path:
        repo.git.run("config", "--local", "ml.path", path)


def normalised_pattern(repo: Repository, pattern: str) -> str:
    """`pattern` as it should stand in `.gitattributes`: a directory means all below it; raise `UserError`."""
    if not pattern.strip() or "\0" in pattern or "\n" in pattern:
        raise UserError(f"'{pattern}' is not a pattern of .gitattributes")
    if pattern.startswith("!"):
        raise UserError(
            "negative patterns do not exist in .gitattributes",
            hint="write the exception there by hand: PATTERN -filter",
        )
    if pattern.endswith("/") or (repo.worktree is not None and (repo.worktree / pattern).is_dir()):
        return pattern.rstrip("/") + "/**"
    return pattern


def track(repo: Repository, patterns: Iterable[str]) -> list[str]:
    """Add lines to `.gitattributes` that put `patterns` under gitml; give the patterns that were new."""
    path = _attributes_file(repo)
    lines = path.read_text().splitlines() if path.exists() else []
    added = [pattern for pattern in patterns if attribute_line(pattern) not in lines]
    if added:
        path.write_text("".join(f"{line}\n" for line in [*lines, *map(attribute_line, added)]))
    return added


def untrack(repo: Repository, patterns: Iterable[str]) -> list[str]:
    """Remove the lines of `patterns`; give those that had one."""
    path = _attributes_file(repo)
    lines = path.read_text().splitlines() if path.exists() else []
    gone = [pattern for pattern in patterns if any(_pattern_of(line) == _quoted(pattern) for line in lines)]
    unwanted = {_quoted(pattern) for pattern in gone}
    if gone:
        path.write_text("".join(f"{line}\n" for line in lines if _pattern_of(line) not in unwanted))
    return gone


def tracked_patterns(repo: Repository) -> list[str]:
    """The patterns of the top-level `.gitattributes` that are under gitml."""
    path = _attributes_file(repo)
    lines = path.read_text().splitlines() if path.exists() else []
    return [pattern for line in lines if (pattern := _pattern_of(line)) is not None]


def attribute_line(pattern: str) -> str:
    """The line of `.gitattributes` that puts a pattern under gitml.

    Without `merge=ml`: that driver keeps our side, which is right for results and would drop the other side of data.
    """
    return f"{_quoted(pattern)} filter=ml -text"


def _attributes_file(repo: Repository) -> Path:
    if repo.worktree is None:
        raise UserError("a bare repository has no files to track")
    return repo.worktree / ".gitattributes"


def _quoted(pattern: str) -> str:
    # git reads C-style quotes around patterns with blanks
    if any(char.isspace() or char in '"\\' for char in pattern) or pattern.startswith(("#", "!")):
        escaped = pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", "\\n")
        return f'"{escaped}"'
    return pattern


def _pattern_of(line: str) -> str | None:
    if line.startswith('"'):
        end = 1
        while end < len(line) and line[end] != '"':
            end += 2 if line[end] == "\\" else 1
        pattern, rest = line[: end + 1], line[end + 1 :]
    else:
        pattern, _, rest = line.partition(" ")
    return pattern if "filter=ml" in rest.split() else None
