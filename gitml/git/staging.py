"""What one session stores (a filter process, a `git ml add`): safe at every moment, and few packs in the end.

Git waits for the answer about each file. A pack, two syncs and a moved ref for each would cost ten times what storing
costs. So a session has one unfinished pack, beside the others under a name that git leaves alone. Before an answer is
given, the file's objects and the commit that is to keep them (gitml.git.data) are handed to the operating system. The
pack is finished, synced, and the ref moved when the session ends, when it has been idle for a moment, when the pack is
large, and before another version of a file comes. Whoever is killed in between leaves the unfinished pack, which no
`git gc --prune=now` touches; the next that stores or commits makes it whole.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.commits import parse_commit
from gitml.git.data import STAGED, DataLog, parse_staged, write_staged, write_staged_tree
from gitml.git.odb import GitOdb
from gitml.git.pack import ObjectIndex, PackWriter, consolidate, read_unfinished
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, update_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.odb import Kind

_FULL = 512 << 20
"""Bytes of a pack after which it is finished."""
_FULL_OBJECTS = 200_000
"""Objects of a pack after which it is finished: each takes some memory."""
_PREFIX = "staged-"
_ATTEMPTS = 20

Item = tuple[bytes, Oid, Oid]
"""Path, manifest and data tree of a stored content."""


class Staging:
    """One session, and an `ObjectReader` that sees what it stored. Close it, or use it in `with`."""

    def __init__(self, repo: Repository, odb: GitOdb) -> None:
        self.format = repo.format
        self._repo = repo
        self._odb = odb
        self._log = DataLog(repo, odb)
        self._name = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._index: ObjectIndex | None = None
        self._pack: PackWriter | None = None
        self._tip: Oid | None = None
        """What the ref of the chain holds, as far as we know."""
        self._commit: Oid | None = None
        """The last commit of the chain, which the ref may not hold yet."""
        self._items: dict[bytes, Item] = {}
        """What the ref does not hold yet, by path."""
        self._manifests: set[Oid] = set()
        self._packs: list[Path] = []

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

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError`."""
        return self._odb.read(oid) if self._pack is None else self._pack.read(oid)

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        return (self._pack is not None and self._pack.holds(oid)) or self.known.has(oid)

    def references(self, path: bytes, manifest: Oid) -> bool:
        """Whether something keeps this content from being pruned already."""
        return manifest in self._manifests or self._log.references(path, manifest)

    @property
    def is_full(self) -> bool:
        """Whether the pack is to be finished before it takes another file."""
        return self._pack is not None and (self._pack.size >= _FULL or len(self._pack) >= _FULL_OBJECTS)

    def pack(self, path: bytes) -> PackWriter:
        """The pack that takes the objects of the file at `path`; it may be another one each time."""
        # another version of a file: see `consolidate` why not in the same pack
        if path in self._items or self.is_full:
            self.flush()
        if self._pack is None:
            self.known.refresh()
            self._pack = PackWriter(
                self._repo.objects_dir,
                self._repo.format,
                known=self.known,
                reader=self._odb,
                name=f"{_PREFIX}{self._name}",
            )
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

    def keep(self, path: bytes, manifest: Oid, data_tree: Oid) -> None:
        """Make a content that is in the pack safe from kills and from pruning."""
        assert self._pack is not None
        self._commit = write_staged(self._pack, path, manifest, data_tree, self._commit)
        self._pack.hand_over()
        self._items[path] = (path, manifest, data_tree)
        self._manifests.add(manifest)

    def flush(self) -> None:
        """Make what was stored visible to everybody and durable, and have the ref of the chain hold it."""
        pack, self._pack = self._pack, None
        if pack is None:
            return
        written = pack.finish()
        self._packs += [written] if written is not None else []
        if self._items:
            self._move()
        self._items.clear()
        self.known.refresh()

    def close(self) -> None:
        """End the session: everything is durable and in few packs."""
        self.flush()
        consolidate(self._repo.objects_dir, self._packs, self._repo.format)

    def _move(self) -> None:
        """Have the ref hold the chain; if another process took from the chain meanwhile, what is new goes on top."""
        name = STAGED + self._name
        for attempt in range(_ATTEMPTS):
            try:
                update_refs(self._repo.git, [RefUpdate(name, self._commit, self._tip)])
            except RefLockedError:
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(min(0.005 * 2**attempt, 0.2))
            except RefMovedError:
                if attempt + 1 == _ATTEMPTS:
                    raise
                self._tip = self._commit = self._repo.try_resolve(name)
                with PackWriter(self._repo.objects_dir, self._repo.format) as writer:
                    for path, manifest, data_tree in self._items.values():
                        self._commit = write_staged(writer, path, manifest, data_tree, self._commit)
                    written = writer.finish()
                self._packs += [written] if written is not None else []
            else:
                self._tip = self._commit
                return


def adopt_leftovers(repo: Repository, odb: GitOdb) -> None:
    """Make whole what sessions that were killed had stored: a pack that git sees, and a chain that keeps it."""
    for path in sorted((repo.objects_dir / "pack").glob(f"{_PREFIX}*")):
        name = path.name.removeprefix(_PREFIX)
        try:
            if not _is_alive(name):
                _adopt(repo, odb, STAGED + name, path)
                path.unlink(missing_ok=True)
        except (GitmlError, OSError):
            continue  # a read-only repository, or another process is at it: next time


def wait_for_sessions(repo: Repository, odb: GitOdb) -> None:
    """Wait until live sessions have made visible what they hold at this moment; a few seconds at most.

    `git commit -a` runs hooks while its filter still waits for more files.
    """
    places = list((repo.objects_dir / "pack").glob(f"{_PREFIX}*"))
    end = time.monotonic() + 5
    while any(path.exists() and _is_alive(path.name.removeprefix(_PREFIX)) for path in places):
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    adopt_leftovers(repo, odb)


def _adopt(repo: Repository, odb: GitOdb, ref: str, path: Path) -> None:
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


def _is_alive(session: str) -> bool:
    process, _, _ = session.partition("-")
    if not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
