"""The sketch of a chunk: 32 bits that stay the same under small edits, so that versions of a chunk meet in a pack.

Part of the storage format: the sketch names the chunk in the data tree (docs/format.md; measured in
docs/design/0002-storage-format.md). It depends on the chunk's bytes alone, by integer arithmetic only.

The sketch is a maximum of a hash over all 8-byte windows at the chunk's beginning: an edit changes it only if it hits
the one window that gave the maximum or makes a larger one, and where in the chunk a window lies makes no difference.
The idea is min-wise hashing (Broder, "On the resemblance and containment of documents", 1997).
"""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SPAN = 64 * 1024
"""Windows in the first this many bytes of the chunk are hashed: every chunk but the last of a content has them."""

WINDOW = 8
"""Bytes of a hashed window, read as a little-endian number."""

SAMPLES = 8192
"""About how many 4-byte samples decide whether a chunk is compressible."""

REPEATS = 64
"""A chunk is compressible if at least one of this many samples repeats another."""

_FEW = 1024
"""Samples that are looked at first where many are expected to repeat."""
_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, odd
_REMIX = 0xD6E8FEB86659FD93
_MASK = 2**64 - 1


def sketch(chunk: bytes | memoryview) -> int | None:
    """The 32-bit sketch of `chunk`; None if the chunk is incompressible, so that no delta will help it."""
    if len(chunk) < WINDOW or not is_compressible(chunk):
        return None
    import numpy as np  # noqa: PLC0415  (0.13 s to import: only once a large content is stored)

    windows = np.ndarray((min(len(chunk), SPAN) - WINDOW + 1,), "<u8", chunk, 0, (1,))
    return _mix(int((windows * np.uint64(_MULTIPLIER)).max()))


def is_compressible(chunk: bytes | memoryview) -> bool:
    """Whether short strings repeat in `chunk` as they do in text and tables, and do not in compressed or noisy data.

    4-byte samples are taken at every multiple of an odd stride, so that no column of a binary record is favoured.
    """
    import numpy as np  # noqa: PLC0415 - as in `sketch`

    if len(chunk) < 4:
        return False
    stride = len(chunk) // SAMPLES | 1
    count = (len(chunk) - 4) // stride + 1
    samples = np.ndarray((count,), "<u4", chunk, 0, (stride,))
    # what repeats among some repeats among all
    if _last.compressible and _repeats(samples[:_FEW]) * REPEATS >= count:
        return True
    _last.compressible = _repeats(samples) * REPEATS >= count
    return _last.compressible


def _repeats(samples: "np.ndarray") -> int:
    """How many samples are equal to an earlier one."""
    import numpy as np  # noqa: PLC0415 - as in `sketch`

    ordered = samples.copy()
    ordered.sort()
    return int(np.count_nonzero(ordered[1:] == ordered[:-1]))


class _Last(threading.local):
    """What a thread found last: chunks of one content are mostly alike, and text has a short way to its answer."""

    compressible = False


_last = _Last()


def _mix(value: int) -> int:
    """32 bits that all depend on all of `value`: the largest of many hashes begins with ones."""
    value ^= value >> 32
    value = value * _REMIX & _MASK
    value ^= value >> 32
    value = value * _REMIX & _MASK
    return value >> 32
