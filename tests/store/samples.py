"""Contents that tests are written against: made by rules that any language can follow, the same for ever."""

import hashlib
import json
import struct
from functools import cache


@cache
def noise(size: int, seed: bytes = b"noise") -> bytes:
    """Incompressible bytes: the output of SHAKE-128."""
    return hashlib.shake_128(seed).digest(size)


@cache
def table(rows: int, first: int = 0) -> bytes:
    """A CSV table; column values follow from the row number by a linear congruence."""
    lines = [b"id,value,name,share\n"]
    for row in range(first, first + rows):
        value = (row * 1103515245 + 12345) & 0x7FFFFFFF
        lines.append(b"%d,%d,item-%03d,0.%06d\n" % (row, value % 1000, value % 997, value % 1000003))
    return b"".join(lines)


def safetensors(sizes: list[int], seed: bytes = b"tensors", first: bytes | None = None) -> bytes:
    """A safetensors file of noise with one F32 tensor of each of `sizes` bytes; `first` replaces the first tensor."""
    offset, header = 0, {}
    for number, size in enumerate(sizes):
        header[f"layer.{number}.weight"] = {
            "dtype": "F32",
            "shape": [size // 4],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    tensors = [noise(size, seed + b"%d" % number) for number, size in enumerate(sizes)]
    if first is not None:
        tensors[0] = first
    return struct.pack("<Q", len(text)) + text + b"".join(tensors)
