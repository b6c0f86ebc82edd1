"""Content that is not here, from the remotes that have it: single objects by oid, many in one request.

A request is one `git fetch` of oids into an object directory of its own beside the repository's, without negotiation:
what comes is exactly what was asked for. The packs then move into the repository, and commits below
`refs/ml/fetched/` make them reachable, so that gc, fsck and prune treat them as anything else. No remote becomes a
promisor in git's sense: git would answer every question for an object that is not here with a fetch of its own, one
object at a time (see docs/design/0005).

Protocol v2 serves any object that the server has. A server that speaks only v0 and refuses single objects is asked
for its data commits. Hides how objects are asked for, how a refusal is told from an absence, and where packs land.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gitml.errors import CorruptError, GitmlError
from gitml.git.data import DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import ObjectIndex
from gitml.git.remotes import FetchError, fetch_data, fetching_remotes, last_line
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.manifest import missing_parts

BATCH = 4096
"""Objects in one request, about 1 GiB of chunks. What a request brought is kept if a later one is interrupted."""

_ABSENT = re.compile(rb"not our ref ([0-9a-f]{40,64})")
_REFUSED = b"Server does not allow request for unadvertised object"
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
    failure: FetchError | None = None
    for remote in fetching_remotes(repo) if remotes is None else remotes:
        if not wanted:
            break
        try:
            with GitOdb(repo.git, repo.format) as odb, ExitStack() as landed:
                wanted -= _bring(repo, odb, remote, wanted, landed, keep_from=1, progress=_shown(progress))
        except FetchError as error:
            failure = error
        index.refresh()
        wanted = {oid for oid in wanted if not index.has(oid)}
    if wanted and failure is not None:
        raise failure
    return wanted


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
    index = ObjectIndex(repo.objects_dir, repo.format)
    reasons: dict[bytes, str] = {}
    with GitOdb(repo.git, repo.format) as odb:
        left = {path: oid for path, oid in contents.items() if not _is_whole(oid, odb, index, path, reasons)}
        for remote in fetching_remotes(repo) if remotes is None else remotes:
            if not left:
                break
            try:
                _fetch_contents_from(repo, odb, index, remote, left, _shown(progress))
            except FetchError as error:
                reasons.update(dict.fromkeys(left, error.message))
            left = {path: oid for path, oid in left.items() if not _is_whole(oid, odb, index, path, reasons)}
    return {path: reasons.get(path, "no remote has it") for path in contents if path in left}


def _fetch_contents_from(
    repo: Repository, odb: GitOdb, index: ObjectIndex, remote: str, contents: Mapping[bytes, Oid], progress: bool
) -> None:
    """One level at a time: manifests, what they list, chunks; each in as few requests as can be."""
    absent: set[Oid] = set()
    with ExitStack() as landed:
        try:
            while True:
                needed: dict[Oid, None] = {}
                for oid in contents.values():
                    with suppress(CorruptError):
                        needed.update(dict.fromkeys(missing_parts(oid, odb, index.has)))
                wanted = needed.keys() - absent
                if not wanted:
                    break
                got = _bring(repo, odb, remote, wanted, landed, keep_from=BATCH + 1, progress=progress)
                absent |= wanted - got
                index.refresh()
        finally:
            items = [(path, oid) for path, oid in contents.items() if _is_whole(oid, odb, index, path, {})]
            if items:
                DataLog(repo, odb).keep(remote, items)


def _is_whole(manifest: Oid, odb: GitOdb, index: ObjectIndex, path: bytes, reasons: dict[bytes, str]) -> bool:
    """Whether nothing of a content is missing; notes a reason for one that cannot be read at all."""
    try:
        return not missing_parts(manifest, odb, index.has)
    except CorruptError as error:
        reasons[path] = error.message
        return False


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
    for start in range(0, len(listed), BATCH):
        batch = listed[start : start + BATCH]
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


def _ask(repo: Repository, remote: str, oids: Sequence[Oid], landed: ExitStack, progress: bool) -> list[Oid]:
    """One request, repeated without what the server says it has not got; give what came."""
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


def _request(repo: Repository, remote: str, oids: Sequence[Oid], landed: ExitStack, progress: bool) -> Oid | None:
    """Fetch blobs; None if all came, else one that the remote has not got."""
    with _landing(repo) as landing:
        done = repo.git.run(
            "-c", "fetch.negotiationAlgorithm=noop", "-c", "fetch.unpackLimit=1", "-c", "gc.auto=0",
            "-c", "maintenance.auto=false", "fetch", "--progress" if progress else "--quiet", "--no-tags",
            "--no-write-fetch-head", "--no-prune", "--recurse-submodules=no", "--refmap=", "--stdin", "--", remote,
            input=b"".join(oid.hex().encode() + b"\n" for oid in oids), check=False, show=progress,
            env={"GIT_OBJECT_DIRECTORY": str(landing), "LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode == 0:
            _move_in(landing / "pack", repo.objects_dir / "pack", landed)
            return None
    absent = _ABSENT.search(done.stderr)
    if absent and (found := Oid.parse(absent[1])) in oids:
        return found
    if _REFUSED in done.stderr:
        raise _RefusedError(last_line(done.stderr))
    raise FetchError(remote, last_line(done.stderr))


@contextmanager
def _landing(repo: Repository) -> Iterator[Path]:
    """A new object directory that goes away; those of dead processes go with it."""
    above = repo.state_dir / "landing"
    above.mkdir(parents=True, exist_ok=True)
    for other in above.iterdir():
        if not _is_alive(other.name.partition("-")[0]):
            shutil.rmtree(other, ignore_errors=True)
    place = above / f"{os.getpid()}-{os.urandom(8).hex()}"
    (place / "pack").mkdir(parents=True)
    (place / "info").mkdir()
    (place / "info" / "alternates").write_bytes(os.fsencode(repo.objects_dir.resolve()) + b"\n")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _move_in(source: Path, target: Path, landed: ExitStack) -> None:
    """Make landed packs part of the repository: what belongs to a pack first, its index last.

    Until `landed` is closed a `.keep` file holds them against a `git gc --prune=now` beside us.
    """
    target.mkdir(parents=True, exist_ok=True)
    for pack in sorted(source.glob("pack-*.pack")):
        keep = target / f"{pack.stem}.keep"
        if not keep.exists():
            keep.write_bytes(b"gitml: landing\n")
            landed.callback(keep.unlink, missing_ok=True)
        parts = sorted(source.glob(f"{pack.stem}.*"), key=lambda part: part.suffix == ".idx")
        for part in parts:
            part.rename(target / part.name)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress
