"""How tasks are put into batches, and what is said of the cluster; and a worker without one, against real remotes."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from gitml.git.data import HEADS
from gitml.git.exchange import Exchange, ExchangeError, is_done, push_refs
from gitml.git.odb import GitOdb
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.datum import Datum
from gitml.pipeline.dispatch import Cluster, DaskExecutor, Sizer, attribute_tree, prepare, shown_address, under_way
from gitml.pipeline.executor import ExecutorError, Task, Work
from gitml.pipeline.limits import size_below
from gitml.pipeline.parcel import PROTOCOL, Job, Order, pack
from gitml.pipeline.plan import evaluate_stage
from gitml.pipeline.spec import load_pipeline
from gitml.pipeline.survey import Surveyor
from gitml.pipeline.worker import Bench, WorkError, work
from gitml.record import replace
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_FILE, Entry, Snapshot
from tests.conftest import run_git
from tests.images import Member, layer, oci, write_tar
from tests.sandboxes import require_bubblewrap


def test_batches_grow_to_what_takes_some_seconds_and_leave_work_for_everybody() -> None:
    sizer = Sizer()
    assert sizer.size(1000, 4) == 1
    sizer.note(0.5, 1)
    sizer.note(0.5, 1)
    assert sizer.size(1000, 4) == 30
    assert sizer.size(64, 4) == 8
    assert sizer.size(40, 4) == 6
    assert sizer.size(1, 4) == 1
    assert sizer.size(40, 0) == 20
    sizer.note(9000.0, 1)
    assert sizer.size(1000, 4) == 1
    quick = Sizer(seconds=0.1, tasks=1000)
    assert quick.size(100_000, 4) == 250


@pytest.mark.parametrize(
    ("threads", "asked", "expected"), [(4, None, 8), (4, 3, 3), (4, 100, 8), (0, None, 8), (0, 2, 2), (1, None, 2)]
)
def test_how_much_is_under_way(threads: int, asked: int | None, expected: int) -> None:
    assert under_way(threads, asked) == expected


def test_refs_go_with_their_run_or_when_they_are_old() -> None:
    now = 0x65000000 + 15 * 86_400
    assert is_done("worked/65f00000-aa/1", "65f00000-aa", now)
    assert not is_done("worked/65f00000-bb/1", "65f00000-aa", 0x65F00000 + 3600)
    assert is_done("tasks/65000000-bb", "65f00000-aa", now)
    assert not is_done("tasks/65000000-bb", "65f00000-aa", 0x65000000 + 13 * 86_400)
    assert not is_done("worked/somebody/else", "65f00000-aa", now)


def test_workers_get_the_attributes_that_count(odb: MemoryOdb, tree: Callable[..., Snapshot]) -> None:
    snapshot = tree(
        {
            ".gitattributes": "1",
            "a/.gitattributes": "2",
            "a/b/.gitattributes": "3",
            "a/c/.gitattributes": "4",
            "a/x": "",
        }
    )
    found = Snapshot(odb, attribute_tree(snapshot, odb, b"a/b"))
    assert [path for path, _ in found.walk()] == [b".gitattributes", b"a/.gitattributes", b"a/b/.gitattributes"]
    assert found.read(b"a/b/.gitattributes") == b"3"
    assert list(Snapshot(odb, attribute_tree(snapshot, odb, b"none/here")).walk()) == list(
        tree({".gitattributes": "1"}).walk()
    )


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ssh://git@host/x.git", "ssh://git@host/x.git"),
        ("https://me@host/x.git", "https://me@host/x.git"),
        ("host:x.git", "host:x.git"),
        ("ml::s3://bucket/x", "ml::s3://bucket/x"),
        ("../data.git", "{top}/data.git"),
        ("https://me:word@host/x", None),
        ("ml::https://me:word@host/x", None),
    ],
)
def test_the_address_that_workers_are_told(repo: Path, address: str, shown: str | None) -> None:
    (repo.parent / "data.git").mkdir()
    run_git(repo, "remote", "add", "data", address)
    if shown is None:
        with pytest.raises(ExecutorError, match="holds a password"):
            shown_address(Repository.discover(repo), "data")
    else:
        assert shown_address(Repository.discover(repo), "data") == shown.format(top=repo.parent)


class _Workers:
    """Stands for a cluster that is asked what is installed."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def run(self, _: Any, name: str, on_error: str) -> dict[str, Any]:
        assert on_error == "return"
        return {"tcp://a:1": self.answers[name.partition(":")[2]]}


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (ModuleNotFoundError("No module named 'gitml'", name="gitml"), "worker 'tcp://a:1' has no gitml"),
        (PROTOCOL + 1, f"gitml of worker 'tcp://a:1' speaks version {PROTOCOL + 1}, this one version {PROTOCOL}"),
        (
            AttributeError("no attribute"),
            f"gitml of worker 'tcp://a:1' is too old or broken (no attribute), this one version {PROTOCOL}",
        ),
    ],
)
def test_workers_that_do_not_understand_are_named(repo: Path, protocol: Any, said: str) -> None:
    here = Repository.discover(repo)
    with pytest.raises(ExecutorError) as error:
        DaskExecutor(here, GitOdb(here.git, here.format)).check_workers(_Workers(PROTOCOL=protocol))
    assert error.value.message == said


def test_workers_with_another_version_are_noted(repo: Path) -> None:
    here = Repository.discover(repo)
    executor = DaskExecutor(here, GitOdb(here.git, here.format))
    executor.check_workers(_Workers(PROTOCOL=PROTOCOL, __version__="99.1"))
    assert [notice.partition(", this")[0] for notice in executor.facts.notices] == ["workers have gitml 99.1"]
    with pytest.raises(WorkError, match=f"speaks version {PROTOCOL} with runs, this run version 0"):
        work(0, b"", b"")


PIPELINE = """
stages:
- pipeline: {name: up}
  transform:
    cmd: [sh, code/up.sh]
    secrets: [{name: service, env_var: TOKEN, key: token}]
  input: {pfs: {repo: input, glob: /*}}
  datum_tries: 1
"""


class _Submitter:
    """A repository with a stage of three datums, a remote, and what workers are to be told."""

    def __init__(self, path: Path, address: str, more: Mapping[str, bytes] | None = None) -> None:
        path.mkdir()
        run_git(path, "init", "-q")
        run_git(path, "remote", "add", "data", address)
        subprocess.run([sys.executable, "-m", "gitml", "install"], cwd=path, check=True, capture_output=True)
        for name, content in {
            "pipeline.json": PIPELINE.encode(),
            "code/up.sh": b"f=$(ls pfs/input); [ $f != c ] || exit 3; cat pfs/input/$f; cp pfs/input/$f pfs/out/$f.bin",
            "input/a": b"a\n",
            "input/b": os.urandom(200_000),
            "input/c": b"c\n",
            ".gitattributes": b"input/** filter=ml -text\n*.bin filter=ml -text\n",
            **(more or {}),
        }.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        run_git(path, "config", "ml.auto", "off")
        run_git(path, "add", "-A")
        run_git(path, "commit", "-q", "-m", "one")
        self.path = path
        self.repo = Repository.discover(path)
        self.odb = GitOdb(self.repo.git, self.repo.format)
        surveyor = Surveyor(self.repo, self.odb, RunCache(self.repo, self.odb))
        tip = self.repo.resolve("HEAD")
        snapshot = Snapshot(self.odb, surveyor.tree_of(tip))
        pipeline = load_pipeline(snapshot)
        assert pipeline is not None
        status = evaluate_stage(pipeline, pipeline.stages[0], snapshot, surveyor.knowledge(tip), set())
        self.tasks = [Task(datum, key) for datum, key in zip(status.datums, status.task_keys, strict=True)]
        self.orders = [Order(task.key, task.datum) for task in self.tasks]
        self.stop = threading.Event()
        self.work = Work(
            stage=pipeline.stages[0], snapshot=snapshot, run="run", commits={}, code=tuple(status.code), files={},
            logs=path, parallel=None, stop=self.stop, is_over=self.stop.is_set,
        )  # fmt: skip
        self.exchange = Exchange(self.repo, self.odb, "data")
        cluster = Cluster(
            scheduler="", remote="data", address=shown_address(self.repo, "data"), sandbox="auto", network=False
        )
        self.job: Job = prepare(self.repo, self.odb, self.exchange, cluster, self.work, self.tasks)


@pytest.fixture(params=["server", "store"])
def submitter(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Submitter]:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # the remote helper
    if request.param == "server":
        run_git(tmp_path, "init", "-q", "--bare", "data.git")
    made = _Submitter(
        tmp_path / "project", "../data.git" if request.param == "server" else f"ml::file://{tmp_path}/store"
    )
    yield made
    made.odb.close()


def at_remote(submitter: _Submitter) -> list[str]:
    return [line.split("\t")[1] for line in run_git(submitter.path, "ls-remote", "data").splitlines()]


def test_a_worker_fetches_what_it_needs_and_pushes_what_it_made(
    submitter: _Submitter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "service").mkdir(parents=True)
    (secrets / "service" / "token").write_text("topsecret")
    assert [name for name in at_remote(submitter) if name.startswith("refs/ml/tasks/")]
    assert not [name for name in at_remote(submitter) if name.startswith("refs/heads/")]

    # where a store is the remote, the worker finds the helper beside its interpreter
    monkeypatch.setenv("PATH", os.defpath)
    with Bench(tmp_path / "bench", submitter.repo.format, secrets) as bench:
        first = bench.perform(submitter.job, submitter.orders[1:], submitter.stop)
        # a git that waits would keep files on the disk when another process removes the cache
        assert not [line for line in _commands() if os.fsencode(tmp_path / "bench") in line]
    assert [(done.state, done.status) for done in first.done] == [("success", 0), ("failed", 3)]
    assert first.data is not None
    cache = GitOdb(Repository.discover(next(tmp_path.glob("bench/cache/*/*.git"))).git, submitter.repo.format)
    assert not cache.has(submitter.orders[0].datum.inputs[0].entry.oid)
    with Bench(tmp_path / "bench", submitter.repo.format, secrets) as bench:
        second = bench.perform(submitter.job, submitter.orders[:1], submitter.stop)
    assert second.data is None
    cache.close()

    with pytest.raises(AssertionError):
        run_git(submitter.path, "cat-file", "-e", first.commit.hex())
    submitter.exchange.bring([first.commit, second.commit], [first.data])
    brought = {name: oid for name, oid in list_refs(submitter.repo.git).items() if "/incoming/" in name}
    assert set(brought.values()) == {first.commit, second.commit}
    key = submitter.orders[1].key
    assert first.done[0].tree == Oid.parse(run_git(submitter.path, "rev-parse", f"{first.commit}:out/{key}"))
    assert "--- attempt 1" in run_git(
        submitter.path, "cat-file", "blob", f"{first.commit}:log/{submitter.orders[2].key}"
    )
    assert run_git(submitter.path, "cat-file", "blob", f"{second.commit}:out/{submitter.orders[0].key}/a.bin") == "a"

    plain = replace(submitter.job.stage, transform=replace(submitter.job.stage.transform, secrets=()), output=b"other")
    with Bench(tmp_path / "another", submitter.repo.format) as bench:
        third = bench.perform(replace(submitter.job, stage=plain), submitter.orders[1:2], submitter.stop)
        with pytest.raises(WorkError, match=r"has no secrets .*and stage 'up' needs 'service'"):
            bench.perform(submitter.job, submitter.orders, submitter.stop)
        with pytest.raises(WorkError, match="nowhere"):
            bench.perform(replace(submitter.job, stage=plain, address="/nowhere"), _foreign(submitter), submitter.stop)
    assert third.data is not None
    submitter.exchange.bring([third.commit], [third.data])
    assert {name for name in list_refs(submitter.repo.git) if "/incoming/" in name}.isdisjoint(brought)

    # what was pushed by several becomes one head, and nothing else is left
    heads = {f"{HEADS}{oid}" for oid in (first.data, third.data)}
    before = {name for name in at_remote(submitter) if name.startswith(HEADS)}
    assert heads < before
    submitter.exchange.settle(first.item)
    there = set(at_remote(submitter))
    assert not [name for name in list_refs(submitter.repo.git) if "/incoming/" in name]
    assert not [name for name in there if "/tasks/" in name or "/worked/" in name]
    joined = {name for name in there if name.startswith(HEADS)} - before
    assert len(joined) == 1
    assert not heads & there
    assert joined < set(list_refs(submitter.repo.git, HEADS))
    paths = run_git(submitter.path, "ls-tree", "-r", "--name-only", joined.pop())
    assert "up/b.bin/manifest" in paths
    assert "other/b.bin/manifest" in paths


def _commands() -> Iterator[bytes]:
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield place.read_bytes()


def _foreign(submitter: _Submitter) -> list[Order]:
    """A task whose input no worker has."""
    order = submitter.orders[0]
    part = order.datum.inputs[0]._replace(entry=Entry(MODE_FILE, Oid(b"\1" * 20)))
    return [Order(order.key, Datum((part,)))]


def test_a_ref_that_another_worker_pushes_at_the_same_time_is_waited_for(repo: Path) -> None:
    run_git(repo.parent, "init", "-q", "--bare", "data.git")
    run_git(repo, "remote", "add", "data", "../data.git")
    run_git(repo, "commit", "-q", "--allow-empty", "-m", "one")
    lock = repo.parent / "data.git" / "refs" / "ml" / "data" / "x.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    here = Repository.discover(repo)
    with pytest.raises(ExchangeError, match=r"cannot push to 'data': .*failed to update ref"):
        push_refs(here, "data", ["HEAD:refs/ml/data/x"])
    other = threading.Timer(0.1, lock.unlink)
    other.start()
    push_refs(here, "data", ["HEAD:refs/ml/data/x"])
    other.join()
    assert run_git(repo.parent / "data.git", "rev-parse", "refs/ml/data/x") == run_git(repo, "rev-parse", "HEAD")


PROCESS = """
import sys, threading
from pathlib import Path
from gitml.oid import ObjectFormat
from gitml.pipeline.parcel import Job, unpack
from gitml.pipeline.worker import Bench
top, limit, turn = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
job = unpack((top / "job").read_bytes(), Job)
orders = unpack((top / "orders").read_bytes(), tuple)
with Bench(top / "bench", ObjectFormat.named(job.object_format), top / "secrets", limit) as it:
    for number in range(3):
        done = it.perform(job, [orders[(number + turn) % 3]], threading.Event()).done[0]
        print(done.key, done.state, done.tree, flush=True)
"""


@pytest.mark.parametrize("limit", [0, 350_000])  # less than any batch takes; a batch or two
def test_processes_that_share_a_small_cache_do_what_others_do(
    submitter: _Submitter, tmp_path: Path, limit: int
) -> None:
    (tmp_path / "secrets" / "service").mkdir(parents=True)
    (tmp_path / "secrets" / "service" / "token").write_text("topsecret")
    (tmp_path / "job").write_bytes(pack(submitter.job))
    (tmp_path / "orders").write_bytes(pack(tuple(submitter.orders)))
    with Bench(tmp_path / "another", submitter.repo.format, tmp_path / "secrets") as bench:
        alone = bench.perform(submitter.job, submitter.orders, submitter.stop)
    expected = sorted(f"{done.key} {done.state} {done.tree}" for done in alone.done)

    command = [sys.executable, "-c", PROCESS, str(tmp_path), str(limit)]
    processes = [subprocess.Popen([*command, str(turn)], stdout=PIPE, stderr=PIPE, text=True) for turn in range(3)]
    doomed = subprocess.Popen([*command, "0"], stdout=PIPE, stderr=PIPE)
    assert doomed.stdout is not None
    doomed.stdout.readline()  # it is at the second batch then
    doomed.kill()
    doomed.communicate()
    for process in processes:
        out, err = process.communicate()
        assert (process.returncode, err) == (0, ""), err
        assert sorted(out.splitlines()) == expected
    with Bench(tmp_path / "bench", submitter.repo.format, tmp_path / "secrets", limit):
        assert sum(size_below(place)[0] for place in (tmp_path / "bench" / "cache").iterdir()) <= limit
        assert len(list((tmp_path / "bench" / "work").iterdir())) == 1


@pytest.mark.parametrize("limit", [0, 350_000])
def test_threads_of_one_process_change_caches_one_by_one(submitter: _Submitter, tmp_path: Path, limit: int) -> None:
    (tmp_path / "secrets" / "service").mkdir(parents=True)
    (tmp_path / "secrets" / "service" / "token").write_text("topsecret")
    with (
        Bench(tmp_path / "bench", submitter.repo.format, tmp_path / "secrets", limit) as bench,
        ThreadPoolExecutor(3) as pool,
    ):
        calls = [pool.submit(bench.perform, submitter.job, [order], submitter.stop) for order in submitter.orders * 2]
        found = [call.result().done[0] for call in calls]
        assert [done.state for done in found] == ["success", "success", "failed"] * 2
        assert [done.tree for done in found[:3]] == [done.tree for done in found[3:]]
        assert size_below(tmp_path / "bench" / "cache")[0] <= limit
        # what was laid out from a cache goes with it
        assert size_below(tmp_path / "bench" / "work")[0] <= limit


IN_IMAGE = """
stages:
- pipeline: {name: up}
  transform: {image: "tool:1", cmd: [sh, -c, 'cp /pfs/input/* /etc/mark /pfs/out; echo "$GREETING" > /pfs/out/said']}
  input: {pfs: {repo: input, glob: /a}}
images: {"tool:1": {archive: images/tool.tar}}
"""


def test_an_image_goes_to_workers_with_the_inputs(tmp_path: Path) -> None:
    program = next((path for name in ("busybox", "busybox.static") if (path := shutil.which(name)) is not None), None)
    found = "" if program is None else subprocess.run(["ldd", program], capture_output=True, check=False, text=True)
    if program is None or "not a dynamic" not in str(found):
        pytest.skip("there is no static busybox here: apt install busybox-static")
    require_bubblewrap()
    content: list[Member] = [
        ("bin/", ""), ("bin/busybox", Path(program).read_bytes(), 0o755), ("bin/sh", "->busybox"),
        ("bin/cp", "->busybox"), ("etc/mark", "of the image"),
    ]  # fmt: skip
    archive = write_tar(
        oci([layer(*content)], name="1", Env=["PATH=/bin", "GREETING=hello"]), tmp_path / "tool.tar"
    ).read_bytes()
    run_git(tmp_path, "init", "-q", "--bare", "data.git")
    attributes = b"input/** filter=ml -text\n*.tar filter=ml -text\n"
    files = {"pipeline.json": IN_IMAGE.encode(), "images/tool.tar": archive, ".gitattributes": attributes}
    submitter = _Submitter(tmp_path / "project", "../data.git", files)
    with Bench(tmp_path / "bench", submitter.repo.format) as bench:
        returned = bench.perform(submitter.job, submitter.orders, submitter.stop)
    assert [(each.state, each.message) for each in returned.done] == [("success", "")]
    submitter.exchange.bring([returned.commit], [])
    assert run_git(submitter.path, "show", f"{returned.commit}:out/{submitter.orders[0].key}/mark") == "of the image"
    assert run_git(submitter.path, "show", f"{returned.commit}:out/{submitter.orders[0].key}/said") == "hello"
    submitter.exchange.settle(None)
    submitter.odb.close()
