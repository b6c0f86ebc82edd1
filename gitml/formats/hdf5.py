"""HDF5 files, in which Keras has its weights: which datasets there are, and where their numbers lie.

HDF5 File Format Specification 3.0, in the form that libraries write unless they are asked for another: superblock 0 or
1, object headers of version 1, groups as B-trees of symbol tables. Numbers are found where they lie in one piece; those
in chunks or in other files are only named. The library itself is not used: it is large, written in C, and was not made
for files that somebody wrote to break it.
"""

from collections.abc import Iterator

from gitml.formats.source import Source
from gitml.formats.summary import FormatError, Summary, Tensor, brief
from gitml.record import replace

MAGIC = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = (1 << 64) - 1
_MOST_OBJECTS = 200_000
_MOST_MESSAGES = 10_000
"""Of one object."""
_OTHER_FORM = "a newer form of HDF5 is not read; h5py writes it only if libver is given, or track_order"
_SPACE, _TYPE, _LAYOUT, _EXTERNAL, _CONTINUED, _SYMBOLS, _LINKS = 0x1, 0x3, 0x8, 0x7, 0x10, 0x11, 0x2
_FLOATS = {(2, 5, 10): "f2", (4, 8, 23): "f4", (8, 11, 52): "f8"}
"""By bytes, and bits of exponent and mantissa."""
_CLASSES = (
    "integer",
    "float",
    "time",
    "string",
    "bits",
    "opaque",
    "compound",
    "reference",
    "enum",
    "variable",
    "array",
)


def read_hdf5(source: Source) -> Summary:
    """The datasets of a file; raise `FormatError`."""
    return Summary(format="hdf5", tensors=tuple(datasets(source, 0, source.size)))


def datasets(source: Source, base: int, size: int) -> list[Tensor]:
    """The datasets of an HDF5 file that lies at `base` of another, with so many bytes; by name.

    Extents are those of the outer file.
    """
    return sorted(_File(source, base, size).datasets(), key=lambda tensor: tensor.name)


class _File:
    """What is read of a file; addresses are counted from its beginning."""

    def __init__(self, source: Source, base: int, size: int) -> None:
        self._source, self._base, self._size = source, base, size
        if self._bytes(0, 8) != MAGIC:
            raise FormatError("no HDF5 file")
        version, widths = self._bytes(8, 1)[0], self._bytes(13, 2)
        if version > 1 or widths != b"\x08\x08":
            raise FormatError(_OTHER_FORM)
        head = 24 if version == 0 else 28
        if self._number(head) or self._number(head + 16) > size:
            raise FormatError("it ends too early, or does not begin where it should")
        self._root = self._number(head + 32 + 8)

    def datasets(self) -> Iterator[Tensor]:
        """All of them, each once."""
        waiting, seen = [("", self._root)], {self._root}
        while waiting:
            name, address = waiting.pop()
            messages = dict(self._messages(address))
            if _SYMBOLS in messages:
                tree, heap = _words(messages[_SYMBOLS], 2)
                names = self._number(heap + 24)
                for place, child in self._links(tree):
                    # a file may lead in circles
                    if child not in seen:
                        seen.add(child)
                        own = self._text(names + place)
                        waiting.append((f"{name}/{own}" if name else own, child))
                if len(seen) > _MOST_OBJECTS:
                    raise FormatError(f"it has more than {_MOST_OBJECTS} objects")
            elif _LINKS in messages:
                raise FormatError(_OTHER_FORM)
            elif _SPACE in messages and _TYPE in messages:
                yield self._dataset(name, messages)

    def _dataset(self, name: str, messages: dict[int, tuple[int, bytes]]) -> Tensor:
        dtype, width = _type_of(messages[_TYPE][1])
        tensor = Tensor(brief(name), dtype, _shape_of(messages[_SPACE][1]))
        place, layout = messages.get(_LAYOUT, (0, b""))
        length = tensor.count * width
        if _EXTERNAL in messages or layout[:1] not in (b"\x03", b"\x04") or width == 0:
            return tensor
        if layout[1] == 0 and len(layout) >= 4 + length:
            return replace(tensor, extent=(place + 4, length))
        if layout[1] != 1:
            return tensor
        start, _ = _words((place, layout[2:]), 2)
        if start == _UNDEFINED or not length:
            return tensor if length else replace(tensor, extent=(self._base, 0))
        if start + length > self._size:
            raise FormatError(f"the dataset {name[:200]!r} ends behind the file")
        return replace(tensor, extent=(self._base + start, length))

    def _messages(self, address: int) -> Iterator[tuple[int, tuple[int, bytes]]]:
        """The messages of an object: kind, where its data is in the outer file, and the data."""
        head = self._bytes(address, 16)
        if head[0] != 1:
            raise FormatError(_OTHER_FORM)
        blocks, count = [(address + 16, int.from_bytes(head[8:12], "little"))], 0
        while blocks:
            at, length = blocks.pop()
            end = at + length
            while at + 8 <= end:
                kind, size = (int.from_bytes(each, "little") for each in (self._bytes(at, 2), self._bytes(at + 2, 2)))
                data = self._bytes(at + 8, size)
                count += 1
                if count > _MOST_MESSAGES:
                    raise FormatError(f"an object has more than {_MOST_MESSAGES} messages")
                if kind == _CONTINUED:
                    start, more = _words((0, data), 2)
                    blocks.append((start, more))
                else:
                    yield kind, (self._base + at + 8, data)
                at += 8 + size

    def _links(self, tree: int) -> Iterator[tuple[int, int]]:
        """What a group holds: where each name begins in the heap, and the address of the object."""
        waiting, seen = [tree], {tree}
        while waiting:
            node = waiting.pop()
            head = self._bytes(node, 8)
            if head[:4] == b"SNOD":
                for number in range(int.from_bytes(head[6:8], "little")):
                    place, child = _words((0, self._bytes(node + 8 + 40 * number, 16)), 2)
                    if child != _UNDEFINED:  # otherwise a link by name
                        yield place, child
            elif head[:5] == b"TREE\x00":
                count = int.from_bytes(head[6:8], "little")
                children = [self._number(node + 24 + 16 * number + 8) for number in range(count)]
                fresh = [child for child in children if child not in seen]
                seen.update(fresh)
                waiting += reversed(fresh)
                if len(seen) > _MOST_OBJECTS:
                    raise FormatError(f"it has more than {_MOST_OBJECTS} objects")
            else:
                raise FormatError("a group is not where it should be")

    def _bytes(self, address: int, count: int) -> bytes:
        if address + count > self._size:
            raise FormatError("a part of it lies behind its end")
        self._source.seek(self._base + address)
        return self._source.read(count)

    def _number(self, address: int) -> int:
        return int.from_bytes(self._bytes(address, 8), "little")

    def _text(self, address: int) -> str:
        data = self._bytes(address, min(1024, self._size - address)) if address < self._size else b""
        text, end, _ = data.partition(b"\0")
        if not end:
            raise FormatError("a name does not end")
        return text.decode("utf-8", "replace")


def _words(message: tuple[int, bytes], count: int) -> tuple[int, ...]:
    data = message[1]
    if len(data) < 8 * count:
        raise FormatError("a part of it is too short")
    return tuple(int.from_bytes(data[8 * at : 8 * at + 8], "little") for at in range(count))


def _shape_of(data: bytes) -> tuple[int, ...]:
    """IV.A.2.b, The Dataspace Message."""
    if len(data) < 4 or data[0] not in (1, 2):
        raise FormatError("a shape that is not read")
    start = 8 if data[0] == 1 else 4
    return _words((0, data[start:]), data[1])


def _type_of(data: bytes) -> tuple[str, int]:
    """A type as safetensors or numpy names it, and the bytes of a number: 0 if they are not to be read as one."""
    if len(data) < 8:
        raise FormatError("a type that is not read")
    kind, bits, size = data[0] & 15, data[1], int.from_bytes(data[4:8], "little")
    order = ">" if bits & 1 else "<"
    if kind == 0 and size in (1, 2, 4, 8):
        return f"{'|' if size == 1 else order}{'i' if bits & 8 else 'u'}{size}", size
    if kind == 1 and len(data) >= 16 and not bits & 0x40:
        form = size, data[13], data[15]
        if form in _FLOATS:
            return order + _FLOATS[form], size
        if form == (2, 8, 7) and order == "<":
            return "BF16", size
    return _CLASSES[kind] if kind < len(_CLASSES) else "unknown", 0
