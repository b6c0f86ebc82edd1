"""Whether content is what is stored already: digests only, in several threads."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Self

from gitml.oid import ObjectFormat, Oid
from gitml.store import batches
from gitml.store.manifest import Chunk, Manifest
from gitml.store.pointer import Pointer


def compare_content(
    pieces: Iterable[bytes | memoryview],
    pointer: Pointer,
    manifest: Manifest,
    object_format: ObjectFormat,
    *,
    is_verified: bool = False,
) -> tuple[int, Iterator[bytes | memoryview]] | None:
    """None if `pieces` make up the content of `pointer`, whose manifest this is; then nothing needs to be stored.

    Else how many of its first chunks they begin with, and all bytes after those. Only digests are computed: of each
    chunk, and of the whole, because a pointer may carry the digest of something else, unless it `is_verified`.
    """
    source = _Source(pieces)
    waiting: deque[tuple[list[Chunk], list[bytes | memoryview], Callable[[], list[Oid]]]] = deque()
    equal = 0
    with _Digests(object_format, len(manifest.chunks), whole=not is_verified) as digests:
        for group in [*_grouped(manifest.chunks), []]:  # the last stands for the end
            if group:
                data = [source.take(chunk.size) for chunk in group]
                waiting.append((group, data, digests.take(data)))
            while waiting and (len(waiting) > batches.GROUPS or not group):
                chunks, data, named = waiting.popleft()
                for number, (chunk, oid) in enumerate(zip(chunks, named(), strict=True)):
                    if oid != chunk.oid:
                        left = chain(data[number:], *(data for _, data, _ in waiting), source.rest())
                        return equal + number, left
                equal += len(chunks)
        more = source.take(1)
    if more or (not is_verified and digests.whole() != pointer.sha256):
        return equal, chain([more], source.rest())
    return None


def _grouped(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks that are hashed together."""
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        group.append(chunk)
        size += chunk.size
        if size >= batches.TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Source:
    """Bytes that arrive in pieces, taken in other sizes."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def take(self, size: int) -> bytes | memoryview:
        """The next `size` bytes, fewer only at the end."""
        parts, left = [], size
        while left:
            piece = self._rest or memoryview(next(self._pieces, b""))
            if not piece:
                break
            parts.append(piece[:left])
            self._rest = piece[left:]
            left -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def rest(self) -> Iterator[bytes | memoryview]:
        """Everything that was not taken."""
        yield self._rest
        yield from self._pieces


class _Digests:
    """Computes the oids of chunks, in two threads if there are more than a few, and in another the sha256 of all."""

    def __init__(self, object_format: ObjectFormat, count: int, *, whole: bool) -> None:
        self._format = object_format
        self._is_wanted = whole
        self._digest = hashlib.sha256()
        self._pools = (batches.threads(2), batches.threads(1)) if count > batches.FEW else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools or ():
            pool.shutdown(cancel_futures=True)

    def whole(self) -> bytes:
        """The sha256 of everything, once the oid of every chunk was asked for."""
        return self._digest.digest()

    def take(self, group: Sequence[bytes | memoryview]) -> Callable[[], list[Oid]]:
        """Take the next chunks; what is given waits for their oids."""
        if self._pools is None:
            self._hash(group)
            oids = self._name(group)
            return lambda: oids
        naming, hashing = self._pools
        named, hashed = naming.submit(self._name, group), hashing.submit(self._hash, group)

        def oids_of() -> list[Oid]:
            hashed.result()
            return named.result()

        return oids_of

    def _name(self, group: Sequence[bytes | memoryview]) -> list[Oid]:
        return [self._format.oid_of("blob", data) for data in group]

    def _hash(self, group: Sequence[bytes | memoryview]) -> None:
        for data in group if self._is_wanted else ():
            self._digest.update(data)
