"""What a process asks of libraries before large contents pass through it.

Content moves in blocks of about a megabyte, each of which lives for a moment. glibc gives blocks of this size back to
the system at once and asks for new ones, which the system clears and maps page by page: that takes as long as one of
the digests. So a process that stores much keeps some of what it has freed.
"""

import ctypes
import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt` (glibc: malloc.h)."""
_KEPT = 64 << 20
"""Bytes that may stay free at the end of an area before they go back."""
_MAPPED = 32 << 20
"""Bytes from which on a block is mapped by itself: the most that glibc takes."""


@cache
def keep_freed_memory() -> bool:
    """Have blocks of large contents used again from now on; False where the C library is another than glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT) and mallopt(_MMAP_THRESHOLD, _MAPPED))


def spare_threads() -> None:
    """Have NumPy start none, if it is not loaded yet: those of its linear algebra keep a processor busy for 0.1 s."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
