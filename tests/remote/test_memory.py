"""Large transfers take little memory, whatever their size: ours and git's."""

import random
import shutil
from pathlib import Path

from tests.end_to_end.memory import peak_of
from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore

SIZE = 768 << 20
MOST = 300_000_000


def test_a_large_file_takes_little_memory_both_ways(new_store: NewStore, work: Project, tmp_path: Path) -> None:
    work.ml("init")
    work.write(".gitattributes", "*.bin filter=ml -text\n")
    chance = random.Random(1)
    with (work.path / "large.bin").open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(chance.randbytes(1 << 20))
    work.ml("add", "large.bin")
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "large")
    (work.path / "large.bin").unlink()
    # one file for both stores: it takes longer to make than to send
    for kind in ("file", "rclone"):
        url = new_store(kind)
        sent = peak_of(work, "git", "push", "-q", url, "HEAD:refs/heads/main")
        fetched = peak_of(Project(tmp_path), "git", "clone", "-q", "--mirror", url, f"{kind}.git")
        assert {"git", "git-remote-ml"} <= fetched.keys() & sent.keys(), kind
        for memory in (sent, fetched):
            assert max(memory.values()) <= MOST, (kind, memory)
        copy = Project(tmp_path / f"{kind}.git")
        assert int(copy.git("rev-list", "--count", "--objects", "--all")) > SIZE // (1 << 20)
        shutil.rmtree(copy.path)
