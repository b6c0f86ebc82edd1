"""Where egress writes: a directory, or objects below an address. A file is there whole or not at all.

Names in a directory are any bytes; objects have names in UTF-8. Nothing is ever removed.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from gitml.errors import MachineError, UserError
from gitml.provenance.codec import printable
from gitml.remote.address import parse_address
from gitml.remote.bucket import Bucket, Pieces
from gitml.remote.services import open_bucket

Source = Callable[[], AbstractContextManager[Pieces]]
"""Opens the bytes of a file; may be asked for more than once, for another attempt."""


class Destination(Protocol):
    """A place to write files to. Threads may use it side by side."""

    workers: int
    """How many files are best on their way at once."""

    def check(self, path: bytes) -> None:
        """Raise `UserError` if there cannot be a file of this name here."""
        ...

    def write(self, path: bytes, source: Source, *, executable: bool) -> None:
        """Write a file, in place of what is there; raise `GitmlError`."""
        ...


def open_destination(url: str, forbidden: Iterable[Path]) -> Destination:
    """The place at `url`; nothing is written yet.

    `forbidden` directories must not be written to. Raise `UserError` if it is one of them or below, and what
    `parse_address` and `open_bucket` raise.
    """
    address = parse_address(url)
    if address.scheme != "file":
        return _Objects(open_bucket(address))
    if address.options:
        raise UserError(f"a directory has no option '{min(address.options)}'", hint="take it out of the egress URL")
    top = Path(address.path)
    resolved = top.resolve()
    for place in forbidden:
        if resolved.is_relative_to(place.resolve()):
            raise UserError(
                f"egress to '{address.path}' would write into the repository itself",
                hint="name a directory outside; results are committed in any case",
            )
    return _Directory(top)


class _Directory:
    workers = 4

    def __init__(self, top: Path) -> None:
        self._top = top

    def check(self, path: bytes) -> None:
        _check_path(path)

    def write(self, path: bytes, source: Source, *, executable: bool) -> None:
        where = self._top / os.fsdecode(path)
        # always the same name for a file, so that what a killed process left is written over
        new = where.with_name(f".gitml-{sha256(path).hexdigest()[:16]}")
        try:
            where.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(new, flags, 0o777 if executable else 0o666)
            try:
                with os.fdopen(descriptor, "wb") as file, source() as pieces:
                    file.writelines(pieces.each)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(where)
            except BaseException:
                with contextlib.suppress(OSError):
                    new.unlink()
                raise
        except OSError as error:
            raise MachineError(error) from None


class _Objects:
    workers = 8

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def check(self, path: bytes) -> None:
        _check_path(path)
        fault = ""
        try:
            path.decode()
        except UnicodeDecodeError:
            fault = "it is not UTF-8"
        if any(byte < 0x20 or byte == 0x7F for byte in path):  # the client refuses them
            fault = "it has control characters"
        if fault:
            raise UserError(
                f"'{printable(path)}' cannot be the name of an object: {fault}",
                hint="let the stage write another name, or egress to a directory",
            )

    def write(self, path: bytes, source: Source, *, executable: bool) -> None:  # noqa: ARG002 - objects have no modes
        self._bucket.write_pieces(path.decode(), source)


def _check_path(path: bytes) -> None:
    """Raise `UserError` for a path that leads elsewhere: the tree may be anybody's."""
    if any(name in {b"", b".", b".."} for name in path.split(b"/")):
        raise UserError(f"'{printable(path)}' is no name of a file")
