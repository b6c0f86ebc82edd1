"""How a Parquet file was written, from its footer and a few page headers; no data is decoded, no library loaded.

The footer and page headers are Thrift structs in the compact protocol (apache/parquet-format: parquet.thrift; apache/
thrift: doc/specs/thrift-compact-protocol.md). Everything is bounded: a file may say anything.
"""

import io
import re
from typing import Any, BinaryIO

MAGIC = b"PAR1"

_LONGEST_FOOTER = 8 << 20
_LONGEST_HEADER = 4096
_PAGES = 16
"""Page headers of one column that are looked at."""

_BATCH = 1024
"""Writers look at the size of a page after each batch of so many values."""

_LONGEST_CHUNK = 1 << 20
"""Bytes of values after which a writer that cuts by content has cut, by default."""

_ARROW = re.compile(r"parquet-cpp-arrow version (\d+)")
_ARROW_SINCE = 21
_WIDTHS = {1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
"""Bytes of a value of the physical types INT32, INT64, INT96, FLOAT, DOUBLE."""

_DEEPEST = 16
Struct = dict[int, Any]


class ParquetError(ValueError):
    """Not a Parquet file, or one whose footer is longer than is looked at."""


def is_chunked_by_content(file: BinaryIO) -> bool | None:
    """Whether pages of a Parquet file were cut by their content; None if that cannot be told.

    The footer does not say. Most writers cannot do it. Those that can (Arrow C++ from 21 on, parquet-rs) end a page at
    a limit of rows, or at a limit of bytes after a whole batch of 1024 values; only if they cut by content does it end
    anywhere. So the value counts of the first pages of a column tell, where values have a fixed width and are not
    nested, and there are enough of them that such a cut must be among them. `file` is seekable. Raise `ParquetError`.
    """
    footer = _footer(file)
    if any(pair.get(1) == b"content_defined_chunking" for pair in _structs(footer.get(5))):
        return True  # the datasets library notes it
    writer = _text(footer.get(6))
    arrow = _ARROW.match(writer)
    if int(arrow[1]) < _ARROW_SINCE if arrow else not writer.startswith("parquet-rs"):
        return False
    for width, column in _columns(footer):
        counts = list(_page_values(file, column))
        # the last page ends where the data does
        chosen = counts[:-1] if sum(counts) >= _number(column.get(5)) else counts
        limit = max(chosen, default=0)
        if any(count != limit and count % _BATCH for count in chosen):
            return True
        if sum(chosen) * width > _LONGEST_CHUNK:
            return False
    return None


def _columns(footer: Struct) -> list[tuple[int, Struct]]:
    """Width and metadata of two columns of the first row group that have one value of fixed width in each row."""
    groups = _structs(footer.get(4))[:1]
    found = [
        (_WIDTHS[column[1]], column)
        for group in groups
        for column in (each.get(3) for each in _structs(group.get(1)))
        if isinstance(column, dict) and column.get(1) in _WIDTHS and column.get(5) == group.get(3)
    ]
    return sorted(found, key=lambda item: (-item[0], -_number(item[1].get(7))))[:2]


def _footer(file: BinaryIO) -> Struct:
    end = file.seek(0, io.SEEK_END)
    if end < 12:
        raise ParquetError("too short")
    file.seek(end - 8)
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > min(end - 8, _LONGEST_FOOTER):
        raise ParquetError("no footer that can be read")
    file.seek(end - 8 - length)
    return _Compact(file.read(length)).struct()


def _page_values(file: BinaryIO, column: Struct) -> Any:
    """The number of values of each of the first data pages of a column chunk."""
    at = _number(column.get(11)) or _number(column.get(9))
    end = at + _number(column.get(7))
    for _ in range(_PAGES):
        if not 4 <= at < end:
            return
        file.seek(at)
        reader = _Compact(file.read(_LONGEST_HEADER))
        header = reader.struct()
        size = _number(header.get(3))
        if size <= 0:
            return
        at += reader.at + size
        data = header.get(5) or header.get(8)
        if isinstance(data, dict):
            yield _number(data.get(1))


def _structs(value: Any) -> list[Struct]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


class _Compact:
    """A reader of Thrift's compact protocol. Structs are dicts by field id."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> Struct:
        if depth > _DEEPEST:
            raise ParquetError("nested too deeply")
        found: Struct = {}
        field = 0
        while True:
            head = self._byte()
            if head == 0:
                return found
            kind = head & 15
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            found[field] = kind == 1 if kind in (1, 2) else self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return self._byte() == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            if count > len(self._data):
                raise ParquetError("a list longer than the data")
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ParquetError(f"a field of kind {kind}")

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise ParquetError("cut short")
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise ParquetError("cut short")
        self.at += count
        return self._data[self.at - count : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 64:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise ParquetError("a number that is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
