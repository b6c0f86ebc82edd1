"""Joining small packs of bookkeeping (trees and records that are versions of each other) into one, by git itself.

Git finds deltas between their objects, as it would in `git gc`; `pack.consolidate` copies them as they are, which is
right for data.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gitml.git.repository import Repository
from gitml.oid import Oid

_WORTH = 8
"""Fewer packs than these are left to `git gc`."""


def repack(repo: Repository, packs: Iterable[Path]) -> Path | None:
    """Join packs of this process into one, then delete them; give the new one, None if they stay as they are.

    Packs that are gone or kept (`.keep`) stay out of it. What fails changes nothing: the packs are good as they are.
    """
    sources = [each for each in dict.fromkeys(packs) if each.exists() and not each.with_suffix(".keep").exists()]
    if len(sources) < _WORTH:
        return None
    directory = repo.objects_dir / "pack"
    done = repo.git.run(
        "pack-objects", "--quiet", "--stdin-packs", "--delta-base-offset", "--threads=1", str(directory / "pack"),
        input=b"".join(each.name.encode() + b"\n" for each in sources), check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return None  # before git 2.31, or one was taken away meanwhile
    result = directory / f"pack-{Oid.parse(done.stdout.strip())}.pack"
    for path in sources:
        if path != result:
            with suppress(OSError):
                path.with_suffix(".idx").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
    return result
