"""What the objects of a pickle are: arrays of numpy and PyTorch, estimators and their parameters.

numpy pickles arrays as a call of `_reconstruct` with a state (numpy: core/src/multiarray/methods.c, array_reduce), with
protocol 5 as a call of `_frombuffer`; joblib as a wrapper that the bytes follow (joblib: numpy_pickle.py); PyTorch as
`_rebuild_tensor_v2` of a storage that is a file of the archive (torch: serialization.py). Estimators of scikit-learn
keep parameters under their own names, what they learnt under names that end in `_` (scikit-learn: developers/develop).
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from gitml.formats.dtypes import width_of
from gitml.formats.pickles import Bytes, Global, Machine, Made, Persistent, parts, walk
from gitml.formats.source import Source
from gitml.formats.summary import FormatError, Scalar, Summary, Tensor, brief, flat
from gitml.record import replace

_RECONSTRUCT = {f"{module}.multiarray._reconstruct" for module in ("numpy.core", "numpy._core")}
_FROM_BUFFER = {f"{module}.numeric._frombuffer" for module in ("numpy.core", "numpy._core")}
_SCALAR = {f"{module}.multiarray.scalar" for module in ("numpy.core", "numpy._core")}
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"

_PACKAGES = frozenset(
    {
        "numpy", "sklearn", "scipy", "joblib", "pandas", "torch", "collections", "datetime", "decimal", "fractions",
        "xgboost", "lightgbm", "catboost", "polars", "keras", "tensorflow", "transformers", "skops", "imblearn",
        "statsmodels",
    }
)  # fmt: skip
"""Where names of models usually come from. Anything else is worth a line to a reviewer."""
_PLAIN = frozenset(
    {
        "set", "frozenset", "list", "dict", "tuple", "int", "float", "complex", "bool", "str", "bytes", "bytearray",
        "object", "slice", "range", "unicode", "long", "NoneType", "Ellipsis",
    }
)  # fmt: skip
_NAMES = {
    "builtins": _PLAIN,
    "__builtin__": _PLAIN,
    "copyreg": {"_reconstructor", "__newobj__", "__newobj_ex__"},
    "copy_reg": {"_reconstructor"},
    "_codecs": {"encode"},
    "functools": {"partial"},
    "types": {"SimpleNamespace", "MappingProxyType"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PurePath"},
    "_thread": {"RLock"},
    "uuid": {"UUID", "SafeUUID"},
    "re": {"_compile"},
}
"""Modules of which only some names are usual in models."""
_DOORS = frozenset(
    {
        "os", "posix", "nt", "sys", "subprocess", "shutil", "importlib", "builtins", "socket", "ctypes", "pickle",
        "inspect", "types", "warnings", "testing", "_testing", "f2py", "distutils", "hub", "cpp_extension", "io",
        "cloudpickle", "externals", "computation", "package", "modules", "datasets",
    }
)  # fmt: skip
"""Parts of packages, and what their modules have imported, from where about anything can be called."""
_DEEDS = frozenset(
    {
        "load", "loads", "load_model", "read_pickle", "eval", "query", "exec", "run", "system", "popen", "Popen",
        "open", "save", "dump", "call", "spawn", "compile", "main", "fromfile", "tofile", "memmap", "open_memmap",
        "DataSource", "loadtxt", "savetxt", "genfromtxt", "fromregex", "import_module", "exec_command", "runstring",
        "apply",
    }
)  # fmt: skip
"""Functions of those packages that read, write or run what they are told."""
_MOST_PARAMETERS = 20_000
_MOST_OBJECTS = 200_000
"""Objects that are looked at for parameters."""


def labels(names: Mapping[str, Global | None]) -> list[str]:
    """What a reviewer should know of the names that a pickle refers to."""
    found = []
    for name, known in names.items():
        if known is None:
            found.append(f"refers to {name}: which one, only loading it shows")
        elif not _is_usual(known):
            found.append(f"loading it uses {name}")
    return found


def _is_usual(found: Global) -> bool:
    """Whether many models refer to this. It says nothing of what a call of it does."""
    if found.module in _NAMES:
        return found.name in _NAMES[found.module]
    path, *inner = found.name.split(".")
    # 'joblib.numpy_pickle', 'os.system': every attribute of a module is in reach, what it has imported as well
    through_module = bool(inner) and not path.lstrip("_")[:1].isupper()
    last = inner[-1] if inner else path
    hidden = any(part.startswith("__") and part.endswith("__") for part in (path, *inner))
    doors = _DOORS.intersection((*found.module.split("."), path, *inner))
    return (
        found.module.partition(".")[0] in _PACKAGES
        and not (through_module or hidden or doors)
        and last not in _DEEDS
    )  # fmt: skip


_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""How a file begins that `torch.save` wrote before it wrote archives (torch/serialization.py, _legacy_save)."""


def read_pickle(source: Source, kind: str = "pickle") -> Summary:
    """A pickle, or a file of joblib, which is one with arrays in between; raise `FormatError`."""
    joblib = _Joblib(source.part)
    machine = Machine(source, joblib.after_build)
    try:
        found = machine.run()
        if found == _TORCH_MAGIC and type(found) is int:
            return _read_old_torch(source, machine.globals)
    except FormatError as error:
        return broken(machine.globals, kind, str(error))
    facts: dict[str, str] = {}
    warnings: list[str] = []
    if joblib.arrays:
        kind = "joblib"
        warnings += _other_names(source, machine.globals)
    rest = source.size - source.tell() if source.part is None else 0
    if rest > 0:
        facts["bytes behind it"] = str(rest)
        warnings.append(f"{rest} bytes follow the pickle")
        more = _more(source, machine.globals)
        if more:
            warnings.append(f"pickles follow the pickle: {more}, of which only the names are listed")
    return summarize(
        found, machine.globals, kind, lambda made: joblib.arrays.get(id(made)) or array(made, source.part),
        facts, warnings,
    )  # fmt: skip


def broken(names: Mapping[str, Global | None], kind: str, why: str) -> Summary:
    """A pickle that ends in an error: whatever stands before that is carried out when somebody loads it."""
    return Summary(format=kind, opaque=why, globals=tuple(sorted(names)), warnings=tuple(labels(names)))


def _other_names(source: Source, names: dict[str, Global | None]) -> list[str]:
    """Add the names that only pickle itself sees, to which the bytes of joblib's arrays are opcodes as any others."""
    if source.part is not None:
        return []
    machine = Machine(Source(source.file, source.size))
    with suppress(FormatError):
        machine.run()
    others = {name: known for name, known in machine.globals.items() if name not in names}
    names.update(others)
    return [f"refers to {name} if it is loaded by pickle, not joblib" for name in others]


def _more(source: Source, names: dict[str, Global | None]) -> int:
    """Add the names in the pickles that follow, as far as there are any; give how many."""
    number = 0
    while source.tell() < source.size:
        machine = Machine(source, _Joblib(source.part).after_build)
        machine.globals = names
        try:
            machine.run()
        except FormatError:
            break
        number += 1
    return number


def _read_old_torch(source: Source, names: dict[str, Global | None]) -> Summary:
    """Four more pickles, then the numbers of each storage behind their count."""
    found: list[Any] = []
    for _ in range(4):
        machine = Machine(source)
        machine.globals = names
        found.append(machine.run())
    _, system, objects, keys = found
    little = not isinstance(system, dict) or system.get("little_endian") is not False
    storages: dict[str, str] = {}
    for _, each in walk(objects):
        if isinstance(each, Persistent) and (known := storage_of(each)) is not None:
            storages[known[1]] = known[0]
    extents: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else ():
        width = width_of(storages.get(brief(key), ""))
        if width is None:
            break  # where the next one begins is not known
        extents[brief(key)] = source.skip(source.unpack("q") * width)

    def as_array(made: Made) -> Tensor | None:
        view = torch_tensor(made)
        if view is None:
            return array(made, source.part)
        plain, key, start = view
        width = width_of(plain.dtype)
        if width is None or plain.order != "C" or key not in extents or not little:
            return plain
        begin, length = extents[key]
        if (start + plain.count) * width > length:
            raise FormatError(f"storage {key} has {length} bytes, a tensor ends at {(start + plain.count) * width}")
        return replace(plain, extent=(begin + start * width, plain.count * width), part=source.part)

    return summarize(objects, names, "torch", as_array)


class _Joblib:
    """Arrays whose bytes stand in the stream right behind what describes them."""

    def __init__(self, part: str | None) -> None:
        self.arrays: dict[int, Tensor] = {}
        self._part = part
        self._kept: list[Made] = []

    def after_build(self, machine: Machine, made: Made) -> Any:
        if made.name != _WRAPPER or not isinstance(made.state, dict):
            return made
        state = made.state
        shape, dtype = _shape(state.get("shape")), dtype_of(state.get("dtype"))
        if shape is None:
            raise FormatError("an array of joblib has no shape")
        tensor = Tensor("", dtype, shape, order="F" if state.get("order") == "F" else "C")
        if "O" in dtype:
            # the objects are a pickle of their own
            inner = Machine(machine.source, self.after_build)
            inner.globals = machine.globals
            made.appended = [inner.run()]
        else:
            width = width_of(dtype)
            if width is None:
                raise FormatError(f"numbers of the type {dtype!r} have no known width")
            if state.get("numpy_array_alignment_bytes") is not None:
                machine.source.skip(machine.source.read(1)[0])
            tensor = replace(tensor, extent=machine.source.skip(tensor.count * width), part=self._part)
        self.arrays[id(made)] = tensor
        self._kept.append(made)  # so that no other object gets its id
        return made


def summarize(
    found: Any,
    names: Mapping[str, Global | None],
    kind: str,
    as_array: Callable[[Made], Tensor | None],
    facts: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Summary:
    """What there is to say of unpickled objects, beside `facts` and `warnings`."""
    tensors: list[Tensor] = []
    inside: set[int] = set()
    holders: list[str] = []
    for name, value in walk(found):
        if isinstance(value, Made) and id(value) not in inside:
            tensor = as_array(value)
            if tensor is not None and _holds_arrays(tensor, value, as_array):
                holders.append(name)
            elif tensor is not None:
                tensors.append(replace(tensor, name=_without_wrapper(_without_holder(name, holders), value)))
                # what an array is made of is no other array
                inside.update(id(inner) for _, inner in walk(value) if isinstance(inner, Made))
    estimator = found if isinstance(found, Made) else None
    about = {"class": estimator.name} if estimator is not None and estimator.name else {}
    version = _state(estimator).get("_sklearn_version") if estimator is not None else None
    if isinstance(version, str):
        about["scikit-learn"] = version
    inputs = _state(estimator).get("n_features_in_")
    if type(inputs) is int:
        about["inputs"] = str(inputs)
    return Summary(
        format=kind, tensors=tuple(tensors), parameters=dict(islice(_parameters(found), _MOST_PARAMETERS)),
        features=_features(found), facts={**about, **(facts or {})}, globals=tuple(sorted(names)),
        warnings=(*labels(names), *warnings),
    )  # fmt: skip


def _state(made: Made | None) -> dict[Any, Any]:
    if made is None:
        return {}
    state = made.state
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state = {**(state[0] or {}), **state[1]} if isinstance(state[0], dict | None) else state[1]
    return state if isinstance(state, dict) else {}


def _holds_arrays(tensor: Tensor, value: Made, as_array: Callable[[Made], Tensor | None]) -> bool:
    """Whether it is an array of objects that have arrays of their own, as the trees of a boosted ensemble."""
    return tensor.dtype.lstrip("|<>=").startswith("O") and any(
        isinstance(inner, Made) and inner is not value and _is_of_numbers(as_array(inner)) for _, inner in walk(value)
    )


def _is_of_numbers(tensor: Tensor | None) -> bool:
    return tensor is not None and not tensor.dtype.lstrip("|<>=").startswith("O")


def _without_holder(name: str, holders: Sequence[str]) -> str:
    """A name without what an array of objects is to pickle: a list in the fifth place of its state."""
    for holder in holders:
        if name.startswith(f"{holder}."):
            return holder + re.sub(r"^(\.0)?\.4(?=\.)", "", name[len(holder) :])
    return name


def _without_wrapper(name: str, value: Made) -> str:
    """The name of an array; that of what a parameter of PyTorch wraps is that of the parameter."""
    return name.removesuffix(".(0)") if value.name.startswith("torch.") else name


def _parameters(
    value: Any, prefix: str = "", depth: int = 0, budget: Iterator[int] | None = None
) -> Iterator[tuple[str, Scalar]]:
    """Parameters of estimators, and of those that they are made of.

    `budget` ends: the same few objects may be reached in more ways than anyone can go.
    """
    budget = budget or iter(range(_MOST_OBJECTS))
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
    for key, inner in own:
        if next(budget, None) is None:
            return
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(inner, Made) and not is_number(inner):
            if inner.name and not array(inner, None):
                yield name, inner.name
                yield from _parameters(inner, name, depth + 1, budget)
        elif is_number(inner) or isinstance(inner, str | bool | int | float | None):
            yield name, scalar(inner)
        elif isinstance(inner, list | tuple) and any(isinstance(one, tuple) for one in inner):
            yield from _parameters(inner, name, depth + 1, budget)
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
        arguments = value.arguments if isinstance(value.arguments, tuple) else ()
        dtype, data = arguments[0] if arguments else None, _raw(arguments[1]) if len(arguments) > 1 else None
        layout = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "u8": "Q", "u4": "I", "b1": "?"}.get(dtype_of(dtype)[1:])
        if data is not None and layout is not None and len(data) == struct.calcsize(layout):
            return struct.unpack("<" + layout, data)[0]  # type: ignore[no-any-return]
        return dtype_of(dtype)
    return value if value is None or isinstance(value, bool | int | float | str) else brief(value)


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


def array(made: Made, part: str | None) -> Tensor | None:
    """The array of numpy that an object in `part` of a file would become; None for anything else."""
    if made.name in _RECONSTRUCT:
        if not (isinstance(made.state, tuple) and len(made.state) == 5):
            return None
        _, shape, dtype, fortran, data = made.state
        order = "F" if fortran is True else "C"
    elif made.name in _FROM_BUFFER and isinstance(made.arguments, tuple) and len(made.arguments) >= 4:
        data, dtype, shape, order = made.arguments[:4]
        order = "F" if order == "F" else "C"
        if isinstance(data, Made) and isinstance(data.arguments, tuple) and data.arguments:
            data = data.arguments[0]
    else:
        return None
    lengths = _shape(shape)
    if lengths is None:
        return None
    tensor = Tensor("", dtype_of(dtype), lengths, None, order)
    width = width_of(tensor.dtype)
    if isinstance(data, Bytes) and width is not None and data.length == tensor.count * width:
        return replace(tensor, extent=(data.offset, data.length), part=part)
    return tensor


def _shape(value: Any) -> tuple[int, ...] | None:
    if (
        isinstance(value, tuple)
        and len(value) <= 64
        and all(type(each) is int and 0 <= each < 1 << 63 for each in value)
    ):
        return value
    return None


def _raw(value: Any) -> bytes | None:
    if isinstance(value, Made) and value.name == "_codecs.encode":
        value = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    return value.data if isinstance(value, Bytes) else None


def dtype_of(value: Any) -> str:
    """A type of numpy as numpy writes it: `<f8`."""
    if isinstance(value, Made) and value.name == "numpy.dtype" and isinstance(value.arguments, tuple):
        kind = brief(value.arguments[0] if value.arguments else None)
        state = value.state
        order = brief(state[1]) if isinstance(state, tuple) and len(state) > 1 else "|"
        if isinstance(state, tuple) and len(state) > 5 and state[3] is not None:
            return f"|V{brief(state[5])}"  # records: all that is of interest is how long one is
        return (order if order in ("<", ">", "|") else "=") + kind
    return str(value) if isinstance(value, Global) else brief(value)


_STORAGES = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexFloatStorage": "C64", "ComplexDoubleStorage": "C128",
}  # fmt: skip
_TORCH_TYPES = {
    "torch.float8_e4m3fn": "F8_E4M3FN", "torch.float8_e5m2": "F8_E5M2", "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ", "torch.float8_e8m0fnu": "F8_E8M0", "torch.uint16": "U16",
    "torch.uint32": "U32", "torch.uint64": "U64",
}  # fmt: skip
_REBUILD = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}


def storage_of(reference: Persistent) -> tuple[str, str] | None:
    """Type and key of the storage that is meant; None if it is none."""
    pid = reference.pid
    if not (isinstance(pid, tuple) and len(pid) >= 3 and isinstance(pid[1], Global)):
        return None
    return _STORAGES.get(pid[1].name, pid[1].name), brief(pid[2])


def torch_tensor(made: Made) -> tuple[Tensor, str, int] | None:
    """A tensor of PyTorch, the key of its storage, and where it begins there; None for anything else."""
    arguments = made.arguments
    if made.name not in _REBUILD or not (isinstance(arguments, tuple) and len(arguments) >= 4):
        return None
    reference, offset, size, stride = arguments[:4]
    shape, storage = _shape(size), storage_of(reference) if isinstance(reference, Persistent) else None
    if shape is None or storage is None or type(offset) is not int or offset < 0:
        return None
    dtype, key = storage
    if made.name.endswith("_v3") and len(arguments) > 6:
        # types that have no class of storages
        dtype = _TORCH_TYPES.get(str(arguments[6]) if isinstance(arguments[6], Global) else "", dtype)
    order, step = "C", 1
    if not isinstance(stride, tuple) or len(stride) != len(shape):
        order, stride = "strided", ()
    for length, actual in zip(reversed(shape), reversed(stride), strict=False):
        if length > 1 and actual != step:
            order = "strided"
        step *= length
    return Tensor("", dtype, shape, order=order), key, offset
