"""The run cache: what every task and stage gave, kept in git under `refs/ml/runs`.

The tree of that ref is a map (layout in `docs/format.md`); each update is a commit, and the ref moves by
compare-and-swap. What remotes had at the last fetch is read too, so teammates' runs count at once; merging
is the union of both maps and commutes.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from gitml.errors import CorruptError
from gitml.git.commits import Commit, Signature, format_commit
from gitml.git.odb import GitOdb, read_many
from gitml.git.pack import PackWriter
from gitml.git.refs import RefMovedError, RefUpdate, list_refs, update_refs
from gitml.git.repack import repack
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.failure import FailureInfo
from gitml.provenance.codec import flat_name
from gitml.record import field, record
from gitml.store.odb import ObjectReader, ObjectWriter
from gitml.store.tree import (
    MODE_FILE,
    MODE_TREE,
    Entry,
    Snapshot,
    Trees,
    edit_tree,
    empty_tree,
    format_tree,
    parse_tree,
)

RUNS_REF = "refs/ml/runs"
REMOTES_PREFIX = "refs/ml/remotes/"

_MANY_PACKS = 64
"""Packs of updates that are joined before there are more: git looks through all for each object."""

_FEW = 32
"""Tasks that are looked up one by one, without another process of git."""
_GROUP = 4096
"""Tasks whose records are in memory at once."""
_RECORD = b"record.json"

Changes = dict[bytes, Entry | None]


@record
class TaskResult:
    """A finished task: the tree it gave and how it ended ('success' or 'recovered')."""

    out: Oid
    state: str
    record: Mapping[str, Any]


def encode_json(value: Mapping[str, Any]) -> bytes:
    """A JSON document as it is stored: sorted keys, one member a line."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True).encode() + b"\n"


def _split(key: str) -> bytes:
    return f"{key[:2]}/{key[2:]}".encode()


def task_path(key: str) -> bytes:
    """Where the result of a task stands in the map."""
    return b"tasks/" + _split(key)


def stage_path(key: str) -> bytes:
    """Where the results of a stage stand for one key."""
    return b"stages/" + _split(key)


def output_path(out: Oid, stage: str) -> bytes:
    """Where it stands that `out` is an output of `stage`."""
    return b"outputs/" + _split(out.hex()) + b"/" + flat_name(stage).encode("utf-8", "surrogateescape")


def run_path(run: str) -> bytes:
    """Where the record and the logs of a run stand."""
    return b"runs/" + run.encode()


@record(frozen=False)
class Batch:
    """Entries to be added to the map in one update. Objects are written to `pack` as they come."""

    pack: PackWriter
    changes: Changes = field(default_factory=dict)

    def put_json(self, path: bytes, value: Mapping[str, Any]) -> Oid:
        """Add a JSON document."""
        return self.put_blob(path, encode_json(value))

    def put_blob(self, path: bytes, data: bytes) -> Oid:
        """Add a blob."""
        oid = self.pack.write("blob", data)
        self.changes[path] = Entry(MODE_FILE, oid)
        return oid

    def put_tree(self, path: bytes, tree: Oid) -> None:
        """Add a tree that is already stored; an empty one is left out, as git does with directories."""
        if tree != empty_tree(self.pack.format):
            self.changes[path] = Entry(MODE_TREE, tree)


class RunCache:
    """Reads and extends the run cache of one repository."""

    def __init__(self, repo: Repository, odb: GitOdb) -> None:
        self._repo = repo
        self._odb = odb
        self._empty = empty_tree(odb.format)
        self._head: Oid | None = None
        self._others: Sequence[Oid] = ()
        """What remotes had."""
        self._maps: list[Snapshot] = []
        self._trees = Trees()
        self._packs: list[Path] = []
        """Those of our own updates that were not joined yet."""
        self._joined: list[Path] = []
        self.refresh()

    def refresh(self) -> None:
        """Look at the refs again."""
        refs = list_refs(self._repo.git, "refs/ml/")
        others = [oid for name, oid in refs.items() if name.startswith(REMOTES_PREFIX) and name.endswith("/runs")]
        self._see(refs.get(RUNS_REF), others)

    def _see(self, head: Oid | None, others: Sequence[Oid]) -> None:
        """Read the maps of these commits from now on."""
        self._head, self._others = head, others
        self._maps = []
        for tip in dict.fromkeys([*([] if head is None else [head]), *others]):
            found = self._odb.lookup(f"{tip}^{{tree}}")
            if found is not None:
                self._maps.append(Snapshot(self._odb, found[0], self._trees))

    def _get(self, path: bytes) -> Iterator[tuple[Snapshot, Entry]]:
        for snapshot in self._maps:
            entry = snapshot.get(path)
            if entry is not None:
                yield snapshot, entry

    def _json(self, path: bytes) -> dict[str, Any] | None:
        for snapshot, _ in self._get(path):
            try:
                value = json.loads(snapshot.read(path))
            except ValueError:
                raise CorruptError(f"run cache entry '{path.decode()}' is not JSON") from None
            if isinstance(value, dict):
                return value
        return None

    def task(self, key: str) -> TaskResult | None:
        """The finished task with this key; failed ones are not finished."""
        record = self._json(task_path(key) + b"/record.json")
        if record is None or record.get("state") not in ("success", "recovered"):
            return None
        for _, entry in self._get(task_path(key) + b"/out"):
            return TaskResult(entry.oid, str(record["state"]), record)
        return TaskResult(empty_tree(self._odb.format), str(record["state"]), record)

    def tasks(self, keys: Iterable[str]) -> Iterator[TaskResult | None]:
        """What `task` gives for each of many keys, in their order, with few round trips to git for all."""
        waiting = iter(keys)
        while group := list(islice(waiting, _GROUP)):
            yield from map(self.task, group) if len(group) < _FEW else self._several(group)

    def _several(self, keys: Sequence[str]) -> Iterator[TaskResult | None]:
        places = [self._places(key) for key in keys]
        wanted = dict.fromkeys(entry.oid for entries in places for entry in entries)
        listed = {
            oid: {name: entry.oid for name, entry in parse_tree(data, self._odb.format.size)}
            for oid, kind, data in read_many(self._repo.git, wanted)
            if kind == "tree"
        }
        records = dict.fromkeys(names[_RECORD] for names in listed.values() if _RECORD in names)
        read = {oid: data for oid, _, data in read_many(self._repo.git, records)}
        for key, entries in zip(keys, places, strict=True):
            names = listed.get(entries[0].oid) if len(entries) == 1 else None
            data = read.get(names[_RECORD]) if names is not None and _RECORD in names else None
            if names is not None and data is not None:
                yield self._result(data, names.get(b"out"))
            else:  # several maps have it, or something is missing: one by one, which says what
                yield self.task(key) if entries else None

    def _places(self, key: str) -> list[Entry]:
        """What each map has for a task; as `_get`, and quick for many."""
        head, tail = key[:2].encode(), key[2:].encode()
        found: list[Entry] = []
        for snapshot in self._maps:
            below = snapshot.list(b"tasks").get(head)
            entry = snapshot.entries(below.oid).get(tail) if below is not None and below.is_tree else None
            if entry is not None:
                found.append(entry)
        return found

    def _result(self, data: bytes, out: Oid | None) -> TaskResult | None:
        """What a record and the output beside it say, None if the task is not finished or the record cannot be read."""
        with suppress(ValueError):
            record = json.loads(data)
            if isinstance(record, dict) and record.get("state") in ("success", "recovered"):
                return TaskResult(out or self._empty, str(record["state"]), record)
        return None

    def knows(self, key: str) -> bool:
        """Whether the task is finished: `task` is not None. Reads trees only."""
        return bool(self._places(key))

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of the tasks that are finished; as `knows`, and quick for many."""
        by_head: defaultdict[str, list[str]] = defaultdict(list)
        for key in keys:
            by_head[key[:2]].append(key)
        found: set[str] = set()
        for snapshot in self._maps:
            heads = snapshot.list(b"tasks")
            for head, group in by_head.items():
                below = heads.get(head.encode())
                if below is not None and below.is_tree:
                    tails = snapshot.entries(below.oid)
                    found.update(key for key in group if key[2:].encode() in tails)
        return found

    def outputs(self, key: str) -> list[Oid]:
        """The output trees that successful runs gave for a stage key."""
        found: dict[Oid, None] = {}
        for snapshot, _ in self._get(stage_path(key)):
            for name, entry in snapshot.list(stage_path(key)).items():
                if entry.is_tree:
                    found[Oid.parse(name)] = None
        return list(found)

    def stage_record(self, key: str, out: Oid) -> dict[str, Any] | None:
        """What was written down of the successful run of a stage that gave `out`."""
        return self._json(stage_path(key) + f"/{out}/record.json".encode())

    def failure(self, key: str) -> FailureInfo | None:
        """Why the stage failed for this key, None if it did not or succeeded since."""
        record = self._json(stage_path(key) + b"/failed.json")
        if record is None or self.outputs(key):
            return None
        return FailureInfo(
            datum=str(record.get("datum", "")),
            message=str(record.get("message", "")),
            last_lines=tuple(str(line) for line in record.get("last_lines", ())),
            failed=int(record.get("failed", 0)),
            hint=str(record.get("hint") or ""),
        )

    def failure_record(self, key: str) -> dict[str, Any] | None:
        """The stored failure as it is."""
        return self._json(stage_path(key) + b"/failed.json")

    def is_output(self, stage: str, out: Oid) -> bool:
        """Whether a recorded run of `stage` gave `out`."""
        return any(True for _ in self._get(output_path(out, stage)))

    def is_any_output(self, out: Oid) -> bool:
        """Whether a recorded run of any stage gave `out`."""
        return any(True for _ in self._get(output_path(out, "").rpartition(b"/")[0]))

    def outputs_of(self, stage: str) -> Iterator[Oid]:
        """Every output that recorded runs of `stage` gave, each once, in no order."""
        seen: set[Oid] = set()
        name = flat_name(stage).encode("utf-8", "surrogateescape")
        for snapshot in self._maps:
            for head, below in snapshot.list(b"outputs").items():
                for tail, entry in snapshot.entries(below.oid).items() if below.is_tree else ():
                    out = Oid.parse(head + tail)
                    if out not in seen and entry.is_tree and name in snapshot.entries(entry.oid):
                        seen.add(out)
                        yield out

    def run(self, run: str) -> dict[str, Any] | None:
        """The record of a run, None if unknown."""
        return self._json(run_path(run) + b"/run.json")

    def runs(self) -> list[str]:
        """The ids of all recorded runs, in no order."""
        return list({name.decode() for snapshot in self._maps for name in snapshot.list(b"runs")})

    def tasks_of(self, run: str) -> list[dict[str, Any]]:
        """What became of every task that a run executed (`stagerun.TaskLine` as a document)."""
        base = run_path(run) + b"/task"
        names = {name for snapshot in self._maps for name in snapshot.list(base)}
        found = [self._json(base + b"/" + name) for name in sorted(names)]
        return [document for document in found if document is not None]

    def task_count(self, run: str) -> int:
        """How many tasks a run executed."""
        base = run_path(run) + b"/task"
        return len({name for snapshot in self._maps for name in snapshot.list(base)})

    def has_failed(self, run: str, key: str) -> bool:
        """Whether the task with this key failed in a run."""
        record = self.task_line(run, key)
        return record is not None and record.get("state") == "failed"

    def task_line(self, run: str, key: str) -> dict[str, Any] | None:
        """What became of one task of a run, None if it is not known."""
        return self._json(run_path(run) + f"/task/{key}.json".encode())

    def logs(self, run: str) -> dict[str, bytes]:
        """Task key to log text of a run."""
        base = run_path(run) + b"/log"
        found: dict[str, bytes] = {}
        for snapshot, _ in self._get(base):
            for name in snapshot.list(base):
                found.setdefault(name.decode(), snapshot.read(base + b"/" + name))
        return found

    def log(self, run: str, key: str) -> bytes:
        """The log text of one task of a run; empty if there is none."""
        path = run_path(run) + b"/log/" + key.encode()
        for snapshot, entry in self._get(path):
            if entry.is_file:
                return snapshot.read(path)
        return b""

    @contextmanager
    def update(self, message: str, *, also: Callable[[], Sequence[RefUpdate]] = tuple) -> Iterator[Batch]:
        """Collect entries in the block; at its end they are durable and the ref has moved.

        If another process moved the ref meanwhile, the same entries are put on top of what it has now.
        `also` gives further ref updates for the same transaction, asked once the objects are safe.
        """
        with PackWriter(self._repo.objects_dir, self._odb.format, reader=self._odb) as pack:
            batch = Batch(pack)
            yield batch
            commit = self._commit(pack, pack, batch.changes, message)
            self._note_pack(pack.finish())
        while True:
            try:
                moved = [RefUpdate(RUNS_REF, commit, self._head), *also()]
                update_refs(self._repo.git, moved)
                break
            except RefMovedError:
                self.refresh()
                with PackWriter(self._repo.objects_dir, self._odb.format, reader=self._odb) as again:
                    commit = self._commit(again, again, batch.changes, message)
                    self._note_pack(again.finish())
        if len(moved) > 1:
            self.refresh()
        else:
            self._see(commit, self._others)
        if len(self._packs) >= _MANY_PACKS:
            self._join(self._packs)

    def join_packs(self) -> None:
        """Leave one pack of what this process added, once it adds no more for now."""
        self._join([*self._joined, *self._packs])

    def _join(self, packs: list[Path]) -> None:
        joined = repack(self._repo, packs)
        if joined is not None:
            self._joined = [joined, *(each for each in self._joined if each not in packs)]
            self._packs = []

    def _note_pack(self, pack: Path | None) -> None:
        if pack is not None:
            self._packs.append(pack)

    def _commit(self, reader: ObjectReader, writer: ObjectWriter, changes: Changes, message: str) -> Oid:
        head = self._head
        root = empty_tree(self._odb.format)
        if head is not None:
            found = self._odb.lookup(f"{head}^{{tree}}")
            assert found is not None
            root = found[0]
        tree = edit_tree(reader, writer, root, changes, self._trees)
        return writer.write("commit", format_commit(bookkeeping_commit(tree, () if head is None else (head,), message)))

    def merge(self, other: Oid) -> Oid:
        """Make the local map the union with the one at commit `other`; give the commit the ref has then."""
        while True:
            self.refresh()
            head = self._head
            if head == other or (head is not None and self._is_ancestor(other, head)):
                return head
            new = other if head is None or self._is_ancestor(head, other) else self._merge_commit(head, other)
            try:
                update_refs(self._repo.git, [RefUpdate(RUNS_REF, new, head)])
            except RefMovedError:
                continue
            self.refresh()
            return new

    def _is_ancestor(self, old: Oid, new: Oid) -> bool:
        return self._repo.git.succeeds("merge-base", "--is-ancestor", old.hex(), new.hex())

    def _merge_commit(self, ours: Oid, theirs: Oid) -> Oid:
        trees = [self._odb.lookup(f"{side}^{{tree}}") for side in (ours, theirs)]
        assert trees[0] is not None
        assert trees[1] is not None
        with PackWriter(self._repo.objects_dir, self._odb.format, reader=self._odb) as pack:
            tree = union_trees(self._odb, pack, trees[0][0], trees[1][0])
            # parents in one order on both sides, so that two clones that merge the same maps agree
            commit = bookkeeping_commit(tree, tuple(sorted((ours, theirs))), "merge runs")
            oid = pack.write("commit", format_commit(commit))
            pack.finish()
        return oid


def bookkeeping_commit(tree: Oid, parents: Sequence[Oid], message: str) -> Commit:
    """A commit of our own refs: made by gitml, now."""
    who = Signature(b"gitml", b"gitml@localhost", int(time.time()), "+0000")
    return Commit(tree=tree, parents=tuple(parents), author=who, committer=who, message=message.encode() + b"\n")


def union_trees(reader: ObjectReader, writer: ObjectWriter, left: Oid, right: Oid) -> Oid:
    """Every entry of both trees; of two blobs with one name the one with the smaller oid."""
    if left == right:
        return left
    snapshot = Snapshot(reader, left)
    merged = dict(snapshot.entries(left))
    for name, theirs in snapshot.entries(right).items():
        ours = merged.get(name)
        if ours is None or ours == theirs:
            merged[name] = theirs
        elif ours.is_tree and theirs.is_tree:
            merged[name] = Entry(MODE_TREE, union_trees(reader, writer, ours.oid, theirs.oid))
        else:
            merged[name] = min(ours, theirs, key=lambda entry: entry.oid)
    return writer.write("tree", format_tree(merged.items()))
