"""Whether every pointer can be read: pointer, manifest, chunks, and the sha256 of the whole."""

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from gitml.care.left import left_manifests
from gitml.care.local import DamagedObjectError, LocalReader
from gitml.care.packs import PackFault, check_packs, packs_with
from gitml.care.roots import Needs, Use, keeping_refs, read_shared_needs
from gitml.errors import CorruptError, MissingDataError
from gitml.git.command import GitError
from gitml.git.data import DROPPED, STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.packindex import ObjectIndex
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.git.staging import adopt_leftovers
from gitml.meter import Meter
from gitml.oid import Oid
from gitml.record import field, record
from gitml.store.manifest import Manifest, encode_manifest, read_manifest
from gitml.store.odb import MissingObjectError
from gitml.store.pointer import Pointer
from gitml.store.sketch import sketch

_SHOWN_USES = 20


@record(frozen=False)
class Fault:
    """What is wrong with one content: `kind` is missing, corrupt, malformed or uncovered; `oids` are at fault."""

    kind: str
    what: str
    uses: list[Use]
    pointer: Pointer | None = None
    oids: list[Oid] = field(default_factory=list)


@record(frozen=False)
class Verified:
    """What was looked at, and what was found.

    `elsewhere` counts contents that need not be here: branches of remotes have them, or they were left to a remote.
    """

    contents: int = 0
    chunks: int = 0
    bytes: int = 0
    elsewhere: int = 0
    unknown: int = 0
    """Files of the history that are not here, so that nobody knows whether they are pointers."""
    faults: list[Fault] = field(default_factory=list)
    packs: list[PackFault] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Fault]:
        """The faults of these kinds."""
        return [fault for fault in self.faults if fault.kind in kinds]


@record(frozen=False)
class _Content:
    pointer: Pointer
    uses: list[Use]
    manifest: Manifest | None = None
    missing: dict[Oid, str] = field(default_factory=dict)
    corrupt: dict[Oid, str] = field(default_factory=dict)
    error: str = ""


def examine(
    repo: Repository, read: Callable[[Repository], Needs], *, deep: bool = False, progress: Meter | None = None
) -> Verified:
    """Keep what killed sessions left whole, read what is needed, and `verify` it.

    Where git cannot even read what is needed, the report says so.
    """
    with GitOdb(repo.git, repo.format) as odb:
        adopt_leftovers(repo, odb)
    try:
        needs = read(repo)
    except GitError as error:
        detail = (error.stderr.splitlines() or [error.message])[-1]
        what = f"git cannot read objects that are not gitml's: {detail.removeprefix('fatal: ')}"
        return Verified(faults=[Fault("corrupt", what, [])], packs=check_packs(repo.objects_dir, repo.format))
    return verify(repo, needs, deep=deep, progress=progress)


def verify(repo: Repository, needs: Needs, *, deep: bool = False, progress: Meter | None = None) -> Verified:
    """Check everything that `needs` needs; with `deep` read all bytes. Nothing is changed or fetched."""
    contents, report = _look(repo, needs, deep=deep, progress=progress)
    _judge(repo, contents, report)
    report.packs = check_packs(repo.objects_dir, repo.format)
    return report


def read_contents(repo: Repository, needs: Needs, *, progress: Meter | None = None) -> Verified:
    """Read all bytes of what `needs` needs, as `verify` does, and say which are missing or not what pointers say.

    What keeps them is not asked, so what a remote may have is missing too, and nothing is uncovered.
    """
    contents, report = _look(repo, needs, deep=True, progress=progress)
    _note_damage(repo, contents, report)
    report.faults += [_missing(content) for content in contents if content.missing]
    return report


def _look(repo: Repository, needs: Needs, *, deep: bool, progress: Meter | None) -> tuple[list[_Content], Verified]:
    """What is missing or wrong, content by content, and a report that has only what is malformed so far."""
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
    report = Verified(len(contents), len(chunks), sum(chunks.values()), unknown=needs.absent)
    for blob, what in needs.malformed.items():
        report.faults.append(Fault("malformed", what, _uses_of(needs, blob), oids=[blob]))
    return contents, report


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


def _read_all(repo: Repository, contents: list[_Content], index: ObjectIndex, progress: Meter | None) -> None:
    todo = [content for content in contents if content.manifest is not None and not content.missing]
    if progress is not None:
        progress.expect(len(todo), sum(content.pointer.size for content in todo))
    verified: set[Oid] = set()
    drawing = threading.Lock()
    stop = threading.Event()

    def work(number: int) -> None:
        reader = LocalReader(repo, index if number == 0 else None)
        try:
            for content in todo[number::2]:
                for size in _read_content(content, reader, verified):
                    if stop.is_set():
                        return
                    if progress is not None:
                        with drawing:
                            progress.advance(size)
        finally:
            reader.close()

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="verify") as pool:
        try:
            for future in [pool.submit(work, number) for number in (0, 1)]:
                future.result()
        finally:
            stop.set()  # after Ctrl-C the pool would wait until all is read


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


def _note_damage(repo: Repository, contents: list[_Content], report: Verified) -> None:
    """A fault for each content whose bytes, or the list of them, are wrong."""
    holders = packs_with(repo.objects_dir, repo.format, {oid for each in contents for oid in each.corrupt})
    for content in contents:
        if content.corrupt or content.error:
            what = content.error or next(iter(content.corrupt.values()))
            oids = list(content.corrupt)
            packs = sorted({holders[oid].name for oid in oids if oid in holders})
            what += f", in {', '.join(packs)}" if packs else ""
            report.faults.append(Fault("corrupt", what, content.uses, content.pointer, oids))


def _judge(repo: Repository, contents: list[_Content], report: Verified) -> None:
    _note_damage(repo, contents, report)
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        covered = _covered(repo, log, report)
        staged = _staged(repo, log, report)
        shared: set[Oid] | None = None
        for content in contents:
            manifest = content.pointer.manifest
            kept = covered is None or manifest in covered or manifest in staged
            if not kept and shared is None:
                shared = read_shared_needs(repo).manifests() | left_manifests(repo)
            if not kept and shared is not None and manifest in shared:
                # what is made here is kept from `git add` on; this came along, or did not come at all
                report.elsewhere += 1
            elif content.missing:
                report.faults.append(_missing(content))
            elif not kept:
                what = "no data commit covers it, so 'git gc' may drop it"
                report.faults.append(Fault("uncovered", what, content.uses, content.pointer))


def _covered(repo: Repository, log: DataLog, report: Verified) -> set[Oid] | None:
    """The manifests that data commits hold; None, and a fault, if some of the data commits cannot be read."""
    tips = [*keeping_refs(repo), *list_refs(repo.git, DROPPED).values()]
    try:
        return {manifest for _, manifest in log.additions(tips)}
    except GitError as error:
        names = [oid.hex() for oid in tips]
        listed = repo.git.run("rev-list", "--objects", "--missing=print", *names, "--", check=False).stdout
        lost = [Oid.parse(line[1:]) for line in listed.splitlines() if line.startswith(b"?")]
        kind = "missing" if lost else "corrupt"
        what = f"data commits cannot be read: {(error.stderr.splitlines() or [error.message])[-1]}"
        report.faults.append(Fault(kind, what, [], oids=lost))
        return None


def _staged(repo: Repository, log: DataLog, report: Verified) -> set[Oid]:
    """The manifests that staged chains hold, and a fault for each chain that cannot be read."""
    found: set[Oid] = set()
    for name, tip in list_refs(repo.git, STAGED).items():
        try:
            found.update(manifest for _, manifest in log.staged(tip))
        except (MissingDataError, CorruptError) as error:
            report.faults.append(Fault("corrupt", f"'{name}' cannot be read: {error.message}", []))
    return found


def _missing(content: _Content) -> Fault:
    oids = list(content.missing)
    first = f"{content.missing[oids[0]]} is missing: '{oids[0]}'"
    what = first if len(oids) == 1 else f"{len(oids)} chunks are missing, the first is '{oids[0]}'"
    return Fault("missing", what, content.uses, content.pointer, oids)
