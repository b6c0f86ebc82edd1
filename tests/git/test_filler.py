"""Faults while files are filled in: kills, damage, a full disk, somebody else at work."""

import errno
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.git.worktree import Materialised, materialise
from gitml.store.content import store_content
from gitml.store.pointer import Pointer, format_pointer
from tests.conftest import run_git

ROUNDS = int(os.environ.get("GITML_KILL_ROUNDS", "6"))
LARGE = 6_000_000
ODD = b"d/odd\n\xff.big"
CONTENTS = {
    b"large.big": (1, LARGE),
    ODD: (2, 200_000),
    b"same.big": (2, 200_000),
    b"x.big": (3, 70_000),
}

KILLER = """
import os, signal, sys, threading
from pathlib import Path
from gitml.git.repository import Repository
from gitml.git.worktree import materialise
left = int(sys.argv[2])
repository = Repository.discover(Path(sys.argv[1]))
calls = 0
def watch(frame, event, what):
    global calls
    if event == "c_call" and getattr(what, "__module__", None) in ("posix", "fcntl", "_io", None):
        calls += 1
        if calls == left:
            os.kill(os.getpid(), signal.SIGKILL)
threading.setprofile(watch)
sys.setprofile(watch)
materialise(repository, None)
sys.setprofile(None)
print(calls)
"""


def noise(seed: int, size: int) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def content(path: bytes) -> bytes:
    return noise(*CONTENTS[path])


@pytest.fixture
def repository(repo: Path) -> Repository:
    """A repository in which pointers stand, as they do after a clone."""
    repository = Repository.discover(repo)
    (repo / ".gitattributes").write_text("*.big filter=ml -text\n")
    for path in CONTENTS:
        place = repo / os.fsdecode(path)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(format_pointer(put(repository, content(path))))
    run_git(repo, "add", "-A")
    run_git(repo, "commit", "-q", "-m", "c")
    run_git(repo, "config", "filter.ml.process", f"'{sys.executable}' -P -m gitml filter-process")
    run_git(repo, "config", "filter.ml.required", "true")
    return repository


def put(repository: Repository, data: bytes) -> Pointer:
    with PackWriter(repository.objects_dir, repository.format) as pack:
        pointer = store_content([data], pack).pointer
        pack.finish()
    return pointer


def is_filled(repository: Repository, path: bytes) -> bool:
    """Whether a file holds its content; if not it must be its pointer, untouched."""
    assert repository.worktree is not None
    found = (repository.worktree / os.fsdecode(path)).read_bytes()
    if found == content(path):
        return True
    assert hashlib.sha1(b"blob %d\0" % len(found) + found).hexdigest() == repository.git.line(
        "rev-parse", f"HEAD:{os.fsdecode(path)}"
    )
    return False


def status(repository: Repository) -> str:
    assert repository.worktree is not None
    return run_git(repository.worktree, "status", "--porcelain")


def remains(repository: Repository) -> list[Path]:
    return list((repository.git_dir / "ml/tmp").iterdir())


def killed(repository: Repository, at: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-P", "-c", KILLER, str(repository.worktree), str(at)], capture_output=True, check=False
    )


def test_whoever_is_killed_leaves_whole_files_and_nothing_modified(repository: Repository) -> None:
    total = int(killed(repository, -1).stdout)
    assert all(is_filled(repository, path) for path in CONTENTS)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, {total} calls")
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        for path in CONTENTS:
            (repository.git_dir.parent / os.fsdecode(path)).unlink()
        run_git(
            repository.git_dir.parent, "-c", "filter.ml.process=", "-c", "filter.ml.required=false", "checkout", "."
        )
        at = rng.randrange(1, total)
        done = killed(repository, at)
        assert done.returncode in (0, -9), done.stderr.decode()
        filled = [is_filled(repository, path) for path in CONTENTS]
        # git leaves it too, and tells its user to remove it
        (repository.git_dir / "index.lock").unlink(missing_ok=True)
        assert status(repository) == "", f"killed at {at}"
        materialise(repository, None)
        assert all(is_filled(repository, path) for path in CONTENTS)
        assert status(repository) == ""
        if any(not was for was in filled):
            assert remains(repository) == [], "the next one sweeps up"


def test_two_at_once(repository: Repository) -> None:
    command = [sys.executable, "-P", "-c", KILLER, str(repository.worktree), "-1"]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert all(is_filled(repository, path) for path in CONTENTS)
    assert remains(repository) == []
    assert status(repository) == ""


class Meddler:
    """Does something once, while the large file is on its way."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act
        self._expected = False

    def expect(self, files: int, size: int) -> None:
        if self._expected:
            # the large file stays as it is
            assert (files, size) == (-1, -max(size for _, size in CONTENTS.values()))
            return
        self._expected = True
        assert files == len(CONTENTS)
        assert size == sum(size for _, size in CONTENTS.values())

    def advance(self, size: int) -> None:
        assert size > 0
        if self._act is not None and size not in {70_000, 200_000}:
            self._act()
            self._act = None


def test_a_file_that_the_user_saves_meanwhile_is_left_alone(repository: Repository, repo: Path) -> None:
    result = materialise(repository, None, Meddler(lambda: (repo / "large.big").write_bytes(b"mine")))
    assert result.kept == (b"large.big",)
    assert set(result.done) == CONTENTS.keys() - {b"large.big"}
    assert (repo / "large.big").read_bytes() == b"mine"
    assert remains(repository) == []
    assert status(repository) == " M large.big"


def test_a_file_that_the_user_deletes_meanwhile_stays_deleted(repository: Repository, repo: Path) -> None:
    result = materialise(repository, None, Meddler((repo / "large.big").unlink))
    assert result.kept == (b"large.big",)
    assert not (repo / "large.big").exists()


def test_a_locked_index_is_no_reason_to_lose_anything(repository: Repository) -> None:
    lock = repository.git_dir / "index.lock"
    result = materialise(repository, None, Meddler(lock.touch))
    assert set(result.done) == set(CONTENTS)
    lock.unlink()
    assert status(repository) == "", "git compares by itself"


def pack_of(repository: Repository, path: bytes) -> Path:
    """The pack that holds the chunks of one content."""
    assert repository.worktree is not None
    sizes = {pack.stat().st_size: pack for pack in (repository.objects_dir / "pack").glob("*.pack")}
    wanted = CONTENTS[path][1]
    return sizes[min(sizes, key=lambda size: abs(size - wanted))]


def damaged(repository: Repository, damage: Callable[[Path], object]) -> Materialised:
    pack = pack_of(repository, b"large.big")
    pack.chmod(0o644)
    damage(pack)
    result = materialise(repository, None)
    assert set(result.done) == CONTENTS.keys() - {b"large.big"}
    assert not is_filled(repository, b"large.big")
    assert remains(repository) == []
    assert status(repository) == ""
    return result


def test_a_flipped_bit_is_named(repository: Repository) -> None:
    def flip(pack: Path) -> None:
        content = bytearray(pack.read_bytes())
        content[LARGE // 2] ^= 1
        pack.write_bytes(content)

    error = damaged(repository, flip).failed[b"large.big"]
    assert error.message.startswith("object '")
    assert error.message.endswith("' is damaged, git cannot read it")


def test_a_truncated_pack_is_named(repository: Repository) -> None:
    result = damaged(repository, lambda pack: os.truncate(pack, LARGE // 2))
    # git takes a pack of another length than its index says for no pack at all
    assert b"large.big" in {**result.missing, **result.failed}


def test_a_deleted_index_of_a_pack_is_missing_content(repository: Repository) -> None:
    result = damaged(repository, lambda pack: pack.with_suffix(".idx").unlink())
    assert "is missing" in result.missing[b"large.big"]


def test_wrong_content_under_a_right_name_is_named(repository: Repository) -> None:
    # a pack with good checksums in which the bytes of one chunk are those of another: only the digests can tell
    good = pack_of(repository, b"x.big")
    with PackWriter(repository.objects_dir, repository.format) as writer:
        oid = repository.format.oid_of("blob", content(b"x.big"))
        wrong = writer.write("blob", noise(9, 70_000))
        forged = writer.finish()
    assert forged is not None
    index = forged.with_suffix(".idx")
    index.chmod(0o644)
    data = index.read_bytes().replace(wrong, oid)
    fanout = b"".join((0 if byte < oid[0] else 1).to_bytes(4) for byte in range(256))
    index.write_bytes(data[:8] + fanout + data[8 + 1024 :])
    good.with_suffix(".idx").rename(good.with_suffix(".away"))
    manifest = [pack for pack in (repository.objects_dir / "pack").glob("*.pack") if pack not in (good, forged)]
    assert manifest
    result = materialise(repository, [b"x.big"])
    assert not is_filled(repository, b"x.big")
    assert b"x.big" in {**result.failed, **result.missing}


def test_a_full_disk_leaves_the_pointer_and_says_so(repository: Repository) -> None:
    limited = (
        "import resource, sys; from pathlib import Path\n"
        "from gitml.git.repository import Repository; from gitml.git.worktree import materialise\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "result = materialise(Repository.discover(Path(sys.argv[1])), None)\n"
        "print(result.failed[b'large.big'].message, '|', len(result.done))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", limited, str(repository.worktree)], capture_output=True, check=True
    )
    assert done.stdout.decode() == f"no space left for {LARGE} bytes | 3\n"
    assert not is_filled(repository, b"large.big")
    assert remains(repository) == []
    assert status(repository) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_named(repository: Repository, repo: Path) -> None:
    (repo / "d").chmod(0o555)
    try:
        result = materialise(repository, None)
    finally:
        (repo / "d").chmod(0o755)
    assert result.failed[ODD].message == "cannot write the file: Permission denied"
    assert len(result.done) == len(CONTENTS) - 1


class Cloning:
    """Stands for a file system that shares blocks, or for one that cannot; notes who was to share with whom."""

    def __init__(self, *, works: bool) -> None:
        self.asked: list[tuple[Path, Path]] = []
        self._works = works

    def ioctl(self, target: int, request: int, source: int) -> int:
        assert request == 0x40049409, "FICLONE of linux/fs.h"
        self.asked.append((_name_of(target), _name_of(source)))
        if not self._works:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        assert os.fstat(target).st_size == 0, "shared before anything was written"
        os.pwrite(target, os.pread(source, os.fstat(source).st_size, 0), 0)
        return 0


def _name_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


@pytest.mark.parametrize("works", [True, False])
def test_equal_contents_share_their_bytes_where_the_file_system_can(
    repository: Repository, repo: Path, monkeypatch: pytest.MonkeyPatch, *, works: bool
) -> None:
    same = dict.fromkeys((b"e.big", b"f.big"), CONTENTS[ODD])
    monkeypatch.setitem(CONTENTS, b"e.big", CONTENTS[ODD])
    monkeypatch.setitem(CONTENTS, b"f.big", CONTENTS[ODD])
    for path in same:
        (repo / os.fsdecode(path)).write_bytes((repo / os.fsdecode(ODD)).read_bytes())
    run_git(repo, "add", "-A")
    run_git(repo, "commit", "-q", "-m", "same")
    cloning = Cloning(works=works)
    monkeypatch.setattr("gitml.git.filler.fcntl.ioctl", cloning.ioctl)
    # one file at a time, so that the first is there when the next is asked for
    monkeypatch.setattr("gitml.git.filler._THREADS", 1)
    assert set(materialise(repository, None).done) == set(CONTENTS)
    assert all(is_filled(repository, path) for path in CONTENTS)
    assert remains(repository) == []
    assert status(repository) == ""
    targets, sources = zip(*cloning.asked, strict=True)
    # who cannot share once is not asked again
    assert len(targets) == (3 if works else 1)
    assert all(target.parent == repository.git_dir / "ml" / "tmp" for target in targets)
    assert set(sources) < {repo / os.fsdecode(path) for path in (ODD, b"same.big", *same)}
