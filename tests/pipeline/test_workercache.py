"""The cache of workers, with several real processes that share it and die in it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitml.pipeline.limits import size_below
from gitml.pipeline.workercache import WorkerCache

_BEGIN = """
import os, random, sys, time
from pathlib import Path
from gitml.pipeline.workercache import WorkerCache
cache = WorkerCache(Path(sys.argv[1]), int(sys.argv[2]))
"""

WORK = """
seen = set()
for number in range(25):
    with cache.entered() as place:
        own = place / f"{os.getpid()}-{number}"
        own.write_bytes(bytes(10_000))
        found = set(place.glob("*-*"))
        time.sleep(random.uniform(0, 0.02))
        lost = found - set(place.glob("*-*"))
        assert own in found and not lost, lost
    cache.keep_bound()
    seen.add(place.name)
assert len(seen) > 1
"""

EMPTY = "print('ready', flush=True); cache.keep_bound()"

HOLD = """
with cache.entered() as place:
    (place / "file").write_bytes(bytes(1000))
    print("ready", flush=True)
    time.sleep(600)
"""


def start(code: str, directory: Path, limit: int) -> subprocess.Popen[bytes]:
    """A process that runs `code` with a cache; if it says that it is ready, it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN + code, directory, str(limit)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if "ready" in code:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def kept(directory: Path) -> int:
    """Bytes in caches that batches use or may use, while they come and go."""
    return sum(size_below(place)[0] for place in directory.iterdir() if not place.name.startswith("gone-"))


def fill(directory: Path, files: int) -> None:
    """A cache with that many empty files in one directory."""
    with WorkerCache(directory).entered() as place:
        (place / "below").mkdir()
        for number in range(files):
            (place / "below" / str(number)).touch()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"lock"}


def test_a_cache_is_used_until_it_is_full_and_goes_with_its_last_batch(tmp_path: Path) -> None:
    cache = WorkerCache(tmp_path, 1000)
    with cache.entered() as first:
        (first / "a").write_bytes(bytes(1000))
    cache.keep_bound()
    with cache.entered() as place, cache.entered() as again:
        assert place == again == first
        (first / "b").write_bytes(b"1")
        cache.keep_bound()
        assert (first / "a").exists()
        with cache.entered() as second:
            assert second != first
        cache.keep_bound()
    cache.keep_bound()
    assert names(tmp_path) == set()


def test_another_process_removes_what_is_full(tmp_path: Path) -> None:
    with WorkerCache(tmp_path, 10).entered() as place:
        (place / "file").write_bytes(bytes(11))
        start("cache.keep_bound()", tmp_path, 10).communicate()
        assert names(tmp_path) == {place.name}
    start("cache.keep_bound()", tmp_path, 10).communicate()
    assert names(tmp_path) == set()


@pytest.mark.parametrize("limit", [200_000, 0])
def test_processes_that_share_a_cache_keep_its_bound_and_lose_nothing(tmp_path: Path, limit: int) -> None:
    processes = [start(WORK, tmp_path, limit) for _ in range(4)]
    most = 0
    while any(process.poll() is None for process in processes):
        most = max(most, kept(tmp_path))
        time.sleep(0.002)
    for process in processes:
        assert process.communicate()[1] == b""
    # four batches at once, each with the few that began in the same cache before one of them ended
    assert 0 < most <= limit + 4 * 4 * 10_000
    WorkerCache(tmp_path, limit).keep_bound()
    assert kept(tmp_path) <= limit
    assert len(names(tmp_path)) <= 1


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 10, 30])
def test_half_a_cache_is_never_used(tmp_path: Path, milliseconds: int) -> None:
    fill(tmp_path, 3000)
    process = start(EMPTY, tmp_path, -1)
    time.sleep(milliseconds / 1000)
    kill(process)
    with WorkerCache(tmp_path).entered() as place:
        assert len(list(place.glob("below/*"))) in (0, 3000)


def test_who_is_killed_while_a_cache_is_removed_leaves_it_to_the_next(tmp_path: Path) -> None:
    fill(tmp_path, 20_000)
    process = start(EMPTY, tmp_path, -1)
    while not (gone := list(tmp_path.glob("gone-*"))):
        assert process.poll() is None
    kill(process)
    assert any(gone[0].iterdir()), "it was to die in the middle"
    cache = WorkerCache(tmp_path, 1000)
    with cache.entered() as place:
        assert not (place / "below").exists()
    cache.keep_bound()
    assert names(tmp_path) == {place.name}


def test_what_a_killed_process_was_in_can_be_removed(tmp_path: Path) -> None:
    process = start(HOLD, tmp_path, 10)
    cache = WorkerCache(tmp_path, 10)
    cache.keep_bound()
    assert len(names(tmp_path)) == 1
    kill(process)
    cache.keep_bound()
    assert names(tmp_path) == set()


def test_one_process_removes_a_cache_and_others_leave_it_to_that(tmp_path: Path) -> None:
    fill(tmp_path, 20_000)
    process = start(EMPTY, tmp_path, -1)
    while not (gone := list(tmp_path.glob("gone-*"))):
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    WorkerCache(tmp_path, 0).keep_bound()
    assert any(gone[0].iterdir()), "the other one was to be at it"
    process.send_signal(signal.SIGCONT)
    assert process.communicate()[1] == b""
    assert names(tmp_path) == set()


def test_what_a_killed_git_makes_anew_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef" / "sha1.git" / "objects").mkdir(parents=True)
    cache = WorkerCache(tmp_path)
    with cache.entered() as place:
        assert not (place / "sha1.git").exists()
    cache.keep_bound()
    assert names(tmp_path) == {place.name}


def test_images_count_and_are_measured_once(tmp_path: Path) -> None:
    cache = WorkerCache(tmp_path, 5000)
    with cache.entered() as place:
        root = place / "sha1.git" / "ml" / "images" / "sha256-1" / "root"
        root.mkdir(parents=True)
        (root / "file").write_bytes(bytes(3000))
        (place / "other").write_bytes(bytes(2000))
        cache.keep_bound()
        assert names(tmp_path) == {place.name}
        (root / "more").write_bytes(bytes(3000))  # no image grows: this one shows that it was not read again
    cache.keep_bound()
    assert names(tmp_path) == {place.name}
    WorkerCache(tmp_path, 5000).keep_bound()
    assert names(tmp_path) == set()


def test_without_a_limit_half_of_the_free_disk_stays_free(tmp_path: Path) -> None:
    cache = WorkerCache(tmp_path)
    disk = os.statvfs(tmp_path)
    assert 0 < cache.bound(0) < disk.f_blocks * disk.f_frsize / 2
    assert cache.bound(2 << 60) > 1 << 60
