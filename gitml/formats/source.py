"""Reading parts of files that may lie about their sizes."""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from gitml.formats.summary import FormatError

MOST_HEADER = 64 << 20
"""Bytes of a header, or of any other part that is read at once."""
MOST_EXPANDED = 8 << 30
"""Bytes that compressed content may have when it is not."""
MOST_ITEMS = 2_000_000
"""Entries of any list, such as tensors or metadata."""


class Source:
    """A file: reads exactly what is asked for, or raises `FormatError`."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self.file.tell()

    def seek(self, offset: int) -> None:
        """Go to a place that is in the file."""
        if not 0 <= offset <= self.size:
            raise FormatError(f"a part begins at {offset}, the file has {self.size} bytes")
        with _damage():
            self.file.seek(offset)

    def line(self, longest: int) -> bytes:
        """The next line without its end."""
        with _damage():
            line = self.file.readline(longest)
        if not line.endswith(b"\n"):
            raise FormatError("the file ends too early")
        return line[:-1]

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0 or count > MOST_HEADER:
            raise FormatError(f"a part has {count} bytes, at most {MOST_HEADER} are read")
        with _damage():
            data = self.file.read(count)
        if len(data) != count:
            raise FormatError("the file ends too early")
        return data

    def skip(self, count: int) -> tuple[int, int]:
        """Pass over `count` bytes; give where they are: offset and length."""
        start = self.tell()
        if count < 0 or start + count > self.size:
            raise FormatError(f"{count} bytes are said to follow, {self.size - start} do")
        with _damage():
            self.file.seek(start + count)
        return start, count

    def unpack(self, layout: str) -> Any:
        """Numbers in the layout of `struct`, little-endian unless it says otherwise; one comes alone."""
        layout = layout if layout[0] in "<>" else "<" + layout
        values = struct.unpack(layout, self.read(struct.calcsize(layout)))
        return values[0] if len(values) == 1 else values


@contextmanager
def _damage() -> Iterator[None]:
    """What members of archives raise when they are damaged, as our own error."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
    ) as error:
        raise FormatError(f"cannot be read: {error}") from None


class Expanding(io.RawIOBase):
    """Decompressed content as a file that can only be read forward, of limited length."""

    def __init__(self, file: IO[bytes], decompressor: Any) -> None:
        self._file = file
        self._decompressor = decompressor
        self._buffer = b""
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
        """Read up to there; raise `FormatError` for going back."""
        if whence != 0 or offset < self._at:
            raise FormatError("compressed content can only be read forward")
        while self._at < offset:
            if not self.read(min(1 << 20, offset - self._at)):
                raise FormatError("the file ends too early")
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As for any raw file."""
        while not self._buffer:
            if self._decompressor.eof:
                return 0
            # zlib keeps what it has not looked at outside, bz2 and lzma inside
            is_zlib = hasattr(self._decompressor, "unconsumed_tail")
            wants = is_zlib or self._decompressor.needs_input
            data = (is_zlib and self._decompressor.unconsumed_tail) or (self._file.read(1 << 16) if wants else b"")
            if wants and not data:
                return 0
            try:
                self._buffer = self._decompressor.decompress(data, 1 << 20)
            except Exception as error:  # each library has its own
                raise FormatError(f"cannot be decompressed: {error}") from None
        part = self._buffer[: len(buffer)]
        self._buffer = self._buffer[len(part) :]
        buffer[: len(part)] = part
        self._at += len(part)
        if self._at > MOST_EXPANDED:
            raise FormatError(f"decompresses to more than {MOST_EXPANDED} bytes")
        return len(part)
