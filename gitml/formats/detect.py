"""Which reader a file is for: by its first bytes, and by its name where those do not tell."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any, cast

from gitml.formats.archives import read_archive
from gitml.formats.arrays import read_npy, read_safetensors
from gitml.formats.graphs import read_gguf, read_onnx
from gitml.formats.hdf5 import MAGIC, read_hdf5
from gitml.formats.objects import read_pickle
from gitml.formats.source import MOST_EXPANDED, Expanding, Source
from gitml.formats.summary import FormatError, Summary, brief, plain
from gitml.formats.trees import read_lightgbm, read_xgboost
from gitml.record import replace

SUFFIXES = (
    ".safetensors", ".npy", ".npz", ".pkl", ".pickle", ".joblib", ".skops", ".pt", ".pth", ".bin", ".ckpt", ".onnx",
    ".gguf", ".keras", ".ubj", ".xgb", ".lgb", ".model", ".sav", ".h5", ".hdf5", ".pb", ".tflite",
)  # fmt: skip
"""Ends of names that models usually have."""
_PICKLES = (".pkl", ".pickle", ".joblib", ".sav")

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
_MAGICS: tuple[tuple[tuple[bytes, ...], str, Callable[[Source], Summary]], ...] = (
    ((b"\x93NUMPY",), "npy", read_npy),
    ((b"GGUF",), "gguf", read_gguf),
    ((MAGIC,), "hdf5", read_hdf5),
    ((b"PK\x03\x04", b"PK\x05\x06"), "zip", read_archive),
    ((b"tree\n",), "lightgbm", read_lightgbm),
)
_OPAQUE = {b"\x04\x22\x4d\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}


def looks_like_a_model(name: str, head: bytes) -> bool:
    """Whether a file is worth reading; `head` are its first bytes, at least 16 if it has as many."""
    lowered = name.lower()
    if head.startswith((b"\x93NUMPY", b"GGUF", MAGIC, b"tree\nversion=")):
        return True
    if lowered.endswith(SUFFIXES):
        return True
    return _is_safetensors(head) or (lowered.endswith((".json", ".txt")) and b'"learner"' in head[:64])


def summarize(file: IO[bytes], size: int, name: str) -> Summary:
    """What a file holds; opaque if it is nothing that is known, or not what it seems. Reads it in this process."""
    kind, source, read = _reader(file, size, name)
    try:
        summary = read(source)
    except FormatError as error:
        return Summary(format=kind, size=size, opaque=str(error))
    except RecursionError:
        return Summary(format=kind, size=size, opaque="it is nested too deep")
    except MemoryError:
        raise
    except Exception as error:  # a file can be wrong in more ways than readers ask for
        return Summary(format=kind, size=size, opaque=f"it is not built as it should be ({type(error).__name__})")
    return replace(
        summary, size=size, parameters={brief(key): plain(value) for key, value in summary.parameters.items()},
        facts={brief(key): brief(value) for key, value in summary.facts.items()},
    )  # fmt: skip


def _reader(file: IO[bytes], size: int, name: str) -> tuple[str, Source, Callable[[Source], Summary]]:
    """What a file seems to be, and what reads it."""
    file.seek(0)
    head = file.read(64)
    source = Source(file, size)
    lowered = name.lower()
    if head[:1] == b"\x80" and lowered.endswith((*_PICKLES, ".pt", ".pth", ".ckpt")):
        return "pickle", source, read_pickle  # whatever else it looks like: who loads it goes by its name
    for magic, what in _OPAQUE.items():
        if head.startswith(magic):
            return what, source, _refuse(f"{what} is not read")
    for magics, kind, read in _MAGICS:
        if head.startswith(magics):
            return kind, source, read
    if _is_safetensors(head):
        return "safetensors", source, read_safetensors
    if lowered.endswith(".onnx"):
        return "onnx", source, read_onnx
    if head[:1] == b"{":
        return "xgboost", source, read_xgboost
    if (expanded := expand(file, head)) is not None:
        # how long it is, nobody knows before
        return "joblib", Source(expanded, MOST_EXPANDED, ""), lambda source: read_pickle(source, "joblib")
    if head[:1] == b"\x80" or lowered.endswith(_PICKLES):
        return "pickle", source, read_pickle
    return "unknown", source, _refuse("not the format of a model that is known")


def expand(file: IO[bytes], head: bytes) -> IO[bytes] | None:
    """What a file expands to that begins with `head`, to be read forward; None if it is not compressed."""
    for magic, make in _EXPANDERS:
        if head.startswith(magic):
            file.seek(0)
            return cast("IO[bytes]", Expanding(file, make()))
    return None


def _refuse(why: str) -> Callable[[Source], Summary]:
    def read(_: Source) -> Summary:
        raise FormatError(why)

    return read


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40
