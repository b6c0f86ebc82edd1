"""Large packs, which `git gc` keeps as they are (`gc.bigPackThreshold`, set by `install`), and what in them is garbage.

To copy and hash gigabytes that do not compress, whenever something small has come, gains nothing. What a prune gave up
inside such a pack stays there, though, until the pack is written anew.
"""

from collections.abc import Iterator
from pathlib import Path

from gitml.errors import CorruptError
from gitml.git.packindex import PackIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import record

BIG_PACK_THRESHOLD = "gc.bigPackThreshold"
_WORTH_IT = 0.1
"""The share of large packs that must be garbage before they are written anew."""


@record
class LargePacks:
    """Bytes of all packs that `git gc` would keep, and how many of them nothing reaches."""

    size: int
    garbage: int

    @property
    def worth_packing(self) -> bool:
        """Whether writing them anew frees enough for what it costs."""
        return self.garbage > _WORTH_IT * self.size


def measure_large_packs(repo: Repository) -> LargePacks:
    """What lies in packs above `gc.bigPackThreshold`. Reads the whole history if there is any such pack."""
    limit = repo.config_int(BIG_PACK_THRESHOLD, 0)
    packs = [path for path in _packs(repo) if limit and path.stat().st_size >= limit]
    if not packs:
        return LargePacks(0, 0)
    sizes: dict[Oid, int] = {}
    for path in packs:
        for oid, size in _entries(repo, path):
            sizes[oid] = sizes.get(oid, 0) + size
    total = sum(path.stat().st_size for path in packs)
    listing = ("rev-list", "--objects", "--no-object-names", "--missing=allow-any", "--all", "--reflog")
    with repo.git.popen(*listing, "--indexed-objects") as process:
        assert process.stdout is not None
        for line in process.stdout:
            sizes.pop(Oid.parse(line.strip()), None)
    # where git cannot tell, nothing counts as garbage, and git gc says what is wrong
    return LargePacks(total, 0 if process.returncode else sum(sizes.values()))


def _packs(repo: Repository) -> Iterator[Path]:
    """Packs that `git gc` may write anew, without those of git's own garbage and those that a promisor holds too."""
    for path in (repo.objects_dir / "pack").glob("pack-*.pack"):
        if not any(path.with_suffix(suffix).exists() for suffix in (".keep", ".mtimes", ".promisor")):
            yield path


def _entries(repo: Repository, pack: Path) -> list[tuple[Oid, int]]:
    """Each object of a pack and the bytes of its entry; none of a pack whose index cannot be read."""
    try:
        index = PackIndex(pack.with_suffix(".idx"), repo.format)
    except (CorruptError, OSError):
        return []
    starts = sorted((index.offset(position), position) for position in range(len(index)))
    ends = [*(offset for offset, _ in starts[1:]), pack.stat().st_size - repo.format.size]
    return [(index.oid(position), end - start) for (start, position), end in zip(starts, ends, strict=True)]
