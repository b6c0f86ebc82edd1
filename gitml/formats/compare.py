"""How two model files differ: tensors by their numbers, everything else by value.

Numbers are read in blocks, so the memory that it takes does not depend on the files.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Self

from gitml.formats.summary import Scalar, Summary, Tensor

if TYPE_CHECKING:
    import numpy

_BLOCK = 4 << 20
"""Numbers of a tensor that are compared at a time."""
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorChange:
    """A tensor that is new, gone, of another type or shape, or of other numbers.

    For other numbers: `norm` is the L2 norm of the difference, `relative` that divided by the norm of the old tensor,
    `cosine` the cosine of the angle between both, `largest` the largest absolute difference. None: not known.
    """

    name: str
    old: str | None
    """Type and shape."""
    new: str | None
    norm: float | None = None
    relative: float | None = None
    cosine: float | None = None
    largest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDiff:
    """The difference of two model files."""

    old: Summary
    new: Summary
    tensors: tuple[TensorChange, ...] = ()
    same: int = 0
    """Tensors whose numbers are the same."""
    unread: int = 0
    """Tensors of equal type and shape whose numbers cannot be read, as they are compressed."""
    parameters: Mapping[str, tuple[Scalar, Scalar]] = field(default_factory=dict)
    """Where they differ; None also stands for one that is not there."""
    facts: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def features(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those that came, and those that went."""
        return _came(self.old.features, self.new.features), _came(self.new.features, self.old.features)

    @property
    def globals(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Classes and functions that came, and those that went."""
        return _came(self.old.globals, self.new.globals), _came(self.new.globals, self.old.globals)

    def as_json(self) -> dict[str, Any]:
        """The difference as a document; numbers that JSON lacks are null."""
        return {
            "schema": "gitml/model-diff/1",
            "old": self.old.as_json(),
            "new": self.new.as_json(),
            "tensors": [
                {
                    "name": each.name, "old": each.old, "new": each.new,
                    "norm": _finite(each.norm), "relative": _finite(each.relative),
                    "cosine": _finite(each.cosine), "largest": _finite(each.largest),
                }
                for each in self.tensors
            ],
            "same": self.same,
            "unread": self.unread,
            "parameters": {name: list(values) for name, values in self.parameters.items()},
            "facts": {name: list(values) for name, values in self.facts.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The difference that `as_json` gave."""
        return cls(
            old=Summary.from_json(value["old"]),
            new=Summary.from_json(value["new"]),
            tensors=tuple(TensorChange(**each) for each in value["tensors"]),
            same=value["same"],
            unread=value["unread"],
            parameters={name: (old, new) for name, (old, new) in value["parameters"].items()},
            facts={name: (old, new) for name, (old, new) in value["facts"].items()},
        )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _came(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    known = set(before)
    return tuple(name for name in now if name not in known)


def compare(old: Summary, new: Summary, old_file: IO[bytes], new_file: IO[bytes]) -> ModelDiff:
    """The difference of two summaries; numbers are read from the files they are of."""
    before = {tensor.name: tensor for tensor in old.tensors}
    changes: list[TensorChange] = []
    same = unread = 0
    for tensor in new.tensors:
        known = before.pop(tensor.name, None)
        if known is None:
            changes.append(TensorChange(name=tensor.name, old=None, new=kind_of(tensor)))
        elif (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
            changes.append(TensorChange(name=tensor.name, old=kind_of(known), new=kind_of(tensor)))
        elif known.extent is None or tensor.extent is None or known.order != tensor.order:
            unread += 1
        else:
            change = _numbers(known, tensor, old_file, new_file)
            if change is None:
                same += 1
            else:
                changes.append(change)
    changes += [TensorChange(name=tensor.name, old=kind_of(tensor), new=None) for tensor in before.values()]
    return ModelDiff(
        old=old, new=new, tensors=tuple(changes), same=same, unread=unread,
        parameters=dict(_different(old.parameters, new.parameters)), facts=dict(_different(old.facts, new.facts)),
    )  # fmt: skip


def kind_of(tensor: Tensor) -> str:
    """Type and shape as text: `F32 [2, 3]`."""
    return f"{tensor.dtype} [{', '.join(map(str, tensor.shape))}]"


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in dict.fromkeys([*old, *new]):
        values = old.get(name), new.get(name)
        if values[0] != values[1] or (name in old) != (name in new):
            yield name, values


def _numbers(old: Tensor, new: Tensor, old_file: IO[bytes], new_file: IO[bytes]) -> TensorChange | None:
    """How the numbers of two tensors differ; None if they do not."""
    assert old.extent is not None
    assert new.extent is not None
    numeric = _DTYPES.get(old.dtype) or (old.dtype if old.dtype[1:2] in ("f", "i", "u", "b") else None)
    width = int(numeric[2:]) if numeric is not None else 1
    equal, squares, old_squares, new_squares, product, largest = True, 0.0, 0.0, 0.0, 0.0, 0.0
    if old.extent[1] != new.extent[1]:
        numeric, equal = None, False
    for offset in range(0, min(old.extent[1], new.extent[1]), _BLOCK * width):
        length = min(_BLOCK * width, old.extent[1] - offset)
        first, second = _read(old_file, old.extent[0] + offset, length), _read(new_file, new.extent[0] + offset, length)
        equal = equal and first == second
        if numeric is None:
            continue
        x = _as_doubles(first, old.dtype, numeric)
        y = x if first == second else _as_doubles(second, new.dtype, numeric)
        old_squares += float(x @ x)
        new_squares += float(y @ y)
        product += float(x @ y)
        if first != second:
            difference = y - x
            squares += float(difference @ difference)
            largest = max(largest, float(abs(difference).max(initial=0.0)))
    if equal:
        return None
    kind = kind_of(new)
    if numeric is None:
        return TensorChange(name=new.name, old=kind, new=kind)
    norms = math.sqrt(old_squares) * math.sqrt(new_squares)
    return TensorChange(
        name=new.name, old=kind, new=kind, norm=math.sqrt(squares), largest=largest,
        relative=math.sqrt(squares / old_squares) if old_squares else None, cosine=product / norms if norms else None,
    )  # fmt: skip


def _read(file: IO[bytes], offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _as_doubles(data: bytes, dtype: str, layout: str) -> "numpy.ndarray[Any, numpy.dtype[numpy.float64]]":
    import numpy as np  # noqa: PLC0415 - 100 ms that only numbers need

    values = np.frombuffer(data, dtype=np.dtype(layout.replace("=", "<")))
    if dtype == "BF16":
        # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)
