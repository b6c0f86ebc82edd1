"""How a remote stands to our refs: what it calls them, what `git fetch` brings of them, which remotes to ask.

Most hosts take refs of any name, and ours are `refs/ml/data/<oid>` and `refs/ml/runs` there too. For a host that drops
or refuses them they are branches, `refs/heads/gitml/data/<oid>` and `refs/heads/gitml/runs`. Which it is, is remembered
in `remote.<name>.mlNamespace`, and recognised from what the remote has where nothing is remembered.
"""

import os
import re

from gitml.errors import UserError
from gitml.git.data import REMOTES, DataLog
from gitml.git.odb import GitOdb
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.meter import is_shown
from gitml.oid import Oid
from gitml.protocol.remote_helper import NOTHING_THERE
from gitml.record import record

PRUNED = "refs/ml/pruned"
"""In a repository whose data was pruned once (gitml.care), to those who push there: what it had may be gone."""

_SETTING = "mlNamespace"
_OURS = re.compile(r"\+?\^?refs/(ml|heads/gitml)/.*")


@record
class Namespace:
    """What our refs are called on a remote, below `root`."""

    root: str

    @property
    def data(self) -> str:
        """Prefix of the heads of the data log."""
        return f"{self.root}/data/"

    @property
    def runs(self) -> str:
        """The run cache."""
        return f"{self.root}/runs"

    def heads(self, found: dict[str, Oid]) -> set[Oid]:
        """The heads of the data log among a remote's refs."""
        return {oid for name, oid in found.items() if name.startswith(self.data)}

    def refs(self, found: dict[str, Oid]) -> dict[str, Oid]:
        """Those of a remote's refs that are ours in this namespace."""
        return {name: oid for name, oid in found.items() if name == self.runs or name.startswith(self.data)}


CUSTOM = Namespace("refs/ml")
BRANCHES = Namespace("refs/heads/gitml")


class FetchError(UserError):
    """A remote cannot be fetched from. Carries `remote` and git's reason as `detail`."""

    def __init__(self, remote: str, detail: str) -> None:
        super().__init__(f"cannot fetch data from '{remote}': {detail}", hint="check the remote: git remote -v")
        self.remote = remote
        self.detail = detail


def configure_remote(repo: Repository, remote: str) -> None:
    """Let every `git fetch` of a remote bring its runs too; doing it again changes nothing.

    Runs are small. Content is fetched when it is wanted.
    """
    wanted = _refspecs(remote, _remembered(repo, remote) or CUSTOM)
    present = repo.configuration.all(f"remote.{remote}.fetch")
    if [line for line in present if _OURS.fullmatch(line)] == wanted:
        return
    unconfigure_remote(repo, remote)
    for line in wanted:
        repo.configure("--add", f"remote.{remote}.fetch", line)


def unconfigure_remote(repo: Repository, remote: str) -> None:
    """Take back what `configure_remote` did."""
    repo.configure("--unset-all", f"remote.{remote}.fetch", r"^[+^]refs/(ml|heads/gitml)/", check=False)


def remember_namespace(repo: Repository, remote: str, namespace: Namespace) -> None:
    """Note what our refs are called on a remote, for the next push and every fetch."""
    if _remembered(repo, remote) != namespace:
        repo.configure(f"remote.{remote}.{_SETTING}", namespace.root)
        configure_remote(repo, remote)


def namespace_at(repo: Repository, remote: str | None, refs: dict[str, Oid]) -> Namespace:
    """What our refs are called on a remote (None for a bare URL) that has `refs`."""
    known = _remembered(repo, remote) if remote is not None else None
    if known is not None:
        return known
    return BRANCHES if BRANCHES.refs(refs) and not CUSTOM.refs(refs) else CUSTOM


def list_remote(repo: Repository, address: str) -> dict[str, Oid]:
    """The refs of a remote that may be ours, by either name; raise `FetchError`."""
    return list_refs_at(
        repo, address, PRUNED, *(name for each in (CUSTOM, BRANCHES) for name in (f"{each.data}*", each.runs))
    )


def list_refs_at(repo: Repository, address: str, *patterns: str) -> dict[str, Oid]:
    """The refs of a remote that match one of the patterns, without any all; raise `FetchError`."""
    done = repo.git.run("ls-remote", "--refs", "--", address, *patterns, check=False, env={"LC_ALL": "C"})
    if done.returncode != 0:
        if NOTHING_THERE.encode() in done.stderr:
            return {}
        raise FetchError(address, last_line(done.stderr))
    found = (line.split(b"\t", 1) for line in done.stdout.splitlines())
    return {os.fsdecode(name): Oid.parse(oid) for oid, name in found}


def data_remote(repo: Repository) -> str | None:
    """The remote that has data and runs for all others (`ml.dataRemote`), None where each has its own.

    Raise `UserError` if there is no such remote.
    """
    name = repo.config("ml.dataRemote")
    if name is not None and name not in repo.git.lines("remote"):
        raise UserError(f"ml.dataRemote is '{name}', and there is no such remote", hint=f"git remote add {name} URL")
    return name


def fetching_remotes(repo: Repository) -> list[str]:
    """The remotes to ask for content: first that for data, then that of the branch, then origin, then the others."""
    names = [
        name
        for name in repo.git.lines("remote")
        # an entry that stands beside a remote only to say that it has what is not here
        if not all(repo.config_bool(f"remote.{name}.{mark}", False) for mark in ("promisor", "skipFetchAll"))
    ]
    branch = repo.git.run("symbolic-ref", "--quiet", "--short", "HEAD", check=False).stdout
    own = repo.config(f"branch.{os.fsdecode(branch).rstrip()}.remote") if branch else None
    data = data_remote(repo)
    return sorted(names, key=lambda name: (name != data, name != own, name != "origin"))


def fetch_data(repo: Repository, remote: str, *, progress: bool | None = None) -> None:
    """Bring all data commits of a remote here, as small as git can make them, and its runs; raise `FetchError`.

    What the remote no longer names is forgotten, but not what it held: its heads get a local ref too.
    """
    namespace = _namespace(repo, remote)
    _fetch(
        repo,
        remote,
        [f"+{namespace.data}*:{REMOTES}{remote}/data/*", _runs_refspec(remote, namespace)],
        is_shown(progress),
    )
    with GitOdb(repo.git, repo.format) as odb:
        DataLog(repo, odb).adopt()


def follow_all(repo: Repository, remote: str) -> None:
    """Note that this clone is to have all data commits of a remote: then new ones come as differences to them."""
    repo.configure(f"remote.{remote}.mlFetch", "all")


def fetch_runs(repo: Repository, remote: str) -> None:
    """Bring the runs of a remote here; raise `FetchError`."""
    namespace = _namespace(repo, remote)
    _fetch(repo, remote, [_runs_refspec(remote, namespace)], progress=False)


def last_line(stderr: bytes) -> str:
    """What git gave as the reason of a failure."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    fatal = [line for line in lines if line.startswith("fatal: ")]
    # what git says of its child, which has said more
    cause = [line for line in fatal if "invalid index-pack output" not in line]
    return (cause or fatal or lines or ["git failed"])[-1].removeprefix("fatal: ")


def _fetch(repo: Repository, remote: str, refspecs: list[str], progress: bool) -> None:
    done = repo.git.run(
        "fetch", "--progress" if progress else "--quiet", "--no-tags", "--no-write-fetch-head", "--prune",
        "--recurse-submodules=no", "--refmap=", "--", remote, *refspecs, check=False, show=progress,
    )  # fmt: skip
    if done.returncode != 0:
        raise FetchError(remote, last_line(done.stderr))


def _namespace(repo: Repository, remote: str) -> Namespace:
    """What our refs are called on a remote; it is asked only if nothing of it is known yet."""
    known = _remembered(repo, remote)
    if known is None and not list_refs(repo.git, f"{REMOTES}{remote}"):
        known = namespace_at(repo, remote, list_remote(repo, remote))
        if known != CUSTOM:
            remember_namespace(repo, remote, known)
    return known or CUSTOM


def _refspecs(remote: str, namespace: Namespace) -> list[str]:
    if namespace == CUSTOM:
        return [_runs_refspec(remote, namespace)]
    # data is not fetched with the branches, even where it stands among them
    return [_runs_refspec(remote, namespace), f"^{namespace.data}*"]


def _runs_refspec(remote: str, namespace: Namespace) -> str:
    # a pattern even for the one ref: a remote without runs must not fail the fetch
    return f"+{namespace.runs}*:{REMOTES}{remote}/runs*"


def _remembered(repo: Repository, remote: str) -> Namespace | None:
    root = repo.config(f"remote.{remote}.{_SETTING}")
    return Namespace(root) if root else None
