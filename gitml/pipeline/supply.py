"""What inputs point to and this clone lacks: fetched when the first task finds something missing, all of it at once.

A checkout brings what its files need. Inputs from other branches and commits, and files that `ml.skip` or a sparse
checkout leaves out, are in nobody's worktree, so nothing has asked for them before a task does.
"""

import threading
from collections.abc import Collection, Iterable, Iterator

from gitml.git.odb import GitOdb
from gitml.git.pointers import read_pointers
from gitml.git.promisor import Item, fetch_versions
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.datum import Datum
from gitml.store.tree import MODE_GITLINK, Snapshot


class Supply:
    """Fetches once for all tasks of a stage. Safe to share between threads."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._lock = threading.Lock()
        self._asked = False
        self._datums: Collection[Datum] = ()

    @property
    def is_wanted(self) -> bool:
        """Whether the user wants content fetched that nobody asked for."""
        return self._repo.config_bool("ml.autoFetch", True)

    def expect(self, datums: Collection[Datum]) -> None:
        """These are the datums of the stage."""
        self._datums = datums
        self._asked = False

    def bring(self) -> None:
        """Fetch what the datums need; nothing is raised for what no remote gives. Whoever comes later waits for it."""
        with self._lock:
            if self._asked:
                return
            self._asked = True
            with GitOdb(self._repo.git, self._repo.format) as odb:
                blobs = dict(_blobs(odb, self._datums))
            pointers = read_pointers(self._repo.git, blobs)
            items: list[Item] = [(blobs[oid], pointer.manifest) for oid, pointer in pointers.items()]
            if items:
                fetch_versions(self._repo, list(dict.fromkeys(items)), progress=False)


def _blobs(odb: GitOdb, datums: Iterable[Datum]) -> Iterator[tuple[Oid, bytes]]:
    """Every blob below the inputs, with a path that it has; each input is looked at once."""
    seen: set[Oid] = set()
    for datum in datums:
        for part in datum.inputs:
            if part.empty_files or part.entry.oid in seen or part.entry.mode == MODE_GITLINK:
                continue
            seen.add(part.entry.oid)
            if not part.entry.is_tree:
                yield part.entry.oid, part.full_path
                continue
            for path, entry in Snapshot(odb, part.entry.oid).walk():
                if entry.mode != MODE_GITLINK:
                    yield entry.oid, part.full_path + b"/" + path
