"""Reading parts of files, and of what is compressed in them, that may lie about their sizes."""

import io
import lzma
import struct
import zipfile
import zlib
from functools import cache
from typing import IO, Any

from gitml.formats.summary import FormatError

MOST_HEADER = 64 << 20
"""Bytes of a header, or of any other part that is read at once."""
MOST_EXPANDED = 8 << 30
"""Bytes that compressed content may have when it is not."""
MOST_ITEMS = 2_000_000
"""Entries of any list, such as tensors or metadata."""

_AHEAD = 1 << 16
"""Bytes that are read ahead: a pickle is read byte by byte."""
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
    OverflowError, struct.error,
)  # fmt: skip
"""What libraries raise for damaged archives."""


class Source:
    """A file, or what a part of one expands to: reads exactly what is asked for, or raises `FormatError`.

    `part` is as in `Tensor`. Of parts `size` is only what the file says.
    """

    def __init__(self, file: IO[bytes], size: int, part: str | None = None) -> None:
        self.file = file
        self.size = size
        self.part = part
        self._base = 0  # where the buffer begins
        self._buffer = b""
        self._at = 0  # in the buffer

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._base + self._at

    def seek(self, offset: int) -> None:
        """Go to a place that is in the file."""
        if not 0 <= offset <= self.size:
            raise FormatError(f"a part begins at {offset}, there are {self.size} bytes")
        if self._base <= offset <= self._base + len(self._buffer):
            self._at = offset - self._base
        else:
            self._base, self._buffer, self._at = offset, b"", 0

    def line(self, longest: int) -> bytes:
        """The next line without its end."""
        end = self._buffer.find(b"\n", self._at)
        while end < 0:
            if len(self._buffer) - self._at > longest:
                raise FormatError(f"a line has more than {longest} bytes")
            if not self._fill(len(self._buffer) - self._at + _AHEAD):
                raise FormatError("it ends too early")
            end = self._buffer.find(b"\n", self._at)
        line = self._buffer[self._at : end]
        self._at = end + 1
        return line

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._buffer) or count < 0:
            if count < 0 or count > MOST_HEADER:
                raise FormatError(f"a part has {count} bytes, at most {MOST_HEADER} are read")
            self._fill(count)
            end = self._at + count
            if end > len(self._buffer):
                raise FormatError("it ends too early")
        data = self._buffer[self._at : end]
        self._at = end
        return data

    def skip(self, count: int) -> tuple[int, int]:
        """Pass over `count` bytes; give where they are: offset and length."""
        start = self.tell()
        if count < 0 or start + count > self.size:
            raise FormatError(f"{count} bytes are said to follow, {self.size - start} do")
        self.seek(start + count)
        return start, count

    def unpack(self, layout: str) -> Any:
        """Numbers in the layout of `struct`, little-endian unless it says otherwise; one comes alone."""
        compiled = _layout(layout)
        values = compiled.unpack(self.read(compiled.size))
        return values[0] if len(values) == 1 else values

    def _fill(self, count: int) -> bool:
        """Have `count` bytes in the buffer if there are as many; give whether any came."""
        rest = self._buffer[self._at :]
        try:
            # whoever else reads the file may have moved on
            self.file.seek(self._base + len(self._buffer))
            data = self.file.read(max(count - len(rest), _AHEAD))
        except _DAMAGE as error:
            raise FormatError(f"cannot be read: {error}") from None
        self._base += self._at
        self._buffer, self._at = rest + data, 0
        return bool(data)


@cache
def _layout(layout: str) -> struct.Struct:
    return struct.Struct(layout if layout[0] in "<>" else "<" + layout)


class Expanding(io.RawIOBase):
    """Decompressed content as a file that can only be read forward, of limited length."""

    def __init__(self, file: IO[bytes], decompressor: Any) -> None:
        self._file = file
        self._decompressor = decompressor
        self._buffer = memoryview(b"")
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Forward only."""
        return True

    def tell(self) -> int:
        """Bytes read so far."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Read up to there, or to the end; raise `FormatError` for going back."""
        if whence != 0 or offset < self._at:
            raise FormatError("compressed content can only be read forward")
        while self._at < offset and self.read(min(1 << 20, offset - self._at)):
            pass
        return self._at

    def read(self, count: int | None = -1, /) -> bytes:
        """As for any file: less than `count` only at the end."""
        assert count is not None
        assert count >= 0
        found = bytearray()
        while len(found) < count and self._expand():
            part = self._buffer[: count - len(found)]
            self._buffer = self._buffer[len(part) :]
            found += part
        self._at += len(found)
        if self._at > MOST_EXPANDED:
            raise FormatError(f"decompresses to more than {MOST_EXPANDED} bytes")
        return bytes(found)

    def _expand(self) -> bool:
        """Have something in the buffer; False at the end."""
        while not self._buffer:
            if self._decompressor.eof:
                return False
            # zlib keeps what it has not looked at outside, bz2 and lzma inside
            is_zlib = hasattr(self._decompressor, "unconsumed_tail")
            wants = is_zlib or self._decompressor.needs_input
            data = (is_zlib and self._decompressor.unconsumed_tail) or (self._file.read(_AHEAD) if wants else b"")
            if wants and not data:
                return False
            try:
                self._buffer = memoryview(self._decompressor.decompress(data, 1 << 20))
            except Exception as error:  # each library has its own
                raise FormatError(f"cannot be decompressed: {error}") from None
        return True


class Archive:
    """A zip archive, in `source`. `members` are its files by name; `repeated` the names that several of them have."""

    def __init__(self, source: Source) -> None:
        self.source = source
        try:
            source.file.seek(0)
            self._archive = zipfile.ZipFile(source.file)
        except _DAMAGE as error:
            raise FormatError(f"no zip archive: {error}") from None
        listed = self._archive.infolist()
        if len(listed) > MOST_ITEMS:
            raise FormatError(f"{len(listed)} files in the archive")
        self.members: dict[str, zipfile.ZipInfo] = {}
        self.repeated: dict[str, None] = {}
        for info in listed:
            if info.filename in self.members:
                self.repeated[info.filename] = None
            self.members[info.filename] = info

    def open(self, name: str) -> Source:
        """A member, to be read forward."""
        info = self.members[name]
        try:
            return Source(self._archive.open(info), info.file_size, name)
        except _DAMAGE as error:
            raise FormatError(f"{name!r} cannot be read: {error}") from None

    def read(self, name: str) -> bytes:
        """All of a member."""
        return self.open(name).read(self.members[name].file_size)

    def place(self, name: str, start: int, length: int) -> tuple[tuple[int, int], str | None]:
        """Extent and part, as in `Tensor`, of bytes of a member; raise `FormatError` if it has not as many."""
        info = self.members[name]
        if start + length > info.file_size:
            raise FormatError(f"{name!r} has {info.file_size} bytes, a tensor ends at {start + length}")
        if info.compress_type != zipfile.ZIP_STORED:
            return (start, length), name
        # the local header has lengths of its own (APPNOTE.TXT 4.3.7)
        self.source.seek(info.header_offset)
        header = self.source.read(30)
        if header[:4] != b"PK\x03\x04":
            raise FormatError("a file of the archive is not where it should be")
        begin = info.header_offset + 30 + int.from_bytes(header[26:28], "little")
        begin += int.from_bytes(header[28:30], "little") + start
        if begin + length > self.source.size:
            raise FormatError("a file of the archive ends behind it")
        return (begin, length), None
