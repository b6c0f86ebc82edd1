"""Whether every pointer can be read: pointer, manifest, chunks, and the sha256 of the whole."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gitml.care.local import DamagedObjectError, LocalReader
from gitml.care.packs import PackFault, check_packs, packs_with
from gitml.care.promised import Promises
from gitml.care.roots import FETCHED, Needs, Use
from gitml.errors import CorruptError
from gitml.git.command import GitError
from gitml.git.data import DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import ObjectIndex
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.manifest import Manifest, encode_manifest, read_manifest
from gitml.store.odb import MissingObjectError
from gitml.store.pointer import Pointer
from gitml.store.sketch import sketch

Progress = Callable[[int, int], None]
"""Called with the bytes that are done and those that there are."""

_SHOWN_USES = 20


@dataclass(slots=True)
class Fault:
    """What is wrong with one content: `kind` is missing, corrupt, malformed or uncovered; `oids` are at fault."""

    kind: str
    what: str
    uses: list[Use]
    pointer: Pointer | None = None
    oids: list[Oid] = field(default_factory=list)


@dataclass(slots=True)
class Verified:
    """What was looked at, and what was found. `elsewhere` counts contents that only a remote has, as it should be."""

    contents: int = 0
    chunks: int = 0
    bytes: int = 0
    elsewhere: int = 0
    faults: list[Fault] = field(default_factory=list)
    packs: list[PackFault] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Fault]:
        """The faults of these kinds."""
        return [fault for fault in self.faults if fault.kind in kinds]


@dataclass(slots=True)
class _Content:
    pointer: Pointer
    uses: list[Use]
    manifest: Manifest | None = None
    missing: dict[Oid, str] = field(default_factory=dict)
    corrupt: dict[Oid, str] = field(default_factory=dict)
    error: str = ""


def examine(
    repo: Repository, read: Callable[[Repository], Needs], *, deep: bool = False, progress: Progress | None = None
) -> Verified:
    """Read what is needed, and `verify` it. Where git cannot even read that, the report says so."""
    try:
        needs = read(repo)
    except GitError as error:
        detail = (error.stderr.splitlines() or [error.message])[-1]
        what = f"git cannot read objects that are not gitml's: {detail.removeprefix('fatal: ')}"
        return Verified(faults=[Fault("corrupt", what, [])], packs=check_packs(repo.objects_dir, repo.format))
    return verify(repo, needs, deep=deep, progress=progress)


def verify(repo: Repository, needs: Needs, *, deep: bool = False, progress: Progress | None = None) -> Verified:
    """Check everything that `needs` needs; with `deep` read all bytes. Nothing is changed or fetched."""
    index = ObjectIndex(repo.objects_dir, repo.format)
    contents = _contents(needs)
    reader = LocalReader(repo, index)
    try:
        for content in contents:
            _check_manifest(content, reader)
    finally:
        reader.close()
    chunks = {chunk.oid: chunk.size for each in contents if each.manifest for chunk in each.manifest.chunks}
    _check_stored(repo, contents, chunks, index)
    if deep:
        _read_all(repo, contents, index, progress)
    report = Verified(len(contents), len(chunks), sum(chunks.values()))
    for blob, what in needs.malformed.items():
        report.faults.append(Fault("malformed", what, _uses_of(needs, blob), oids=[blob]))
    _judge(repo, contents, report)
    report.packs = check_packs(repo.objects_dir, repo.format)
    return report


def _contents(needs: Needs) -> list[_Content]:
    found: dict[Pointer, _Content] = {}
    for use, pointer in needs.versions():
        content = found.setdefault(pointer, _Content(pointer, []))
        if len(content.uses) < _SHOWN_USES:
            content.uses.append(use)
    return list(found.values())


def _uses_of(needs: Needs, blob: Oid) -> list[Use]:
    return [use for use in needs.uses if use.blob == blob][:_SHOWN_USES]


def _check_manifest(content: _Content, reader: LocalReader) -> None:
    pointer = content.pointer
    try:
        manifest = read_manifest(pointer.manifest, reader)
        top = encode_manifest(manifest, reader.format).top
    except MissingObjectError as error:
        content.missing[error.oid] = "the manifest" if error.oid == pointer.manifest else "a part of the manifest"
        return
    except DamagedObjectError as error:
        content.corrupt[error.oid] = error.message
        return
    except CorruptError as error:
        content.error = error.message
        content.corrupt[pointer.manifest] = error.message
        return
    if manifest.size != pointer.size:
        content.error = f"the manifest has {manifest.size} bytes, the pointer says {pointer.size}"
    elif reader.format.oid_of("blob", top) != pointer.manifest:
        content.error = f"manifest '{pointer.manifest}' is not the canonical encoding of its chunks"
    else:
        content.manifest = manifest


def _check_stored(repo: Repository, contents: list[_Content], chunks: dict[Oid, int], index: ObjectIndex) -> None:
    """Presence, kind and size of every chunk, without reading it."""
    absent = {oid for oid in chunks if not index.has(oid)}
    present = [oid for oid in chunks if oid not in absent]
    listing = b"".join(oid.hex().encode() + b"\n" for oid in present)
    wrong: dict[Oid, str] = {}
    answered: set[Oid] = set()
    env = {"GIT_NO_LAZY_FETCH": "1"}
    if present:
        done = repo.git.run("cat-file", "--batch-check", input=listing, check=False, env=env)
        for line in done.stdout.splitlines():
            fields = line.split()
            if len(fields) != 3 or not fields[2].isdigit():
                continue
            oid = Oid.parse(fields[0])
            answered.add(oid)
            if fields[1] != b"blob":
                wrong[oid] = f"chunk '{oid}' is a {fields[1].decode()}, expected a blob"
            elif int(fields[2]) != chunks[oid]:
                wrong[oid] = f"chunk '{oid}' has {int(fields[2])} bytes, expected {chunks[oid]}"
        for oid in present:
            if oid not in answered:  # git cannot open the pack that should have it
                wrong[oid] = f"chunk '{oid}' cannot be read"
    for content in contents:
        for chunk in content.manifest.chunks if content.manifest else ():
            if chunk.oid in absent:
                content.missing[chunk.oid] = "a chunk"
            elif chunk.oid in wrong:
                content.corrupt[chunk.oid] = wrong[chunk.oid]


def _read_all(repo: Repository, contents: list[_Content], index: ObjectIndex, progress: Progress | None) -> None:
    todo = [content for content in contents if content.manifest is not None and not content.missing]
    total = sum(content.pointer.size for content in todo)
    verified: set[Oid] = set()
    done = [0, 0]

    def work(number: int) -> None:
        reader = LocalReader(repo, index if number == 0 else None)
        try:
            for content in todo[number::2]:
                for size in _read_content(content, reader, verified):
                    done[number] += size
                    if progress is not None and number == 0:
                        progress(sum(done), total)
        finally:
            reader.close()

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="verify") as pool:
        for future in [pool.submit(work, number) for number in (0, 1)]:
            future.result()
    if progress is not None:
        progress(total, total)


def _read_content(content: _Content, reader: LocalReader, verified: set[Oid]) -> Iterable[int]:
    """Read one content; give the size of each chunk as it is done. Goes on after a damaged chunk, to name all."""
    assert content.manifest is not None
    digest = hashlib.sha256()
    for chunk in content.manifest.chunks:
        try:
            kind, data = reader.read(chunk.oid)
        except MissingObjectError:
            content.missing[chunk.oid] = "a chunk"
        except CorruptError as error:
            content.corrupt[chunk.oid] = error.message
        else:
            digest.update(data)
            if chunk.oid not in verified:
                if kind != "blob" or len(data) != chunk.size or reader.format.oid_of("blob", data) != chunk.oid:
                    content.corrupt[chunk.oid] = f"the bytes of chunk '{chunk.oid}' are damaged"
                elif sketch(data) != chunk.sketch:
                    content.error = f"chunk '{chunk.oid}' has another sketch than the manifest says"
                verified.add(chunk.oid)
        yield chunk.size
    sound = not content.missing and not content.corrupt
    if sound and digest.digest() != content.pointer.sha256:
        content.error = f"content has sha256 {digest.hexdigest()}, the pointer says {content.pointer.sha256.hex()}"


def _judge(repo: Repository, contents: list[_Content], report: Verified) -> None:
    holders = packs_with(repo.objects_dir, repo.format, {oid for each in contents for oid in each.corrupt})
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        covered = _covered(repo, log, report)
        staged = {item.manifest for tip in set(log.refs().staged.values()) for item in log.staged(tip)}
        promises: Promises | None = None
        for content in contents:
            if content.corrupt or content.error:
                what = content.error or next(iter(content.corrupt.values()))
                oids = list(content.corrupt)
                packs = sorted({holders[oid].name for oid in oids if oid in holders})
                what += f", in {', '.join(packs)}" if packs else ""
                report.faults.append(Fault("corrupt", what, content.uses, content.pointer, oids))
            if content.missing:
                promises = promises or Promises(repo, log)
                if promises.cover(content.pointer.manifest, content.missing):
                    report.elsewhere += 1
                else:
                    report.faults.append(_missing(content))
            manifest = content.pointer.manifest
            if covered is not None and manifest not in covered and manifest not in staged and not content.missing:
                what = "no data commit covers it, so 'git gc' may drop it"
                report.faults.append(Fault("uncovered", what, content.uses, content.pointer))


def _covered(repo: Repository, log: DataLog, report: Verified) -> set[Oid] | None:
    """The manifests that data commits hold; None, and a fault, if some of the data commits cannot be read."""
    refs = log.refs()
    fetched = list_refs(repo.git, FETCHED).values()
    try:
        # a superseded head keeps what it holds until this clone prunes
        return {manifest for _, manifest in log.additions({*refs.heads.values(), *refs.remote.values(), *fetched})}
    except GitError as error:
        tips = [oid.hex() for oid in {*refs.heads.values(), *refs.remote.values()}]
        listed = repo.git.run("rev-list", "--objects", "--missing=print", *tips, "--", check=False).stdout
        lost = [Oid.parse(line[1:]) for line in listed.splitlines() if line.startswith(b"?")]
        kind = "missing" if lost else "corrupt"
        what = f"data commits cannot be read: {(error.stderr.splitlines() or [error.message])[-1]}"
        report.faults.append(Fault(kind, what, [], oids=lost))
        return None


def _missing(content: _Content) -> Fault:
    oids = list(content.missing)
    first = f"{content.missing[oids[0]]} is missing: '{oids[0]}'"
    what = first if len(oids) == 1 else f"{len(oids)} chunks are missing, the first is '{oids[0]}'"
    return Fault("missing", what, content.uses, content.pointer, oids)
