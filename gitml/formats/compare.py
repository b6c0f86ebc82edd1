"""How two model files differ: tensors by their numbers, everything else by value.

Numbers are read in blocks, so the memory that it takes does not depend on the files.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Self

from gitml.formats.detect import expand
from gitml.formats.dtypes import layout_of, width_of
from gitml.formats.source import MOST_EXPANDED, Archive, Source
from gitml.formats.summary import FormatError, Scalar, Summary, Tensor
from gitml.record import field, record

if TYPE_CHECKING:
    import numpy

_BLOCK = 1 << 20
"""Numbers of a tensor that are compared at a time."""


@record(kw_only=True)
class TensorChange:
    """A tensor that is new, gone, of another type or shape, or of other numbers.

    For other numbers: `norm` is the L2 norm of the difference, `relative` that divided by the norm of the old tensor,
    `cosine` the cosine of the angle between both, `largest` the largest absolute difference. None: not known, as where
    `not_finite` of the new numbers are NaN or infinite.
    """

    name: str
    old: str | None
    """Type and shape."""
    new: str | None
    norm: float | None = None
    relative: float | None = None
    cosine: float | None = None
    largest: float | None = None
    not_finite: int = 0


@record(kw_only=True)
class ModelDiff:
    """The difference of two model files."""

    old: Summary
    new: Summary
    tensors: tuple[TensorChange, ...] = ()
    same: int = 0
    """Tensors whose numbers are the same."""
    unread: int = 0
    """Tensors of equal type and shape whose numbers cannot be read: not there as bytes, in another order, damaged."""
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
                    "cosine": _finite(each.cosine), "largest": _finite(each.largest), "not_finite": each.not_finite,
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
    changes: dict[str, TensorChange] = {}
    pairs: list[tuple[Tensor, Tensor]] = []
    unread = 0
    for tensor in new.tensors:
        known = before.pop(tensor.name, None)
        if known is None:
            changes[tensor.name] = TensorChange(name=tensor.name, old=None, new=kind_of(tensor))
        elif (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
            changes[tensor.name] = TensorChange(name=tensor.name, old=kind_of(known), new=kind_of(tensor))
        elif known.extent is None or tensor.extent is None or known.order != tensor.order:
            unread += 1
        else:
            pairs.append((known, tensor))
    same = 0
    numbers = _Numbers(old_file, old.size), _Numbers(new_file, new.size)
    # what is compressed can only be read forward
    for known, tensor in sorted(pairs, key=lambda pair: (pair[1].part or "", pair[1].extent or (0, 0))):
        try:
            change = _numbers(known, tensor, *numbers)
        except FormatError:
            unread += 1
            continue
        if change is None:
            same += 1
        else:
            changes[tensor.name] = change
    order = [tensor.name for tensor in new.tensors if tensor.name in changes]
    gone = [TensorChange(name=tensor.name, old=kind_of(tensor), new=None) for tensor in before.values()]
    return ModelDiff(
        old=old, new=new, tensors=(*(changes[name] for name in dict.fromkeys(order)), *gone), same=same, unread=unread,
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


def _numbers(old: Tensor, new: Tensor, old_file: "_Numbers", new_file: "_Numbers") -> TensorChange | None:
    """How the numbers of two tensors differ; None if they do not."""
    kind = kind_of(new)
    layout, width = layout_of(new.dtype), width_of(new.dtype) or 1
    blocks = partial(_blocks, old, new, old_file, new_file, width)
    seekable = old.part is None and new.part is None
    # most tensors of most models are the same, and bytes are quickly compared
    if (seekable or layout is None) and all(first == second for first, second in blocks()):
        return None
    if layout is None:
        return TensorChange(name=new.name, old=kind, new=kind)
    equal, squares, old_squares, new_squares, product, largest = True, 0.0, 0.0, 0.0, 0.0, 0.0
    not_finite = 0
    for first, second in blocks():
        x = _as_doubles(first, new.dtype, layout)
        square = float(x @ x)
        old_squares += square
        if first == second:
            new_squares += square
            product += square
            not_finite += _not_finite(x, square)
            continue
        equal = False
        y = _as_doubles(second, new.dtype, layout)
        square = float(y @ y)
        new_squares += square
        not_finite += _not_finite(y, square)
        product += float(x @ y)
        y -= x
        squares += float(y @ y)
        # NaN has to come through, which it does not in max() of Python
        largest = float(max(largest, -y.min(), y.max())) if math.isfinite(float(y.sum())) else math.nan
    if equal:
        return None
    norms = math.sqrt(old_squares) * math.sqrt(new_squares)
    return TensorChange(
        name=new.name, old=kind, new=kind, norm=math.sqrt(squares), largest=largest,
        relative=math.sqrt(squares / old_squares) if old_squares else None,
        cosine=product / norms if norms else None, not_finite=not_finite,
    )  # fmt: skip


def _not_finite(values: "numpy.ndarray[Any, numpy.dtype[numpy.float64]]", square: float) -> int:
    """How many of `values` are NaN or infinite; `square` is the sum of their squares."""
    if math.isfinite(square):
        return 0
    import numpy as np  # noqa: PLC0415

    return int(values.size - np.count_nonzero(np.isfinite(values)))


def _blocks(
    old: Tensor, new: Tensor, old_file: "_Numbers", new_file: "_Numbers", width: int
) -> Iterator[tuple[bytes, bytes]]:
    """The bytes of two tensors of equal type and shape, side by side."""
    assert old.extent is not None
    assert new.extent is not None
    if old.extent[1] != new.extent[1]:
        raise FormatError(f"tensor {new.name[:200]!r} has another length")
    for offset in range(0, new.extent[1], _BLOCK * width):
        length = min(_BLOCK * width, new.extent[1] - offset)
        yield old_file.read(old, offset, length), new_file.read(new, offset, length)


class _Numbers:
    """The bytes of the tensors of one file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self._source: Source | None = None

    def read(self, tensor: Tensor, offset: int, length: int) -> bytes:
        """Bytes of a tensor; those that are compressed are read again from the start if that is where they are."""
        assert tensor.extent is not None
        start = tensor.extent[0] + offset
        if self._source is None or self._source.part != tensor.part or (
            tensor.part is not None and self._source.tell() > start
        ):  # fmt: skip
            self._source = self._open(tensor.part)
        self._source.seek(start)
        return self._source.read(length)

    def _open(self, part: str | None) -> Source:
        self._file.seek(0)
        if part is None:
            return Source(self._file, self._size)
        if part:
            return Archive(Source(self._file, self._size)).open(part)
        expanded = expand(self._file, self._file.read(64))
        if expanded is None:
            raise FormatError("it is not compressed any more")
        return Source(expanded, MOST_EXPANDED, part)


def _as_doubles(data: bytes, dtype: str, layout: str) -> "numpy.ndarray[Any, numpy.dtype[numpy.float64]]":
    import numpy as np  # noqa: PLC0415 - 100 ms that only numbers need

    values = np.frombuffer(data, dtype=np.dtype(layout))
    if dtype == "BF16":
        # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)
