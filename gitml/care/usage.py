"""What takes the space: bytes as users see them, bytes after deduplication, bytes on disk."""

from collections.abc import Iterable

from gitml.care.local import LocalReader
from gitml.care.roots import RUN_CACHE, Needs, keeping_refs, remote_heads
from gitml.errors import CorruptError
from gitml.git.data import DROPPED, FETCHED, STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.manifest import Chunk, read_manifest
from gitml.store.odb import MissingObjectError

CACHED = b"(run cache)"
"""Stands for the path of what only the run cache has."""


@record
class Sizes:
    """`logical`: all versions one by one; `distinct`: every chunk once; `disk`: as git stores them here.

    A chunk that is not here counts in `distinct` and `absent`, not in `disk`.
    """

    versions: int
    logical: int
    distinct: int
    disk: int
    absent: int

    @property
    def deduplication(self) -> float:
        """How many times smaller chunks are than versions."""
        return self.logical / self.distinct if self.distinct else 1.0

    @property
    def compression(self) -> float:
        """How many times smaller chunks that are here are on disk, by deflate and deltas."""
        here = self.distinct - self.absent
        return here / self.disk if self.disk and here else 1.0


@record(frozen=False)
class Usage:
    """Sizes of all, by path and by directory; the newest size of each path; bytes on disk of some parts."""

    total: Sizes
    paths: dict[bytes, Sizes] = field(default_factory=dict)
    directories: dict[bytes, Sizes] = field(default_factory=dict)
    newest: dict[bytes, int] = field(default_factory=dict)
    only_local: int = 0
    """Bytes on disk of content that no data head of a remote, as last seen, holds, and that no remote gave."""
    reclaimable: int = 0
    """Bytes on disk of content that is kept and that no root needs."""


def measure(repo: Repository, needs: Needs, everything: Needs) -> Usage:
    """The usage of what `needs` needs; `everything` is what all roots need, for what could go."""
    manifests: dict[bytes, dict[Oid, int]] = {}
    newest: dict[bytes, int] = {}
    cached: dict[Oid, int] = {}
    for use, pointer in needs.versions():
        if use.where == RUN_CACHE:
            cached[pointer.manifest] = pointer.size
            continue
        manifests.setdefault(use.path, {})[pointer.manifest] = pointer.size
        newest[use.path] = pointer.size
    # most of what runs gave is committed, and counts there
    committed = {manifest for versions in manifests.values() for manifest in versions}
    alone = {manifest: length for manifest, length in cached.items() if manifest not in committed}
    if alone:
        manifests[CACHED] = alone
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        kept = {
            manifest for _, manifest in log.additions([*keeping_refs(repo), *list_refs(repo.git, DROPPED).values()])
        }
        kept |= {manifest for tip in list_refs(repo.git, STAGED).values() for _, manifest in log.staged(tip)}
        seen = [oid for heads in remote_heads(repo).values() for oid in heads.values()]
        remote = {manifest for _, manifest in log.additions([*seen, *list_refs(repo.git, FETCHED).values()])}
    books = _Books(repo)
    needed = everything.manifests()
    books.load(needed | kept)
    directories: dict[bytes, dict[Oid, int]] = {}
    for path, versions in manifests.items():
        if path == CACHED:
            directories[path] = versions
            continue
        at = path.rpartition(b"/")[0]
        while True:
            directories.setdefault(at or b".", {}).update(versions)
            if not at:
                break
            at = at.rpartition(b"/")[0]
    usage = Usage(
        # a content that stands at several paths is logical at each
        total=books.sizes([item for versions in manifests.values() for item in versions.items()]),
        paths={path: books.sizes(list(versions.items())) for path, versions in manifests.items()},
        directories={path: books.sizes(list(versions.items())) for path, versions in directories.items()},
        newest=newest,
    )
    usage.only_local = books.disk(books.chunks(needed | kept) - books.chunks(remote))
    usage.reclaimable = books.disk(books.chunks(kept) - books.chunks(needed))
    return usage


class _Books:
    """The chunks of manifests, and what each takes on disk."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._index = ObjectIndex(repo.objects_dir, repo.format)
        self._chunks: dict[Oid, list[Chunk]] = {}
        self._disk: dict[Oid, int] = {}

    def load(self, manifests: Iterable[Oid]) -> None:
        """Read manifests; those that are not here, or damaged, count as empty."""
        reader = LocalReader(self._repo, self._index)
        try:
            for oid in manifests:
                try:
                    self._chunks[oid] = list(read_manifest(oid, reader).chunks)
                except (MissingObjectError, CorruptError):
                    self._chunks[oid] = []
        finally:
            reader.close()
        oids = {chunk.oid for chunks in self._chunks.values() for chunk in chunks if self._index.has(chunk.oid)}
        oids |= {oid for oid in self._chunks if self._index.has(oid)}
        listing = b"".join(oid.hex().encode() + b"\n" for oid in oids)
        if listing:
            answer = self._repo.git.output(
                "cat-file", "--batch-check=%(objectname) %(objectsize:disk)", "--buffer", input=listing
            )
            for line in answer.splitlines():
                name, _, number = line.partition(b" ")
                if number.isdigit():
                    self._disk[Oid.parse(name)] = int(number)

    def chunks(self, manifests: Iterable[Oid]) -> set[Oid]:
        """Manifests with all their chunks."""
        found: set[Oid] = set()
        for oid in manifests:
            found.add(oid)
            found.update(chunk.oid for chunk in self._chunks.get(oid, ()))
        return found

    def disk(self, oids: Iterable[Oid]) -> int:
        """Bytes on disk of objects, those of others left out."""
        return sum(self._disk.get(oid, 0) for oid in oids)

    def sizes(self, versions: list[tuple[Oid, int]]) -> Sizes:
        """The sizes of versions, given as manifest and bytes of the content."""
        distinct = {chunk.oid: chunk.size for oid, _ in versions for chunk in self._chunks.get(oid, ())}
        absent = sum(size for oid, size in distinct.items() if oid not in self._disk)
        everything = {oid for oid, _ in versions} | set(distinct)
        return Sizes(
            versions=len(versions),
            logical=sum(size for _, size in versions),
            distinct=sum(distinct.values()),
            disk=self.disk(everything),
            absent=absent,
        )


def largest(usage: Usage, number: int) -> list[tuple[bytes, int]]:
    """The paths whose newest version is largest."""
    return sorted(usage.newest.items(), key=lambda item: (-item[1], item[0]))[:number]
