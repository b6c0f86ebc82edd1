"""What a model file holds, as plain values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from gitml.record import field, record

Scalar = None | bool | int | float | str

_LONGEST = 1000
"""Characters of a value, or of a name, that are kept."""


@record
class Tensor:
    """An array of numbers: its type as numpy or the format names it, its shape, and where its bytes are.

    `extent` is offset and length, None if the bytes are not there as such. They are in the file itself if `part` is
    None; else in what that member of an archive expands to, or, for `""`, in what the whole file expands to. `order`
    is 'C' or 'F', or 'strided' for a view of something larger.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    extent: tuple[int, int] | None = None
    order: str = "C"
    part: str | None = None

    @property
    def count(self) -> int:
        """How many numbers it has."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@record(kw_only=True)
class Summary:
    """A model file. One that cannot be read is `opaque`: why.

    Of such a file nothing else is known, but for what a pickle refers to before it breaks: loading runs it up to there.
    """

    format: str
    size: int = 0
    """Bytes of the file."""
    tensors: tuple[Tensor, ...] = ()
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    """What it was made with: dotted name, value."""
    features: tuple[str, ...] = ()
    """Names of its inputs, in order."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Anything else worth a line."""
    globals: tuple[str, ...] = ()
    """Every class and function that loading the file would use."""
    warnings: tuple[str, ...] = ()
    """What looks wrong. None does not mean that loading is safe."""
    opaque: str = ""

    def as_json(self) -> dict[str, Any]:
        """The summary as a document."""
        return {
            "schema": "gitml/model/1",
            "format": self.format,
            "size": self.size,
            "tensors": [
                [each.name, each.dtype, list(each.shape), each.extent, each.order, each.part] for each in self.tensors
            ],
            "parameters": dict(self.parameters),
            "features": list(self.features),
            "facts": dict(self.facts),
            "globals": list(self.globals),
            "warnings": list(self.warnings),
            "opaque": self.opaque,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The summary that `as_json` gave."""
        return cls(
            format=value["format"],
            size=value["size"],
            tensors=tuple(
                Tensor(name, dtype, tuple(shape), None if extent is None else (extent[0], extent[1]), order, part)
                for name, dtype, shape, extent, order, part in value["tensors"]
            ),
            parameters=value["parameters"],
            features=tuple(value["features"]),
            facts=value["facts"],
            globals=tuple(value["globals"]),
            warnings=tuple(value["warnings"]),
            opaque=value["opaque"],
        )


class FormatError(Exception):
    """A file is not what its first bytes promise, or goes beyond a limit."""


def brief(value: Any) -> str:
    """A value as short text. What has others in it is only named: that may be the same thing a million times over."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}... ({len(value)} characters)"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    return f"<{type(value).__name__}>"


def plain(value: Scalar) -> Scalar:
    """A value that JSON has, equal to itself, of limited length: other ones as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str) or (isinstance(value, int) and value.bit_length() > 64):
        return brief(value)
    return value


def flat(value: Any, prefix: str = "") -> dict[str, Scalar]:
    """Nested mappings and short lists of scalars as dotted names; whatever else there is becomes text."""
    found: dict[str, Scalar] = {}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            found.update(flat(inner, f"{prefix}.{brief(name)}" if prefix else brief(name)))
    elif value is None or isinstance(value, bool | int | float | str):
        found[prefix] = value
    elif isinstance(value, Sequence):
        if len(value) <= 16 and all(each is None or isinstance(each, bool | int | float | str) for each in value):
            found[prefix] = "[" + ", ".join(map(brief, value)) + "]"
        else:
            found[prefix] = f"{len(value)} values"
    else:
        found[prefix] = brief(value)
    return found
