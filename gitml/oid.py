"""Object ids: binary names of git objects, of either hash that git knows.

An `Oid` is the raw digest (20 bytes for SHA-1, 32 for SHA-256). Text form is `.hex()`, at the edges only.
"""

import hashlib
from enum import Enum
from typing import Self

from gitml.errors import UserError


class Oid(bytes):
    """The name of a git object."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Raise `ValueError` unless `raw` has the length of a digest that git uses."""
        if len(raw) not in (20, 32):
            raise ValueError(f"an object id has 20 or 32 bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """The oid written as lower-case hex; raise `ValueError` for anything else."""
        if isinstance(text, bytes):
            text = text.decode("ascii")
        if text != text.lower() or not text.isalnum():
            raise ValueError(f"not an object id: {text!r}")
        return cls(bytes.fromhex(text))

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"Oid({self.hex()})"


class ObjectFormat(Enum):
    """The hash a repository names its objects with (`extensions.objectFormat`)."""

    SHA1 = "sha1"
    SHA256 = "sha256"

    @property
    def size(self) -> int:
        """Bytes of an oid."""
        return 20 if self is ObjectFormat.SHA1 else 32

    def oid_of(self, kind: str, data: bytes | bytearray | memoryview) -> Oid:
        """The oid git gives an object of `kind` ('blob', 'tree', 'commit', 'tag') with the content `data`."""
        new = hashlib.sha1 if self is ObjectFormat.SHA1 else hashlib.sha256
        digest = new(b"%s %d\0" % (kind.encode(), len(data)), usedforsecurity=False)
        digest.update(data)
        return Oid(digest.digest())

    @classmethod
    def of(cls, oid: Oid) -> "ObjectFormat":
        """The format whose oids are as long as `oid`."""
        return cls.SHA1 if len(oid) == 20 else cls.SHA256

    @classmethod
    def named(cls, name: str) -> "ObjectFormat":
        """The format git calls `name`; raise `UserError` for one that git has and gitml has not."""
        try:
            return cls(name)
        except ValueError:
            raise UserError(f"object format '{name}' is not supported", hint="use sha1 or sha256") from None
