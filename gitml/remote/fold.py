"""Which packs a push takes into its own, so that their number grows with the logarithm of what they hold.

Packs have levels by size, each eight times the one below. A level has at most seven packs: the eighth becomes one with
them. Each object is written again about once a level, and packs of 512 MiB and more stay as they are.
"""

from collections.abc import Iterable

from gitml.remote.state import Kind, Pack

WIDTH = 8
"""Packs of a level that become one."""

LOWEST = 1 << 20
"""Bytes below which a pack is of level 0."""

LARGEST = 512 << 20
"""Bytes from which on a pack is folded no more."""

NEVER, NOW, AUTO = "never", "now", "auto"


def level_of(size: int) -> int | None:
    """The level of a pack of `size` bytes, None for one that is folded no more."""
    if size >= LARGEST:
        return None
    level = 0
    while size >= LOWEST:
        size //= WIDTH
        level += 1
    return level


def to_fold(packs: Iterable[Pack], kind: Kind, size: int, how: str = AUTO) -> list[Pack]:
    """The packs that one of `size` bytes and this kind takes in."""
    left = [pack for pack in packs if pack.kind is kind and level_of(pack.size) is not None]
    if how == NOW:
        return left
    folded: list[Pack] = []
    while how == AUTO:
        level = level_of(size)
        same = [pack for pack in left if level_of(pack.size) == level]
        if level is None or len(same) < WIDTH - 1:
            break
        folded += same
        left = [pack for pack in left if pack not in same]
        size += sum(pack.size for pack in same)
    return folded
