"""What a migration does to a tree, for whoever walks the history; and the recipe for plain git, git-lfs and gitml.

The form in which a file must be kept follows from the attributes of the new tree, as git itself reads them. So the
attribute files are rewritten first, git is asked about all paths below them, and files that have another form than
asked for are converted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from gitml.errors import MissingDataError
from gitml.git.attributes import filters_by_files
from gitml.git.odb import GitOdb, read_many
from gitml.git.repository import Repository
from gitml.migrate.attributes import AttributeChange
from gitml.migrate.convert import Form, Job, Report, lanes, read_plain
from gitml.migrate.lfs import MAX_POINTER_SIZE, LfsPointer, LfsStore, parse_lfs_pointer
from gitml.oid import Oid
from gitml.record import record
from gitml.store.content import SMALL, read_content
from gitml.store.odb import Kind, ObjectWriter
from gitml.store.pointer import Pointer, PointerError, is_pointer, parse_pointer
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, Snapshot, empty_tree, format_tree

ATTRIBUTES = b".gitattributes"
LFS_CONFIG = b".lfsconfig"

CONTROL = frozenset({ATTRIBUTES, b".gitignore", b".gitmodules", b".mailmap", LFS_CONFIG})
OURS = b".gitml"
_FILTERS = {b"ml": Form.GITML, b"lfs": Form.LFS}


class Rewritten(NamedTuple):
    """The new tree; `changed` unless it differs, if at all, by added lines of attributes only."""

    tree: Oid
    changed: bool


class Recipe(Protocol):
    """First `collect` sees all trees, then contents are converted, then each tree is rewritten."""

    def collect(self, trees: Iterable[Oid], report: Report) -> list[Job]:
        """What is to be converted in these trees, given oldest first."""
        ...

    def rewrite(self, tree: Oid, blobs: Mapping[bytes, Oid], writer: ObjectWriter) -> Rewritten:
        """The new tree, with `blobs` (by key of the job) in place of what was converted."""
        ...

    def notes(self) -> list[str]:
        """What the user should know of what stays as it was."""
        ...


@record
class Blob:
    """What a blob is: its form, the size of the content, and what it points at."""

    form: Form
    size: int
    pointer: Pointer | LfsPointer | None = None


_Chain = tuple[tuple[bytes, bytes], ...]
"""The attribute files that hold for the files of a directory: paths and new contents, from the top."""


class FilterRecipe:
    """Brings every file into the form `target` whose attributes ask for it, from any of the forms `sources`."""

    def __init__(
        self,
        repo: Repository,
        odb: GitOdb,
        store: LfsStore,
        change: AttributeChange,
        sources: frozenset[Form],
        target: Form,
        *,
        drop_lfs_config: bool = False,
        fetch: Callable[[], None] | None = None,
    ) -> None:
        self._repo = repo
        self._odb = odb
        self._store = store
        self._change = change
        self._sources = sources
        self._target = target
        self._drops = frozenset({LFS_CONFIG}) if drop_lfs_config else frozenset()
        self._fetch = fetch
        self._empty = empty_tree(repo.format)
        self._trees = Snapshot(odb, self._empty)
        self._chains: dict[_Chain, int] = {(): 0}
        self._seen: set[tuple[Oid, bytes, int]] = set()
        self._files: dict[int, dict[bytes, dict[Oid, None]]] = {}
        self._wanted: set[tuple[int, bytes]] = set()
        self._rewritten: dict[tuple[Oid, bytes, int], Rewritten] = {}

    def collect(self, trees: Iterable[Oid], report: Report) -> list[Job]:
        """What is to be converted in these trees, given oldest first."""
        listed = list(dict.fromkeys(trees))
        self._trees = trees_below(self._repo, self._odb, listed)
        for number, tree in enumerate(listed, 1):
            self._walk(tree, b"", (), 0)
            report("trees", number, len(listed), 0)
        sizes = sizes_of(self._repo, (oid for files in self._files.values() for oids in files.values() for oid in oids))
        candidates: dict[Oid, bytes] = {}
        versions: list[tuple[bytes, Oid]] = []
        for chain, number in self._chains.items():
            plausible = {
                path: [oid for oid in oids if self._is_plausible(sizes.get(oid, 0))]
                for path, oids in self._files.get(number, {}).items()
            }
            paths = [path for path, oids in plausible.items() if oids]
            filters = filters_by_files(self._repo, dict(chain), paths)
            for path in paths:
                if _FILTERS.get(filters.get(path, b""), Form.PLAIN) is self._target:
                    self._wanted.add((number, path))
                    for oid in plausible[path]:
                        candidates.setdefault(oid, path)
                        versions.append((path, oid))
        return list(self._jobs(candidates, versions, sizes))

    def rewrite(self, tree: Oid, blobs: Mapping[bytes, Oid], writer: ObjectWriter) -> Rewritten:
        """The new tree, with `blobs` (by oid) in place of what was converted."""
        return self._rewrite(tree, b"", (), 0, blobs, writer)

    def notes(self) -> list[str]:
        """What the user should know of what stays as it was."""
        return []

    def _walk(self, tree: Oid, directory: bytes, above: _Chain, outer: int) -> None:
        """Note the files below a directory; `outer` is the number of the chain `above` it."""
        self._seen.add((tree, directory, outer))
        entries = self._trees.entries(tree)
        chain = self._chain(entries, directory, above)[0]
        number = self._chains.setdefault(chain, len(self._chains))
        files = self._files.setdefault(number, {})
        for name, entry in entries.items():
            path = directory + name
            if entry.is_tree:
                if path != OURS and (entry.oid, path + b"/", number) not in self._seen:
                    self._walk(entry.oid, path + b"/", chain, number)
            elif entry.is_file and name not in CONTROL:
                files.setdefault(path, {})[entry.oid] = None

    def _chain(self, entries: Mapping[bytes, Entry], directory: bytes, above: _Chain) -> tuple[_Chain, bool]:
        """The attribute files that hold in a directory, and whether the rule changed the one that stands there."""
        present = entries.get(ATTRIBUTES)
        if present is not None and not present.is_file:
            return above, False
        text = self._odb.read(present.oid)[1] if present is not None else None
        new = self._change.changed(directory, text)
        chain = above if new is None else (*above, (directory + ATTRIBUTES, new))
        return chain, text is not None and self._change.rule(text) != text

    def _is_plausible(self, size: int) -> bool:
        return size >= SMALL or size <= MAX_POINTER_SIZE or self._target is Form.LFS

    def _jobs(
        self, candidates: Mapping[Oid, bytes], versions: Iterable[tuple[bytes, Oid]], sizes: Mapping[Oid, int]
    ) -> Iterator[Job]:
        lane = lanes(versions)
        for oid, path in candidates.items():
            if oid not in sizes:
                yield Job(oid, path, 0, lane[oid], read_plain(oid))  # fails with what is missing
                continue
            blob = classify(self._odb, oid, sizes[oid])
            small = self._target is Form.GITML and blob.form is Form.PLAIN and blob.size < SMALL
            if blob.form is self._target or blob.form not in self._sources or small or not blob.size:
                continue
            yield Job(oid, path, blob.size, lane[oid], self._reader(oid, blob))

    def _reader(self, oid: Oid, blob: Blob) -> Callable[[GitOdb], Iterator[bytes]]:
        if isinstance(blob.pointer, Pointer):
            pointer = blob.pointer
            return lambda odb: read_content(pointer, odb)
        if isinstance(blob.pointer, LfsPointer):
            lfs_pointer = blob.pointer
            if not self._store.has(lfs_pointer) and self._fetch is not None:
                fetch, self._fetch = self._fetch, None
                fetch()
            return lambda _: self._read_lfs(lfs_pointer)
        return read_plain(oid)

    def _read_lfs(self, pointer: LfsPointer) -> Iterator[bytes]:
        if pointer.extended:
            raise MissingDataError("a git-lfs extension changed this content on its way in")
        return self._store.read(pointer)

    def _rewrite(
        self, tree: Oid, directory: bytes, above: _Chain, outer: int, blobs: Mapping[bytes, Oid], writer: ObjectWriter
    ) -> Rewritten:
        known = self._rewritten.get((tree, directory, outer))
        if known is not None:
            return known
        entries = self._trees.entries(tree)
        chain, changed = self._chain(entries, directory, above)
        number = self._chains[chain]
        new = self._edited(entries, directory, chain if len(chain) > len(above) else None, writer)
        for name, entry in entries.items():
            path = directory + name
            if entry.is_tree and path != OURS:
                below = self._rewrite(entry.oid, path + b"/", chain, number, blobs, writer)
                changed |= below.changed
                if below.tree == self._empty != entry.oid:
                    del new[name]
                else:
                    new[name] = Entry(MODE_TREE, below.tree)
            elif entry.is_file and (number, path) in self._wanted and entry.oid in blobs:
                new[name] = Entry(entry.mode, blobs[entry.oid])
                changed = True
        oid = tree if new == entries else writer.write("tree", format_tree(new.items()))
        self._rewritten[tree, directory, outer] = Rewritten(oid, changed)
        return Rewritten(oid, changed)

    def _edited(
        self, entries: Mapping[bytes, Entry], directory: bytes, chain: _Chain | None, writer: ObjectWriter
    ) -> dict[bytes, Entry]:
        """The entries with the attribute file of this directory in its new state."""
        new = {name: entry for name, entry in entries.items() if directory or name not in self._drops}
        present = entries.get(ATTRIBUTES)
        if chain is not None:
            mode = present.mode if present is not None else MODE_FILE
            new[ATTRIBUTES] = Entry(mode, writer.write("blob", chain[-1][1]))
        elif present is not None and present.is_file:
            del new[ATTRIBUTES]
        return new


class _Prefetched:
    """An `ObjectReader` that has some trees at hand."""

    def __init__(self, odb: GitOdb) -> None:
        self.format = odb.format
        self.trees: dict[Oid, bytes] = {}
        self._odb = odb

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        data = self.trees.get(oid)
        return ("tree", data) if data is not None else self._odb.read(oid)

    def has(self, oid: Oid) -> bool:
        return oid in self.trees or self._odb.has(oid)


def trees_below(repo: Repository, odb: GitOdb, roots: Iterable[Oid]) -> Snapshot:
    """Trees by oid, with all that are reached from `roots` read level by level, in few requests."""
    reader = _Prefetched(odb)
    snapshot = Snapshot(reader, empty_tree(repo.format))
    level = set(roots)
    while level:
        below: set[Oid] = set()
        for oid, _, data in read_many(repo.git, level):
            reader.trees[oid] = data
            below.update(entry.oid for entry in snapshot.entries(oid).values() if entry.is_tree)
        level = below - reader.trees.keys()
    return snapshot


def classify(odb: GitOdb, oid: Oid, size: int) -> Blob:
    """What a blob of `size` bytes is."""
    if size > MAX_POINTER_SIZE:
        return Blob(Form.PLAIN, size)
    data = odb.read(oid)[1]
    if is_pointer(data):
        try:
            pointer = parse_pointer(data)
        except PointerError:
            return Blob(Form.PLAIN, size)
        return Blob(Form.GITML, pointer.size, pointer)
    lfs_pointer = parse_lfs_pointer(data)
    if lfs_pointer is not None:
        return Blob(Form.LFS, lfs_pointer.size, lfs_pointer)
    return Blob(Form.PLAIN, size)


def sizes_of(repo: Repository, oids: Iterable[Oid]) -> dict[Oid, int]:
    """The size of each of these objects that is here."""
    listed = b"".join(oid.hex().encode() + b"\n" for oid in dict.fromkeys(oids))
    if not listed:
        return {}
    answer = repo.git.output("cat-file", "--batch-check=%(objectname) %(objectsize)", input=listed).splitlines()
    fields = (line.split() for line in answer)
    return {Oid.parse(oid): int(size) for oid, size in fields if size.isdigit()}
