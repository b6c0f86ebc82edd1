"""How the content of pack entries is deflated: fast by isal, small by libdeflate, or stored where that gains little."""

import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from types import ModuleType

_PROBE = 4096
_PROBED_FROM = 64 << 10
_LONG_RUN = 16
_SMALL_LEVEL = 5
"""Of libdeflate: the lowest that leaves less of tables than zlib at level 6, by which git deflates."""
_WORTH_IT = 0.9
"""The part of its bytes that content may keep at most, to be deflated."""


@cache
def isal() -> ModuleType:
    """The zlib of isal."""
    # 30 ms that whoever only reads need not pay
    from isal import isal_zlib  # noqa: PLC0415

    return isal_zlib


def deflated(
    data: bytes | bytearray | memoryview, *, noisy: bool = False, small: bool = False
) -> Sequence[bytes | bytearray | memoryview]:
    """The parts of a zlib stream of `data`.

    `noisy` says that nothing repeats in it, and that it follows more of its kind: then not each is probed. `small`
    takes five times as long, for a stream that is a tenth smaller.
    """
    compress: Callable[[bytes | bytearray | memoryview], bytes | bytearray]
    compress = _compress_small if small else _compress_fast
    if len(data) < _PROBED_FROM:
        stream = compress(data)
        return [stream] if len(stream) < len(data) or len(data) < 64 else list(_stored([data]))
    if _run.is_worth_a_try(data, noisy):
        stream = compress(data)
        if len(stream) < _WORTH_IT * len(data):
            _run.kept = 0
            return [stream]
    _run.kept += 1
    return list(_stored([data]))


def _compress_fast(data: bytes | bytearray | memoryview) -> bytes:
    stream: bytes = isal().compress(data, 1)
    return stream


def _compress_small(data: bytes | bytearray | memoryview) -> bytearray:
    import deflate  # noqa: PLC0415 - whoever reads, or adds what is long, need not load it

    stream: bytearray = deflate.zlib_compress(data, _SMALL_LEVEL)
    return stream


def deflated_stream(pieces: Iterator[bytes]) -> Iterator[bytes | memoryview]:
    """As `deflated`, for content in pieces, of which the first decides."""
    first = next(pieces, b"")
    if len(first) >= _PROBED_FROM and not _shrinks(first):
        yield from _stored(chain([first], pieces))
        return
    deflater = isal().compressobj(1)
    for piece in chain([first], pieces):
        if part := deflater.compress(piece):
            yield part
    yield deflater.flush()


class _Run(threading.local):
    """What a thread met last: neighbours are mostly alike, so not each need be probed."""

    kept = 1
    """How many in a row were kept as they are."""

    def is_worth_a_try(self, data: bytes | bytearray | memoryview, noisy: bool) -> bool:
        """What follows text is text until it does not shrink; of a long run of noise every fourth is probed."""
        if self.kept == 0:
            return True
        return not (noisy and self.kept >= _LONG_RUN and self.kept % 4) and _shrinks(data)


_run = _Run()


def _shrinks(data: bytes | bytearray | memoryview) -> bool:
    """Whether deflating is worth its time, and inflating at every checkout: four samples lose a tenth.

    Weights in float32 lose 7 %, at a fifth of the speed.
    """
    step = max((len(data) - _PROBE) // 3, 1)
    sample = b"".join(bytes(data[at : at + _PROBE]) for at in range(0, len(data) - _PROBE + 1, step))
    return len(isal().compress(sample, 1)) < _WORTH_IT * len(sample)


def _stored(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes | memoryview]:
    """A zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4)."""
    yield b"\x78\x01"
    checksum = 1
    for piece in pieces:
        checksum = isal().adler32(piece, checksum)
        view = memoryview(piece)
        for at in range(0, len(view), 0xFFFF):
            block = view[at : at + 0xFFFF]
            yield struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF)
            yield block
    yield b"\x01\x00\x00\xff\xff" + struct.pack(">L", checksum)
