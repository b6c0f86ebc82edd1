"""Content as a seekable binary file that reads, and where need be fetches, only the chunks it touches."""

import hashlib
import io
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, Self

from gitml.oid import Oid
from gitml.store.content import ContentError, read_chunk
from gitml.store.manifest import Manifest, ManifestError
from gitml.store.odb import ObjectReader
from gitml.store.pointer import Pointer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KEPT_CHUNKS = 8
"""Chunks that a file keeps, at most 1 MiB each: readers of columns and footers come back to them."""

MAX_AHEAD = 64
"""Most chunks that are asked for ahead of a sequential reader in one request."""


class ChunkSource(Protocol):
    """Where chunks come from: reads objects, once they are here."""

    @property
    def reader(self) -> ObjectReader:
        """Reads what is here."""
        ...

    def provide(self, oids: Iterable[Oid]) -> None:
        """See to it that blobs are here; raise `MissingDataError` if that cannot be."""
        ...


class ContentReader(io.BufferedReader):
    """A binary file: `read`, `seek`, `tell` and so on as in `io`, and the content's `size` in bytes."""

    def __init__(self, raw: "RawContent") -> None:
        super().__init__(raw, 64 * 1024)
        self.size = raw.size

    def __enter__(self) -> Self:
        super().__enter__()
        return self


class RawContent(io.RawIOBase):
    """A read-only file of `size` bytes that calls `on_close` once when it is closed."""

    def __init__(self, name: str, size: int, on_close: Callable[[], None]) -> None:
        self.name = name
        self.size = size
        self._at = 0
        self._on_close: Callable[[], None] | None = on_close

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; positions beyond the end are allowed and read as the end."""
        self._check_open()
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}
        if whence not in bases:
            raise ValueError(f"unknown whence {whence}")
        at = bases[whence] + offset
        if at < 0:
            raise ValueError(f"negative position {at}")
        self._at = at
        return at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` with what follows; the number of bytes, 0 at the end."""
        self._check_open()
        with memoryview(buffer) as view, view.cast("B") as target:
            if self._at >= self.size or not target:
                return 0
            with memoryview(self._piece(self._at)) as piece, piece[: len(target)] as part:
                target[: len(part)] = part
                self._at += len(part)
                return len(part)

    def readall(self) -> bytes:
        """All that follows."""
        self._check_open()
        pieces = []
        while self._at < self.size:
            pieces.append(bytes(self._piece(self._at)))
            self._at += len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        """Let go of everything; a second time does nothing."""
        if not self.closed:
            super().close()
            done, self._on_close = self._on_close, None
            if done is not None:
                done()

    def _piece(self, at: int) -> bytes | memoryview:
        """Bytes of the content from `at` on, at least one; `at` is below the size."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class ChunkedContent(RawContent):
    """The content behind a pointer. Each chunk is verified when it is read; the whole, once all was read in order."""

    def __init__(
        self, name: str, pointer: Pointer, manifest: Manifest, source: ChunkSource, on_close: Callable[[], None]
    ) -> None:
        if manifest.size != pointer.size:
            raise ManifestError(f"{manifest.size} bytes, the pointer says {pointer.size}", pointer.manifest)
        super().__init__(name, pointer.size, on_close)
        self._sha256 = pointer.sha256
        self._chunks = manifest.chunks
        self._ends = array("Q", accumulate(chunk.size for chunk in manifest.chunks))
        self._source = source
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._last = -1
        self._ahead = 1
        self._digest = hashlib.sha256()
        self._hashed = 0

    def _piece(self, at: int) -> memoryview:
        index = bisect_right(self._ends, at)
        data = self._chunk(index)
        return memoryview(data)[at - self._ends[index] + len(data) :]

    def _chunk(self, index: int) -> bytes:
        data = self._kept.get(index)
        if data is None:
            self._ahead = min(self._ahead * 2, MAX_AHEAD) if index == self._last + 1 else 1
            self._last = index
            self._source.provide(chunk.oid for chunk in self._chunks[index : index + self._ahead])
            data = read_chunk(self._chunks[index], index, self._source.reader)
            self._kept[index] = data
            if len(self._kept) > KEPT_CHUNKS:
                self._kept.popitem(last=False)
            self._verify(index, data)
        else:
            self._kept.move_to_end(index)
        return data

    def _verify(self, index: int, data: bytes) -> None:
        """Take the digest of the whole as far as chunks were read one after the other; compare it at the end."""
        if index != self._hashed:
            return
        self._digest.update(data)
        self._hashed += 1
        if self._hashed == len(self._chunks) and self._digest.digest() != self._sha256:
            raise ContentError(f"content has sha256 {self._digest.hexdigest()}, the pointer says {self._sha256.hex()}")


class PlainContent(RawContent):
    """Content that git stores as it is, from a file of its own."""

    def __init__(self, name: str, size: int, file: io.BufferedIOBase, on_close: Callable[[], None]) -> None:
        super().__init__(name, size, on_close)
        self._file = file

    def _piece(self, at: int) -> bytes:
        self._file.seek(at)
        return self._file.read(1 << 20)

    def close(self) -> None:
        """Close the file as well."""
        self._file.close()
        super().close()
