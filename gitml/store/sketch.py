"""The sketch of a chunk: 32 bits that stay the same under small edits, so that versions of a chunk meet in a pack.

Part of the storage format: the sketch names the chunk in the data tree. It depends on the chunk's bytes alone, by
integer arithmetic only.
"""

_MULTIPLIER = 0x9E3779B97F4A7C15


def sketch(chunk: bytes | memoryview) -> int | None:
    """The 32-bit sketch of `chunk`; None if the chunk is incompressible and no delta will help it."""
    import numpy as np  # noqa: PLC0415  (0.13 s to import: only once a large content is stored)

    data = np.frombuffer(chunk, np.uint8)
    if len(data) < 8 or not _compressible(chunk):
        return None
    best = 0
    for shift in range(8):
        count = (len(data) - shift) // 8
        words = np.frombuffer(chunk, "<u8", count, shift)
        best = max(best, int((words * np.uint64(_MULTIPLIER)).max(initial=0)))
    best ^= best >> 32
    return (best * _MULTIPLIER >> 32) & 0xFFFFFFFF


def _compressible(chunk: bytes | memoryview) -> bool:
    import numpy as np  # noqa: PLC0415

    count = (len(chunk) - 3) // 4
    words = np.frombuffer(chunk, "<u4", count, 0)
    sample = words[:: max(1, count // 4096)]
    return len(np.unique(sample)) * 8 < len(sample) * 7
