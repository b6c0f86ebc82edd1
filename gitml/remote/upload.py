"""Packs on their way into a store: several objects at a time, those that arrived before are not sent again."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from gitml.record import replace
from gitml.remote.outgoing import Outgoing
from gitml.remote.packs import directory_of, index_key, pieces
from gitml.remote.progress import Progress
from gitml.remote.state import Pack, State
from gitml.remote.store import PARALLEL, Store


def upload(store: Store, state: State, outgoing: Iterable[Outgoing], *, shown: bool) -> list[Pack]:
    """Put packs into a store, in any order: nobody looks at them before refs do. Give them as `state` is to name them.

    A pack is named by its content, so pieces that are there already are those that are meant. Raise `StoreError`.
    """
    packs = [replace(each, pack=state.placed(each.pack)) for each in outgoing]
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
    return [each.pack for each in packs]


def _objects(
    store: Store, packs: Iterable[Outgoing], progress: Progress, opened: ExitStack
) -> Iterator[Callable[[], None]]:
    """What is to be put, each as a call that does it."""
    for each in packs:
        wanted = pieces(each.pack)
        there: dict[str, int] = {}
        if len(wanted) > 1:
            there = {listed.key: listed.size for listed in store.bucket.list(directory_of(each.pack))}
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
    store.bucket.write(index_key(each.pack), each.index)
    store.keep_index(each.pack, each.index)
