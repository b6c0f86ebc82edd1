"""The run cache: entries, merging, two writers."""

from pathlib import Path

import pytest

from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RUNS_REF, RunCache, output_path, stage_path, task_path, union_trees
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, Snapshot, edit_tree, empty_tree, format_tree
from tests.conftest import run_git

KEY = "ab" + "0" * 62
OTHER = "cd" + "1" * 62


@pytest.fixture
def opened(repo: Path) -> tuple[Repository, GitOdb]:
    here = Repository.discover(repo)
    return here, GitOdb(here.git, here.format)


def put_task(cache: RunCache, key: str, content: bytes) -> Oid:
    with cache.update("task") as batch:
        tree = batch.pack.write("tree", format_tree([(b"f", Entry(MODE_FILE, batch.pack.write("blob", content)))]))
        batch.put_tree(task_path(key) + b"/out", tree)
        batch.put_json(task_path(key) + b"/record.json", {"state": "success"})
    return tree


def test_a_task_is_known_once_it_is_recorded(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    with odb:
        cache = RunCache(repo, odb)
        assert cache.task(KEY) is None
        tree = put_task(cache, KEY, b"result")
        found = RunCache(repo, odb).task(KEY)
        assert found is not None
        assert (found.out, found.state) == (tree, "success")
        assert cache.task(OTHER) is None
    run_git(repo.worktree or Path(), "fsck", "--strict")


def test_an_empty_output_is_an_output(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    with odb:
        cache = RunCache(repo, odb)
        with cache.update("stage") as batch:
            empty = empty_tree(repo.format)
            batch.put_tree(stage_path(KEY) + f"/{empty}/out".encode(), empty)
            batch.put_json(stage_path(KEY) + f"/{empty}/record.json".encode(), {"recovered": 1})
            batch.put_blob(output_path(empty, "a/b"), b"")
        assert cache.outputs(KEY) == [empty]
        assert cache.stage_record(KEY, empty) == {"recovered": 1}
        assert cache.is_output("a/b", empty)
        assert not cache.is_output("a", empty)


def test_a_failure_counts_until_a_success(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    with odb:
        cache = RunCache(repo, odb)
        with cache.update("failed") as batch:
            batch.put_json(
                stage_path(KEY) + b"/failed.json",
                {"datum": "a", "message": "no", "last_lines": ["x", "y"], "failed": 2},
            )
        failure = cache.failure(KEY)
        assert failure is not None
        assert (failure.datum, failure.message, failure.last_lines, failure.failed) == ("a", "no", ("x", "y"), 2)
        with cache.update("fine") as batch:
            out = batch.pack.write("tree", b"")
            batch.put_json(stage_path(KEY) + f"/{out}/record.json".encode(), {})
        assert cache.failure(KEY) is None


def test_two_writers_lose_nothing(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    with odb:
        first, second = RunCache(repo, odb), RunCache(repo, odb)
        one = put_task(first, KEY, b"one")
        two = put_task(second, OTHER, b"two")  # its idea of the ref is stale
        known = RunCache(repo, odb)
        assert [known.task(KEY), known.task(OTHER)] != [None, None]
        assert {known.task(KEY).out, known.task(OTHER).out} == {one, two}  # type: ignore[union-attr]


def test_an_interrupted_update_changes_nothing(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    with odb:
        cache = RunCache(repo, odb)
        put_task(cache, KEY, b"one")
        before = repo.resolve(RUNS_REF)
        packs = sorted(repo.objects_dir.glob("pack/*"))
        with pytest.raises(RuntimeError):
            _fail_within(cache)
        assert repo.resolve(RUNS_REF) == before
        assert sorted(repo.objects_dir.glob("pack/*")) == packs


def _fail_within(cache: RunCache) -> None:
    with cache.update("never") as batch:
        batch.put_blob(b"tasks/x", b"y")
        raise RuntimeError


def key(number: int) -> str:
    return f"{number:064x}"


def packs_of(repo: Repository) -> list[Path]:
    return list((repo.objects_dir / "pack").glob("*.pack"))


def test_many_updates_leave_one_small_pack(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    with odb:
        cache = RunCache(repo, odb)
        most = 0
        for number in range(70):
            put_task(cache, key(number), b"%d" % number)
            most = max(most, len(packs_of(repo)))
        assert most <= 64  # joined on the way
        before = sum(pack.stat().st_size for pack in packs_of(repo))
        for number in range(70, 80):
            put_task(cache, key(number), b"%d" % number)
        cache.join_packs()
        (only,) = packs_of(repo)
        assert only.stat().st_size < before  # as deltas
        assert all(RunCache(repo, odb).task(key(number)) is not None for number in range(80))
    run_git(repo.worktree or Path(), "fsck", "--strict")


def test_a_pack_that_is_kept_or_gone_is_not_joined(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    with odb:
        cache = RunCache(repo, odb)
        put_task(cache, KEY, b"kept")
        (kept,) = packs_of(repo)
        kept.with_suffix(".keep").touch()
        for number in range(20):
            put_task(cache, key(number), b"%d" % number)
        cache.join_packs()
        assert kept in packs_of(repo)
        assert len(packs_of(repo)) == 2


def test_merge_is_a_union_and_commutes() -> None:
    odb = MemoryOdb()

    def tree(**files: bytes) -> Oid:
        root = empty_tree(odb.format)
        return edit_tree(
            odb,
            odb,
            root,
            {k.replace("_", "/").encode(): Entry(MODE_FILE, odb.write("blob", v)) for k, v in files.items()},
        )

    left, right = tree(tasks_a=b"1", tasks_b=b"2", runs_x=b"same"), tree(tasks_b=b"3", tasks_c=b"4", runs_x=b"same")
    merged = union_trees(odb, odb, left, right)
    assert merged == union_trees(odb, odb, right, left)
    names = [path for path, _ in Snapshot(odb, merged).walk()]
    assert names == [b"runs/x", b"tasks/a", b"tasks/b", b"tasks/c"]
    chosen = Snapshot(odb, merged).get(b"tasks/b")
    assert chosen is not None
    assert chosen.oid == min(odb.format.oid_of("blob", b"2"), odb.format.oid_of("blob", b"3"))
    assert Snapshot(odb, merged).get(b"tasks") == Entry(MODE_TREE, Snapshot(odb, merged).oid_at(b"tasks"))


def test_merging_what_a_remote_has(tmp_path: Path) -> None:
    sides = []
    for name, key in (("a", KEY), ("b", OTHER)):
        (tmp_path / name).mkdir()
        run_git(tmp_path / name, "init", "-q")
        repo = Repository.discover(tmp_path / name)
        with GitOdb(repo.git, repo.format) as odb:
            put_task(RunCache(repo, odb), key, name.encode())
        sides.append(repo)
    run_git(tmp_path / "a", "fetch", "-q", "../b", f"{RUNS_REF}:refs/ml/remotes/b/runs")
    run_git(tmp_path / "b", "fetch", "-q", "../a", f"{RUNS_REF}:refs/ml/remotes/a/runs")
    trees = []
    for repo, remote in zip(sides, ("b", "a"), strict=True):
        with GitOdb(repo.git, repo.format) as odb:
            cache = RunCache(repo, odb)
            assert cache.task(KEY) is not None, "what a remote had counts before it is merged"
            assert cache.task(OTHER) is not None
            merged = cache.merge(repo.resolve(f"refs/ml/remotes/{remote}/runs"))
            assert repo.resolve(RUNS_REF) == merged
            assert cache.merge(repo.resolve(f"refs/ml/remotes/{remote}/runs")) == merged, "merging again does nothing"
            trees.append(repo.resolve(f"{RUNS_REF}^{{tree}}"))
    assert trees[0] == trees[1]


def test_many_tasks_are_looked_up_as_one_is(opened: tuple[Repository, GitOdb]) -> None:
    repo, odb = opened
    keys = [f"{number:02x}" + "0" * 62 for number in range(100)]
    states = ["success", "recovered", "failed"]
    with odb:
        cache = RunCache(repo, odb)
        with cache.update("tasks") as batch:
            for number, key in enumerate(keys[:90]):
                if number % 4:  # the others gave no files
                    blob = batch.put_blob(task_path(key) + b"/out/f", b"%d" % number)
                    assert blob is not None
                if number % 10 == 9:
                    batch.put_blob(task_path(key) + b"/record.json", b"[]")  # of a version that we do not know
                elif number % 10 != 8:
                    document = {"state": states[number % 3], "run": f"run{number}"}
                    batch.put_json(task_path(key) + b"/record.json", document)
        head = run_git(repo.worktree or Path(), "rev-parse", RUNS_REF).strip()
        run_git(repo.worktree or Path(), "update-ref", "refs/ml/remotes/origin/runs", head)
        with cache.update("tasks that the remote does not have") as batch:
            batch.put_json(task_path(keys[95]) + b"/record.json", {"state": "success", "run": "new"})
            batch.put_json(task_path(keys[3]) + b"/record.json", {"state": "recovered", "run": "later"})
        for known in (RunCache(repo, odb), cache):
            one_by_one = [known.task(key) for key in keys]
            assert list(known.tasks(keys)) == one_by_one
            assert list(known.tasks(keys[:5])) == one_by_one[:5]
        assert 40 < sum(each is not None for each in one_by_one) < 60
        assert [each and each.record["run"] for each in (one_by_one[3], one_by_one[95])] == ["later", "new"]
        there = [key for number, key in enumerate(keys[:90]) if number % 4 or number % 10 != 8]
        assert [key for key in keys if cache.knows(key)] == [*there, keys[95]]
        assert cache.known(keys) == {*there, keys[95]}
