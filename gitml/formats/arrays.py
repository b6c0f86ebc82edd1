"""safetensors, npy and npz.

safetensors: https://huggingface.co/docs/safetensors (format); npy: numpy.lib.format.
"""

import ast
import json
from itertools import pairwise
from typing import Any

from gitml.formats.dtypes import width_of
from gitml.formats.objects import labels
from gitml.formats.pickles import Global, Machine
from gitml.formats.source import Archive, Source
from gitml.formats.summary import FormatError, Summary, Tensor, flat
from gitml.record import replace

_LONGEST_HEADER = 1 << 16
"""Bytes of the header of an npy file: literals nest, and Python's parser is not made for hostile ones."""


def read_safetensors(source: Source) -> Summary:
    """The header of a safetensors file; raise `FormatError`."""
    length = source.unpack("Q")
    header = load_json(source.read(length))
    if not isinstance(header, dict):
        raise FormatError("the header is no object")
    metadata = header.pop("__metadata__", {})
    base = 8 + length
    tensors = [_tensor(name, entry, base, source.size) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: tensor.extent or (0, 0))
    facts = {f"metadata.{key}": str(value) for key, value in flat(metadata).items()}
    return Summary(
        format="safetensors", tensors=tuple(tensors), facts=facts,
        warnings=tuple(_gaps([(base, 0), *(each.extent for each in tensors if each.extent), (source.size, 0)])),
    )  # fmt: skip


def _tensor(name: str, entry: Any, base: int, size: int) -> Tensor:
    try:
        begin, end = entry["data_offsets"]
        shape, dtype = tuple(entry["shape"]), entry["dtype"]
        wrong = not all(type(each) is int and each >= 0 for each in (*shape, begin, end)) or not isinstance(dtype, str)
    except (KeyError, TypeError, ValueError):
        wrong = True
    if not wrong:
        tensor = Tensor(name, dtype, shape, (base + begin, end - begin))
        width = width_of(dtype)
        if begin <= end and base + end <= size and (width is None or tensor.count * width == end - begin):
            return tensor
    raise FormatError(f"the entry of tensor {name[:200]!r} is wrong")


def _gaps(extents: list[tuple[int, int]]) -> list[str]:
    """What the library would refuse: bytes of two tensors, or of none (safetensors: tensor.rs, Metadata::validate)."""
    ends = [(start, start + length) for start, length in extents]
    found = []
    if any(before[1] > after[0] for before, after in pairwise(ends)):
        found.append("tensors overlap")
    hidden = sum(max(0, after[0] - before[1]) for before, after in pairwise(ends))
    if hidden:
        found.append(f"{hidden} bytes belong to no tensor")
    return found


def read_npy(source: Source) -> Summary:
    """The header of an npy file."""
    tensor = npy_header(source, "")
    if _holds_objects(tensor):
        names = _pickled_names(source)
        warnings = ("holds Python objects: loading it can run code", *labels(names))
        return Summary(format="npy", tensors=(tensor,), globals=tuple(sorted(names)), warnings=warnings)
    length = _length(tensor)
    if length is not None:
        tensor = replace(tensor, extent=source.skip(length))
    return Summary(format="npy", tensors=(tensor,))


def npy_header(source: Source, name: str) -> Tensor:
    """What stands before the numbers; the source is behind it afterwards."""
    if source.read(6) != b"\x93NUMPY":
        raise FormatError("no npy file")
    major, _ = source.read(2)
    length = source.unpack("H") if major == 1 else source.unpack("I")
    if length > _LONGEST_HEADER:
        raise FormatError(f"the header has {length} bytes")
    try:
        header = ast.literal_eval(source.read(length).decode("latin-1" if major < 3 else "utf-8"))
        shape, dtype = tuple(header["shape"]), header["descr"]
        if not all(type(each) is int and 0 <= each < 1 << 63 for each in shape) or len(shape) > 64:
            raise FormatError("the shape is no tuple of numbers")
        return Tensor(name, dtype if isinstance(dtype, str) else str(dtype), shape,
                      order="F" if header["fortran_order"] else "C")  # fmt: skip
    except (SyntaxError, ValueError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise FormatError(f"the header cannot be read: {type(error).__name__}") from None


def read_npz(archive: Archive) -> Summary:
    """The headers of the arrays in an npz file."""
    tensors, warnings = [], []
    names: dict[str, Global | None] = {}
    for filename in archive.members:
        if not filename.endswith(".npy"):
            continue
        tensor = member_array(archive, filename, filename.removesuffix(".npy"))
        if _holds_objects(tensor):
            warnings.append(f"{tensor.name} holds Python objects: loading it can run code")
            source = archive.open(filename)
            npy_header(source, "")
            names.update(_pickled_names(source))
        tensors.append(tensor)
    return Summary(
        format="npz", tensors=tuple(tensors), globals=tuple(sorted(names)), warnings=(*warnings, *labels(names))
    )  # fmt: skip


def _pickled_names(source: Source) -> dict[str, Global | None]:
    """The names that the pickle refers to which follows the header of an array of objects."""
    machine = Machine(source)
    machine.run()
    return machine.globals


def member_array(archive: Archive, filename: str, name: str) -> Tensor:
    """The array that an npy file in an archive holds."""
    source = archive.open(filename)
    tensor = npy_header(source, name)
    length = _length(tensor)
    if length is None:
        return tensor
    extent, part = archive.place(filename, source.tell(), length)
    return replace(tensor, extent=extent, part=part)


def _holds_objects(tensor: Tensor) -> bool:
    # also in fields of records: [('a', '|O')]
    return "O" in tensor.dtype


def _length(tensor: Tensor) -> int | None:
    width = width_of(tensor.dtype)
    return None if width is None else tensor.count * width


def load_json(data: bytes) -> Any:
    """A JSON document; raise `FormatError`, also for one that is nested without end."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"no JSON: {type(error).__name__}") from None
