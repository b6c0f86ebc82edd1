"""Models in zip archives: PyTorch, skops, Keras."""

from collections.abc import Mapping
from typing import Any

from gitml.formats.arrays import load_json, member_array, read_npz
from gitml.formats.dtypes import width_of
from gitml.formats.hdf5 import datasets
from gitml.formats.objects import array, broken, labels, summarize, torch_tensor
from gitml.formats.pickles import Global, Machine, Made
from gitml.formats.source import Archive, Source
from gitml.formats.summary import FormatError, Summary, Tensor, brief, flat
from gitml.record import replace


def read_archive(source: Source) -> Summary:
    """A zip archive, by what is in it; raise `FormatError`."""
    archive = Archive(source)
    summary = _by_members(archive)
    if not archive.repeated:
        return summary
    said = (
        f"the archive has {name!r} more than once: programs differ in which one they read" for name in archive.repeated
    )
    return replace(summary, warnings=(*summary.warnings, *said))


def _by_members(archive: Archive) -> Summary:
    for name in archive.members:
        if name == "data.pkl" or name.endswith("/data.pkl"):
            return _torch(archive, name)
    if "schema.json" in archive.members:
        return _skops(archive)
    if "config.json" in archive.members and "metadata.json" in archive.members:
        return _keras(archive)
    if archive.members and all(name.endswith(".npy") for name in archive.members):
        return read_npz(archive)
    raise FormatError("a zip archive that is no model")


def _torch(archive: Archive, name: str) -> Summary:
    """torch.save: torch/serialization.py, _save; torch.jit.save has code beside the same."""
    top = name.removesuffix("data.pkl")
    facts, warnings = {}, []
    machine = Machine(archive.open(name))
    try:
        found = machine.run()
        for other in archive.members:
            if other.endswith(".pkl") and other != name:
                # what else may be unpickled
                beside = Machine(archive.open(other))
                beside.globals = machine.globals
                beside.run()
    except FormatError as error:
        return broken(machine.globals, "torch", str(error))
    code = sum(other.startswith(f"{top}code/") and other.endswith(".py") for other in archive.members)
    if code:
        facts["files of TorchScript"] = str(code)
        warnings.append("holds code (TorchScript)")
    little = archive.read(f"{top}byteorder") == b"little" if f"{top}byteorder" in archive.members else True

    def as_array(made: Made) -> Tensor | None:
        view = torch_tensor(made)
        if view is None:
            return array(made, name)
        plain, key, start = view
        storage, width = f"{top}data/{key}", width_of(plain.dtype)
        if storage not in archive.members or width is None or plain.order != "C" or not little:
            return plain
        extent, part = archive.place(storage, start * width, plain.count * width)
        return replace(plain, extent=extent, part=part)

    return summarize(found, machine.globals, "torch", as_array, facts, warnings)


def _document(archive: Archive, name: str) -> Any:
    return load_json(archive.read(name))


def _skops(archive: Archive) -> Summary:
    """skops: io/_general.py; each node has its module and class, and its content below, or the file that has it."""
    schema = _document(archive, "schema.json")
    names: dict[str, Global | None] = {}
    parameters: dict[str, Any] = {}
    files: dict[str, str] = {}
    pickled: list[str] = []
    waiting: list[tuple[str, Any, int]] = [("", schema, 0)]
    while waiting:
        name, node, depth = waiting.pop()
        if depth > 200 or len(names) > 100_000:
            raise FormatError("the schema is too deep or too large")
        if isinstance(node, dict):
            module, kind = node.get("__module__"), node.get("__class__")
            if isinstance(module, str) and isinstance(kind, str):
                found = Global(module, kind)
                names[str(found)] = found
            if node.get("__loader__") == "JsonNode" and isinstance(node.get("content"), str):
                if name and not name.rpartition(".")[2].startswith("_") and not name.endswith("_"):
                    parameters[name] = _leaf(node["content"])
                continue
            if isinstance(node.get("file"), str):
                # the file is named by where the object was in memory: another name each time
                files.setdefault(node["file"], name)
                if not node["file"].endswith((".npy", ".npz")):
                    pickled.append(name)
            for key, inner in node.items():
                if not str(key).startswith("__") and key not in ("key_types", "type", "file"):
                    waiting.append((name if key == "content" else _below(name, str(key)), inner, depth + 1))
        elif isinstance(node, list):
            waiting += [(_below(name, str(number)), inner, depth + 1) for number, inner in enumerate(node)]
    tensors = [
        member_array(archive, member, files.get(member, member))
        for member in archive.members
        if member.endswith(".npy")
    ]
    top = schema if isinstance(schema, dict) else {}
    facts = {"class": f"{brief(top.get('__module__'))}.{brief(top.get('__class__'))}"}
    for key, title in (("_skops_version", "skops"), ("protocol", "protocol")):
        if key in top:
            facts[title] = brief(top[key])
    return Summary(
        format="skops", tensors=tuple(sorted(tensors, key=lambda tensor: tensor.name)),
        parameters=dict(sorted(parameters.items())), facts=facts, globals=tuple(sorted(names)),
        warnings=(*labels(names), *(f"{name} is kept as bytes that are not looked into" for name in sorted(pickled))),
    )  # fmt: skip


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _leaf(text: str) -> Any:
    value = load_json(text.encode())
    return value if value is None or isinstance(value, bool | int | float | str) else brief(text)


def _keras(archive: Archive) -> Summary:
    """Keras 3: saving/saving_lib.py; the weights are HDF5."""
    config, metadata = _document(archive, "config.json"), _document(archive, "metadata.json")
    facts = {f"metadata.{key}": str(value) for key, value in flat(metadata).items()}
    parameters: dict[str, Any] = {}
    warnings: list[str] = []
    if isinstance(config, dict):
        facts["class"] = brief(config.get("class_name"))
        inner = config.get("config")
        layers = inner.get("layers") if isinstance(inner, dict) else None
        facts["layers"] = str(len(layers) if isinstance(layers, list) else 0)
        for layer in layers if isinstance(layers, list) else ():
            if isinstance(layer, dict):
                _keras_layer(layer, parameters, warnings)
        if isinstance(config.get("compile_config"), dict):
            parameters.update(flat(config["compile_config"], "compile"))
        modules = {each for each in _values(config, "module") if isinstance(each, str)}
        odd = sorted(each for each in modules if each.partition(".")[0] not in ("keras", "builtins", "tensorflow"))
        warnings += [f"loading it uses the module {each}" for each in odd]
    tensors: list[Tensor] = []
    for name, info in archive.members.items():
        if name.endswith((".h5", ".hdf5", ".npz")):
            try:
                tensors += _keras_weights(archive, name)
            except FormatError as error:
                facts[f"weights {name}"] = f"{info.file_size} bytes, crc {info.CRC:08x}, not looked into: {error}"
    return Summary(
        format="keras", tensors=tuple(tensors), parameters=parameters, facts=facts, warnings=tuple(warnings)
    )  # fmt: skip


def _keras_weights(archive: Archive, name: str) -> list[Tensor]:
    if not name.endswith((".h5", ".hdf5")):
        raise FormatError("no HDF5 file")
    (start, length), part = archive.place(name, 0, archive.members[name].file_size)
    if part is not None:
        raise FormatError("they are compressed")
    return datasets(archive.source, start, length)


def _keras_layer(layer: Mapping[str, Any], parameters: dict[str, Any], warnings: list[str]) -> None:
    settings = layer["config"] if isinstance(layer.get("config"), dict) else {}
    name, kind = brief(settings.get("name", layer.get("name", "?"))), brief(layer.get("class_name"))
    parameters[f"{name}.class"] = kind
    parameters.update(flat({key: each for key, each in settings.items() if key != "name"}, name))
    if kind in ("Lambda", "TFOpLambda") or any(each == "__lambda__" for each in _values(settings, "class_name")):
        warnings.append(f"layer {name} holds code (Lambda)")


def _values(node: Any, wanted: str) -> list[Any]:
    """All values that a key has, however deep."""
    found, waiting = [], [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found += [each[wanted]] if wanted in each else []
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return found
