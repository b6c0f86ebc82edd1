"""Setting a clone up for gitml, and taking it all back: filter, merge driver, attributes, hooks, remotes.

Everything is local to the clone. Foreign hooks are kept and called first; what was there before comes back byte
for byte on uninstall.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gitml.errors import GitmlError, UserError
from gitml.git.checkout import fill_in
from gitml.git.localattributes import remove_attributes, write_attributes
from gitml.git.odb import GitOdb
from gitml.git.pointers import read_pointers
from gitml.git.remotes import configure_remote, fetch_runs, unconfigure_remote
from gitml.git.repository import Repository
from gitml.git.worktree import Materialised, Progress, materialise
from gitml.oid import Oid
from gitml.pipeline.loading import load_pipeline
from gitml.resources import data_dir
from gitml.store.tree import Snapshot

HOOKS = (
    "pre-commit", "prepare-commit-msg", "post-commit", "post-merge", "post-rewrite", "post-checkout",
    "post-index-change", "pre-push",
)  # fmt: skip
_SERVER_HOOKS = ("pre-receive", "post-receive")
_SIGNATURE = b'# gitml hook 1, written by "git ml install'


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


def install(
    repo: Repository, *, force: bool = False, fetch: bool = True, progress: Progress | None = None
) -> Installed:
    """Set this clone up; doing it again brings it up to date.

    Raise `UserError` before anything changed if hooks belong to a hook manager (`core.hooksPath`) whose scripts do not
    call ours, and `force` is not given.
    """
    directory = hooks_dir(repo)
    manager = repo.config("core.hooksPath")
    managed = manager is not None and not force
    lacking = [name for name in HOOKS if managed and not _is_called(directory, name)]
    if lacking:
        where = directory.parent if directory.name == "_" else directory  # husky generates what is in `_`
        raise UserError(
            f"hooks of this repository live in '{manager}' (core.hooksPath), which a hook manager may rewrite",
            hint="git ml install --force writes there all the same; or add these lines and install again:\n"
            + "\n".join(f'{where / name}: git ml hook {name} "$@"' for name in lacking),
        )
    report = Installed(hooks_dir=directory)
    _configure(repo)
    write_attributes(repo, _outputs(repo))
    if not managed:
        _write_hooks(directory, report, HOOKS, data_dir("hooks"))
    for remote in repo.git.lines("remote"):
        configure_remote(repo, remote)
        if fetch:
            try:
                fetch_runs(repo, remote)
                report.remotes.append(remote)
            except UserError as error:
                report.unreachable.append((remote, error.message))
    if repo.worktree is not None and repo.try_resolve("HEAD") is not None:
        report.materialised = fill_in(repo, progress=progress) if fetch else materialise(repo, None, progress)
    return report


def install_server(repo: Repository) -> Installed:
    """Set a bare repository up: pushes are refused if their data is missing, queued for a run otherwise.

    Nothing becomes trusted by that. A pre-receive hook that is there stays as it is. Raise `UserError`.
    """
    if repo.worktree is not None:
        raise UserError("--server is for bare repositories", hint="in a clone: git ml install")
    report = Installed(hooks_dir=hooks_dir(repo))
    refusing = report.hooks_dir / "pre-receive"
    _write_hooks(report.hooks_dir, report, ["post-receive"], data_dir("templates") / "server")
    if not refusing.exists():
        text = (data_dir("templates") / "server" / "pre-receive").read_bytes()
        first, rest = text.split(b"\n", 1)
        refusing.write_bytes(first + b"\n" + _SIGNATURE + b' --server"\n' + rest)
        refusing.chmod(0o755)
    return report


def is_installed(repo: Repository) -> bool:
    """Whether git runs our filter here."""
    return repo.config("filter.ml.process") is not None


def installed_hooks(repo: Repository) -> list[str]:
    """The hooks of ours that stand where git looks, and those that a hook manager's script calls."""
    directory = hooks_dir(repo)
    return [name for name in HOOKS if _is_ours(directory / name) or _is_called(directory, name)]


def chained_hooks(repo: Repository) -> list[str]:
    """The hooks of the user's own that ours call first."""
    directory = hooks_dir(repo)
    return [name for name in HOOKS if (directory / f"{name}.gitml-orig").exists()]


def filled_files(repo: Repository) -> int:
    """How many files of the worktree hold content whose pointer is in the index."""
    if repo.worktree is None:
        return 0
    listed = (line.partition(b"\t") for line in repo.git.output("ls-files", "-s", "-z").split(b"\0") if line)
    entries = {path: Oid.parse(meta.split()[1]) for meta, _, path in listed}
    pointers = read_pointers(repo.git, entries.values())
    places = (
        (repo.worktree / os.fsdecode(path), pointers[oid].size) for path, oid in entries.items() if oid in pointers
    )
    return sum(place.is_file() and place.stat().st_size == size for place, size in places)


def uninstall(repo: Repository) -> list[str]:
    """Take everything back that `install` did; give the hooks that were restored. Data and results stay."""
    restored: list[str] = []
    directory = hooks_dir(repo)
    for name in (*HOOKS, *_SERVER_HOOKS):
        if not _is_ours(directory / name):
            continue
        (directory / name).unlink()
        original = directory / f"{name}.gitml-orig"
        if original.exists():
            original.replace(directory / name)
            restored.append(name)
    for section in ("filter.ml", "diff.ml", "merge.ml", "merge.ml-result"):
        repo.configure("--remove-section", section, check=False)
    for name in ("ml.path", "ml.autoFetch"):
        repo.configure("--unset-all", name, check=False)
    for remote in repo.git.lines("remote"):
        unconfigure_remote(repo, remote)
        for name in ("mlFetch", "mlNamespace"):
            repo.configure("--unset-all", f"remote.{remote}.{name}", check=False)
    remove_attributes(repo)
    return restored


def fetch_by_itself(repo: Repository, wanted: bool) -> None:
    """Whether hooks fetch the content that a checkout lacks."""
    if wanted:
        repo.configure("--unset-all", "ml.autoFetch", check=False)
    else:
        repo.configure("ml.autoFetch", "false")


def _configure(repo: Repository) -> None:
    for name, value in {
        "filter.ml.process": f"{command_line()} filter-process",
        "filter.ml.required": "true",
        "diff.ml.textconv": f"{command_line()} textconv",
        "merge.ml.name": "gitml: results take ours, large files are a conflict, all else is merged by lines",
        "merge.ml.driver": f"{command_line()} merge-file %O %A %B %P",
        "merge.ml-result.name": "gitml results: keep ours, the pipeline brings them up to date",
        # `true` leaves our side in place and reports success; the evaluation after the merge sees what is stale
        "merge.ml-result.driver": "true",
    }.items():
        repo.configure(name, value)


def _outputs(repo: Repository) -> list[bytes]:
    """The outputs of the pipeline of HEAD; none if it has none that can be read."""
    head = repo.try_resolve("HEAD^{tree}")
    if head is None:
        return []
    with GitOdb(repo.git, repo.format) as odb, suppress(GitmlError):
        pipeline = load_pipeline(Snapshot(odb, head))
        return [] if pipeline is None else [stage.output for stage in pipeline.stages]
    return []


def _write_hooks(directory: Path, report: Installed, names: Sequence[str], shims: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = directory / name
        if path.exists() and not _is_ours(path):
            path.replace(directory / f"{name}.gitml-orig")
        if (directory / f"{name}.gitml-orig").exists():
            report.chained.append(name)
        temporary = directory / f"{name}.gitml-tmp"
        temporary.write_bytes(_shim(shims / name))
        temporary.chmod(0o755)
        temporary.replace(path)


def _shim(path: Path) -> bytes:
    text = path.read_text()
    escaped = "".join(f"\\{char}" if char in '\\"$`' else char for char in sys.executable)
    return text.replace("@PYTHON@", escaped).encode()


def _is_called(directory: Path, name: str) -> bool:
    """Whether a script of a hook manager calls our hook; husky has those of the user one directory above."""
    places = [directory / name, *([directory.parent / name] if directory.name == "_" else [])]
    call = re.compile(rb"^[^#\n]*\bml hook " + name.encode() + rb"\b", re.MULTILINE)
    return any(place.is_file() and not _is_ours(place) and call.search(place.read_bytes()) for place in places)


def _is_ours(path: Path) -> bool:
    try:
        return _SIGNATURE in path.read_bytes()[:200]
    except OSError:
        return False


def remember_path(repo: Repository) -> None:
    """Keep the PATH that the user works with, for hooks that a graphical client starts with another one."""
    path = os.environ.get("PATH")
    if path:
        repo.configure("ml.path", path)
