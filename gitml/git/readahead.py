"""Reading the next block while the last one is being worked on."""

from collections.abc import Iterator
from typing import TypeVar

_T = TypeVar("_T")


def read_ahead(blocks: Iterator[_T]) -> Iterator[_T]:
    """The same blocks in the same order, each taken by another thread while the one before it is in use.

    What `blocks` raises passes through, in its place.
    """
    # loads the logging package; whoever reads little does without
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - loads the logging package

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as pool:
        following = pool.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = pool.submit(next, blocks, None)
            yield block
