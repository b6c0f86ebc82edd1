"""Files as `torch.save` lays them out (torch/serialization.py, _save and _legacy_save).

The library itself is too large for tests. Stand-ins have its names while a pickle is written, so the names in the file
are the same.
"""

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "f2": "HalfStorage", "b1": "BoolStorage"}
_MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    """What several tensors may be views of."""

    def __init__(self, values: Array) -> None:
        self.values = values


class View:
    """A tensor."""

    def __init__(self, storage: Storage, shape: tuple[int, ...], offset: int = 0, stride: tuple[int, ...] = ()) -> None:
        self.storage, self.shape, self.offset = storage, shape, offset
        self.stride = stride or tuple(int(np.prod(shape[place + 1 :])) for place in range(len(shape)))


class Parameter:
    """A tensor that is learnt."""

    def __init__(self, view: View) -> None:
        self.view = view


def state(values: Mapping[str, Array]) -> OrderedDict[str, Any]:
    """A state dict, each tensor with a storage of its own."""
    return OrderedDict((name, View(Storage(each), each.shape)) for name, each in values.items())


@contextmanager
def _names() -> Iterator[ModuleType]:
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    for name in _STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def add(name: str) -> None:
        def rebuild(*_: object) -> None: ...

        rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = "torch._utils", name, name
        setattr(utils, name, rebuild)

    add("_rebuild_tensor_v2")
    add("_rebuild_parameter")
    torch._utils = utils  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _pickled(value: Any, persistent: Callable[[ModuleType, Storage], Any]) -> bytes:
    text = io.BytesIO()
    with _names() as torch:

        class Pickler(pickle.Pickler):
            def persistent_id(self, value: Any) -> Any:
                return persistent(torch, value) if isinstance(value, Storage) else None

            def reducer_override(self, value: Any) -> Any:
                if isinstance(value, View):
                    arguments: tuple[Any, ...] = (
                        value.storage,
                        value.offset,
                        value.shape,
                        value.stride,
                        False,
                        OrderedDict(),
                    )
                    return torch._utils._rebuild_tensor_v2, arguments
                if isinstance(value, Parameter):
                    return torch._utils._rebuild_parameter, (value.view, True, OrderedDict())
                return NotImplemented

        Pickler(text, protocol=2).dump(value)
    return text.getvalue()


def _kind(torch: ModuleType, storage: Storage) -> Any:
    return getattr(torch, _STORAGES[storage.values.dtype.str[1:]])


def write_torch(path: Path, value: Any, compression: int = zipfile.ZIP_STORED, byteorder: str = "little") -> None:
    """As torch has saved since 1.6."""
    storages: dict[int, tuple[str, Storage]] = {}

    def persistent(torch: ModuleType, storage: Storage) -> Any:
        key, _ = storages.setdefault(id(storage), (str(len(storages)), storage))
        return ("storage", _kind(torch, storage), key, "cpu", storage.values.size)

    data = _pickled(value, persistent)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", data)
        archive.writestr("model/byteorder", byteorder)
        for key, storage in storages.values():
            archive.writestr(f"model/data/{key}", storage.values.tobytes())
        archive.writestr("model/version", "3\n")


def write_old_torch(path: Path, value: Any) -> None:
    """As torch saved before 1.6, and does with `_use_new_zipfile_serialization=False`."""
    storages: dict[int, tuple[str, Storage]] = {}

    def persistent(torch: ModuleType, storage: Storage) -> Any:
        key, _ = storages.setdefault(id(storage), (str(94000 - len(storages)), storage))
        return ("storage", _kind(torch, storage), key, "cpu", storage.values.size, None)

    data = _pickled(value, persistent)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    by_key = dict(sorted(storages.values(), key=lambda item: item[0]))
    with path.open("wb") as file:
        for each in (_MAGIC, 1001, system):
            file.write(pickle.dumps(each, protocol=2))
        file.write(data)
        file.write(pickle.dumps(list(by_key), protocol=2))
        for storage in by_key.values():
            file.write(struct.pack("<q", storage.values.size) + storage.values.tobytes())
