"""ONNX and GGUF.

ONNX: onnx/onnx.proto3, of which only what is needed is read, from the wire (protobuf.dev: encoding).
GGUF: ggml/docs/gguf.md.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from gitml.formats.dtypes import width_of
from gitml.formats.source import MOST_ITEMS, Source
from gitml.formats.summary import FormatError, Summary, Tensor

_ONNX_TYPES = (
    "undefined", "F32", "U8", "I8", "U16", "I16", "I32", "I64", "string", "BOOL", "F16", "F64", "U32",
    "U64", "C64", "C128", "BF16", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "U4", "I4", "F4",
)  # fmt: skip
_LONGEST_TEXT = 1 << 20


def _varint(source: Source) -> int:
    value = shift = 0
    while True:
        byte = source.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF
        shift += 7
        if shift > 63:
            raise FormatError("a number without end")


def _fields(source: Source, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, wire type and value of each field up to `end`; the value of a text or message is its length."""
    while source.tell() < end:
        key = _varint(source)
        number, wire = key >> 3, key & 7
        if wire == 0:
            yield number, wire, _varint(source)
        elif wire == 2:
            length = _varint(source)
            start = source.tell()
            if start + length > end:
                raise FormatError(f"a field has {length} bytes, {end - start} are left")
            yield number, wire, length
            source.seek(start + length)
        elif wire in (1, 5):
            source.skip(8 if wire == 1 else 4)
        else:
            raise FormatError(f"unknown wire type {wire}")
    if source.tell() != end:
        raise FormatError("a message ends in the middle of a field")


def _text(source: Source, length: int) -> str:
    if length > _LONGEST_TEXT:
        raise FormatError(f"a text has {length} bytes")
    return source.read(length).decode("utf-8", "replace")


def read_onnx(source: Source) -> Summary:
    """An ONNX model; raise `FormatError`."""
    facts: dict[str, str] = {}
    found = _Graph()
    for number, wire, value in _fields(source, source.size):
        if (number, wire) == (1, 0):
            facts["ir version"] = str(value)
        elif wire == 2 and number in (2, 3, 4, 6):
            title = {2: "producer", 3: "producer version", 4: "domain", 6: "doc"}[number]
            facts[title] = _text(source, value)[:200]
        elif (number, wire) == (5, 0):
            facts["model version"] = str(value)
        elif (number, wire) == (7, 2):
            found.read(source, source.tell() + value)
        elif (number, wire) == (8, 2):
            domain, version = "", ""
            for inner, kind, each in _fields(source, source.tell() + value):
                if (inner, kind) == (1, 2):
                    domain = _text(source, each)
                elif (inner, kind) == (2, 0):
                    version = str(each)
            facts[f"opset {domain or 'ai.onnx'}"] = version
        elif (number, wire) == (14, 2):
            pair = {
                inner: _text(source, each) for inner, kind, each in _fields(source, source.tell() + value) if kind == 2
            }
            facts[f"metadata.{pair.get(1, '')[:100]}"] = pair.get(2, "")[:200]
    if not found.seen:
        raise FormatError("no ONNX model: there is no graph")
    weights = {tensor.name for tensor in found.tensors}
    facts["nodes"] = str(sum(found.operators.values()))
    facts.update({f"operator {name}": str(count) for name, count in sorted(found.operators.items())})
    facts.update({f"output {name}": kind for name, kind in found.outputs.items()})
    facts.update({f"input {name}": kind for name, kind in found.inputs.items() if name not in weights})
    return Summary(
        format="onnx", tensors=tuple(found.tensors), facts=facts,
        features=tuple(name for name in found.inputs if name not in weights), warnings=tuple(found.warnings),
    )  # fmt: skip


class _Graph:
    """What the graphs of a model have, those inside of nodes included."""

    def __init__(self) -> None:
        self.seen = False
        self.tensors: list[Tensor] = []
        self.operators: Counter[str] = Counter()
        self.inputs: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        self.warnings: list[str] = []

    def read(self, source: Source, end: int, depth: int = 0) -> None:
        """A GraphProto."""
        if depth > 50:
            raise FormatError("graphs within graphs without end")
        self.seen = True
        for number, wire, value in _fields(source, end):
            if wire != 2:
                continue
            if number == 1:
                self._node(source, source.tell() + value, depth)
            elif number == 5:
                self.tensors.append(self._tensor(source, source.tell() + value))
            elif number in (11, 12) and depth == 0:
                name, kind = self._value(source, source.tell() + value)
                (self.inputs if number == 11 else self.outputs)[name] = kind
            if len(self.tensors) > MOST_ITEMS:
                raise FormatError("too many tensors")

    def _node(self, source: Source, end: int, depth: int) -> None:
        operator, domain = "", ""
        for number, wire, value in _fields(source, end):
            if (number, wire) == (4, 2):
                operator = _text(source, value)
            elif (number, wire) == (7, 2):
                domain = _text(source, value)
            elif (number, wire) == (5, 2):
                for inner, kind, each in _fields(source, source.tell() + value):
                    if (inner, kind) in ((6, 2), (11, 2)):
                        self.read(source, source.tell() + each, depth + 1)
        self.operators[f"{domain}.{operator}" if domain not in ("", "ai.onnx") else operator] += 1

    def _tensor(self, source: Source, end: int) -> Tensor:
        shape: list[int] = []
        kind, name, extent, elsewhere = 0, "", None, {}
        for number, wire, value in _fields(source, end):
            if (number, wire) == (1, 0):
                shape.append(value)
            elif (number, wire) == (1, 2):
                stop = source.tell() + value
                while source.tell() < stop:
                    shape.append(_varint(source))
            elif (number, wire) == (2, 0):
                kind = value
            elif (number, wire) == (8, 2):
                name = _text(source, value)
            elif (number, wire) == (9, 2):
                extent = (source.tell(), value)
            elif (number, wire) == (13, 2):
                pair = {
                    inner: _text(source, each)
                    for inner, form, each in _fields(source, source.tell() + value)
                    if form == 2
                }
                elsewhere[pair.get(1, "")] = pair.get(2, "")
            if len(shape) > 64:
                raise FormatError(f"tensor {name!r} has too many dimensions")
        if elsewhere:
            self.warnings.append(f"tensor {name[:200]} is in another file: {elsewhere.get('location', '?')[:200]}")
        dtype = _ONNX_TYPES[kind] if kind < len(_ONNX_TYPES) else f"type {kind}"
        width, count = width_of(dtype), Tensor("", dtype, tuple(shape)).count
        if extent is not None and width is not None and extent[1] != count * width:
            raise FormatError(f"tensor {name[:200]!r} has {extent[1]} bytes, not {count * width}")
        return Tensor(name, dtype, tuple(shape), extent)

    def _value(self, source: Source, end: int) -> tuple[str, str]:
        name, kind = "", ""
        for number, wire, value in _fields(source, end):
            if (number, wire) == (1, 2):
                name = _text(source, value)
            elif (number, wire) == (2, 2):
                kind = self._type(source, source.tell() + value)
        return name, kind

    def _type(self, source: Source, end: int) -> str:
        for number, wire, value in _fields(source, end):
            if (number, wire) != (1, 2):
                continue
            element, lengths = 0, ""
            for inner, kind, each in _fields(source, source.tell() + value):
                if (inner, kind) == (1, 0):
                    element = each
                elif (inner, kind) == (2, 2):
                    lengths = ", ".join(self._dimensions(source, source.tell() + each))
            return f"{_ONNX_TYPES[element] if element < len(_ONNX_TYPES) else element} [{lengths}]"
        return ""

    def _dimensions(self, source: Source, end: int) -> Iterator[str]:
        for number, wire, value in _fields(source, end):
            if (number, wire) == (1, 2):
                text = "?"
                for inner, kind, each in _fields(source, source.tell() + value):
                    if (inner, kind) == (1, 0):
                        text = str(each)
                    elif (inner, kind) == (2, 2):
                        text = _text(source, each)
                yield text


_GGUF_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_GGUF_STRING, _GGUF_ARRAY = 8, 9
_GGML_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11:
    "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19:
    "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64",
    28: "F64", 29: "IQ1_M", 30: "BF16",
}  # fmt: skip


def read_gguf(source: Source) -> Summary:
    """A GGUF file; raise `FormatError`."""
    if source.read(4) != b"GGUF":
        raise FormatError("no GGUF file")
    version = source.unpack("I")
    if version not in (2, 3):
        raise FormatError(f"GGUF version {version} is not known")
    tensor_count, entry_count = source.unpack("Q"), source.unpack("Q")
    if tensor_count > MOST_ITEMS or entry_count > MOST_ITEMS:
        raise FormatError(f"{tensor_count} tensors and {entry_count} entries")
    parameters = {}
    for _ in range(entry_count):
        key = _gguf_text(source)
        parameters[key] = _gguf_value(source, source.unpack("I"), 0)
    alignment = parameters.get("general.alignment", 32)
    described = []
    for _ in range(tensor_count):
        name, dimensions = _gguf_text(source), source.unpack("I")
        if dimensions > 16:
            raise FormatError(f"tensor {name!r} has {dimensions} dimensions")
        # the first dimension varies fastest
        shape = tuple(reversed([int(source.unpack("Q")) for _ in range(dimensions)]))
        kind, offset = source.unpack("I"), source.unpack("Q")
        described.append((name, _GGML_TYPES.get(kind, f"type {kind}"), shape, offset))
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise FormatError(f"an alignment of {alignment}")
    base = -(-source.tell() // alignment) * alignment
    tensors = []
    for name, dtype, shape, offset in described:
        tensor = Tensor(name, dtype, shape)
        if (width := width_of(dtype)) is not None:
            length = tensor.count * width
            if base + offset + length > source.size:
                raise FormatError(f"tensor {name!r} ends behind the file")
            tensor = Tensor(name, dtype, shape, (base + offset, length))
        tensors.append(tensor)
    return Summary(format="gguf", tensors=tuple(tensors), parameters=parameters, facts={"version": str(version)})


def _gguf_text(source: Source) -> str:
    return _text(source, source.unpack("Q"))


def _gguf_value(source: Source, kind: int, depth: int) -> Any:
    if kind in _GGUF_NUMBERS:
        return source.unpack(_GGUF_NUMBERS[kind])
    if kind == _GGUF_STRING:
        return _gguf_text(source)
    if kind != _GGUF_ARRAY or depth > 4:
        raise FormatError(f"a value of the unknown type {kind}")
    inner, count = source.unpack("I"), source.unpack("Q")
    if count > 10 * MOST_ITEMS:
        raise FormatError(f"an array of {count} values")
    shown = []
    for number in range(count):
        value = _gguf_value(source, inner, depth + 1)
        if number < 16:
            shown.append(str(value))
    return f"[{', '.join(shown)}]" if count <= 16 else f"{count} values"
