"""safetensors, npy and npz.

safetensors: https://huggingface.co/docs/safetensors (format); npy: numpy.lib.format.
"""

import ast
import json
import zipfile
from typing import Any

from gitml.formats.source import MOST_ITEMS, Source
from gitml.formats.summary import FormatError, Summary, Tensor, flat

_WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
    "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


def read_safetensors(source: Source) -> Summary:
    """The header of a safetensors file; raise `FormatError`."""
    length = source.unpack("Q")
    header = load_json(source.read(length))
    if not isinstance(header, dict):
        raise FormatError("the header is no object")
    metadata = header.pop("__metadata__", {})
    base = 8 + length
    tensors = []
    for name, entry in header.items():
        try:
            begin, end = entry["data_offsets"]
            shape, dtype = tuple(entry["shape"]), entry["dtype"]
            tensor = Tensor(name, str(dtype), shape, (base + begin, end - begin))
            wrong = not all(isinstance(each, int) and each >= 0 for each in (*shape, begin, end))
            wrong = wrong or end < begin or base + end > source.size
            wrong = wrong or (dtype in _WIDTHS and tensor.count * _WIDTHS[dtype] != end - begin)
        except (KeyError, TypeError, ValueError):
            wrong = True
        if wrong:
            raise FormatError(f"the entry of tensor {name!r} is wrong")
        tensors.append(tensor)
    tensors.sort(key=lambda tensor: tensor.extent or (0, 0))
    facts = {f"metadata.{key}": str(value) for key, value in flat(metadata).items()}
    return Summary(format="safetensors", tensors=tuple(tensors), facts=facts)


def read_npy(source: Source, name: str = "") -> Summary:
    """The header of an npy file."""
    tensor = npy_header(source, name)
    start, count = source.tell(), source.size - source.tell()
    if tensor.dtype.startswith("|O") or "O" in tensor.dtype:
        return Summary(format="npy", tensors=(tensor,), warnings=("holds Python objects: loading it can run code",))
    return Summary(
        format="npy", tensors=(Tensor(tensor.name, tensor.dtype, tensor.shape, (start, count), tensor.order),)
    )


def npy_header(source: Source, name: str) -> Tensor:
    """What stands before the numbers; the source is behind it afterwards."""
    if source.read(6) != b"\x93NUMPY":
        raise FormatError("no npy file")
    major, _ = source.read(2)
    length = source.unpack("H") if major == 1 else source.unpack("I")
    if length > 1 << 20:
        raise FormatError(f"the header has {length} bytes")
    try:
        header = ast.literal_eval(source.read(length).decode("latin-1" if major < 3 else "utf-8"))
        shape, dtype = tuple(header["shape"]), header["descr"]
        if not all(isinstance(each, int) and each >= 0 for each in shape):
            raise FormatError("the shape is no tuple of numbers")
        return Tensor(name, dtype if isinstance(dtype, str) else str(dtype), shape,
                      order="F" if header["fortran_order"] else "C")  # fmt: skip
    except (SyntaxError, ValueError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise FormatError(f"the header cannot be read: {type(error).__name__}") from None


def read_npz(source: Source) -> Summary:
    """The headers of the arrays in an npz file."""
    tensors, warnings = [], []
    for info in members(source):
        if not info.filename.endswith(".npy"):
            continue
        name = info.filename.removesuffix(".npy")
        with open_member(source, info) as file:
            tensor = npy_header(Source(file, info.file_size), name)
            inner = file.tell()
        if "O" in tensor.dtype:
            warnings.append(f"{name} holds Python objects: loading it can run code")
        extent = None
        if info.compress_type == zipfile.ZIP_STORED:
            extent = (data_offset(source, info) + inner, info.file_size - inner)
        tensors.append(Tensor(name, tensor.dtype, tensor.shape, extent, tensor.order))
    return Summary(format="npz", tensors=tuple(tensors), warnings=tuple(warnings))


def members(source: Source) -> list[zipfile.ZipInfo]:
    """The files in a zip archive; raise `FormatError`."""
    try:
        source.seek(0)
        with zipfile.ZipFile(source.file) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, UnicodeDecodeError, OverflowError) as error:
        raise FormatError(f"no zip archive: {error}") from None
    if len(listed) > MOST_ITEMS:
        raise FormatError(f"{len(listed)} files in the archive")
    return listed


class open_member:  # noqa: N801 - used as a function
    """A file of a zip archive, to be read forward."""

    def __init__(self, source: Source, info: zipfile.ZipInfo) -> None:
        source.seek(0)
        try:
            self._archive = zipfile.ZipFile(source.file)
            self._file = self._archive.open(info)
        except (zipfile.BadZipFile, RuntimeError, ValueError, NotImplementedError, OSError, OverflowError) as error:
            raise FormatError(f"{info.filename!r} cannot be read: {error}") from None

    def __enter__(self) -> Any:
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()


def data_offset(source: Source, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored file begin (APPNOTE.TXT 4.3.7: the local header has lengths of its own)."""
    source.seek(info.header_offset)
    header = source.read(30)
    if header[:4] != b"PK\x03\x04":
        raise FormatError("a file of the archive is not where it should be")
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def load_json(data: bytes) -> Any:
    """A JSON document; raise `FormatError`, also for one that is nested without end."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"no JSON: {type(error).__name__}") from None
