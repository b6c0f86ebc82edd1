"""Data commits: what keeps chunks and manifests reachable, so that gc, fsck, push and fetch treat them as any object.

The tree of a data commit mirrors the paths of pointers: at `<path>` stands the data tree of one file, a directory
with a blob `manifest` in it. Data commits below `refs/ml/data/` are cumulative and form an append-only DAG: a new
one has all heads known as parents and replaces the local ones. What is staged and not committed hangs on small
chains below `refs/ml/staged/`, one per filter process, one file per commit, and goes away once it is covered.
What was fetched without the data commit that covers it elsewhere hangs on data commits of this clone's own, below
`refs/ml/fetched/`. See docs/design/0001 and 0005.
"""

import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from gitml.errors import CorruptError, MissingDataError
from gitml.git.commits import Commit, Signature, format_commit, parse_commit
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.places import above
from gitml.git.pointers import read_pointers
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, list_refs, pause, update_refs
from gitml.git.repository import Repository
from gitml.git.stagedchain import Staged, parse_staged, write_staged_tree
from gitml.oid import Oid
from gitml.store.datatree import MANIFEST_NAME, write_data_tree
from gitml.store.manifest import read_manifest
from gitml.store.odb import ObjectReader, ObjectWriter
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, Snapshot, empty_tree, format_tree

HEADS = "refs/ml/data/"
STAGED = "refs/ml/staged/"
REMOTES = "refs/ml/remotes/"
FETCHED = "refs/ml/fetched/"
"""Content that a remote gave object by object: `<remote>/contents` and `<remote>/objects`; known to this clone only."""
DROPPED = "refs/ml/dropped/"
"""What a prune took out of use and keeps for a while (gitml.care.prune); on a remote too."""

_REMOTE_HEAD = re.compile(r"refs/ml/remotes/.+/data/[0-9a-f]+")
_ATTEMPTS = 20
_REFS_AGE = 1.0
"""Seconds for which `references` believes the refs that it has seen."""
_SUFFIX = b"/" + MANIFEST_NAME


class UncoveredError(MissingDataError):
    """Some pointers refer to content that is not here; everything else is covered. Carries `reasons` by path."""

    def __init__(self, reasons: Mapping[bytes, str]) -> None:
        path, reason = next(iter(reasons.items()))
        others = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        name = path.decode("utf-8", "backslashreplace")
        super().__init__(
            f"content of '{name}'{others} cannot be passed on: {reason}",
            hint="if it is missing, fetch it: git ml pull; else add the file again where its content is",
        )
        self.reasons = dict(reasons)


class _Refs(NamedTuple):
    """The refs of the data log at one moment, by name."""

    heads: dict[str, Oid]
    remote: dict[str, Oid]
    staged: dict[str, Oid]
    fetched: dict[str, Oid]


class DataLog:
    """The data commits of a repository. Reads refs afresh at each call, so several processes may work at once."""

    def __init__(self, repo: Repository, odb: GitOdb) -> None:
        self._repo = repo
        self._odb = odb
        self._chains: dict[Oid, list[Staged]] = {}
        self._looked: tuple[float, _Refs] | None = None
        self._snapshots: dict[Oid, Snapshot] = {}
        self._manifests: dict[Oid, frozenset[Oid]] = {}

    def heads(self) -> list[Oid]:
        """The data commits that hold everything known here: local and remote-tracking heads, none an ancestor."""
        return self._independent(self._refs())

    def references(self, path: bytes, manifest: Oid) -> bool:
        """Whether a head holds this manifest at this path, or a staged chain holds it at all."""
        now = time.monotonic()
        if self._looked is None or now - self._looked[0] > _REFS_AGE:
            # what a ref held a moment ago is still held: chains go away once a head holds what they held
            self._looked = (now, self._refs())
        refs = self._looked[1]
        if any(self._stands(tip, path, manifest) for tip in {*refs.heads.values(), *refs.remote.values()}):
            return True
        return any(manifest in self._manifests_of(tip) for tip in set(refs.staged.values()))

    def cover(self, paths: Mapping[bytes, Oid]) -> None:
        """Make the manifest of every path, and all below it, reachable from a head.

        Nothing happens for a manifest that stands at its path in a head already. Raise `UncoveredError` at the end
        if content of some is not here; the others are covered then.
        """
        self.cover_versions(list(paths.items()))

    def cover_versions(self, items: Sequence[tuple[bytes, Oid]]) -> None:
        """As `cover`, for any number of contents at one path, oldest first."""
        self._cover(list(items), {})

    def cover_commit(self, commit: Oid) -> None:
        """Cover the pointers that a commit changed against each of its parents; of a root commit all."""
        self.cover_commits([commit])

    def cover_commits(self, commits: Iterable[Oid]) -> None:
        """As `cover_commit`, for commits given oldest first.

        Content that a remote gave counts as covered: there it is.
        """
        changed = list(self._changed(commits))
        pointers = read_pointers(self._repo.git, (oid for _, oid in changed))
        wanted = list(dict.fromkeys((path, pointers[oid].manifest) for path, oid in changed if oid in pointers))
        refs = self._refs()
        known = self._given(refs.fetched, wanted)
        self._cover([item for item in wanted if item not in known], {}, refs)

    def cover_session(self, session: str) -> None:
        """Cover everything that was staged in `session`, whose chain goes away with that."""
        tip = self._repo.try_resolve(STAGED + session)
        if tip is not None:
            self._cover([(item.path, item.manifest) for item in self._chain(tip)], {})

    def keep(self, remote: str, items: Sequence[tuple[bytes, Oid]]) -> None:
        """Make whole contents that `remote` gave reachable, as (path, manifest), on a line of their own."""
        missing: dict[bytes, str] = {}
        self._grow(f"{FETCHED}{remote}/contents", lambda tips: self._write_head(tips, list(items), missing))
        if missing:
            raise UncoveredError(missing)

    def keep_objects(self, remote: str, oids: Sequence[Oid]) -> None:
        """Make single blobs that `remote` gave reachable: parts of contents that are not here as a whole."""

        if oids:
            self._grow(f"{FETCHED}{remote}/objects", lambda tips: self.write_objects(tips, oids))

    def write_objects(self, parents: Sequence[Oid], oids: Sequence[Oid]) -> Oid | None:
        """Write a commit on top of `parents` that holds single blobs; give it, None for no blobs. No ref moves."""
        groups: dict[bytes, list[tuple[bytes, Entry]]] = {}
        for oid in oids:
            groups.setdefault(b"%02x" % oid[0], []).append((oid.hex().encode(), Entry(MODE_FILE, oid)))
        if not groups:
            return None
        with PackWriter(self._repo.objects_dir, self._repo.format, reader=self._odb) as pack:
            entries = [(name, Entry(MODE_TREE, pack.write("tree", format_tree(g)))) for name, g in groups.items()]
            commit = self._write_commit(pack, pack.write("tree", format_tree(entries)), list(parents))
            pack.finish()
        return commit

    def fetched(self, items: Iterable[tuple[bytes, Oid]], remote: str | None = None) -> set[tuple[bytes, Oid]]:
        """Those of (path, manifest) that a remote gave (`remote`, or any): it has them, they need not be covered."""
        tips = list_refs(self._repo.git, f"{FETCHED}{remote}/contents" if remote else FETCHED)
        return self._given(tips, list(items))

    def versions(self, commits: Iterable[Oid], *, beyond: Iterable[Oid] = ()) -> set[tuple[bytes, Oid]]:
        """Every (path, manifest) that data commits hold in any version, without those reachable from `beyond`."""
        return set(self.additions(commits, beyond=beyond))

    def additions(self, commits: Iterable[Oid], *, beyond: Iterable[Oid] = ()) -> list[tuple[bytes, Oid]]:
        """As `versions`, in the order in which they came, oldest first."""
        tips = [oid.hex() for oid in commits]
        if not tips:
            return []
        excluded = ["--not", *(oid.hex() for oid in beyond)]
        listed = self._repo.git.lines("rev-list", "--reverse", "--topo-order", *tips, *excluded, "--")
        changed = self._changed(map(Oid.parse, listed), f":(glob)**/{MANIFEST_NAME.decode()}")
        return list(dict.fromkeys((path.removesuffix(_SUFFIX), oid) for path, oid in changed if path.endswith(_SUFFIX)))

    def staged(self, tip: Oid) -> list[tuple[bytes, Oid]]:
        """The (path, manifest) that a staged chain holds, oldest first."""
        return [(item.path, item.manifest) for item in self._chain(tip)]

    def unstage(self, name: str, tip: Oid, manifests: Container[Oid], more: Iterable[RefUpdate] = ()) -> None:
        """Take contents out of the staged chain at ref `name`, with `more` in the same transaction.

        Raise `RefMovedError` if the chain has grown.
        """
        rest = [item for item in self._chain(tip) if item.manifest not in manifests]
        update_refs(self._repo.git, [*more, RefUpdate(name, self._write_chain(rest), tip)])

    def pointers(self, commits: Iterable[Oid]) -> list[tuple[bytes, Oid]]:
        """Every (path, manifest) that commits of the user bring in, in the order of the commits.

        What a merge took over unchanged from one of its parents is not brought in by it.
        """
        listed = b"".join(commit.hex().encode() + b"\n" for commit in commits)
        if not listed:
            return []
        fields = self._repo.git.output(
            "diff-tree", "--stdin", "-r", "-c", "-z", "--root", "--raw", "--no-abbrev", "--no-renames",
            "--no-commit-id", input=listed,
        ).split(b"\0")  # fmt: skip
        changed: list[tuple[bytes, Oid]] = []
        for meta, path in zip(fields[::2], fields[1::2], strict=False):
            sides = len(meta) - len(meta.lstrip(b":")) + 1
            parts = meta.lstrip(b":").split(b" ")
            if parts[sides - 1].startswith(b"100"):
                changed.append((path, Oid.parse(parts[2 * sides - 1])))
        known = read_pointers(self._repo.git, (oid for _, oid in changed))
        return list(dict.fromkeys((path, known[oid].manifest) for path, oid in changed if oid in known))

    def write(
        self, parents: Sequence[Oid], items: Sequence[tuple[bytes, Oid]], only: Container[Oid] | None = None
    ) -> tuple[Oid | None, dict[bytes, str]]:
        """Write data commits on top of `parents` that hold `items`; give the last, and reasons for what is not here.

        No ref moves. With `only`, a data tree without its manifest and without the chunks that are not in `only`: a
        part of a content that travels in several pushes.
        """
        missing: dict[bytes, str] = {}
        return self._write_head(list(parents), list(items), missing, only), missing

    def adopt(self) -> None:
        """Give remote-tracking heads a local ref too, so that what they hold outlives the remote's entry here."""
        self._cover([], {})

    def _grow(self, name: str, write: Callable[[list[Oid]], Oid | None]) -> None:
        """Move a ref of this clone's own to what `write` makes of its tip."""
        for attempt in range(_ATTEMPTS):
            tip = self._repo.try_resolve(name)
            new = write([tip] if tip is not None else [])
            try:
                if new is not None:
                    update_refs(self._repo.git, [RefUpdate(name, new, tip)])
                return
            except (RefMovedError, RefLockedError):
                if attempt + 1 == _ATTEMPTS:
                    raise
                pause(attempt)

    def _changed(self, commits: Iterable[Oid], *pathspecs: str) -> Iterator[tuple[bytes, Oid]]:
        """Path and oid of every regular file that commits added or changed, against each parent."""
        listed = b"".join(commit.hex().encode() + b"\n" for commit in commits)
        if not listed:
            return
        fields = self._repo.git.output(
            "diff-tree", "--stdin", "-r", "-m", "-z", "--root", "--raw", "--no-abbrev", "--no-renames",
            "--no-commit-id", "--diff-filter=AMT", "--", *pathspecs, input=listed,
        ).split(b"\0")  # fmt: skip
        for meta, path in zip(fields[::2], fields[1::2], strict=False):
            _, mode, _, oid, _ = meta.split(b" ")
            if mode.startswith(b"100"):
                yield path, Oid.parse(oid)

    def _given(self, tips: Mapping[str, Oid], wanted: list[tuple[bytes, Oid]]) -> set[tuple[bytes, Oid]]:
        return self.versions(tips.values()).intersection(wanted) if tips and wanted else set()

    def _cover(self, wanted: list[tuple[bytes, Oid]], missing: dict[bytes, str], seen: _Refs | None = None) -> None:
        """Cover `wanted`; `seen` are the refs as they were a moment ago."""
        for attempt in range(_ATTEMPTS):
            refs = seen if seen is not None and attempt == 0 else self._refs()
            independent = self._independent(refs)
            snapshots = [self._snapshot(head) for head in independent]
            open_items = [item for item in wanted if not any(_manifest_at(s, item[0]) == item[1] for s in snapshots)]
            head = None
            try:
                if open_items:
                    head = self._write_head(independent, open_items, missing)
                covered = {manifest for path, manifest in wanted if path not in missing}
                self._move(refs, independent, head, covered)
                break
            except (RefMovedError, RefLockedError):
                if attempt + 1 == _ATTEMPTS:
                    raise
                pause(attempt)
        if missing:
            raise UncoveredError(missing)

    def _write_head(
        self,
        parents: list[Oid],
        wanted: list[tuple[bytes, Oid]],
        missing: dict[bytes, str],
        only: Container[Oid] | None = None,
    ) -> Oid | None:
        """Write data commits on top of `parents` that hold `wanted`; give the last, if any."""
        known = ObjectIndex(self._repo.objects_dir, self._repo.format)
        with PackWriter(self._repo.objects_dir, self._repo.format, known=known, reader=self._odb) as pack:
            trees: list[tuple[bytes, Oid]] = []
            for path, manifest_oid in wanted:
                try:
                    tree = _rebuild(manifest_oid, self._odb, known, pack)
                    trees.append((path, tree if only is None else _part(Snapshot(pack, tree), pack, tree, only)))
                except (MissingDataError, CorruptError) as error:
                    missing[path] = error.message
            head: Oid | None = None
            if trees:
                tree = self._merged_tree(parents, pack)
                for changes in _rounds(trees):
                    tree = _place(Snapshot(pack, tree), pack, tree, changes)
                    head = self._write_commit(pack, tree, parents if head is None else [head])
            pack.finish()
        return head

    def _write_commit(self, pack: PackWriter, tree: Oid, parents: list[Oid]) -> Oid:
        # never older than a parent: git's walks take commit dates as a hint of order
        times = [parse_commit(pack.read(parent)[1]).committer.time for parent in parents]
        who = Signature(b"gitml", b"gitml@localhost", max([int(time.time()), *times]))
        return pack.write("commit", format_commit(Commit(tree, tuple(parents), who, who, b"data\n")))

    def _merged_tree(self, heads: list[Oid], pack: PackWriter) -> Oid:
        commits = sorted((self._commit(head).committer.time, head) for head in heads)
        if not commits:
            return empty_tree(self._repo.format)
        merged = self._commit(commits[0][1]).tree
        if len(commits) == 1:
            return merged
        found = self._repo.git.run("merge-base", "--octopus", *(oid.hex() for _, oid in commits), check=False).stdout
        base = self._commit(Oid.parse(found.strip())).tree if found.strip() else None
        for _, head in commits[1:]:
            merged = _merge(Snapshot(pack, merged), pack, base, merged, self._commit(head).tree)
        return merged

    def _move(self, refs: _Refs, independent: list[Oid], head: Oid | None, covered: set[Oid]) -> None:
        """Bring refs to the new state: `head`, or the independent heads, and what remains of the staged chains."""
        keep = [head] if head is not None else independent
        names = {HEADS + oid.hex(): oid for oid in keep}
        updates = [RefUpdate(name, oid, None) for name, oid in names.items() if name not in refs.heads]
        updates += [RefUpdate(name, None, oid) for name, oid in refs.heads.items() if name not in names]
        if updates:
            update_refs(self._repo.git, updates)
        if refs.staged:
            self._trim(refs.staged, keep, covered)

    def _trim(self, staged: Mapping[str, Oid], heads: list[Oid], covered: set[Oid]) -> None:
        """Drop what is covered from the staged chains. A chain that grows meanwhile is left for the next time."""
        snapshots = [self._snapshot(head) for head in heads]
        for name, tip in staged.items():
            chain = self._chain(tip)
            rest = [
                item
                for item in chain
                if item.manifest not in covered
                and not any(_manifest_at(snapshot, item.path) == item.manifest for snapshot in snapshots)
            ]
            if len(rest) == len(chain):
                continue
            try:
                update_refs(self._repo.git, [RefUpdate(name, self._write_chain(rest), tip)])
            except (RefMovedError, RefLockedError):
                continue

    def _write_chain(self, items: Iterable[Staged]) -> Oid | None:
        """Write a staged chain; give its tip, None if it holds nothing."""
        new: Oid | None = None
        with PackWriter(self._repo.objects_dir, self._repo.format) as pack:
            for item in items:
                new = write_staged_tree(pack, item, new)
            pack.finish()
        return new

    def _chain(self, tip: Oid) -> list[Staged]:
        """What a staged chain holds, oldest first."""
        walked: list[tuple[Oid, Staged]] = []
        at: Oid | None = tip
        rest: list[Staged] = []
        while at is not None:
            if at in self._chains:
                rest = self._chains[at]
                break
            commit = self._commit(at)
            walked.append((at, parse_staged(commit)))
            at = commit.parents[0] if commit.parents else None
        chain = rest + [item for _, item in reversed(walked)]
        self._chains = {tip: chain, **{oid: known for oid, known in self._chains.items() if oid != tip}}
        return chain

    def _refs(self) -> _Refs:
        found = list_refs(self._repo.git, "refs/ml")
        return _Refs(
            {name: oid for name, oid in found.items() if name.startswith(HEADS)},
            {name: oid for name, oid in found.items() if _REMOTE_HEAD.fullmatch(name)},
            {name: oid for name, oid in found.items() if name.startswith(STAGED)},
            {name: oid for name, oid in found.items() if name.startswith(FETCHED)},
        )

    def _independent(self, refs: _Refs) -> list[Oid]:
        oids = sorted({*refs.heads.values(), *refs.remote.values()})
        if len(oids) < 2:
            return oids
        listed = self._repo.git.lines("merge-base", "--independent", *(oid.hex() for oid in oids))
        return sorted(map(Oid.parse, listed))

    def _commit(self, oid: Oid) -> Commit:
        return parse_commit(self._odb.read(oid)[1])

    def _snapshot(self, commit: Oid) -> Snapshot:
        return Snapshot(self._odb, self._commit(commit).tree)

    def _stands(self, head: Oid, path: bytes, manifest: Oid) -> bool:
        if head not in self._snapshots:
            self._snapshots[head] = self._snapshot(head)
        return _manifest_at(self._snapshots[head], path) == manifest

    def _manifests_of(self, tip: Oid) -> frozenset[Oid]:
        if tip not in self._manifests:
            self._manifests[tip] = frozenset(item.manifest for item in self._chain(tip))
        return self._manifests[tip]


def _manifest_at(snapshot: Snapshot, path: bytes) -> Oid | None:
    entry = snapshot.get(path + b"/" + MANIFEST_NAME) if path else None
    return entry.oid if entry is not None and entry.is_file else None


def _rebuild(manifest_oid: Oid, reader: ObjectReader, known: ObjectIndex, writer: ObjectWriter) -> Oid:
    """Write the data tree of a manifest; raise `MissingDataError` if a chunk is not here, `CorruptError`."""
    if len(manifest_oid) != reader.format.size:
        raise CorruptError(f"manifest '{manifest_oid}' is named with another hash than this repository uses")
    manifest = read_manifest(manifest_oid, reader)
    for chunk in manifest.chunks:
        if not known.has(chunk.oid):
            raise MissingDataError(f"chunk '{chunk.oid}' is missing")
    return write_data_tree(manifest_oid, manifest, writer)


def _part(snapshot: Snapshot, writer: ObjectWriter, tree: Oid, only: Container[Oid]) -> Oid:
    """The data tree with nothing but the chunks in `only`."""
    kept = []
    for name, entry in snapshot.entries(tree).items():
        if entry.is_tree:
            kept.append((name, Entry(MODE_TREE, _part(snapshot, writer, entry.oid, only))))
        elif entry.oid in only and name != MANIFEST_NAME:
            kept.append((name, entry))
    return writer.write("tree", format_tree(kept))


def _rounds(items: Iterable[tuple[bytes, Oid]]) -> Iterator[dict[bytes, Oid]]:
    """Split (path, tree) pairs so that in each part no path comes twice and none lies below another; in order."""
    waiting = list(items)
    while waiting:
        chosen: dict[bytes, Oid] = {}
        directories: set[bytes] = set()
        later: list[tuple[bytes, Oid]] = []
        for path, tree in waiting:
            parents = list(above(path))
            if path in chosen or path in directories or any(directory in chosen for directory in parents):
                later.append((path, tree))
            else:
                chosen[path] = tree
                directories.update(parents)
        yield chosen
        waiting = later


def _is_data(entries: Mapping[bytes, Entry]) -> bool:
    """Whether a directory is the data tree of a file rather than a directory of files."""
    manifest = entries.get(MANIFEST_NAME)
    return manifest is not None and manifest.is_file


def _place(snapshot: Snapshot, writer: ObjectWriter, tree: Oid, changes: Mapping[bytes, Oid]) -> Oid:
    """The tree with the data tree of every path of `changes` in its place; a file in the way gives way."""
    entries = dict(snapshot.entries(tree))
    if _is_data(entries):
        entries = {}
    below: dict[bytes, dict[bytes, Oid]] = {}
    for path, data_tree in changes.items():
        name, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(name, {})[rest] = data_tree
        else:
            entries[name] = Entry(MODE_TREE, data_tree)
    empty = empty_tree(snapshot.odb.format)
    for name, inner in below.items():
        current = entries.get(name)
        entries[name] = Entry(MODE_TREE, _place(snapshot, writer, current.oid if current else empty, inner))
    return writer.write("tree", format_tree(entries.items()))


def _merge(snapshot: Snapshot, writer: ObjectWriter, base: Oid | None, older: Oid, newer: Oid) -> Oid:
    """Everything of both trees; where both have a path, the side that changed it, else the newer."""
    if older in (newer, base):
        return newer
    if newer == base:
        return older
    left, right = snapshot.entries(older), snapshot.entries(newer)
    if _is_data(left) or _is_data(right):
        return newer
    common = snapshot.entries(base) if base is not None else {}
    merged = {**left, **right}
    for name in left.keys() & right.keys():
        before = common.get(name)
        oid = _merge(snapshot, writer, before.oid if before else None, left[name].oid, right[name].oid)
        merged[name] = Entry(MODE_TREE, oid)
    return writer.write("tree", format_tree(merged.items()))
