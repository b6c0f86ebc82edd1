"""What a task may take: counted before it starts, held while it runs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.pipeline.limits import Allotment, ControlGroup, Groups, Machine, Means, Share, groups_at, size_below
from gitml.pipeline.spec.model import Resources, Stage
from gitml.pipeline.task import TaskOutcome

Run = Callable[..., TaskOutcome]
MACHINE = Machine(cores=(0, 1, 4, 5), memory=8 << 30, gpus=("0", "GPU-b", "2"))


@pytest.mark.parametrize(
    ("asked", "requests", "limits", "width"),
    [
        (None, Resources(), Resources(), 8),
        (3, Resources(), Resources(), 3),
        (None, Resources(cpu=1), Resources(), 4),
        (None, Resources(cpu=0.5), Resources(), 8),
        (None, Resources(cpu=3), Resources(), 1),
        (None, Resources(cpu=99), Resources(), 1),
        (None, Resources(), Resources(cpu=2), 2),
        (None, Resources(cpu=1), Resources(cpu=4), 4),
        (None, Resources(memory=3 << 30), Resources(), 2),
        (None, Resources(), Resources(gpu=1), 3),
        (6, Resources(cpu=4, memory=8 << 30), Resources(), 6),
        (6, Resources(cpu=4), Resources(gpu=2), 1),
    ],
)
def test_how_many_tasks_run_at_once(
    make_stage: Callable[..., Stage], asked: int | None, requests: Resources, limits: Resources, width: int
) -> None:
    assert Allotment(MACHINE).width(make_stage("s", parallelism=8, requests=requests, limits=limits), asked) == width


def test_shares_do_not_overlap_while_there_is_enough(make_stage: Callable[..., Stage]) -> None:
    allotment = Allotment(MACHINE)
    stage = make_stage("s", limits=Resources(cpu=1.5, gpu=1))
    with allotment.share(stage) as first, allotment.share(stage) as second, allotment.share(stage) as third:
        assert (first, second, third.cores) == (Share((0, 1), ("0",)), Share((4, 5), ("GPU-b",)), (0, 1))
        assert third.variables == {"CUDA_VISIBLE_DEVICES": "2"}
    with allotment.share(make_stage("s", limits=Resources(cpu=4))) as whole:
        assert whole == Share()
        assert whole.variables == {}
    with allotment.share(make_stage("s", limits=Resources(gpu=2))) as two:
        assert two.gpus == ("0", "GPU-b") or len(set(two.gpus or ())) == 2


def test_what_a_machine_lacks_is_said(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("s", requests=Resources(cpu=9, memory=16 << 30), limits=Resources(gpu=4))
    assert Allotment(MACHINE).notices(stage) == [
        "asks for 9 cores, this machine has 4; tasks run with what there is",
        "asks for 17180 MB of memory, this machine has 8590 MB; tasks run with what there is",
        "asks for 4 GPU, this machine has 3; tasks run with what there is",
    ]
    with Allotment(Machine((0,), 1, ())).share(stage) as share:
        assert share.variables == {}


def test_gpus_are_those_that_the_user_may_use() -> None:
    assert Machine.here({"CUDA_VISIBLE_DEVICES": "1, GPU-x"}).gpus == ("1", "GPU-x")
    assert Machine.here({"CUDA_VISIBLE_DEVICES": "-1"}).gpus == ()
    assert len(Machine.here({}).cores) >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched in /proc")
def test_a_task_is_killed_for_its_memory(run: Run, tmp_path: Path) -> None:
    hungry = "python3 -c 'a = bytearray(300 << 20); import time; time.sleep(60)' & wait"
    outcome = run(hungry, limits=Resources(memory=100_000_000), datum_tries=1)
    assert outcome.state == "failed"
    assert outcome.message.startswith("'sh' was killed")
    assert outcome.message.endswith(": its memory is limited to 100.0 MB")
    assert "resource_limits.memory" in (outcome.hint or "")
    modest = "python3 -c 'a = bytearray(30 << 20); import time; time.sleep(0.2)'"
    with run(modest, limits=Resources(memory=100_000_000)) as fits:
        assert fits.state == "success"
    # address space that is only reserved does not count
    reserve = "python3 -c 'import mmap, time; a = mmap.mmap(-1, 4 << 30); time.sleep(0.2)'"
    with run(reserve, limits=Resources(memory=100_000_000)) as reserved:
        assert reserved.state == "success"


def test_disk_space_is_limited_for_one_file_and_for_all_together(run: Run) -> None:
    limits = Resources(disk=100_000)
    one = run("head -c 300000 /dev/zero > /pfs/out/a", limits=limits, datum_tries=1)
    assert one.state == "failed"
    assert one.message == "'sh' failed: a file that it wrote was cut off, and its disk space is limited to 0.1 MB"
    caught = run('python3 -c \'open("pfs/out/a", "wb").write(bytes(300000))\'', limits=limits, datum_tries=1)
    assert caught.message == one.message
    many = run("for i in 1 2 3; do head -c 60000 /dev/zero > /pfs/out/$i; done", limits=limits, datum_tries=1)
    assert many.message == "'sh' failed: it wrote 0.2 MB, and its disk space is limited to 0.1 MB"
    with run("head -c 90000 /dev/zero > /pfs/out/a; ln /pfs/out/a /pfs/out/b", limits=limits) as fits:
        assert fits.state == "success"
    failing = run("exit 3", limits=limits, datum_tries=1)
    assert failing.message == "'sh' ended with exit status 3"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_task_runs_on_its_cores(run: Run) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with run("grep Cpus_allowed_list /proc/self/status > /pfs/out/a", share=Share((core,))) as outcome:
        assert outcome.workspace is not None
        assert (outcome.workspace.out / "a").read_text().split()[1] == str(core)
    assert os.sched_getaffinity(0) == before


def test_a_share_reaches_the_task(run: Run) -> None:
    with run('echo "$CUDA_VISIBLE_DEVICES" > /pfs/out/a', share=Share((), ("1", "3"))) as outcome:
        assert outcome.workspace is not None
        assert (outcome.workspace.out / "a").read_text() == "1,3\n"


def test_a_group_of_the_kernel_is_used_as_its_documentation_says(tmp_path: Path) -> None:
    """The files of cgroup v2, as plain ones: which are written, and what is read."""
    with ControlGroup(tmp_path, memory=1000, cpu=0.25) as group:
        (made,) = tmp_path.iterdir()
        assert (made / "memory.max").read_text() == "1000"
        assert (made / "memory.oom.group").read_text() == "1"
        assert (made / "cpu.max").read_text() == "25000 100000"
        done = subprocess.run(group.arguments(["sh", "-c", "echo $$"]), capture_output=True, text=True, check=True)
        assert (made / "cgroup.procs").read_text() == done.stdout
        assert not group.was_hit
        (made / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
        assert group.was_hit


def test_a_group_is_not_used_where_memory_is_not_delegated(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/\n0::/user.slice/app.slice/run.scope\n")
    parent = tmp_path / "user.slice" / "app.slice"
    parent.mkdir(parents=True)
    assert groups_at(tmp_path, own) is None
    (parent / "cgroup.subtree_control").write_text("cpu pids")
    groups_at.cache_clear()
    assert groups_at(tmp_path, own) is None
    (parent / "cgroup.subtree_control").write_text("cpu memory pids")
    groups_at.cache_clear()
    assert groups_at(tmp_path, own) is None, "the trial did not end up in a group"
    groups_at.cache_clear()


def test_a_group_has_the_limits_that_are_delegated(tmp_path: Path) -> None:
    cpu_only = Groups(tmp_path, frozenset({"cpu"}))
    assert cpu_only.group(memory=1000, cpu=None) is None
    made = cpu_only.group(memory=1000, cpu=2)
    assert made is not None
    with made:
        (place,) = tmp_path.iterdir()
        assert (place / "cpu.max").read_text() == "200000 100000"
        assert not (place / "memory.max").exists()
    assert Groups(tmp_path, frozenset({"memory"})).group(memory=None, cpu=2) is None


def _why_no_cpu_group() -> str:
    found = groups_at()
    if found is None or "cpu" not in found.controllers:
        return "no cgroup (version 2) with the controller cpu is delegated to this user here"
    return ""


@pytest.mark.skipif(bool(_why_no_cpu_group()), reason=_why_no_cpu_group())
def test_the_kernel_holds_a_task_to_a_part_of_a_core(run: Run) -> None:
    """Processor time is counted against time that passes: a busy machine makes it less, never more."""
    script = "cat /proc/self/cgroup > pfs/out/g; timeout 2 sh -c 'while :; do :; done'; times > pfs/out/t"
    with run(script, limits=Resources(cpu=0.25), datum_tries=1) as outcome:
        assert outcome.workspace is not None
        assert "/gitml-" in (outcome.workspace.out / "g").read_text()
        user = (outcome.workspace.out / "t").read_text().splitlines()[1].split()[0]
        minutes, _, seconds = user.rstrip("s").partition("m")
        assert int(minutes) * 60 + float(seconds) < 1.0, "of two seconds it may have had half a second"


def test_means_name_what_is_asked_for() -> None:
    assert Means.of(Resources()) == Means()
    means = Means.of(Resources(cpu=1, memory=5, disk=5, gpu=1))
    assert {*means.used, *means.missing} == {"cpu", "memory", "disk", "gpu"}
    assert means.used["disk"] == "RLIMIT_FSIZE, sum of sizes"


def test_sizes_count_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(bytes(5))
    (tmp_path / "b" / "d").hardlink_to(tmp_path / "a")
    (tmp_path / "e").symlink_to("a")
    assert size_below(tmp_path) == (15, 10)
