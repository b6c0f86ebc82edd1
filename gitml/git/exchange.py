"""What a run and its workers on other machines give each other through a data remote, for as long as the run lasts.

    <root>/tasks/<token>         a commit whose tree has what tasks read: the run pushes it, workers fetch by oid
    <root>/worked/<token>/<n>    a commit whose tree has what tasks gave: a worker pushes it, the run fetches it
    <root>/data/<oid>            data commits of what is large, as any push of data has them: these stay

`root` is what our refs are called on that remote. The refs of a token go when the run has recorded everything; those of
a run that was killed go when they are old. A worker's side is a bare repository that is only a cache.
"""

import fcntl
import hashlib
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.commits import Commit, Signature, format_commit
from gitml.git.data import REMOTES, DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.promisor import Item
from gitml.git.refs import RefUpdate, list_refs, pause, update_refs
from gitml.git.remoterefs import RACES
from gitml.git.remotes import last_line, list_refs_at, list_remote, namespace_at
from gitml.git.repository import Repository
from gitml.git.transfer import join_heads, push_contents
from gitml.oid import ObjectFormat, Oid
from gitml.store.odb import ObjectWriter

_INCOMING = "refs/ml/incoming/"
_EXPIRY = 14 * 86_400
"""Seconds after which the refs of a run count as left by one that was killed."""
_MOST_PARENTS = 16
_ATTEMPTS = 8


class ExchangeError(GitmlError):
    """A data remote did not take or give what a run and its workers exchange."""


class Exchange:
    """The run's side. Close it when all that was brought is recorded, or use it in `with`."""

    def __init__(self, repo: Repository, odb: GitOdb, remote: str) -> None:
        """Look at the refs of `remote`, the name of one; raise `FetchError`."""
        self._repo = repo
        self._odb = odb
        self._remote = remote
        refs = list_remote(repo, remote)
        self._namespace = namespace_at(repo, remote, refs)
        self._token = f"{int(time.time()):x}-{os.urandom(6).hex()}"
        self._incoming = f"{_INCOMING}{os.getpid()}-{os.urandom(8).hex()}"
        self._heads: list[Oid] = []
        """Data commits that workers pushed."""

    @property
    def results(self) -> str:
        """What the refs of workers begin with."""
        return f"{self._namespace.root}/worked/{self._token}/"

    @property
    def data(self) -> str:
        """What the names of data commits begin with there."""
        return self._namespace.data

    def send_contents(self, items: Sequence[Item]) -> None:
        """Make sure that the remote has contents, given as (path, manifest); raise as `push_contents` does."""
        if items:
            push_contents(self._repo, self._remote, items)

    def send_tree(self, tree: Oid) -> None:
        """Make a tree that is here, with all below it, available to workers; raise `ExchangeError`."""
        # on top of what the remote has and we have too: then only what is new there is sent
        parents = self._common()
        with PackWriter(self._repo.objects_dir, self._repo.format, reader=self._odb) as pack:
            commit = write_commit(pack, tree, parents)
            pack.finish()
        self._push(f"{commit}:{self._namespace.root}/tasks/{self._token}")

    def bring(self, results: Iterable[Oid], data: Iterable[Oid]) -> None:
        """Bring commits of workers with all below them, and data commits; raise `ExchangeError`.

        Nothing prunes the former before the next call, and the latter for good.
        """
        heads = list(data)
        lines = [f"+{oid}:{self._incoming}/{oid}" for oid in results]
        lines += [f"+{oid}:{REMOTES}{self._remote}/data/{oid}" for oid in heads]
        self._release()
        done = self._repo.git.run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-prune", "--recurse-submodules=no",
            "--refmap=", "--stdin", "--", self._remote,
            input=b"".join(line.encode() + b"\n" for line in lines), check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ExchangeError(
                f"cannot fetch results from '{self._remote}': {last_line(done.stderr)}",
                hint="check the remote: git remote -v; what was recorded is kept",
            )
        self._heads += heads

    def settle(self, item: Item | None) -> None:
        """Take back everything that only served the exchange; `item` is a content in one of the data commits.

        Raise `GitmlError` if the remote could not be reached; then later runs do it.
        """
        self._release()
        if item is not None and self._heads:
            DataLog(self._repo, self._odb).adopt()
            if len(self._heads) > 1:
                join_heads(self._repo, self._remote, self._heads, item)
                DataLog(self._repo, self._odb).adopt()
            self._heads = []
        root = self._namespace.root
        found = list_refs_at(self._repo, self._remote, f"{root}/tasks/*", f"{root}/worked/*")
        gone = [name for name in found if is_done(name.removeprefix(f"{root}/"), self._token, time.time())]
        if gone:
            self._push(*(f":{name}" for name in gone))

    def _release(self) -> None:
        update_refs(self._repo.git, [RefUpdate(name, None) for name in list_refs(self._repo.git, self._incoming)])

    def _common(self) -> list[Oid]:
        """Some commits that the remote has and that are here."""
        tips = set(list_refs_at(self._repo, self._remote, "refs/heads/*").values())
        tips |= self._namespace.heads(list_remote(self._repo, self._remote))
        listed = b"".join(oid.hex().encode() + b"\n" for oid in sorted(tips))
        answer = self._repo.git.output("cat-file", "--batch-check=%(objectname) %(objecttype)", input=listed)
        here = [line.split()[0].decode() for line in answer.splitlines() if line.endswith(b" commit")]
        if len(here) > 1:
            here = self._repo.git.lines("merge-base", "--independent", *here)
        return [Oid.parse(oid) for oid in here[:_MOST_PARENTS]]

    def _push(self, *refspecs: str) -> None:
        push_refs(self._repo, self._remote, refspecs)


def is_done(name: str, token: str, now: float) -> bool:
    """Whether a ref below the root can go: it is of the run with `token`, or so old that its run was killed.

    `now` in seconds since the epoch.
    """
    _, _, rest = name.partition("/")
    other = rest.partition("/")[0]
    began = other.partition("-")[0]
    with suppress(ValueError):
        return other == token or now - int(began, 16) > _EXPIRY
    return False


def push_refs(repo: Repository, remote: str, refspecs: Sequence[str]) -> None:
    """Push some refs of ours to a remote; raise `ExchangeError`.

    A worker that did the same batch has the same data commit: one may find its ref locked by the other.
    """
    reason = ""
    for attempt in range(_ATTEMPTS):
        done = repo.git.run(
            "-c", f"remote.{remote}.mirror=false", "push", "--quiet", "--no-verify", "--thin", "--no-follow-tags",
            "--recurse-submodules=no", "--no-progress", "--", remote, *refspecs, check=False, env={"LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode == 0:
            return
        reason = _reason(done)
        if not RACES.search(reason):
            break
        pause(attempt)
    raise ExchangeError(
        f"cannot push to '{remote}': {reason}",
        hint="the data remote must take refs below refs/ml/; try: git push --dry-run " + remote,
    )


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    refused = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.startswith(" ! ")]
    return refused[0][3:].strip() if refused else last_line(done.stderr)


def write_commit(writer: ObjectWriter, tree: Oid, parents: Sequence[Oid] = ()) -> Oid:
    """Write a commit of the exchange."""
    who = Signature(b"gitml", b"gitml@localhost", int(time.time()))
    return writer.write("commit", format_commit(Commit(tree, tuple(parents), who, who, b"tasks\n")))


def worker_cache(directory: Path, object_format: ObjectFormat) -> Repository:
    """The bare repository of a worker below `directory`, made if need be. Several processes may share it."""
    place = directory / f"{object_format.value}.git"
    repo = Repository(place, place, None, object_format)
    with _locked(directory):
        if not (place / "gitml-cache").exists():
            place.mkdir(exist_ok=True)
            repo.git.run("init", "--quiet", "--bare", f"--object-format={object_format.value}")
            # no ref reaches most of what is in it
            for name in ("gc.auto", "maintenance.auto"):
                repo.configure(name, "0")
            (place / "gitml-cache").touch()
    return repo


def name_remote(repo: Repository, address: str) -> str:
    """What the remote at `address` is called in a worker's repository, which knows it from now on."""
    name = remote_name(address)
    with _locked(repo.common_dir.parent):
        if repo.git.run("config", "--get", f"remote.{name}.url", check=False).returncode:
            repo.configure(f"remote.{name}.url", address)
    return name


def remote_name(address: str) -> str:
    """The name for a remote at `address`."""
    return "at-" + hashlib.sha256(os.fsencode(address)).hexdigest()[:16]


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
