"""What one session stores (a filter process, a `git ml add`, a run): safe at every moment, and few packs in the end.

Git waits for the answer about each file. A pack, two syncs and a moved ref for each would cost ten times what storing
costs. So a session has one unfinished pack, beside the others under a name that git leaves alone. Before an answer is
given, the file's objects and the commit that is to keep them (gitml.git.data) are handed to the operating system. The
pack is finished, synced, and the ref moved when the session ends, when it has been idle for a moment, when the pack is
large, and before another version of a file comes. Whoever is killed in between leaves the unfinished pack, or a
finished one with a `.keep` file that names its commit; no `git gc --prune=now` touches either, and the next that
stores, reads or commits makes it whole. A lock on the pack says whether its session still lives.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.commits import parse_commit
from gitml.git.data import STAGED, DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter, consolidate, read_unfinished, release_keep
from gitml.git.packindex import ObjectIndex
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, pause, update_refs
from gitml.git.repository import Repository
from gitml.git.stagedchain import objects_of_staged, parse_staged, write_staged, write_staged_tree
from gitml.oid import Oid
from gitml.store.manifest import Manifest, read_manifest
from gitml.store.odb import Kind, MissingObjectError, Rereading
from gitml.store.pointer import Pointer, format_pointer

_FULL = 1792 << 20
"""Bytes of a pack after which it is finished: under the 2 GiB that some file systems and hosts take.

Fewer packs are better: whoever sends objects of one pack copies them, while `git pack-objects` looks for deltas
between large objects of several, which took it 36 s for 1 GiB of noise in two packs.
"""
_FULL_OBJECTS = 200_000
"""Objects of a pack after which it is finished: each takes some memory."""
_MANY_PACKS = 64
"""Finished packs that are joined before there are more: git looks through all for each object."""
_PREFIX = "staged-"
_KEEP = b"gitml staging "
_ATTEMPTS = 20
_PATIENCE = 20.0
"""Seconds for which another session is waited for, which may be syncing a large pack."""
_ABANDONED = 3600.0
"""Seconds after its last change that an unfinished pack counts as left, on a file system without locks."""


class Staging:
    """One session, and an `ObjectReader` that sees what it stored. Close it, or use it in `with`.

    `name` is that of a session that had begun before and goes on.
    """

    def __init__(self, repo: Repository, odb: GitOdb, name: str | None = None) -> None:
        self.format = repo.format
        self._repo = repo
        self._odb = odb
        self._log = DataLog(repo, odb)
        self._name = name or _new_name()
        self._index: ObjectIndex | None = None
        self._pack: PackWriter | None = None
        self._tip: Oid | None = repo.try_resolve(STAGED + name) if name is not None else None
        """What the ref of the chain holds, as far as we know."""
        self._commit = self._tip
        """The last commit of the chain, which the ref may not hold yet."""
        self._items: list[tuple[bytes, Oid, Oid, Oid | None]] = []
        """What the ref does not hold yet: path, manifest, data tree, blob of the pointer."""
        self._manifests: set[Oid] = set()
        self._paths: set[bytes] = set()
        """What `_packs` and the unfinished pack have a version of."""
        self._failed: GitmlError | OSError | None = None
        self._packs: list[Path] = []
        """Finished packs that can become one."""
        self._joined: list[Path] = []
        """Those that became of many packs before the end."""

    def __enter__(self) -> "Staging":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def known(self) -> ObjectIndex:
        """The objects of the repository. The first look makes whole what killed sessions left."""
        if self._index is None:
            adopt_leftovers(self._repo, self._odb)
            self._index = ObjectIndex(self._repo.objects_dir, self._repo.format)
        return self._index

    @property
    def is_pending(self) -> bool:
        """Whether something is stored that only this session can read."""
        return bool(self._items)

    def look_again(self) -> None:
        """Forget what other refs were seen to keep."""
        self._log = DataLog(self._repo, self._odb)

    @property
    def is_full(self) -> bool:
        """Whether the pack is to be finished before it takes another file."""
        return self._pack is not None and (self._pack.size >= _FULL or len(self._pack) >= _FULL_OBJECTS)

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError`."""
        if self._pack is not None and self._pack.holds(oid):
            return self._pack.read(oid)
        if not self.known.has(oid):
            self.known.refresh()
            if not self.known.has(oid):
                raise MissingObjectError(oid)  # unasked: in a partial clone git fetches one object at a time
        return self._odb.read(oid)

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        return (self._pack is not None and self._pack.holds(oid)) or self.known.has(oid)

    def whole_manifest(self, pointer: Pointer) -> Manifest | None:
        """The manifest of a content all of which is here; None if some is not."""
        try:
            manifest = read_manifest(pointer.manifest, self)
        except GitmlError:
            return None
        whole = manifest.size == pointer.size and all(self.has(chunk.oid) for chunk in manifest.chunks)
        return manifest if whole else None

    def references(self, path: bytes, manifest: Oid) -> bool:
        """Whether something keeps this content from being pruned already."""
        return manifest in self._manifests or self._log.references(path, manifest)

    @property
    def current(self) -> PackWriter | None:
        """The pack that takes objects at the moment; None if the next file begins one."""
        return self._pack

    def pack(self, path: bytes | None = None) -> PackWriter:
        """The pack that takes the objects of the file at `path`, or other objects; it may be another one each time."""
        if path in self._paths:
            self._join()  # another version of a file: see `consolidate` why not in the same pack
        elif self.is_full:
            self.flush()
        if self._pack is None:
            self.known.refresh()
            self._pack = self._new_pack()
        return self._pack

    @contextmanager
    def storing(self, path: bytes) -> Iterator[PackWriter]:
        """As `pack`; what it got is forgotten if the block fails."""
        pack = self.pack(path)
        before = pack.size
        try:
            yield pack
        except BaseException:
            pack.roll_back(before)
            raise

    def rereading(self, path: bytes) -> Rereading:
        """How the content of the file at `path`, which is being stored and then kept, is read back from its pack."""
        assert self._pack is not None
        return _Rereading(self._pack, objects_of_staged(path))

    def keep(self, path: bytes, manifest: Oid, data_tree: Oid, pointer: Pointer | None = None) -> None:
        """Make a content that is in the pack safe from kills and from pruning; with `pointer` its text too."""
        assert self._pack is not None
        blob = None if pointer is None else self._pack.write("blob", format_pointer(pointer))
        self._commit = write_staged(self._pack, path, manifest, data_tree, self._commit, blob)
        self._pack.hand_over()
        self._items.append((path, manifest, data_tree, blob))
        self._manifests.add(manifest)
        self._paths.add(path)

    def flush(self) -> None:
        """Make what was stored visible to everybody and durable, and have the ref of the chain hold it.

        Raise `GitmlError` or `OSError` if that fails; what was given to `keep` is safe all the same.
        """
        pack, self._pack = self._pack, None
        if pack is None:
            if self._failed is not None:
                raise self._failed
            return
        try:
            if self._items:
                self._publish(pack)
            elif (written := pack.finish()) is not None:
                self._packs.append(written)
            if len(self._packs) >= _MANY_PACKS:
                joined = consolidate(self._repo.objects_dir, self._packs, self._repo.format)
                self._joined += [joined] if joined is not None else self._packs
                self._packs.clear()
        except (GitmlError, OSError) as error:
            # what was kept is left to the next session, as after a kill; this one goes on under another name
            self._failed = error
            self._name, self._tip, self._commit = _new_name(), None, None
            self._items.clear()
            raise
        self.known.refresh()

    def close(self) -> None:
        """End the session: everything is durable and in few packs."""
        self._join()

    def _join(self) -> None:
        self.flush()
        consolidate(self._repo.objects_dir, [*self._joined, *self._packs], self._repo.format)
        self._packs.clear()
        self._joined.clear()
        self._paths.clear()

    def _new_pack(self) -> PackWriter:
        directory, name = self._repo.objects_dir, f"{_PREFIX}{self._name}"
        return PackWriter(directory, self._repo.format, known=self.known, reader=self._odb, name=name)

    def _publish(self, pack: PackWriter) -> None:
        """Finish the pack and have the ref hold the chain; no moment at which git could think that nobody needs it."""
        ref = STAGED + self._name
        held: list[int] = []
        kept: list[tuple[Path, bytes]] = []
        unfinished: PackWriter | None = pack
        try:
            for attempt in range(_ATTEMPTS):
                if unfinished is not None:
                    assert self._commit is not None
                    held += [descriptor for descriptor in [unfinished.hold()] if descriptor is not None]
                    text = b"%s%s %s\n" % (_KEEP, os.fsencode(self._name), self._commit.hex().encode())
                    written = unfinished.finish(keep=text)
                    kept += [(written, text)] if written is not None else []
                    unfinished = None
                try:
                    update_refs(self._repo.git, [RefUpdate(ref, self._commit, self._tip)])
                    break
                except RefLockedError:
                    if attempt + 1 == _ATTEMPTS:
                        raise
                    pause(attempt)
                except RefMovedError:
                    # another process took from the chain what a head holds by now; what is new goes on top of the rest
                    if attempt + 1 == _ATTEMPTS:
                        raise
                    self._tip = self._commit = self._repo.try_resolve(ref)
                    self.known.refresh()
                    unfinished = self._new_pack()
                    for path, manifest, data_tree, blob in self._items:
                        self._commit = write_staged(unfinished, path, manifest, data_tree, self._commit, blob)
                    unfinished.hand_over()
            self._tip = self._commit
            self._items.clear()
            for place, text in kept:
                release_keep(place, text)
                self._packs.append(place)
        finally:
            for descriptor in held:
                os.close(descriptor)


class _Rereading:
    """Reads from an unfinished pack, which probably ends with `last` objects more once a content is stored."""

    def __init__(self, pack: PackWriter, last: int) -> None:
        self._pack = pack
        self._last = last
        self.holds_plain = pack.holds_plain
        self.read = pack.read

    def nearly_done(self) -> None:
        """Have the digest of the pack begun."""
        self._pack.foresee(self._last)


def _new_name() -> str:
    return f"{os.getpid()}-{os.urandom(8).hex()}"


def adopt_leftovers(repo: Repository, odb: GitOdb) -> bool:
    """Make whole what sessions that were killed had stored: a pack that git sees, and a chain that keeps it.

    Give whether there was anything.
    """
    found = False
    for path in _leftovers(repo):
        # otherwise a read-only repository, a full disk, or another process is at it: next time
        with suppress(GitmlError, OSError), _unattended(path) as is_ours:
            if not is_ours:
                continue
            if path.suffix == ".keep":
                session, tip = path.read_bytes().removeprefix(_KEEP).split()
                pack = path.with_suffix(".pack")
                if path.with_suffix(".idx").exists():
                    _hold(repo, odb, STAGED + os.fsdecode(session), Oid.parse(tip))
                elif pack.exists():
                    _adopt(repo, odb, STAGED + os.fsdecode(session), pack)
                    if not path.with_suffix(".idx").exists():  # the same objects may have made the same pack
                        pack.unlink(missing_ok=True)
                elif path.with_name(_PREFIX + os.fsdecode(session)).exists():
                    continue  # that session is about to rename its pack
            else:
                _adopt(repo, odb, STAGED + path.name.removeprefix(_PREFIX), path)
            path.unlink(missing_ok=True)
            found = True
    return found


def wait_for_sessions(repo: Repository, odb: GitOdb) -> None:
    """Wait until live sessions have made visible what they hold at this moment.

    `git commit -a` runs hooks while its filter still waits for more files.
    """
    places = _leftovers(repo)
    end = time.monotonic() + _PATIENCE
    for place in places:
        while place.exists() and time.monotonic() < end:
            with _unattended(place) as is_ours:
                if is_ours:
                    break
            time.sleep(0.01)
    adopt_leftovers(repo, odb)


def _leftovers(repo: Repository) -> list[Path]:
    """Unfinished packs, and `.keep` files of finished ones, of sessions alive and dead."""
    directory = repo.objects_dir / "pack"
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    found = [directory / name for name in names if name.startswith(_PREFIX)]
    for name in names:
        if name.endswith(".keep"):
            with suppress(OSError):
                if (directory / name).read_bytes().startswith(_KEEP):
                    found.append(directory / name)
    return found


@contextmanager
def _unattended(path: Path) -> Iterator[bool]:
    """Whether no session has this any more, which is then locked for us."""
    locked = path.with_suffix(".pack") if path.suffix == ".keep" and path.with_suffix(".pack").exists() else path
    try:
        descriptor = os.open(locked, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False  # the session has just ended
        return
    try:
        yield _lock(descriptor, locked) and path.exists()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an open file; False if another has it, or if it does not stand at `path` any more."""
    found = os.fstat(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - found.st_mtime > _ABANDONED
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino)


def _adopt(repo: Repository, odb: GitOdb, ref: str, path: Path) -> None:
    """Write what an unfinished pack holds once more, and have the ref hold its commits."""
    old = new = repo.try_resolve(ref)
    with PackWriter(repo.objects_dir, repo.format, reader=odb) as writer:
        for kind, data in read_unfinished(path):
            if kind != "commit":
                writer.write(kind, data)
                continue
            # anew: the commits before it may have left the chain
            new = write_staged_tree(writer, parse_staged(parse_commit(data)), new)
        writer.finish()
    if new != old:
        update_refs(repo.git, [RefUpdate(ref, new, old)])


def _hold(repo: Repository, odb: GitOdb, ref: str, tip: Oid) -> None:
    """Have the ref hold what a commit of its chain holds, which may be there already."""
    old = new = repo.try_resolve(ref)
    beyond = [] if old is None else ["--not", old.hex()]
    listed = repo.git.lines("rev-list", "--reverse", tip.hex(), *beyond, "--")
    with PackWriter(repo.objects_dir, repo.format, reader=odb) as writer:
        for oid in map(Oid.parse, listed):
            new = write_staged_tree(writer, parse_staged(parse_commit(odb.read(oid)[1])), new)
        writer.finish()
    if new != old:
        update_refs(repo.git, [RefUpdate(ref, new, old)])
