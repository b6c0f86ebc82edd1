"""Packs on their way into a store: several objects at a time, those that arrived before are not sent again."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from gitml.remote.outgoing import Outgoing
from gitml.remote.packs import PACKS, index_key, pieces
from gitml.remote.progress import Progress
from gitml.remote.store import PARALLEL, Store


def upload(store: Store, outgoing: Iterable[Outgoing], *, shown: bool) -> None:
    """Put packs into a store, in any order: nobody looks at them before refs do. Raise `StoreError`.

    A pack is named by its content, so pieces that are there already are those that are meant.
    """
    packs = list(outgoing)
    with (
        Progress("Sending packs", sum(each.pack.size for each in packs), shown=shown) as progress,
        ExitStack() as opened,
    ):
        threads = ThreadPoolExecutor(PARALLEL)
        try:
            for _ in threads.map(lambda send: send(), list(_objects(store, packs, progress, opened))):
                pass
        finally:
            threads.shutdown(cancel_futures=True)


def _objects(
    store: Store, packs: Iterable[Outgoing], progress: Progress, opened: ExitStack
) -> Iterator[Callable[[], None]]:
    """What is to be put, each as a call that does it."""
    for each in packs:
        wanted = pieces(each.pack.id, each.pack.size)
        there: dict[str, int] = {}
        if len(wanted) > 1:
            there = {listed.key: listed.size for listed in store.bucket.list(f"{PACKS}/{each.pack.id}")}
        source = os.open(each.path, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, source)
        for key, start, end in wanted:
            known = there.get(key) == end - start
            yield partial(_send, store, progress, source, key, start, end, known=known)
        yield partial(_send_index, store, each)


def _send(store: Store, progress: Progress, source: int, key: str, start: int, end: int, *, known: bool) -> None:
    if known:
        store.bucket.rely_on(key)
        progress.skip(end - start)
    else:
        store.bucket.write_part(key, source, start, end)
        progress.advance(end - start)


def _send_index(store: Store, each: Outgoing) -> None:
    store.bucket.write(index_key(each.pack.id), each.index)
    store.keep_index(each.pack, each.index)
