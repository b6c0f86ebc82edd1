"""The object database as the store sees it: small protocols, and one in memory.

The store never imports `gitml.git`; whoever calls it passes in something that reads or writes objects.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from gitml.errors import MissingDataError
from gitml.oid import ObjectFormat, Oid

Kind = str
"""'blob', 'tree', 'commit' or 'tag'."""


class MissingObjectError(MissingDataError):
    """An object is not in the database. Carries its `oid`."""

    def __init__(self, oid: Oid) -> None:
        super().__init__(f"object {oid} is missing", hint="fetch it: git ml fetch")
        self.oid = oid


class ObjectReader(Protocol):
    """Reads objects by name."""

    @property
    def format(self) -> ObjectFormat:
        """The hash that names the objects."""
        ...

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError`."""
        ...

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        ...


class ObjectWriter(Protocol):
    """Writes objects; what is written becomes readable when the writer's owner says so."""

    @property
    def format(self) -> ObjectFormat:
        """The hash that names the objects."""
        ...

    def write(self, kind: Kind, data: bytes | memoryview) -> Oid:
        """Store an object (at most once) and give its name."""
        ...


class Prepared(NamedTuple):
    """An object that is hashed and deflated: its name, and what stores it, unless it is there by then."""

    oid: Oid
    store: Callable[[], object]


class ChunkWriter(ObjectWriter, Protocol):
    """Writes objects whose expensive part, hashing and deflating, may be done in other threads."""

    def prepare(self, kind: Kind, data: bytes | memoryview, *, noisy: bool = False, small: bool = False) -> Prepared:
        """Do the expensive part of `write`, in any thread; what is given does the rest, where order matters.

        `noisy` says that nothing repeats in the data, and that more of its kind comes before it in this thread.
        `small` says that it may take longer to take less room.
        """
        ...


class Rereading(Protocol):
    """Gives back what a writer has just stored, so that a second look at content need not delay the first."""

    def holds_plain(self, oid: Oid, size: int) -> bool:
        """Whether it has the blob of `size` bytes, and reading it again costs next to nothing."""
        ...

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content."""
        ...

    def nearly_done(self) -> None:
        """Everything of the content is stored; what is left is to say so."""
        ...


class MemoryOdb:
    """An object database in a dict: for tests and dry runs."""

    def __init__(self, object_format: ObjectFormat = ObjectFormat.SHA1) -> None:
        self.format = object_format
        self.objects: dict[Oid, tuple[Kind, bytes]] = {}

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        """The object's kind and content; raise `MissingObjectError`."""
        try:
            return self.objects[oid]
        except KeyError:
            raise MissingObjectError(oid) from None

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        return oid in self.objects

    def write(self, kind: Kind, data: bytes | memoryview) -> Oid:
        """Store an object and give its name."""
        oid = self.format.oid_of(kind, data)
        self.objects[oid] = (kind, bytes(data))
        return oid

    def prepare(self, kind: Kind, data: bytes | memoryview, *, noisy: bool = False, small: bool = False) -> Prepared:
        """As `write`, in two steps."""
        del noisy, small  # nothing is deflated here
        return Prepared(self.format.oid_of(kind, data), lambda: self.write(kind, data))
