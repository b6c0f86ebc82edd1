"""Types of numbers: how wide one is, and how numpy would read it.

Two ways of naming them are known: that of safetensors (`BF16`), into which those of ONNX, GGUF and PyTorch are put, and
that of numpy (`<f8`). A file may name a type that there is not, so nothing here hands its text to numpy.
"""

import re

_NAMED = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|u1",
}  # fmt: skip
_OTHERS = {
    "BF16": 2, "F8_E4M3": 1, "F8_E4M3FN": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E5M2FNUZ": 1, "F8_E8M0": 1,
    "C64": 8, "C128": 16,
}  # fmt: skip
_NUMPY = re.compile(r"[<>|=]([biufcSVUmM])([0-9]{1,9})(?:\[\w+\])?")
_COMPARED = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


def width_of(dtype: str) -> int | None:
    """Bytes of one number of a type; None if that is not known."""
    if dtype in _OTHERS:
        return _OTHERS[dtype]
    match = _NUMPY.fullmatch(_NAMED.get(dtype, dtype))
    if match is None:
        return None
    # characters of numpy have four bytes
    return int(match[2]) * (4 if match[1] == "U" else 1)


def layout_of(dtype: str) -> str | None:
    """The type of numpy that reads such numbers; None for what cannot be subtracted. That of `BF16` is its raw bits."""
    if dtype == "BF16":
        return "<u2"
    layout = _NAMED.get(dtype, dtype)
    if _NUMPY.fullmatch(layout) is None or layout[1:] not in _COMPARED:
        return None
    # a byte that is no bool may stand for one in a file
    return ("|u1" if layout[1:] == "b1" else layout).replace("=", "<")
