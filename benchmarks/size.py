"""What changed layers of a model cost, whether chunks of noise are searched for deltas, and what gc costs.

    python -m benchmarks.size [model] [delta] [gc] [--model-size MB] [--gc-size GIB] [--gc-piece MIB] [--only NAME,...]
        [--directory DIR]

model   Two versions of a synthetic safetensors file with 24 layers, of which 3 changed, into gitml, plain git, git-lfs
        and what else is installed: bytes after the first version and after the second, and what the second adds.
delta   The same repository packed from nothing, as `git repack -adf` does: how many objects git searches for deltas, as
        its progress counts them, with the attribute that gitml sets for chunks of noise and without it.
gc      Files of noise of 1 GiB (or MIB), added one commit after the other, then `git gc` and the same once more, each
        beside a copy of the packs with `cp` and a sync. Then without `gc.bigPackThreshold`, which `git ml install`
        sets: what git must do there and `cp` need not is to hash all it writes, measured by hashing as many bytes with
        git.
"""

import argparse
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.history import SYSTEMS, Place, installed, seal
from gitml.care.largepacks import BIG_PACK_THRESHOLD

LAYERS = 24
CHANGED = (5, 12, 20)
NAME = "model.safetensors"
PIECE = 1 << 20

# what a layer of a transformer has, in shares of its bytes: attention, feed-forward, norms
TENSORS = {"q": 4, "k": 4, "v": 4, "o": 4, "up": 16, "down": 16, "norm1": 0, "norm2": 0}


def noise(rng: random.Random, size: int) -> Iterator[bytes]:
    for start in range(0, size, PIECE):
        yield rng.randbytes(min(PIECE, size - start))


def model(size: int, version: int) -> Iterator[bytes]:
    """A safetensors file of about `size` bytes; in version 1 the layers `CHANGED` are others."""
    share = size // LAYERS // sum(TENSORS.values()) // 4 * 4
    header, offset, tensors = {}, 0, []
    for layer in range(LAYERS):
        for name, parts in TENSORS.items():
            length = share * parts or 4096
            header[f"layers.{layer:02}.{name}.weight"] = {
                "dtype": "F32", "shape": [length // 4], "data_offsets": [offset, offset + length],
            }  # fmt: skip
            offset += length
            tensors.append((layer, name, length))
    text = json.dumps(header, separators=(",", ":")).encode()
    yield struct.pack("<Q", len(text)) + text
    for layer, name, length in tensors:
        seed = f"{layer} {name} {version if layer in CHANGED else 0}"
        yield from noise(random.Random(seed), length)


def write(path: Path, pieces: Iterator[bytes]) -> int:
    with path.open("wb") as file:
        return sum(file.write(piece) for piece in pieces)


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure_model(root: Path, size: int, wanted: list[str]) -> None:
    print(f"two versions of a model of {size / 1e6:.0f} MB, {len(CHANGED)} of {LAYERS} layers changed "
          f"(ideal: {100 * len(CHANGED) / LAYERS:.1f} %)")  # fmt: skip
    print(f"{'':10}{'one, MB':>10}{'both, MB':>10}{'second adds, %':>16}{'in, s':>8}{'again, s':>10}")
    for system in SYSTEMS:
        if system.name not in wanted or not installed(system):
            continue
        place = Place(root / system.name, NAME)
        place.work.mkdir(parents=True)
        system.set_up(place)
        sizes, seconds = [], []
        for version in range(2):
            write(place.file, model(size, version))
            started = time.perf_counter()
            system.take(place, version)
            seconds.append(time.perf_counter() - started)
            system.repack(place)
            sizes.append(system.size(place))
        added = 100 * (sizes[1] - sizes[0]) / sizes[0]
        print(
            f"{system.name:10}{sizes[0] / 1e6:10.1f}{sizes[1] / 1e6:10.1f}{added:16.1f}"
            f"{seconds[0]:8.1f}{seconds[1]:10.1f}",
            flush=True,
        )
        shutil.rmtree(place.root)


def searched(place: Place) -> tuple[int, int]:
    """Objects that a repack from nothing searches for deltas, and all objects.

    `git repack` shows progress in a terminal only, so pack-objects is asked for the same itself.
    """
    options = ["pack-objects", "--stdout", "--all", "--no-reuse-delta", "--no-reuse-object", "--delta-base-offset"]
    done = subprocess.run(
        ["git", "-c", "pack.threads=1", *options, "--progress"],
        cwd=place.work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
        env={**os.environ, "GIT_PROGRESS_DELAY": "0"},
    )
    said = done.stderr.decode()
    candidates = re.findall(r"Compressing objects: +\d+% \(\d+/(\d+)\)", said)
    total = re.findall(r"Total (\d+)", said)
    return int(candidates[-1]) if candidates else 0, int(total[-1])


def measure_delta(root: Path, size: int) -> None:
    system = next(system for system in SYSTEMS if system.name == "gitml")
    place = Place(root / "delta", NAME)
    place.work.mkdir(parents=True)
    system.set_up(place)
    for version in range(2):
        write(place.file, model(size, version))
        system.take(place, version)
    listing = ["git", "rev-list", "--objects", "--all", "--filter=object:type=blob", "--filter-provided-objects"]
    named = subprocess.run(listing, cwd=place.work, check=True, capture_output=True, text=True).stdout
    noisy = {line.split()[0] for line in named.splitlines() if line.endswith(".mlx")}
    print(f"\n{len(noisy)} chunks of noise: objects that git searches for deltas")
    attributes = place.work / ".git/info/attributes"
    for label in ("as gitml sets it up", "without the attribute"):
        started = time.perf_counter()
        candidates, total = searched(place)
        seconds = time.perf_counter() - started
        print(f"  {label:24}{candidates:8} of {total}   {seconds:.1f} s", flush=True)
        attributes.unlink(missing_ok=True)
    shutil.rmtree(place.root)


def measure_gc(root: Path, gibibytes: int, piece: int) -> None:
    system = next(system for system in SYSTEMS if system.name == "gitml")
    place = Place(root / "gc", "0.bin")
    place.work.mkdir(parents=True)
    system.set_up(place)
    place.run("git", "ml", "track", "*.bin")
    for number in range((gibibytes << 10) // piece):
        file = place.work / f"{number}.bin"
        write(file, noise(random.Random(number), piece << 20))
        system.take(place, number)
        file.unlink()
        place.run("git", "update-index", "--skip-worktree", file.name)
    packs = place.work / ".git/objects/pack"
    count = len(list(packs.glob("*.pack")))
    print(f"\ngc of {gibibytes} GiB of chunks of noise in files of {piece} MiB, in {count} packs")
    print(f"{'':12}{'gc, s':>8}{'copy, s':>9}{'ratio':>7}{'hashing alone, s':>18}")
    for label in ("first gc", "again", "all anew"):
        if label == "all anew":
            place.run("git", "config", BIG_PACK_THRESHOLD, "0")
        copy = timed(lambda: copy_packs(packs, root / "copy"))
        hashing = timed(lambda: hash_packs(packs))
        gc = timed(lambda: system.repack(place))
        print(f"{label:12}{gc:8.1f}{copy:9.1f}{gc / copy:7.2f}{hashing:18.1f}", flush=True)
    print(f"{len(list(packs.glob('*.pack')))} packs, {system.size(place) / 1e9:.2f} GB")
    shutil.rmtree(place.root)


def copy_packs(packs: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-r", "--reflink=never", packs, target], check=True)
    subprocess.run(["sync", "-f", target], check=True)
    shutil.rmtree(target)


def hash_packs(packs: Path) -> None:
    # above the threshold git would deflate as well
    command = ["git", "-c", "core.bigFileThreshold=1000g", "hash-object", "--no-filters", "--"]
    for pack in packs.glob("*.pack"):
        subprocess.run([*command, pack], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="model, delta, gc; by default all")
    parser.add_argument("--model-size", type=int, default=1000, metavar="MB")
    parser.add_argument("--gc-size", type=int, default=10, metavar="GIB", help="needs about three times the space")
    parser.add_argument("--gc-piece", type=int, default=1024, metavar="MIB", help="size of each file")
    parser.add_argument("--only", help="systems for model, separated by commas")
    parser.add_argument("--directory", type=Path, help="where to work, by default the directory for temporary files")
    options = parser.parse_args()
    parts = options.parts or ["model", "delta", "gc"]
    if set(parts) - {"model", "delta", "gc"}:
        parser.error(f"unknown part: {' '.join(parts)}")
    wanted = options.only.split(",") if options.only else [system.name for system in SYSTEMS]
    with tempfile.TemporaryDirectory(prefix="size-", dir=options.directory) as temporary:
        root = Path(temporary)
        seal(root / "home")
        if shutil.which("git-ml") is None:
            sys.exit("git-ml is not installed")
        if "model" in parts:
            measure_model(root, options.model_size * 1_000_000, wanted)
        if "delta" in parts:
            measure_delta(root, options.model_size * 1_000_000)
        if "gc" in parts:
            measure_gc(root, options.gc_size, options.gc_piece)


if __name__ == "__main__":
    main()
