"""Which reader a file is for: by its first bytes, and by its name where those do not tell."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

from gitml.formats.archives import read_archive
from gitml.formats.arrays import read_npy, read_safetensors
from gitml.formats.graphs import read_gguf, read_onnx
from gitml.formats.objects import read_pickle
from gitml.formats.source import Expanding, Source
from gitml.formats.summary import FormatError, Summary
from gitml.formats.trees import read_lightgbm, read_xgboost

SUFFIXES = (
    ".safetensors", ".npy", ".npz", ".pkl", ".pickle", ".joblib", ".skops", ".pt", ".pth", ".bin", ".ckpt", ".onnx",
    ".gguf", ".keras", ".ubj", ".xgb", ".lgb", ".model", ".sav", ".h5", ".hdf5", ".pb", ".tflite",
)  # fmt: skip
"""Ends of names that models usually have."""

_EXPANDERS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(47)),
    (b"\x78\x01", lambda: zlib.decompressobj(47)),
    (b"\x78\x5e", lambda: zlib.decompressobj(47)),
    (b"\x78\x9c", lambda: zlib.decompressobj(47)),
    (b"\x78\xda", lambda: zlib.decompressobj(47)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lzma.LZMADecompressor),
    (b"\x5d\x00\x00", lzma.LZMADecompressor),
)
_OPAQUE = {b"\x89HDF\r\n\x1a\n": "HDF5", b"\x04\x22\x4d\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}


def looks_like_a_model(name: str, head: bytes) -> bool:
    """Whether a file is worth reading; `head` are its first bytes, at least 16 if it has as many."""
    lowered = name.lower()
    if head.startswith((b"\x93NUMPY", b"GGUF", b"tree\nversion=")):
        return True
    if lowered.endswith(SUFFIXES):
        return True
    return _is_safetensors(head) or (lowered.endswith((".json", ".txt")) and b'"learner"' in head[:64])


def summarize(file: IO[bytes], size: int, name: str) -> Summary:
    """What a file holds; opaque if it is nothing that is known, or not what it seems. Reads it in this process."""
    try:
        return _reader(file, size, name)
    except FormatError as error:
        return Summary(format="unknown", opaque=str(error))
    except RecursionError:
        return Summary(format="unknown", opaque="it is nested too deep")


def _reader(file: IO[bytes], size: int, name: str) -> Summary:
    head = file.read(64)
    file.seek(0)
    source = Source(file, size)
    lowered = name.lower()
    for magic, what in _OPAQUE.items():
        if head.startswith(magic):
            raise FormatError(f"{what} is not read")
    if head.startswith(b"\x93NUMPY"):
        return read_npy(source)
    if head.startswith(b"GGUF"):
        return read_gguf(source)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return read_archive(source)
    if _is_safetensors(head):
        return read_safetensors(source)
    if head.startswith(b"tree\n"):
        return read_lightgbm(source)
    if lowered.endswith(".onnx"):
        return read_onnx(source)
    if head[:1] == b"{":
        return read_xgboost(source)
    for magic, make in _EXPANDERS:
        if head.startswith(magic):
            expanded = Expanding(file, make())
            # how long it is, nobody knows before
            return read_pickle(Source(expanded, 1 << 62), "joblib")  # type: ignore[arg-type]
    if head[:1] == b"\x80" or lowered.endswith((".pkl", ".pickle", ".joblib", ".sav")):
        return read_pickle(source)
    raise FormatError("not the format of a model that is known")


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40
