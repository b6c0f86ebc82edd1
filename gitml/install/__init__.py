"""Setting a clone up for gitml, and taking it all back: filter, merge driver, attributes, hooks, remotes.

Everything is local to the clone. Foreign hooks are kept and called first; what was there before comes back byte
for byte on uninstall.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gitml.care.largepacks import BIG_PACK_THRESHOLD
from gitml.errors import GitmlError, UserError
from gitml.git.checkout import fill_in
from gitml.git.localattributes import remove_attributes, write_attributes
from gitml.git.odb import GitOdb
from gitml.git.pointers import read_pointers
from gitml.git.remotes import configure_remote, fetch_runs, unconfigure_remote
from gitml.git.repository import Repository
from gitml.git.worktree import Materialised, Progress, materialise
from gitml.install.chain import (
    SIGNATURE,
    Owner,
    can_configure_hooks,
    chain_of,
    hooks_dir,
    is_called,
    lines_to_add,
    manager_of,
    place_of_ours,
    put_in,
    refuse_two_originals,
    take_out,
    write,
)
from gitml.oid import Oid
from gitml.record import field, record
from gitml.resources import data_dir
from gitml.store.tree import Snapshot

HOOKS = (
    "pre-commit", "prepare-commit-msg", "post-commit", "post-merge", "post-rewrite", "post-checkout",
    "post-index-change", "pre-push",
)  # fmt: skip
_SERVER_HOOKS = ("pre-receive", "post-receive")
_LARGE_PACK = "512m"
"""From which size on `git gc` keeps a pack: to copy and hash gigabytes that do not compress gains nothing."""


@record(frozen=False)
class Installed:
    """What was done, for the user to read."""

    hooks_dir: Path
    chained: list[str] = field(default_factory=list)
    """Hooks that were there before and run first."""
    called: list[str] = field(default_factory=list)
    """Hooks that a hook manager calls, as the user has set it up."""
    configured: list[str] = field(default_factory=list)
    """Hooks that stand in git's configuration, out of the way of a hook manager."""
    remotes: list[str] = field(default_factory=list)
    """Remotes that were reached; their runs are here."""
    unreachable: list[tuple[str, str]] = field(default_factory=list)
    """Remotes that could not be fetched from, with the reason."""
    materialised: Materialised | None = None


def command_line() -> str:
    """How git starts this gitml: the interpreter by its absolute path, blind to modules of the repository (-P)."""
    return f"{shlex.quote(sys.executable)} -P -m gitml"


def install(
    repo: Repository, *, force: bool = False, fetch: bool = True, progress: Progress | None = None
) -> Installed:
    """Set this clone up; doing it again brings it up to date.

    Raise `UserError` before anything changed if hooks are in the hands of a manager that does not call ours, git is too
    old to have them in its configuration, and `force` is not given; and if scripts are in the way.
    """
    directory = hooks_dir(repo)
    plan = _places(repo, directory, force=force)
    for name in plan.scripts:
        refuse_two_originals(directory, name)
    report = Installed(hooks_dir=directory)
    _configure(repo)
    write_attributes(repo, _outputs(repo))
    _write_hooks(directory, report, plan.scripts, data_dir("hooks"))
    _configure_hooks(repo, plan.configured)
    report.called = plan.called
    report.configured = plan.configured
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
        refusing.write_bytes(first + b"\n" + SIGNATURE + b' --server"\n' + rest)
        refusing.chmod(0o755)
    return report


def installed_hooks(repo: Repository) -> list[str]:
    """The hooks of ours that git comes by: scripts, those that a manager calls, and those in the configuration."""
    directory = hooks_dir(repo)
    able = can_configure_hooks(repo)
    configured = _configured(repo) if able else []
    return [
        name
        for name in HOOKS
        if not (able and _switched_off(repo, name))
        and (
            name in configured
            or is_called(repo, directory, name)
            or ((place := place_of_ours(directory, name)) is not None and os.access(place, os.X_OK))
        )
    ]


def chains(repo: Repository) -> dict[str, list[str]]:
    """What git runs for each event of ours, in order, in words."""
    directory = hooks_dir(repo)
    able = can_configure_hooks(repo)
    return {
        name: chain_of(repo, directory, name, _listed(repo, name) if able else [])
        for name in HOOKS
        if not (able and _switched_off(repo, name))
    }


def _switched_off(repo: Repository, name: str) -> bool:
    return not repo.config_bool(f"hook.{name}.enabled", True)


def _listed(repo: Repository, name: str) -> list[str]:
    """The names of the hooks that the configuration has for an event, as git reads it."""
    listed = repo.git.run("hook", "list", "-z", name, check=False, env={"LC_ALL": "C"}).stdout
    names = [os.fsdecode(each) for each in listed.split(b"\0") if each]
    # a name after a tab is of a hook that is switched off
    return [each.removeprefix(_CONFIGURED) for each in names if each != "hook from hookdir" and "\t" not in each]


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
    directory = hooks_dir(repo)
    restored = [name for name in (*HOOKS, *_SERVER_HOOKS) if take_out(directory, name)]
    _configure_hooks(repo, [])
    for section in ("filter.ml", "diff.ml", "merge.ml", "merge.ml-result"):
        repo.configure("--remove-section", section, check=False)
    for name in ("ml.path", "ml.autoFetch"):
        repo.configure("--unset-all", name, check=False)
    repo.configure("--unset", BIG_PACK_THRESHOLD, f"^{_LARGE_PACK}$", check=False)
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
    if repo.config(BIG_PACK_THRESHOLD) is None:
        repo.configure(BIG_PACK_THRESHOLD, _LARGE_PACK)


def _outputs(repo: Repository) -> list[bytes]:
    """The outputs of the pipeline of HEAD; none if it has none that can be read."""
    from gitml.pipeline.loading import load_pipeline  # noqa: PLC0415 - 40 ms that asking what is set up need not pay

    head = repo.try_resolve("HEAD^{tree}")
    if head is None:
        return []
    with GitOdb(repo.git, repo.format) as odb, suppress(GitmlError):
        pipeline = load_pipeline(Snapshot(odb, head))
        return [] if pipeline is None else [stage.output for stage in pipeline.stages]
    return []


@record
class _Places:
    """Where each hook of ours goes: a script of its own, a line that is there, git's configuration."""

    scripts: list[str]
    called: list[str]
    configured: list[str]


def _places(repo: Repository, directory: Path, *, force: bool) -> _Places:
    elsewhere = repo.config("core.hooksPath") is not None
    held = {name: manager_of(directory, name, elsewhere=elsewhere) for name in HOOKS}
    by_name = [name for name in HOOKS if held[name] is Owner.HUSKY]
    called = [name for name in HOOKS if held[name] is not None and is_called(repo, directory, name)]
    lacking = [name for name in HOOKS if held[name] is not None and name not in called]
    if not lacking or (force and not by_name):
        return _Places([name for name in HOOKS if held[name] is None or force], [] if force else called, [])
    if can_configure_hooks(repo):
        return _Places([name for name in HOOKS if held[name] is None], called, lacking)
    owner = next(each for each in held.values() if each is not None)
    raise UserError(_in_the_hands_of(repo, owner), hint=_how_to_go_on(repo, directory, owner, lacking))


def _in_the_hands_of(repo: Repository, owner: Owner) -> str:
    if owner is Owner.LEFTHOOK:
        return "lefthook has hooks here, and writes them anew whenever its configuration changes"
    whose = "a hook manager" if owner is Owner.USER else owner
    path = repo.config("core.hooksPath")
    return f"hooks of this repository live in '{path}' (core.hooksPath), which {whose} may rewrite"


def _how_to_go_on(repo: Repository, directory: Path, owner: Owner, lacking: list[str]) -> str:
    lines = lines_to_add(repo, directory, owner, lacking)
    if owner is Owner.HUSKY:  # it finds the user's script by the name of its own: nothing can stand in front of that
        return f"add these lines and install again:\n{lines}"
    return f"git ml install --force writes there all the same; or add these lines and install again:\n{lines}"


def _write_hooks(directory: Path, report: Installed, names: Sequence[str], shims: Path) -> None:
    for name in names:
        if put_in(directory, name, _shim(shims / name)):
            report.chained.append(name)


def _configured(repo: Repository) -> list[str]:
    """The hooks of ours that stand in git's configuration."""
    return [name for name in HOOKS if repo.config(f"hook.{_CONFIGURED}{name}.event") is not None]


def _configure_hooks(repo: Repository, names: Sequence[str]) -> None:
    """Have these hooks, and no others, in git's configuration."""
    scripts = repo.state_dir / "hooks"
    for name in _configured(repo):
        if name not in names:
            repo.configure("--remove-section", f"hook.{_CONFIGURED}{name}")
    for name in HOOKS:
        if name not in names:
            (scripts / name).unlink(missing_ok=True)
    if not names and scripts.is_dir():
        scripts.rmdir()
    for name in names:
        scripts.mkdir(parents=True, exist_ok=True)
        write(scripts / name, _shim(data_dir("hooks") / name))
        section = f"hook.{_CONFIGURED}{name}"
        script = shlex.quote(str(scripts / name))
        # an event without a command would make every git command with that event fail
        repo.configure(f"{section}.command", f"test ! -x {script} || exec {script}")
        repo.configure(f"{section}.event", name)


_CONFIGURED = "gitml-"
"""Begins the names of our hooks in git's configuration; git wants others than those of events."""


def _shim(path: Path) -> bytes:
    text = path.read_text()
    escaped = "".join(f"\\{char}" if char in '\\"$`' else char for char in sys.executable)
    return text.replace("@PYTHON@", escaped).encode()


def remember_path(repo: Repository) -> None:
    """Keep the PATH that the user works with, for hooks that a graphical client starts with another one."""
    path = os.environ.get("PATH")
    if path:
        repo.configure("ml.path", path)
