"""Which files are in a format that keeps their versions from sharing chunks, and what to do instead.

Looks at heads, footers and a few page headers; decodes nothing and runs nothing of the repository. What a file is
follows from its first bytes, never from its name.
"""

import io
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from gitml.errors import GitmlError
from gitml.reading import parquet
from gitml.reading.view import View
from gitml.record import record

MOST_FILES = 100
"""Files that are looked at; each costs a few chunks."""

_HEAD = 512
_ZIP_TAIL = 65557
_ZIP_DIRECTORY = 1 << 20
_STREAMS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
)


@record
class Advice:
    """A file whose format defeats deduplication: what is in the way, and the remedy."""

    path: str
    what: str
    remedy: str


def advise(view: View, files: Iterable[tuple[str, int]]) -> Iterator[Advice]:
    """Advice for the largest `MOST_FILES` of `files` (path and size), largest first.

    What cannot be read is passed over.
    """
    for path, _ in sorted(files, key=lambda file: (-file[1], file[0]))[:MOST_FILES]:
        try:
            with view.open_file(os.fsencode(path)) as file:
                found = examine(cast("BinaryIO", file))
        except (GitmlError, OSError):
            continue  # another check names it
        if found is not None:
            yield Advice(path, *found)


def examine(file: BinaryIO) -> tuple[str, str] | None:
    """What about its format keeps versions of a seekable file from sharing chunks, with the remedy; None if nothing."""
    file.seek(0)
    head = file.read(_HEAD)
    if head.startswith(parquet.MAGIC):
        return _examine_parquet(file)
    if head.startswith(b"PK\x03\x04"):
        return _examine_zip(file)
    for magic, name in _STREAMS:
        if head.startswith(magic):
            return (
                f"compressed with {name}: after a change all that follows is other bytes",
                "track what is in it instead; gitml compresses, and versions share what did not change",
            )
    return None


def _examine_parquet(file: BinaryIO) -> tuple[str, str] | None:
    try:
        chunked = parquet.is_chunked_by_content(file)
    except (parquet.ParquetError, RecursionError):
        return None
    if chunked is not False:
        return None
    return (
        "Parquet without content-defined chunking: a row more or less changes every page after it",
        "write it with pyarrow 21 or later, or pandas on it: to_parquet(…, use_content_defined_chunking=True)",
    )


def _examine_zip(file: BinaryIO) -> tuple[str, str] | None:
    names, deflated = _zip_members(file)
    if deflated == 0:
        return None
    if all(name.endswith(b".npy") for name in names):
        return "compressed NumPy archive: after a change all of an array is other bytes", "write it with numpy.savez"
    return (
        f"zip archive, {deflated} of {len(names)} members compressed: a change alters the rest of a member",
        "track what is in it instead, or store members uncompressed: zip -0",
    )


def _zip_members(file: BinaryIO) -> tuple[list[bytes], int]:
    """Names of the members in the central directory, as far as that is looked at, and how many are compressed."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - _ZIP_TAIL))
    tail = file.read(_ZIP_TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return [], 0
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    # in front of the end record; in zip64 files two more records stand between
    stop = end - len(tail) + (at if tail[at - 20 : at - 16] != b"PK\x06\x07" else at - 76)
    start = stop - size
    if start < 0 or size == 0xFFFFFFFF:
        return [], 0
    file.seek(start)
    directory = file.read(min(size, _ZIP_DIRECTORY))
    names: list[bytes] = []
    compressed = at = 0
    while directory[at : at + 4] == b"PK\x01\x02" and at + 46 <= len(directory):
        lengths = [int.from_bytes(directory[at + field : at + field + 2], "little") for field in (28, 30, 32)]
        names.append(directory[at + 46 : at + 46 + lengths[0]])
        compressed += directory[at + 10 : at + 12] != b"\0\0"
        at += 46 + sum(lengths)
    return names, compressed
