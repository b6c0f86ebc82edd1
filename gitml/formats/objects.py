"""What the objects of a pickle are: arrays of numpy and PyTorch, estimators and their parameters.

numpy pickles arrays as a call of `_reconstruct` with a state (numpy: core/src/multiarray/methods.c, array_reduce), with
protocol 5 as a call of `_frombuffer`; joblib as a wrapper that the bytes follow (joblib: numpy_pickle.py); PyTorch as
`_rebuild_tensor_v2` of a storage that is a file of the archive (torch: serialization.py). Estimators of scikit-learn
keep parameters under their own names, what they learnt under names that end in `_` (scikit-learn: developers/develop).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gitml.formats.pickles import UNKNOWN, Bytes, Global, Machine, Made, Persistent, parts, walk
from gitml.formats.source import Source
from gitml.formats.summary import FormatError, Scalar, Summary, Tensor, flat

_RECONSTRUCT = {f"{module}.multiarray._reconstruct" for module in ("numpy.core", "numpy._core")}
_FROM_BUFFER = {f"{module}.numeric._frombuffer" for module in ("numpy.core", "numpy._core")}
_SCALAR = {f"{module}.multiarray.scalar" for module in ("numpy.core", "numpy._core")}
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"

_KNOWN_ROOTS = frozenset(
    {
        "numpy", "sklearn", "scipy", "joblib", "pandas", "torch", "collections", "copyreg", "copy_reg",
        "_codecs", "datetime", "decimal", "fractions", "enum", "uuid", "functools", "pathlib", "types",
        "builtins", "__builtin__", "re", "threading", "xgboost", "lightgbm", "catboost", "polars", "keras",
        "tensorflow", "transformers", "skops", "imblearn", "statsmodels", "dask",
    }
)  # fmt: skip
"""Where names of models usually come from. Anything else is worth a line to a reviewer."""
_DANGEROUS = frozenset(
    {
        "eval", "exec", "execfile", "compile", "open", "__import__", "getattr", "setattr", "delattr", "globals",
        "locals", "vars", "input", "breakpoint", "apply", "memoryview", "print",
    }
)  # fmt: skip
_SAFE_FROM_MIXED = {
    "functools": {"partial"},
    "types": {"SimpleNamespace", "MappingProxyType"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PurePath"},
    "threading": {"Lock", "RLock"},
    "re": {"_compile"},
}
_MOST_PARAMETERS = 2000


def labels(names: Iterable[str]) -> list[str]:
    """What a reviewer should know of the names that a pickle refers to."""
    found = []
    for name in names:
        if name == str(UNKNOWN):
            found.append("refers to a name that is only computed while it is loaded")
            continue
        module, _, last = name.rpartition(".")
        root = module.partition(".")[0]
        inner = _SAFE_FROM_MIXED.get(root)
        odd = root not in _KNOWN_ROOTS or (inner is not None and last not in inner)
        if odd or (module in ("builtins", "__builtin__") and last in _DANGEROUS):
            found.append(f"loading it uses {name}")
    return found


def read_pickle(source: Source, kind: str = "pickle") -> Summary:
    """A pickle, or a file of joblib, which is one with arrays in between; raise `FormatError`."""
    joblib = _Joblib()
    machine = Machine(source, joblib.after_build)
    found = machine.run()
    if joblib.arrays:
        kind = "joblib"
    rest = source.size - source.tell() if kind == "pickle" else 0
    summary = summarize(found, machine.globals, kind, lambda made: joblib.arrays.get(id(made)) or array(made))
    if rest > 0:
        facts = {**summary.facts, "bytes behind it": str(rest)}
        summary = Summary(
            format=kind, tensors=summary.tensors, parameters=summary.parameters, features=summary.features, facts=facts,
            globals=summary.globals, warnings=(*summary.warnings, f"{rest} bytes follow the pickle"),
        )  # fmt: skip
    return summary


class _Joblib:
    """Arrays whose bytes stand in the stream right behind what describes them."""

    def __init__(self) -> None:
        self.arrays: dict[int, Tensor] = {}
        self._kept: list[Made] = []

    def after_build(self, machine: Machine, made: Made) -> Any:
        if made.name != _WRAPPER or not isinstance(made.state, dict):
            return made
        state = made.state
        shape, dtype = _shape(state.get("shape")), dtype_of(state.get("dtype"))
        if shape is None:
            raise FormatError("an array of joblib has no shape")
        if "O" in dtype:
            # the objects are a pickle of their own
            inner = Machine(machine.source, self.after_build)
            inner.globals = machine.globals
            made.appended = [inner.run()]
        alignment = state.get("numpy_array_alignment_bytes")
        tensor = Tensor("", dtype, shape, order=str(state.get("order") or "C"))
        if "O" not in dtype:
            if alignment is not None:
                machine.source.skip(machine.source.read(1)[0])
            extent = machine.source.skip(tensor.count * width_of(dtype))
            tensor = Tensor("", dtype, shape, extent, tensor.order)
        self.arrays[id(made)] = tensor
        self._kept.append(made)  # so that no other object gets its id
        return made


def summarize(found: Any, names: Mapping[str, None], kind: str, as_array: Callable[[Made], Tensor | None]) -> Summary:
    """What there is to say of unpickled objects."""
    tensors: list[Tensor] = []
    inside: set[int] = set()
    for name, value in walk(found):
        if isinstance(value, Made) and id(value) not in inside:
            tensor = as_array(value)
            if tensor is not None:
                tensors.append(Tensor(name, tensor.dtype, tensor.shape, tensor.extent, tensor.order))
                # what an array is made of is no other array
                inside.update(id(inner) for _, inner in walk(value) if isinstance(inner, Made))
    estimator = found if isinstance(found, Made) else None
    facts = {"class": estimator.name} if estimator is not None and estimator.name else {}
    version = _state(estimator).get("_sklearn_version") if estimator is not None else None
    if isinstance(version, str):
        facts["scikit-learn"] = version
    return Summary(
        format=kind, tensors=tuple(tensors), parameters=dict(_parameters(found)), features=_features(found),
        facts=facts, globals=tuple(sorted(names)), warnings=tuple(labels(names)),
    )  # fmt: skip


def _state(made: Made | None) -> dict[Any, Any]:
    if made is None:
        return {}
    state = made.state
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state = {**(state[0] or {}), **state[1]} if isinstance(state[0], dict | None) else state[1]
    return state if isinstance(state, dict) else {}


def _parameters(value: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Scalar]]:
    """Parameters of estimators, and of those that they are made of."""
    if depth > 20:
        return
    if isinstance(value, Made):
        state = _state(value)
        own = [(key, inner) for key, inner in state.items() if isinstance(key, str) and is_parameter(key)]
    elif isinstance(value, dict):
        own = [(str(key), inner) for key, inner in value.items() if isinstance(key, str)]
    elif isinstance(value, list | tuple):
        # the steps of a pipeline: (name, estimator)
        own = [(inner[0], inner[-1]) for inner in value if isinstance(inner, tuple) and inner and
               isinstance(inner[0], str)]  # fmt: skip
    else:
        return
    for count, (key, inner) in enumerate(own):
        if count >= _MOST_PARAMETERS:
            return
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(inner, Made) and not is_number(inner):
            if inner.name and not array(inner):
                yield name, inner.name
                yield from _parameters(inner, name, depth + 1)
        elif is_number(inner) or isinstance(inner, str | bool | int | float | None):
            yield name, scalar(inner)
        elif isinstance(inner, list | tuple) and any(isinstance(one, tuple) for one in inner):
            yield from _parameters(inner, name, depth + 1)
        elif isinstance(inner, list | tuple | dict) and all(
            each is None or isinstance(each, str | bool | int | float) for _, each in parts(inner)
        ):
            yield from flat(inner, name).items()


def is_parameter(name: str) -> bool:
    """Whether an estimator was given this, and has not learnt it."""
    return not name.startswith("_") and not name.endswith("_")


def is_number(value: Any) -> bool:
    """Whether it is a number of numpy."""
    return isinstance(value, Made) and value.name in _SCALAR


def scalar(value: Any) -> Scalar:
    """A plain value; numbers of numpy by their bytes."""
    if isinstance(value, Made):
        import struct  # noqa: PLC0415

        dtype, data = value.arguments[0], _raw(value.arguments[1]) if len(value.arguments) > 1 else None
        layout = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "u8": "Q", "u4": "I", "b1": "?"}.get(dtype_of(dtype)[1:])
        if data is not None and layout is not None and len(data) == struct.calcsize(layout):
            return struct.unpack("<" + layout, data)[0]  # type: ignore[no-any-return]
        return dtype_of(dtype)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)[:200]


def _features(found: Any) -> tuple[str, ...]:
    """Names of inputs, as scikit-learn keeps them (`feature_names_in_`)."""
    for name, value in walk(found, limit=100_000):
        if name.rpartition(".")[2] != "feature_names_in_":
            continue
        # an array of objects has them in a list; joblib wraps the array
        for _, inner in walk(value, limit=1000):
            state = inner.state if isinstance(inner, Made) and inner.name in _RECONSTRUCT else None
            if isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], list):
                return tuple(str(each) for each in state[4] if isinstance(each, str))
    return ()


def array(made: Made) -> Tensor | None:
    """The array of numpy that an object would become; None for anything else."""
    if made.name in _RECONSTRUCT:
        state = made.state
        if isinstance(state, tuple) and len(state) == 5 and (shape := _shape(state[1])) is not None:
            data = state[4]
            extent = (data.offset, data.length) if isinstance(data, Bytes) else None
            return Tensor("", dtype_of(state[2]), shape, extent, "F" if state[3] is True else "C")
    elif made.name in _FROM_BUFFER and isinstance(made.arguments, tuple) and len(made.arguments) >= 4:
        data, dtype, shape, order = made.arguments[:4]
        lengths = _shape(shape)
        if isinstance(data, Made) and isinstance(data.arguments, tuple) and data.arguments:
            data = data.arguments[0]
        if lengths is not None:
            extent = (data.offset, data.length) if isinstance(data, Bytes) else None
            return Tensor("", dtype_of(dtype), lengths, extent, str(order))
    return None


def _shape(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, tuple) and all(isinstance(each, int) and each >= 0 for each in value):
        return value
    return None


def _raw(value: Any) -> bytes | None:
    if isinstance(value, Bytes):
        return value.data
    if isinstance(value, Made) and value.name == "_codecs.encode" and isinstance(value.arguments[0], str):
        return value.arguments[0].encode("latin-1", "replace")
    return None


def dtype_of(value: Any) -> str:
    """A type of numpy as numpy writes it: `<f8`."""
    if isinstance(value, Made) and value.name == "numpy.dtype" and isinstance(value.arguments, tuple):
        kind = str(value.arguments[0])
        state = value.state
        order = str(state[1]) if isinstance(state, tuple) and len(state) > 1 else "|"
        if isinstance(state, tuple) and len(state) > 5 and state[3] is not None:
            return f"|V{state[5]}"  # records: all that is of interest is how long one is
        return (order if order in ("<", ">", "|") else "=") + kind
    if isinstance(value, Global):
        return str(value)
    return str(value)[:40]


def width_of(dtype: str) -> int:
    """Bytes of one number of a type; raise `FormatError` for a type of which it is not known."""
    digits = dtype[2:]
    if len(dtype) > 2 and dtype[1] in "biufcSVmM" and digits.isdigit():
        return int(digits)
    if len(dtype) > 2 and dtype[1] == "U" and digits.isdigit():
        return 4 * int(digits)
    raise FormatError(f"numbers of the type {dtype!r} have no known width")


_STORAGES = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip


def torch_tensor(made: Made) -> tuple[Tensor, str, int] | None:
    """A tensor of PyTorch, the key of its storage, and where it begins there; None for anything else."""
    if made.name not in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        return None
    arguments = made.arguments
    if not (isinstance(arguments, tuple) and len(arguments) >= 4 and isinstance(arguments[0], Persistent)):
        return None
    pid, offset, size, stride = arguments[:4]
    shape = _shape(size)
    if shape is None or not isinstance(pid.pid, tuple) or len(pid.pid) < 3 or not isinstance(offset, int):
        return None
    storage = str(pid.pid[1]).rpartition(".")[2]
    order, step = "C", 1
    for length, actual in zip(reversed(shape), reversed(stride if isinstance(stride, tuple) else ()), strict=False):
        if length > 1 and actual != step:
            order = "strided"
        step *= length
    return Tensor("", _STORAGES.get(storage, storage), shape, order=order), str(pid.pid[2]), offset
