"""Content that is not here, from the remotes that have it: single objects by oid, many in one request.

A request is one `git fetch` of oids into an object directory of its own beside the repository's, without negotiation:
what comes is exactly what was asked for. The packs then move into the repository, and commits below
`refs/ml/fetched/` make them reachable, so that gc, fsck and prune treat them as anything else. No remote becomes a
promisor in git's sense: git would answer every question for an object that is not here with a fetch of its own, one
object at a time (see docs/design/0005).

Single objects carry no names, and so come without deltas. A clone that has all data commits of a remote (`git ml fetch
--all`, noted as `remote.<name>.mlFetch`) gets those that are new instead, and so does one that has some of them, having
pushed there, if what is new in them is mostly what it wants.

Protocol v2 serves any object that the server has. A server that speaks only v0 and refuses single objects is asked
for its data commits. Hides how objects are asked for, how a refusal is told from an absence, and where packs land.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gitml.errors import CorruptError, GitmlError
from gitml.git.data import REMOTES, DataLog
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex
from gitml.git.places import above
from gitml.git.refs import list_refs
from gitml.git.remotes import (
    FetchError,
    fetch_data,
    fetching_remotes,
    last_line,
    list_remote,
    namespace_at,
)
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers
from gitml.liveness import is_alive
from gitml.meter import is_shown
from gitml.oid import Oid
from gitml.record import record
from gitml.store.manifest import missing_parts

Item = tuple[bytes, Oid]
"""A path and the manifest of the content there."""

BATCH = 4096
"""Objects in one request, about 1 GiB of chunks. What a request brought is kept if a later one is interrupted."""

NOWHERE = "no remote has it"
"""The reason why content is not here if all remotes were asked."""

LANDING_MARK = b"gitml: landing\n"
"""What is in the `.keep` file of a pack that came and that no ref reaches yet."""

_ABSENT = re.compile(rb"not our ref ([0-9a-f]{40,64})")
_REFUSED = b"Server does not allow request for unadvertised object"
_FILTERS = re.compile(rb"< fetch=[^\n]*\bfilter\b|\\0[^\n]* filter( |\n)")
"""How a server says, in v2 and in v0, that it can leave content out (git: gitprotocol-capabilities)."""
_SINGLE_STEPS = 4
"""Absent objects that are left out one by one before a request is cut in halves: servers name only the first."""


class _RefusedError(GitmlError):
    """The server gives no single objects."""


def fetch_missing(
    repo: Repository, oids: Iterable[Oid], *, remotes: Sequence[str] | None = None, progress: bool | None = None
) -> set[Oid]:
    """Bring the blobs that are not here, from the first remote that has them; give those that no remote has.

    `remotes` are names, by default all, that of the branch first. With `progress` (by default in a terminal) git's
    own progress is shown. Raise `FetchError` if something is left and a remote could not be asked.
    """
    index = ObjectIndex(repo.objects_dir, repo.format)
    wanted = {oid for oid in oids if not index.has(oid)}
    if wanted:
        with GitOdb(repo.git, repo.format) as odb:
            if adopt_leftovers(repo, odb):
                index.refresh()
                wanted = {oid for oid in wanted if not index.has(oid)}
    failure: FetchError | None = None
    for remote in fetching_remotes(repo) if remotes is None else remotes:
        if not wanted:
            break
        try:
            with GitOdb(repo.git, repo.format) as odb, ExitStack() as landed:
                wanted -= _bring(repo, odb, remote, wanted, landed, keep_from=1, progress=is_shown(progress))
        except FetchError as error:
            failure = error
        index.refresh()
        wanted = {oid for oid in wanted if not index.has(oid)}
    if wanted and failure is not None:
        raise failure
    return wanted


def fetch_objects(repo: Repository, remote: str, oids: Iterable[Oid]) -> set[Oid]:
    """Bring objects of any kind with everything below them, where they are not here; give those that `remote` lacks.

    An object that is here counts as whole. No ref reaches what came: this is for repositories that are only a cache.
    Raise `FetchError`.
    """
    index = ObjectIndex(repo.objects_dir, repo.format)
    wanted = sorted({oid for oid in oids if not index.has(oid)})
    got: set[Oid] = set()
    try:
        for batch in _batches(wanted):
            with ExitStack() as landed:
                got.update(_ask(repo, remote, batch, landed, False))
    except _RefusedError:
        raise FetchError(
            remote, "it speaks protocol v0 and gives no single objects (uploadpack.allowAnySHA1InWant)"
        ) from None
    return set(wanted) - got


def fetch_contents(
    repo: Repository,
    contents: Mapping[bytes, Oid],
    *,
    remotes: Sequence[str] | None = None,
    progress: bool | None = None,
) -> dict[bytes, str]:
    """Bring whole contents, given by path with the oid of their manifest; give the reason for each that is not here.

    What is here already is not asked for. Raise nothing for remotes that cannot be reached: that is a reason.
    """
    reasons = fetch_versions(repo, list(contents.items()), remotes=remotes, progress=progress)
    return {path: reason for (path, _), reason in reasons.items()}


def fetch_versions(
    repo: Repository, items: Sequence[Item], *, remotes: Sequence[str] | None = None, progress: bool | None = None
) -> dict[Item, str]:
    """As `fetch_contents`, for any number of contents at one path, given as (path, manifest)."""
    index = ObjectIndex(repo.objects_dir, repo.format)
    reasons: dict[Item, str] = {}
    with GitOdb(repo.git, repo.format) as odb:
        adopt_leftovers(repo, odb)
        index.refresh()
        left = [item for item in items if not _is_whole(item, odb, index, reasons)]
        for remote in fetching_remotes(repo) if remotes is None else remotes:
            if not left:
                break
            try:
                if repo.config(f"remote.{remote}.mlFetch") == "all" or _are_most_wanted(repo, index, remote, left):
                    fetch_data(repo, remote, progress=progress)
                    index.refresh()
                _fetch_versions_from(repo, odb, index, remote, left, is_shown(progress))
            except FetchError as error:
                reasons.update(dict.fromkeys(left, error.message))
            left = [item for item in left if not _is_whole(item, odb, index, reasons)]
    return {item: reasons.get(item, NOWHERE) for item in left}


def not_here(repo: Repository, manifests: Iterable[Oid]) -> set[Oid]:
    """Those of the manifests whose content is not here as a whole; no remote is asked."""
    return {manifest for _, manifest in fetch_versions(repo, [(b"", oid) for oid in manifests], remotes=())}


def absent_at(repo: Repository, address: str, blobs: Iterable[Oid]) -> set[Oid]:
    """Those of `blobs` that a remote (a name or a URL) has not got; what it has travels here and is dropped.

    Raise `FetchError` if it cannot be asked.
    """
    listed = sorted(set(blobs))
    try:
        return set(listed).difference(*(_ask(repo, address, batch, None, False) for batch in _batches(listed)))
    except _RefusedError:
        raise FetchError(
            address, "it speaks protocol v0 and gives no single objects (uploadpack.allowAnySHA1InWant)"
        ) from None


@record
class Borrowed:
    """A repository that goes away: commits of a remote with their trees, and all objects that are here."""

    repo: Repository
    options: tuple[str, ...]
    """What runs git there, with our addresses and credentials."""


@contextmanager
def borrow_trees(repo: Repository, address: str, commits: Iterable[Oid], *, whole: bool = False) -> Iterator[Borrowed]:
    """Commits of a remote with their trees and without content, to build upon and push from; `whole` with all history.

    Raise `FetchError`, also for a server that cannot leave the content out.
    """
    with _landing(repo) as landing:
        trace = landing / "trace"
        options = _place(repo, landing)
        told = repo.git.run(
            *options, "ls-remote", "--", address, "refs/heads/none", check=False, env={"GIT_TRACE_PACKET": str(trace)}
        )
        if told.returncode not in (0, 2) or not (_is_ours(repo, address) or _FILTERS.search(_said(trace))):
            raise FetchError(address, "it has no support for filters (uploadpack.allowFilter)")
        done = repo.git.run(
            *options, "-c", "fetch.unpackLimit=1", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
            "--recurse-submodules=no", "--refmap=", *([] if whole else ["--depth=1"]), "--filter=blob:none", "--stdin",
            "--", address, input=b"".join(oid.hex().encode() + b"\n" for oid in commits), check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise FetchError(address, last_line(done.stderr))
        _see_objects(repo, landing)
        yield Borrowed(Repository(landing, landing, None, repo.format), tuple(options))


def _is_ours(repo: Repository, address: str) -> bool:
    """Whether our remote helper speaks for a remote (a name or a URL): it can leave content out."""
    url = repo.git.run("remote", "get-url", "--", address, check=False).stdout if "::" not in address else b""
    return (os.fsdecode(url) or address).startswith("ml::")


def _said(trace: Path) -> bytes:
    """A trace of packets; there is none where a remote helper spoke to the server."""
    try:
        return trace.read_bytes()
    except FileNotFoundError:
        return b""


def _are_most_wanted(repo: Repository, index: ObjectIndex, remote: str, items: Sequence[Item]) -> bool:
    """Whether what is new in the data commits of a remote is mostly what we want.

    Then fetching those is better than fetching objects: they come as differences to what is here. That can only be
    where something of theirs is here; everywhere else the remote is not even asked.
    """
    if not list_refs(repo.git, f"{REMOTES}{remote}/data"):
        return False
    there = list_remote(repo, remote)
    unknown = {oid for oid in namespace_at(repo, remote, there).heads(there) if not index.has(oid)}
    if not unknown:
        return False
    wanted = {path for path, _ in items}
    new, ours = set(), set()
    try:
        with borrow_trees(repo, remote, unknown) as borrowed:
            for commit in unknown:
                listed = borrowed.repo.git.output("ls-tree", "-r", "-z", "--full-tree", commit.hex()).split(b"\0")
                for meta, path in (line.split(b"\t", 1) for line in listed if line):
                    oid = Oid.parse(meta.split(b" ")[2])
                    if not index.has(oid):
                        new.add(oid)
                        if not wanted.isdisjoint(above(path)):
                            ours.add(oid)
    except FetchError:
        return False
    return len(new) <= 2 * len(ours)


def _fetch_versions_from(
    repo: Repository, odb: GitOdb, index: ObjectIndex, remote: str, items: Sequence[Item], progress: bool
) -> None:
    """One level at a time: manifests, what they list, chunks; each in as few requests as can be."""
    absent: set[Oid] = set()
    with ExitStack() as landed:
        try:
            while True:
                needed: dict[Oid, None] = {}
                for _, oid in items:
                    with suppress(CorruptError):
                        needed.update(dict.fromkeys(missing_parts(oid, odb, index.has)))
                wanted = needed.keys() - absent
                if not wanted:
                    break
                got = _bring(repo, odb, remote, wanted, landed, keep_from=BATCH + 1, progress=progress)
                absent |= wanted - got
                index.refresh()
        finally:
            whole = [item for item in items if _is_whole(item, odb, index, {})]
            if whole:
                DataLog(repo, odb).keep(remote, whole)


def _is_whole(item: Item, odb: GitOdb, index: ObjectIndex, reasons: dict[Item, str]) -> bool:
    """Whether nothing of a content is missing; notes a reason for one that cannot be read at all."""
    try:
        return not missing_parts(item[1], odb, index.has)
    except CorruptError as error:
        reasons[item] = error.message
        return False


def _batches(oids: Sequence[Oid]) -> Iterator[Sequence[Oid]]:
    return (oids[start : start + BATCH] for start in range(0, len(oids), BATCH))


def _bring(
    repo: Repository,
    odb: GitOdb,
    remote: str,
    oids: Iterable[Oid],
    landed: ExitStack,
    *,
    keep_from: int,
    progress: bool,
) -> set[Oid]:
    """Ask one remote for blobs, a batch at a time; give those it gave.

    What came is safe from prune until `landed` is closed, and for good where there are at least `keep_from`: then
    it is made reachable object by object. Raise `FetchError`.
    """
    listed = sorted(oids)
    got: set[Oid] = set()
    for batch in _batches(listed):
        try:
            given = _ask(repo, remote, batch, landed, progress)
        except _RefusedError:
            fetch_data(repo, remote, progress=progress)
            index = ObjectIndex(repo.objects_dir, repo.format)
            return {oid for oid in listed if index.has(oid)}
        if given and len(listed) >= keep_from:
            DataLog(repo, odb).keep_objects(remote, given)
        got.update(given)
    return got


def _ask(repo: Repository, remote: str, oids: Sequence[Oid], landed: ExitStack | None, progress: bool) -> list[Oid]:
    """One request, repeated without what the server says it has not got; give what came.

    Without `landed` it is only a question: what is here already is asked for as well, and nothing stays.
    """
    asked = list(oids)
    for _ in range(_SINGLE_STEPS):
        if not asked:
            return []
        absent = _request(repo, remote, asked, landed, progress)
        if absent is None:
            return asked
        asked.remove(absent)
    if not asked:
        return []
    middle = (len(asked) + 1) // 2
    halves = (asked[:middle], asked[middle:])
    return [oid for half in halves for oid in _ask(repo, remote, half, landed, progress)]


def _request(
    repo: Repository, remote: str, oids: Sequence[Oid], landed: ExitStack | None, progress: bool
) -> Oid | None:
    """Fetch blobs; None if all came, else one that the remote has not got."""
    with _landing(repo) as landing:
        place: list[str] = []
        environment = {"LC_ALL": "C"}
        if landed is not None:
            environment["GIT_OBJECT_DIRECTORY"] = str(landing / "objects")
            _see_objects(repo, landing)
        else:
            place = _place(repo, landing)  # empty, because git does not ask for what it has
        done = repo.git.run(
            *place, "-c", "fetch.negotiationAlgorithm=noop", "-c", "fetch.unpackLimit=1", "-c", "gc.auto=0",
            "-c", "maintenance.auto=false", "fetch", "--progress" if progress else "--quiet", "--no-tags",
            "--no-write-fetch-head", "--no-prune", "--recurse-submodules=no", "--refmap=", "--stdin", "--", remote,
            input=b"".join(oid.hex().encode() + b"\n" for oid in oids), check=False, show=progress, env=environment,
        )  # fmt: skip
        if done.returncode == 0:
            if landed is not None:
                _move_in(landing / "objects" / "pack", repo.objects_dir / "pack", landed)
            return None
    absent = _ABSENT.search(done.stderr)
    if absent and (found := Oid.parse(absent[1])) in oids:
        return found
    if _REFUSED in done.stderr:
        raise _RefusedError(last_line(done.stderr))
    raise FetchError(remote, last_line(done.stderr))


def _see_objects(repo: Repository, landing: Path) -> None:
    """Let the object directory of a landing see what is here."""
    (landing / "objects" / "info" / "alternates").write_bytes(os.fsencode(repo.objects_dir.resolve()) + b"\n")


def _place(repo: Repository, landing: Path) -> list[str]:
    """Options that run git in a landing, with the addresses and credentials of the repository."""
    return [
        f"--git-dir={landing}",
        "-c",
        f"include.path={repo.common_dir.resolve() / 'config'}",
        "-c",
        "core.bare=true",
    ]


@contextmanager
def _landing(repo: Repository) -> Iterator[Path]:
    """A new bare repository that goes away; those of dead processes go with it."""
    above = repo.state_dir / "landing"
    above.mkdir(parents=True, exist_ok=True)
    for other in above.iterdir():
        owner = other.name.partition("-")[0]
        if not (owner.isdigit() and is_alive(int(owner))):
            shutil.rmtree(other, ignore_errors=True)
    place = above / f"{os.getpid()}-{os.urandom(8).hex()}"
    (place / "objects" / "pack").mkdir(parents=True)
    (place / "objects" / "info").mkdir()
    (place / "refs").mkdir()
    (place / "HEAD").write_bytes(b"ref: refs/heads/main\n")
    (place / "config").write_text(
        f"[core]\n\trepositoryFormatVersion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = {repo.format.value}\n"
    )
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _move_in(source: Path, target: Path, landed: ExitStack) -> None:
    """Make landed packs part of the repository: what belongs to a pack first, its index last.

    Until `landed` is closed a `.keep` file holds them against a `git gc --prune=now` beside us.
    """
    target.mkdir(parents=True, exist_ok=True)
    for pack in sorted(source.glob("pack-*.pack")):
        keep = target / f"{pack.stem}.keep"
        if not keep.exists():
            keep.write_bytes(LANDING_MARK)
            landed.callback(keep.unlink, missing_ok=True)
        parts = sorted(source.glob(f"{pack.stem}.*"), key=lambda part: part.suffix == ".idx")
        for part in parts:
            part.rename(target / part.name)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
