"""How much of a content is under way at once, in which threads."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

TOGETHER = 4 << 20
"""Bytes of chunks from which on they are handed to a thread together: doing so costs more than a small one."""

GROUPS = 4
"""Groups of chunks that may be under way at a time, of at most `TOGETHER` and one chunk each."""

FEW = 3
"""Contents of no more chunks than this are treated without threads."""


def threads(count: int) -> "ThreadPoolExecutor":
    """So many threads that take work in turn."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - loads the logging package; small files do without

    return ThreadPoolExecutor(max_workers=count, thread_name_prefix="chunks")
