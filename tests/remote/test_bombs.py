"""Packs that unfold without end, or that somebody made by hand."""

import hashlib
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.remote.conftest import clone
from tests.remote.worlds import (
    BLOB,
    COMMIT,
    TREE,
    Files,
)


def entry(kind: int, size: int, stream: bytes) -> bytes:
    head = []
    byte, size = kind << 4 | size & 15, size >> 4
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    return bytes([*head, byte]) + stream


def zeros(size: int) -> bytes:
    """A zlib stream of `size` zeros, a thousandth of that."""
    compressor = zlib.compressobj(1)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(size >> 20)) + compressor.flush()


# a process counts the memory of the one that started it until it runs its program, and a test process is large
WITH_PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


@pytest.mark.parametrize("filler", [0, 34 << 20], ids=["hashed by git", "hashed by gitml"])
@pytest.mark.parametrize("bomb", ["small size, much content", "size without end"])
def test_a_bomb_in_a_pack(filler: int, bomb: str, tmp_path: Path) -> None:
    stream = zeros(384 << 20)
    size = 1000 if bomb.startswith("small") else 1 << 40
    blob = bytes.fromhex("b0" * 20)
    fill = random.Random(1).randbytes(1 << 20)
    objects: list[tuple[bytes, int, int, bytes]] = [(blob, BLOB, size, entry(BLOB, size, stream))]
    names = [(b"bomb", blob)]
    for number in range(filler >> 20):
        content = b"%d" % number + fill
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).digest()
        objects.append((oid, BLOB, len(content), entry(BLOB, len(content), zlib.compress(content, 0))))
        names.append((b"fill%04d" % number, oid))
    tree = b"".join(b"100644 " + name + b"\0" + oid for name, oid in names)
    tree_oid = hashlib.sha1(b"tree %d\0" % len(tree) + tree).digest()
    objects.append((tree_oid, TREE, len(tree), entry(TREE, len(tree), zlib.compress(tree))))
    text = b"tree " + tree_oid.hex().encode() + b"\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    commit_oid = hashlib.sha1(b"commit %d\0" % len(text) + text).digest()
    objects.append((commit_oid, COMMIT, len(text), entry(COMMIT, len(text), zlib.compress(text))))
    store = write_store(tmp_path / "store", objects, commit_oid)
    command = ["git", "clone", store.url, str(tmp_path / "cloned")]
    done = subprocess.run(
        [sys.executable, "-c", WITH_PEAK, *command],
        env=Project(tmp_path).environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "fatal: " in done.stderr
    assert not (tmp_path / "cloned").exists()
    peak = int(done.stdout) >> 10
    print("peak of memory", peak, "MiB;", done.stderr)
    assert peak < 250


def write_store(path: Path, objects: list[tuple[bytes, int, int, bytes]], head: bytes) -> Files:
    """A store with one pack of these entries: oid, kind, size, bytes."""
    pack = b"PACK" + struct.pack(">LL", 2, len(objects))
    placed: dict[bytes, tuple[int, int, int, int]] = {}
    parts = [pack]
    at = len(pack)
    for oid, kind, size, data in objects:
        placed[oid] = (at, zlib.crc32(data), kind, min(size, 0xFFFFFFFF))
        parts.append(data)
        at += len(data)
    body = b"".join(parts)
    trailer = hashlib.sha1(body).digest()
    body += trailer
    order = sorted(placed)
    git = b"\xfftOc\0\0\0\2" + struct.pack(">256L", *(sum(oid[0] <= byte for oid in order) for byte in range(256)))
    git += b"".join(order)
    git += struct.pack(f">{len(order)}L", *(placed[oid][1] for oid in order))
    git += struct.pack(f">{len(order)}L", *(placed[oid][0] for oid in order)) + trailer
    git += hashlib.sha1(git).digest()
    ours = git + bytes(placed[oid][2] for oid in order)
    ours += struct.pack(f">{len(order)}L", *(placed[oid][3] for oid in order))
    store = Files(path, trailer.hex())
    (path / "packs").mkdir(parents=True)
    store.index.write_bytes(ours + hashlib.sha256(ours).digest())
    if len(body) <= 16 << 20:
        (path / "packs" / f"{store.newest}.pack").write_bytes(body)
    else:
        (path / "packs" / store.newest).mkdir()
        for number, start in enumerate(range(0, len(body), 16 << 20)):
            (path / "packs" / store.newest / f"{number:05}").write_bytes(body[start : start + (16 << 20)])
    store.set_state(
        {
            "format": 1, "object_format": "sha1", "head": "refs/heads/main",
            "refs": {"refs/heads/main": {"oid": head.hex()}},
            "packs": [{"id": store.newest, "size": len(body), "objects": len(order), "kind": "code"}],
            "dropped": [], "sweeps": 0, "update": "",
        }
    )  # fmt: skip
    return store


def test_the_store_that_the_tests_write_is_one(tmp_path: Path) -> None:
    text = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    commit_oid = hashlib.sha1(b"commit %d\0" % len(text) + text).digest()
    tree_oid = hashlib.sha1(b"tree 0\0").digest()
    objects = [
        (commit_oid, COMMIT, len(text), entry(COMMIT, len(text), zlib.compress(text))),
        (tree_oid, TREE, 0, entry(TREE, 0, zlib.compress(b""))),
    ]
    store = write_store(tmp_path / "store", objects, commit_oid)
    assert clone(store.url, tmp_path / "cloned").head() == commit_oid.hex()
