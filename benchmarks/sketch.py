"""How good deltas are under different names of the same chunks, and how fast the names are made.

    python -m benchmarks.sketch REPO PATH [--last N] [--sort COLUMNS]

Cuts every version of PATH, names the chunks by each variant, and packs them with `git repack -adf` at git's default
window. `--sort 4,0` sorts the rows of each version (a CSV with a header line) by these columns first. This is how the
sketch of format version 1 was chosen: docs/design/0002-storage-format.md.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from benchmarks.history import contents, size_below, versions
from gitml.oid import ObjectFormat
from gitml.store.chunker import Chunker
from gitml.store.sketch import sketch

Variant = Callable[[bytes], int]

MULTIPLIERS = [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F]


def windows(size: int, span: int | None) -> Variant:
    """The maximum of a hash over all windows of `size` (8 or 16) bytes in the first `span` bytes."""

    def variant(chunk: bytes) -> int:
        part, best = chunk[:span], 0
        for start in range(8):
            words = np.frombuffer(part, "<u8", max(0, len(part) - start) // 8, start)
            hashed = words * np.uint64(MULTIPLIERS[0])
            if size == 16:
                hashed = (hashed[:-1] ^ (hashed[:-1] >> np.uint64(29))) + words[1:] * np.uint64(MULTIPLIERS[1])
            best = max(best, int(hashed.max(initial=0)))
        return (best ^ best >> 32) * MULTIPLIERS[1] >> 32 & 0xFFFFFFFF

    return variant


VARIANTS: dict[str, Variant] = {
    "constant": lambda _: 0,
    "8 bytes, whole chunk": windows(8, None),
    "16 bytes, whole chunk": windows(16, None),
    "16 bytes, first 64 KiB": windows(16, 65536),
    "8 bytes, first 32 KiB": windows(8, 32768),
    "format version 1": lambda chunk: sketch(chunk) or 0,
}


def rows_sorted(data: bytes, columns: list[int]) -> bytes:
    """The first line, then the others sorted by `columns`."""
    head, *lines = data.split(b"\n")

    def key(line: bytes) -> list[bytes]:
        cells = line.split(b",")
        return [cells[column] if column < len(cells) else b"" for column in columns]

    return b"\n".join([head, *sorted(lines, key=key)])


def cut(data: bytes) -> list[bytes]:
    chunker = Chunker()
    return [bytes(chunk) for chunk in (*chunker.feed(data), *chunker.finish())]


def packed_size(where: Path, chunks: dict[str, bytes], lists: Iterable[list[str]], names: dict[str, str]) -> int:
    """Bytes of the pack of a history in which each version is a directory of chunks called by `names`."""
    git = ["git", "-C", str(where)]
    subprocess.run(["git", "init", "-q", "--bare", str(where)], check=True)
    command = [*git, "-c", "pack.compression=1", "-c", "core.bigFileThreshold=1", "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for chunk in chunks.values():
            process.stdin.write(b"blob\ndata %d\n%b\n" % (len(chunk), chunk))
        for number, chunk_ids in enumerate(lists):
            process.stdin.write(b"commit refs/heads/main\ncommitter B <b> %d +0000\ndata 0\ndeleteall\n" % number)
            occurrences: dict[str, int] = {}
            for chunk_id in dict.fromkeys(chunk_ids):
                name = names[chunk_id]
                occurrence = occurrences[name] = occurrences.get(name, -1) + 1
                process.stdin.write(f"M 100644 {chunk_id} data/{occurrence:02}-mlchunk-{name}\n".encode())
    if process.returncode != 0:
        raise SystemExit("git fast-import failed")
    # -f: fast-import left one pack, and git looks for no delta between whole objects of one pack
    subprocess.run([*git, "repack", "-adfq"], check=True)
    return size_below(where / "objects")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path, metavar="REPO")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--last", type=int, help="only the newest N versions")
    parser.add_argument("--sort", help="columns to sort rows by, from 0, separated by commas")
    options = parser.parse_args()
    chunks: dict[str, bytes] = {}
    lists: list[list[str]] = []
    for data in contents(options.repo, versions(options.repo, options.path, options.last)):
        content = rows_sorted(data, [int(column) for column in options.sort.split(",")]) if options.sort else data
        pieces = {ObjectFormat.SHA1.oid_of("blob", chunk).hex(): chunk for chunk in cut(content)}
        chunks |= pieces
        lists.append(list(pieces))
    total = sum(map(len, chunks.values())) / 1e6
    print(f"{options.path}: {len(lists)} versions, {len(chunks)} distinct chunks, {total:.0f} MB")
    print(f"{'':26}{'packed, MB':>12}{'MB/s':>8}{'sketches':>10}")
    for title, variant in VARIANTS.items():
        started = time.perf_counter()
        names = {chunk_id: f"{variant(chunk):08x}" for chunk_id, chunk in chunks.items()}
        seconds = time.perf_counter() - started
        with tempfile.TemporaryDirectory(prefix="sketch-") as temporary:
            size = packed_size(Path(temporary) / "repo", chunks, lists, names)
        print(f"{title:26}{size / 1e6:12.2f}{total / seconds:8.0f}{len(set(names.values())):10}", flush=True)


if __name__ == "__main__":
    main()
