"""Putting right what `verify` found: good copies first, then what is damaged moves aside, then what is uncovered.

Good copies are gathered in a scratch repository below `.git/ml`: a repository that has a damaged object is not sent it
again by a fetch. Nothing is deleted: damaged packs move to `.git/ml/damaged`.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gitml.care.local import LocalReader
from gitml.care.packs import PackFault, check_packs, packs_with
from gitml.care.roots import keeping_refs, remote_heads
from gitml.care.verify import Fault, Verified
from gitml.errors import CorruptError, MissingDataError
from gitml.git.command import Git, GitError
from gitml.git.data import DROPPED, FETCHED, HEADS, STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex, PackIndex
from gitml.git.promisor import fetch_missing
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.remotes import FetchError, fetching_remotes
from gitml.git.repository import Repository
from gitml.git.staging import Staging
from gitml.git.state import worktrees
from gitml.oid import ObjectFormat, Oid
from gitml.record import field, record
from gitml.store.content import store_content
from gitml.store.datatree import write_data_tree
from gitml.store.manifest import read_manifest
from gitml.store.odb import Kind, MissingObjectError

DAMAGED = "damaged"
"""Below `.git/ml`: packs and objects that were replaced."""

_PACK_PARTS = (".idx", ".rev", ".bitmap", ".mtimes", ".promisor", ".keep", ".pack")
_READ = 1 << 20


@record(frozen=False)
class Repaired:
    """What was done: objects put back, by where they came from; packs that moved aside; pointers covered."""

    objects: dict[str, int] = field(default_factory=dict)
    moved: list[Path] = field(default_factory=list)
    reindexed: list[Path] = field(default_factory=list)
    covered: int = 0
    notes: list[str] = field(default_factory=list)


def join(rounds: Iterable[Repaired]) -> Repaired:
    """What several rounds did together."""
    done = Repaired()
    for each in rounds:
        for where, number in each.objects.items():
            done.objects[where] = done.objects.get(where, 0) + number
        done.moved += each.moved
        done.reindexed += each.reindexed
        done.covered += each.covered
        done.notes += [note for note in each.notes if note not in done.notes]
    return done


def repair(repo: Repository, report: Verified) -> Repaired:
    """Put right what `report` names, as far as copies can be had. Look again with `verify` for what remains."""
    done = Repaired()
    _reindex(repo, report.packs, done)
    broken = [fault for fault in check_packs(repo.objects_dir, repo.format) if not fault.reindex]
    faults = report.of("missing", "corrupt")
    if faults or broken:
        with _scratch(repo) as scratch:
            _put_back(repo, scratch, faults, broken, done)
        _give_up_heads(repo, done)
    _cover(repo, [*report.of("uncovered"), *faults], done)
    return done


def _give_up_heads(repo: Repository, done: Repaired) -> None:
    """Stop using data heads that cannot be read any more: what is needed of them is covered anew."""
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        refs = list_refs(repo.git, HEADS, FETCHED, DROPPED, STAGED)
        for heads in remote_heads(repo).values():
            refs.update(heads)
        for name, oid in refs.items():
            try:
                if name.startswith(STAGED):
                    log.staged(oid)
                log.additions([oid])
            except (GitError, MissingDataError, CorruptError):
                directory = repo.state_dir / DAMAGED
                directory.mkdir(parents=True, exist_ok=True)
                with (directory / "heads").open("a") as file:
                    file.write(f"{oid} {name}\n")
                update_refs(repo.git, [RefUpdate(name, None, oid)])
                done.notes.append(f"'{name}' cannot be read and is not used any more")


@contextmanager
def _scratch(repo: Repository) -> Iterator[Repository]:
    """An empty repository below `.git/ml` that knows our remotes, removed at the end."""
    path = repo.state_dir / f"repair-{os.getpid()}-{os.urandom(4).hex()}"
    path.mkdir(parents=True)
    try:
        Git(path, None).output("init", "--quiet", "--bare", f"--object-format={repo.format.value}", "--template=")
        Git(path, None).output("config", "include.path", str(repo.common_dir.resolve() / "config"))
        # git runs where it runs for us, so that relative addresses of remotes mean what they say
        place = repo.worktree or repo.git_dir
        yield Repository(git_dir=path, common_dir=path, worktree=place, format=repo.format)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _reindex(repo: Repository, faults: Iterable[PackFault], done: Repaired) -> None:
    for fault in faults:
        if not fault.reindex:
            continue
        index = fault.path.with_suffix(".idx")
        with suppress(FileNotFoundError):
            # a damaged index is in the way of a new one
            _aside(repo, [index])
        made = repo.git.run("index-pack", str(fault.path), check=False)
        if made.returncode == 0:
            done.reindexed.append(fault.path)
        else:
            done.notes.append(f"'{fault.path.name}' cannot be indexed: it is damaged itself")


def _put_back(
    repo: Repository, scratch: Repository, faults: list[Fault], broken: list[PackFault], done: Repaired
) -> None:
    index = ObjectIndex(repo.objects_dir, repo.format)
    corrupt = {oid for fault in faults if fault.kind == "corrupt" for oid in fault.oids}
    damaged = sorted({*packs_with(repo.objects_dir, repo.format, corrupt).values(), *(each.path for each in broken)})
    for pack in damaged:
        if pack.exists():
            with pack.open("rb") as file:
                _unpack(scratch, file.fileno())
    salvaged = _all_objects(scratch)
    _from_worktrees(repo, scratch, faults)
    reader, source = LocalReader(repo, index), LocalReader(scratch)
    copies = _Copies(source, reader)
    try:
        for remote in fetching_remotes(repo):
            while wanted := _wanted(copies, faults):  # once more when manifests came that name more
                with suppress(FetchError):  # the next may be reached
                    fetch_missing(scratch, wanted, remotes=[remote])
                source.index.refresh()
                gained = len(wanted) - len(wanted & _wanted(copies, faults))
                done.objects[f"'{remote}'"] = done.objects.get(f"'{remote}'", 0) + gained
                if not gained:
                    break
        with PackWriter(repo.objects_dir, repo.format) as writer:
            for oid in dict.fromkeys([*_named(copies, faults), *salvaged, *_entries(damaged, repo.format)]):
                copies.copy(oid, writer)
            # a pack that git can open stays as long as something in it has no good copy
            opened = [path for path in damaged if all(path != each.path for each in broken)]
            spent = [path for path in opened if all(map(writer.holds, _entries([path], repo.format)))]
            spent += [each.path for each in broken]
            written = len(writer)
            finished = writer.finish()
    finally:
        reader.close()
        source.close()
    if written:
        fetched = sum(done.objects.values())
        done.objects["this clone"] = max(written - fetched, 0)
    for oid in corrupt:
        loose = repo.objects_dir / oid.hex()[:2] / oid.hex()[2:]
        if finished is not None and loose.exists():
            done.moved += _aside(repo, [loose])
    for path in spent:
        if path == finished:
            continue
        done.moved += _aside(repo, [path.with_suffix(part) for part in _PACK_PARTS])


def _unpack(scratch: Repository, descriptor: int) -> None:
    """Take what can be taken out of a pack, damaged as it is, into `scratch`."""
    import subprocess  # noqa: PLC0415 - a pack is too large for a pipe through us

    subprocess.run(
        scratch.git.command("-c", "core.bigFileThreshold=2g", "unpack-objects", "-r", "-q"),
        stdin=descriptor, capture_output=True, check=False, env=scratch.git.environment(),
    )  # fmt: skip


def _all_objects(scratch: Repository) -> list[Oid]:
    listed = scratch.git.output("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    return [Oid.parse(name) for name in listed]


def _entries(packs: Iterable[Path], object_format: ObjectFormat) -> Iterator[Oid]:
    for pack in packs:
        with suppress(OSError, CorruptError):
            yield from PackIndex(pack.with_suffix(".idx"), object_format).oids()


def _from_worktrees(repo: Repository, scratch: Repository, faults: list[Fault]) -> None:
    """Cut files of the worktrees again whose content is that of a pointer at fault."""
    tops = [tree.path for tree in worktrees(repo)]
    for fault in faults:
        if fault.pointer is None:
            continue
        for path in dict.fromkeys(top / os.fsdecode(use.path) for top in tops for use in fault.uses):
            if path.is_symlink() or not path.is_file() or path.stat().st_size != fault.pointer.size:
                continue
            with path.open("rb") as file, PackWriter(scratch.objects_dir, scratch.format) as pack:
                stored = store_content(iter(lambda file=file: file.read(_READ), b""), pack)  # type: ignore[misc]
                if stored.pointer == fault.pointer:
                    pack.finish()
                    break


class _Copies:
    """An `ObjectReader` of good copies: of the scratch, else of what is readable here."""

    def __init__(self, source: LocalReader, reader: LocalReader) -> None:
        self.format = reader.format
        self.source = source
        self.reader = reader

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object from the first place that has it whole; raise `MissingObjectError`."""
        for place in (self.source, self.reader):
            with suppress(MissingObjectError, CorruptError):
                kind, data = place.read(oid)
                if self.format.oid_of(kind, data) == oid:
                    return kind, data
        raise MissingObjectError(oid)

    def has(self, oid: Oid) -> bool:
        """Whether a place says that it has the object."""
        return self.source.has(oid) or self.reader.has(oid)

    def copy(self, oid: Oid, writer: PackWriter) -> None:
        """Write the object, if there is a good copy."""
        with suppress(MissingObjectError):
            kind, data = self.read(oid)
            writer.write(kind, data)


def _named(copies: _Copies, faults: Iterable[Fault]) -> Iterator[Oid]:
    """What `faults` name, and what manifests among it name in turn: with a manifest missing nobody knew the rest."""
    for fault in faults:
        yield from fault.oids
        if fault.pointer is not None and fault.pointer.manifest in fault.oids:
            try:
                manifest = read_manifest(fault.pointer.manifest, copies)
            except MissingObjectError as error:
                yield error.oid
            except CorruptError:
                continue
            else:
                yield from (chunk.oid for chunk in manifest.chunks if not copies.reader.has(chunk.oid))


def _wanted(copies: _Copies, faults: Iterable[Fault]) -> set[Oid]:
    """What is named and the scratch does not have yet."""
    return {oid for oid in _named(copies, faults) if not copies.source.has(oid)}


def _aside(repo: Repository, paths: Iterable[Path]) -> list[Path]:
    directory = repo.state_dir / DAMAGED
    directory.mkdir(parents=True, exist_ok=True)
    (repo.objects_dir / "pack" / "multi-pack-index").unlink(missing_ok=True)
    moved = []
    for path in paths:
        with suppress(FileNotFoundError):
            path.rename(directory / f"{path.parent.name}-{path.name}")
            moved.append(path)
    return moved


def _cover(repo: Repository, faults: Iterable[Fault], done: Repaired) -> None:
    """Cover what commits need; keep what only an index needs as `git add` would have."""
    items: list[tuple[bytes, Oid]] = []
    staged: list[tuple[bytes, Oid]] = []
    for fault in faults:
        if fault.pointer is not None:
            for use in fault.uses:
                bucket = staged if use.where.startswith("the index") else items
                bucket.append((use.path or b"content", fault.pointer.manifest))
    in_commits = {manifest for _, manifest in items}
    staged = [item for item in staged if item[1] not in in_commits]
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        known = {oid for _, oid in log.additions(keeping_refs(repo))}
        todo = list(dict.fromkeys(item for item in items if item[1] not in known))
        try:
            log.cover_versions(todo)
        except MissingDataError as error:
            done.notes.append(error.message)
        done.covered += len({manifest for _, manifest in todo})
        with Staging(repo, odb) as staging:
            for path, manifest in dict.fromkeys(staged):
                if staging.references(path, manifest):
                    continue
                with suppress(MissingDataError, CorruptError), staging.storing(path) as pack:
                    staging.keep(path, manifest, write_data_tree(manifest, read_manifest(manifest, odb), pack))
                    done.covered += 1
