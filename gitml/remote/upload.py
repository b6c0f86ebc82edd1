"""Packs on their way into a store: several pieces at a time, those that arrived before are not sent again."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from gitml.errors import GitmlError
from gitml.remote.outgoing import Outgoing
from gitml.remote.packs import PACKS, index_key, pieces
from gitml.remote.progress import Progress
from gitml.remote.store import PARALLEL, Store


def upload(store: Store, outgoing: Iterable[Outgoing], *, shown: bool) -> None:
    """Put packs into a store, each with its index last; raise `StoreError`.

    A pack is named by its content, so pieces that are there already are those that are meant.
    """
    packs = list(outgoing)
    with Progress("Sending packs", sum(each.pack.size for each in packs), shown=shown) as progress:
        for each in packs:
            _upload_pieces(store, each, progress)
            store.bucket.write(index_key(each.pack.id), each.index)
            store.keep_index(each.pack, each.index)


def _upload_pieces(store: Store, each: Outgoing, progress: Progress) -> None:
    wanted = pieces(each.pack.id, each.pack.size)
    there: dict[str, int] = {}
    if len(wanted) > 1:
        there = {listed.key: listed.size for listed in store.bucket.list(f"{PACKS}/{each.pack.id}")}
    descriptor = os.open(each.path, os.O_RDONLY | os.O_CLOEXEC)

    def send(piece: tuple[str, int, int]) -> None:
        key, start, end = piece
        if there.get(key) == end - start:
            store.bucket.rely_on(key)
            progress.skip(end - start)
            return
        data = os.pread(descriptor, end - start, start)
        if len(data) != end - start:
            raise GitmlError(f"pack '{each.path}' was cut short while it was sent")
        store.bucket.write(key, data)
        progress.advance(end - start)

    threads = ThreadPoolExecutor(PARALLEL)
    try:
        for _ in threads.map(send, wanted):
            pass
    finally:
        threads.shutdown(cancel_futures=True)
        os.close(descriptor)
