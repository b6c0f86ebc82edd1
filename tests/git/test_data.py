import hashlib
import multiprocessing
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitml.git.commits import parse_commit
from gitml.git.data import HEADS, STAGED, DataLog, UncoveredError
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.refs import RefUpdate, list_refs, update_refs
from gitml.git.repository import Repository
from gitml.git.staging import Staging
from gitml.oid import Oid
from gitml.store.content import Stored, store_content
from gitml.store.pointer import Pointer, format_pointer
from gitml.store.tree import Snapshot


def noise(seed: int, size: int = 70_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def keep(staging: Staging, path: bytes, content: bytes) -> Pointer:
    with staging.storing(path) as pack:
        stored = store_content([content], pack)
        staging.keep(path, stored.pointer.manifest, stored.data_tree)
    return stored.pointer


@dataclass
class Bench:
    """A repository and short names for what the tests do to it."""

    repository: Repository
    odb: GitOdb

    def store(self, content: bytes) -> Stored:
        with PackWriter(self.repository.objects_dir, self.repository.format) as pack:
            stored = store_content([content], pack)
            pack.finish()
        return stored

    def stage(self, session: str, path: bytes, content: bytes) -> Pointer:
        with Staging(self.repository, self.odb, session) as staging:
            return keep(staging, path, content)

    def commit(self, files: dict[bytes, bytes], *parents: Oid) -> Oid:
        git = self.repository.git
        git.run("read-tree", "--empty")
        lines = []
        for path, data in files.items():
            oid = git.output("hash-object", "-w", "--stdin", input=data).strip()
            lines.append(b"100644 %s\t%s\0" % (oid, path))
        git.run("update-index", "-z", "--index-info", input=b"".join(lines))
        options = [part for parent in parents for part in ("-p", parent.hex())]
        return Oid.parse(git.line("commit-tree", git.line("write-tree"), "-m", "m", *options))

    @property
    def log(self) -> DataLog:
        return DataLog(self.repository, self.odb)

    def refs(self, prefix: str) -> dict[str, Oid]:
        return list_refs(self.repository.git, prefix)

    def manifests(self, head: Oid) -> dict[bytes, Oid]:
        tree = parse_commit(self.odb.read(head)[1]).tree
        walked = Snapshot(self.odb, tree).walk()
        return {path.removesuffix(b"/manifest"): e.oid for path, e in walked if path.endswith(b"/manifest")}

    def reachable(self, oid: Oid) -> bool:
        return oid.hex() in self.repository.git.output("rev-list", "--objects", "--all").decode()

    def check(self) -> None:
        self.repository.git.run("fsck", "--strict", "--full", "--no-dangling")


@pytest.fixture
def bench(repo: Path) -> Iterator[Bench]:
    repository = Repository.discover(repo)
    with GitOdb(repository.git, repository.format) as odb:
        yield Bench(repository, odb)


def test_staged_content_is_reachable_and_leaves_once_covered(bench: Bench) -> None:
    one = bench.stage("s1", b"d/a", noise(1))
    two = bench.stage("s1", b"", noise(2))
    odd = bench.stage("s2", b"../x", noise(3))
    bench.repository.git.run("gc", "-q", "--prune=now")
    assert all(bench.reachable(pointer.manifest) for pointer in (one, two, odd))
    assert set(bench.refs("refs/ml")) == {STAGED + "s1", STAGED + "s2"}
    bench.log.cover({b"d/a": one.manifest})
    assert bench.reachable(two.manifest)
    assert len(bench.repository.git.lines("rev-list", STAGED + "s1")) == 1
    bench.log.cover({b"b": two.manifest, b"c": odd.manifest})
    assert not bench.refs(STAGED)
    (head,) = bench.log.heads()
    assert bench.manifests(head) == {b"d/a": one.manifest, b"b": two.manifest, b"c": odd.manifest}
    bench.check()


def test_references_sees_heads_and_staged_chains(bench: Bench) -> None:
    pointer = bench.store(noise(1)).pointer
    assert not bench.log.references(b"a", pointer.manifest)
    bench.log.cover({b"a": pointer.manifest})
    assert bench.log.references(b"a", pointer.manifest)
    assert not bench.log.references(b"b", pointer.manifest)
    staged = bench.stage("s", b"x", noise(2))
    assert bench.log.references(b"anywhere", staged.manifest)


def test_a_session_goes_on_after_its_chain_was_trimmed(bench: Bench) -> None:
    with Staging(bench.repository, bench.odb) as staging:
        one = keep(staging, b"a", noise(1))
        staging.flush()
        bench.log.cover({b"a": one.manifest})
        assert not bench.refs(STAGED)
        two = keep(staging, b"b", noise(2))
        staging.flush()
        assert bench.reachable(two.manifest)


def test_cover_is_cumulative_and_idle_when_nothing_is_new(bench: Bench) -> None:
    one, two, three = (bench.store(noise(seed)).pointer.manifest for seed in (1, 2, 3))
    bench.log.cover({b"a": one, b"d/b": two})
    first = bench.refs(HEADS)
    bench.log.cover({b"a": one})
    assert bench.refs(HEADS) == first
    bench.log.cover({b"a": three})
    ((name, head),) = bench.refs(HEADS).items()
    assert name == HEADS + head.hex()
    assert bench.manifests(head) == {b"a": three, b"d/b": two}
    assert list(parse_commit(bench.odb.read(head)[1]).parents) == list(first.values())
    assert bench.reachable(one)
    bench.check()


def test_heads_of_other_clones_are_merged(bench: Bench) -> None:
    one, two, three = (bench.store(noise(seed)).pointer.manifest for seed in (1, 2, 3))
    git = bench.repository.git
    bench.log.cover({b"a": one, b"same": one})
    (base,) = bench.log.heads()
    bench.log.cover({b"b": two})
    (ours,) = bench.log.heads()
    update_refs(git, [RefUpdate(HEADS + ours.hex(), None), RefUpdate(HEADS + base.hex(), base)])
    bench.log.cover({b"a": three})
    (theirs,) = bench.log.heads()
    update_refs(git, [RefUpdate(HEADS + theirs.hex(), None), RefUpdate("refs/ml/remotes/te/am/data/ab1", theirs),
                      RefUpdate(HEADS + ours.hex(), ours)])  # fmt: skip
    assert set(bench.log.heads()) == {ours, theirs}
    four = bench.store(noise(4)).pointer.manifest
    bench.log.cover({b"c": four})
    (head,) = bench.log.heads()
    assert bench.manifests(head) == {b"a": three, b"b": two, b"c": four, b"same": one}
    assert set(bench.refs(HEADS).values()) == {head}


def test_adopt_keeps_what_only_a_remote_names(bench: Bench) -> None:
    one = bench.store(noise(1)).pointer.manifest
    bench.log.cover({b"a": one})
    (head,) = bench.log.heads()
    update_refs(
        bench.repository.git, [RefUpdate(HEADS + head.hex(), None), RefUpdate("refs/ml/remotes/o/data/ab", head)]
    )
    bench.log.adopt()
    assert bench.refs(HEADS) == {HEADS + head.hex(): head}


def test_a_file_becomes_a_directory_and_back(bench: Bench) -> None:
    one, two = (bench.store(noise(seed)).pointer.manifest for seed in (1, 2))
    bench.log.cover({b"a": one})
    bench.log.cover({b"a/manifest": two})
    assert bench.manifests(bench.log.heads()[0]) == {b"a/manifest": two}
    bench.log.cover({b"a/manifest": two})
    bench.log.cover({b"a": one})
    assert bench.manifests(bench.log.heads()[0]) == {b"a": one}
    bench.log.cover({b"a/b/c": one, b"a": two, b"a/b": two})
    assert all(bench.reachable(oid) for oid in (one, two))
    bench.check()


def test_a_missing_manifest_is_named_and_the_rest_is_covered(bench: Bench) -> None:
    one = bench.store(noise(1)).pointer.manifest
    text = Oid.parse(bench.repository.git.output("hash-object", "-w", "--stdin", input=b"no manifest").strip())
    absent, foreign = Oid(b"\x11" * 20), Oid(b"\x11" * 32)
    with pytest.raises(UncoveredError, match=r"'b\\xff' and 2 more cannot be passed on") as caught:
        bench.log.cover({b"b\xff": absent, b"a": one, b"c": text, b"d": foreign})
    assert set(caught.value.reasons) == {b"b\xff", b"c", b"d"}
    assert bench.manifests(bench.log.heads()[0]) == {b"a": one}


def test_a_manifest_with_a_missing_chunk_is_not_covered(bench: Bench) -> None:
    stored = bench.store(noise(1, 3_000_000))
    git = bench.repository.git
    listing = [line.split() for line in git.output("ls-tree", "-r", stored.data_tree.hex()).splitlines()]
    chunk = next(fields[2] for fields in listing if fields[3] != b"manifest")
    keep = git.output("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").splitlines()
    packs = list((bench.repository.objects_dir / "pack").glob("pack-*"))
    wanted = b"\n".join(oid for oid in keep if oid != chunk) + b"\n"
    git.output("pack-objects", str(bench.repository.objects_dir / "pack/pack"), input=wanted)
    for path in packs:
        path.unlink()
    bench.odb.close()
    with pytest.raises(UncoveredError, match=f"chunk '{chunk.decode()}' is missing"):
        bench.log.cover({b"a": stored.pointer.manifest})
    assert bench.log.heads() == []


def test_cover_commit_takes_what_the_commit_changed(bench: Bench) -> None:
    pointers = [bench.store(noise(seed)).pointer for seed in range(5)]
    texts = [format_pointer(pointer) for pointer in pointers]
    root = bench.commit(
        {b"a": texts[0], b"odd\n\xff": texts[1], b"small": b"x" * 200, b"bad": b"gitml pointer 1\n" * 12}
    )
    bench.log.cover_commit(root)
    (head,) = bench.log.heads()
    assert bench.manifests(head) == {b"a": pointers[0].manifest, b"odd\n\xff": pointers[1].manifest}
    left = bench.commit({b"a": texts[2], b"odd\n\xff": texts[1]}, root)
    right = bench.commit({b"a": texts[0], b"odd\n\xff": texts[1], b"d/r": texts[3]}, root)
    merge = bench.commit({b"a": texts[4], b"odd\n\xff": texts[1], b"d/r": texts[3]}, left, right)
    bench.log.cover_commit(merge)
    assert bench.manifests(bench.log.heads()[0]) == {
        b"a": pointers[4].manifest, b"odd\n\xff": pointers[1].manifest, b"d/r": pointers[3].manifest
    }  # fmt: skip
    assert not bench.reachable(pointers[2].manifest)


def test_all_versions_in_a_range_are_written_once(bench: Bench) -> None:
    pointers = [bench.store(noise(seed)).pointer for seed in range(3)]
    commits: list[Oid] = []
    for pointer in pointers:
        commits.append(bench.commit({b"a": format_pointer(pointer)}, *commits[-1:]))
    merge = bench.commit({b"a": format_pointer(pointers[2])}, commits[2], commits[0])
    items = [(b"a", pointer.manifest) for pointer in pointers]
    assert bench.log.pointers([*commits, merge]) == items, "a merge that takes one side brings in nothing"
    head, missing = bench.log.write([], items)
    assert head is not None
    assert not missing
    assert bench.log.heads() == [], "no ref moved"
    assert bench.log.versions([head]) == set(items)
    assert bench.manifests(head) == {b"a": pointers[2].manifest}
    assert bench.log.versions([head], beyond=[head]) == set()


def test_a_part_of_a_content_is_no_content(bench: Bench) -> None:
    stored = bench.store(noise(1, 3_000_000))
    listed = bench.repository.git.lines("ls-tree", "-r", stored.data_tree.hex())
    chunks = [Oid.parse(line.split()[2]) for line in listed if not line.endswith("manifest")]
    assert len(chunks) > 2
    part, missing = bench.log.write([], [(b"d/a", stored.pointer.manifest)], only={chunks[0]})
    assert part is not None
    assert not missing
    tree = bench.repository.git.lines("ls-tree", "-r", part.hex())
    assert [Oid.parse(line.split()[2]) for line in tree] == [chunks[0]]
    assert bench.log.versions([part]) == set()
    whole, _ = bench.log.write([part], [(b"d/a", stored.pointer.manifest)])
    assert whole is not None
    assert bench.manifests(whole) == {b"d/a": stored.pointer.manifest}
    assert bench.repository.git.line("rev-parse", f"{whole}:d/a") == stored.data_tree.hex()


def test_many_paths_are_covered_with_one_commit(bench: Bench) -> None:
    manifest = bench.store(noise(1)).pointer.manifest
    paths = {b"d%d/%d" % (number % 10, number): manifest for number in range(1000)}
    bench.log.cover(paths)
    (head,) = bench.log.heads()
    assert len(bench.manifests(head)) == 1000
    assert len(bench.repository.git.lines("rev-list", head.hex())) == 1


def cover_one(where: str, path: bytes, manifest: bytes) -> None:
    repository = Repository.discover(Path(where))
    with GitOdb(repository.git, repository.format) as odb:
        DataLog(repository, odb).cover({path: Oid(manifest)})


def test_processes_that_cover_at_once_lose_nothing(bench: Bench) -> None:
    manifests = [bench.store(noise(seed)).pointer.manifest for seed in range(4)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        work = [
            pool.submit(cover_one, str(bench.repository.worktree), b"p%d" % n, bytes(oid))
            for n, oid in enumerate(manifests)
        ]
        for each in work:
            each.result(300)
    # each that saw no head has made one of its own
    heads = bench.log.heads()
    covered: dict[bytes, Oid] = {}
    for head in heads:
        covered.update(bench.manifests(head))
    expected = {b"p%d" % n: oid for n, oid in enumerate(manifests)}
    assert covered == expected
    bench.log.cover({b"last": manifests[0]})
    (head,) = bench.log.heads()
    assert bench.manifests(head) == {**expected, b"last": manifests[0]}
    bench.check()


def looks_before(bench: Bench, monkeypatch: pytest.MonkeyPatch, paths: dict[bytes, Oid]) -> DataLog:
    """A log that sees the refs as they are before another process covers `paths`."""
    slow = bench.log
    looked = slow._refs

    def look_and_wait() -> Any:
        found = looked()
        monkeypatch.undo()
        bench.log.cover(paths)
        return found

    monkeypatch.setattr(slow, "_refs", look_and_wait)
    return slow


def test_heads_that_were_made_at_once_are_joined_by_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (bench.store(noise(seed)).pointer.manifest for seed in (1, 2, 3))
    looks_before(bench, monkeypatch, {b"a": one}).cover({b"b": two})
    heads = bench.log.heads()
    assert sorted(map(bench.manifests, heads), key=str) == [{b"a": one}, {b"b": two}]
    bench.log.cover({b"c": three})
    (head,) = bench.log.heads()
    assert bench.manifests(head) == {b"a": one, b"b": two, b"c": three}
    assert set(parse_commit(bench.odb.read(head)[1]).parents) == set(heads)
    assert set(bench.refs(HEADS).values()) == {head}


def test_a_head_that_another_replaced_meanwhile_is_not_replaced_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (bench.store(noise(seed)).pointer.manifest for seed in (1, 2, 3))
    bench.log.cover({b"a": one})
    looks_before(bench, monkeypatch, {b"b": two}).cover({b"c": three})
    (head,) = bench.log.heads()
    assert bench.manifests(head) == {b"a": one, b"b": two, b"c": three}


def test_works_in_a_sha256_repository(tmp_path: Path) -> None:
    where = tmp_path / "r"
    where.mkdir()
    subprocess.run(["git", "init", "-q", "--object-format=sha256"], cwd=where, check=True)
    repository = Repository.discover(where)
    with GitOdb(repository.git, repository.format) as odb:
        bench = Bench(repository, odb)
        pointer = bench.stage("s", b"a", noise(1, 3_000_000))
        bench.log.cover({b"a": pointer.manifest})
        assert not bench.refs(STAGED)
        bench.check()


def test_an_entry_named_manifest_in_the_users_tree_is_no_data_tree(bench: Bench) -> None:
    one, two = (bench.store(noise(seed)).pointer.manifest for seed in (1, 2))
    bench.log.cover({b"d/manifest": one})
    bench.log.cover({b"d/x": two})
    assert bench.manifests(bench.log.heads()[0]) == {b"d/manifest": one, b"d/x": two}
