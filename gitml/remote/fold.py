"""Which packs a push takes into its own, so that their number grows with the logarithm of what they hold.

Packs have levels by size, each eight times the one below. Where seven packs of a level are at hand, the next becomes
one with them. Those that are not, because others pushed them, are read only once a level has four times as many. Each
object is written again about once a level, and packs of 512 MiB and more stay as they are.
"""

from collections.abc import Callable, Iterable

from gitml.remote.state import Kind, Pack

WIDTH = 8
"""Packs of a level that become one."""

MOST = 4 * WIDTH
"""Packs of a level from which on some are read to be folded, if too few are at hand."""

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


def to_fold(
    packs: Iterable[Pack], kind: Kind, size: int, how: str = AUTO, at_hand: Callable[[Pack], bool] = lambda _: True
) -> list[Pack]:
    """The packs that one of `size` bytes and this kind takes in. `at_hand` says which cost no request to the store."""
    left = [pack for pack in packs if pack.kind is kind and level_of(pack.size) is not None]
    if how == NOW:
        return left
    folded: list[Pack] = []
    last: int | None = None
    while how == AUTO:
        level = level_of(size)
        same = [pack for pack in left if level_of(pack.size) == level]
        if level in (None, last) or len(same) < WIDTH - 1:
            break
        last = level
        chosen = [pack for pack in same if at_hand(pack)]
        if len(chosen) < WIDTH - 1:
            if len(same) < MOST - 1:
                break
            chosen = (chosen + [pack for pack in same if pack not in chosen])[: WIDTH - 1]
        folded += chosen
        left = [pack for pack in left if pack not in chosen]
        size += sum(pack.size for pack in chosen)
    return folded
